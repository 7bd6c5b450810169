"""KServe, Knative and Kubernetes as far as a roll-out needs them: pods, traffic and conditions.

A controller acts one step per read of an object, so its state is stale at first, as in a cluster.
The pods of a bundle with `broken` in its URI crash until the deadline; with `slow` in it, they are
never scheduled; with `thin` in it, a revision is ready with one pod, and others follow (`late`).
"""

import copy
import itertools
import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from predictors.metrics import Metrics, ModelMetrics

Document = dict[str, Any]
Key = tuple[str, str, str]  # kind, namespace, name

SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"
DEFAULT = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
REVISION = "deployment.kubernetes.io/revision"
MIN_SCALE = "autoscaling.knative.dev/min-scale"
NOW = "2026-01-02T03:04:05Z"


def starts(bundle: str) -> bool:
    return "broken" not in bundle and "slow" not in bundle


class Controllers:
    """The objects of a cluster, and the controllers that react to their changes.

    Attributes:
        objects: objects by kind, namespace and name.
        behaviour: work of a bundle's pods between two reads of their metrics, by bundle.
        steps: pending steps of the controllers.
        late: revisions with too few pods, and their number of pods.
        most: largest share of Knative's traffic in percent, by bundle.
        fewest: smallest number of ready pods with traffic since a roll-out, by predictor.
    """

    def __init__(self) -> None:
        self.objects: dict[Key, Document] = {}
        self.behaviour: dict[str, dict[str, float]] = {}
        self.steps: list[Callable[[], None]] = []
        self.fewest: dict[str, int] = {}
        self.late: dict[Key, int] = {}
        self.most: dict[str, int] = {}
        self._metrics: dict[str, ModelMetrics] = {}
        self._numbers = itertools.count(1)

    def store(self, key: Key, document: Document) -> Document:
        """Keep an object; a changed spec wakes its controller."""
        kind, namespace, name = key
        before = self.objects.get(key, {})
        changed = before.get("spec") != document.get("spec")
        own: Document = {"name": name, "namespace": namespace, "labels": {}, "generation": 0}
        own |= {"uid": f"uid-{next(self._numbers)}", "creationTimestamp": NOW}
        metadata = own | before.get("metadata", {}) | document["metadata"]
        metadata["generation"] += changed
        after = {"kind": kind, "status": before.get("status", {}), **document, "metadata": metadata}
        if kind == "Deployment":
            after["spec"] = {"replicas": 2, "strategy": DEFAULT} | after["spec"]
        self.objects[key] = after
        if changed and kind == "InferenceService":
            self.steps += [lambda: None, lambda: None, partial(self._reconcile, key)]
        elif changed and kind == "ServingRuntime":
            services = [each for each in self.objects if each[0] == "InferenceService"]
            self.steps += [partial(self._reconcile, each) for each in services]
        elif changed and kind == "Deployment":
            self.steps += [lambda: None, partial(self._begin, key), partial(self._replace, key)]
        return after

    def _reconcile(self, key: Key) -> None:
        mode = self.objects[key]["metadata"]["annotations"]["serving.kserve.io/deploymentMode"]
        (self._standard if mode == "Standard" else self._serverless)(key)

    def _container(self, namespace: str, model: Document) -> Document:
        runtime = self.objects["ServingRuntime", namespace, model["runtime"]]
        image = runtime["spec"]["containers"][0]["image"]
        if "runtimeVersion" in model:
            image = f"{image.rpartition(':')[0]}:{model['runtimeVersion']}"
        return {"name": "kserve-container", "image": image, "args": ["/mnt/models"]}

    def _report(self, key: Key, ready: bool) -> None:
        condition = {"type": "Ready", "status": str(ready)}
        if not ready:
            condition |= {"reason": "MinimumReplicasUnavailable", "message": "pods unavailable"}
        # As in KServe, observedGeneration belongs to another object: readers must not trust it.
        status = {"conditions": [condition], "observedGeneration": 1}
        self.objects[key]["status"] |= status

    # Standard mode: one Deployment

    def _standard(self, key: Key) -> None:
        service, namespace = self.objects[key], key[1]
        predictor = service["spec"]["predictor"]
        made = ("Deployment", namespace, f"{key[2]}-predictor")
        labels = {"app": f"isvc.{made[2]}"}
        template = {
            "metadata": {
                "labels": labels,
                "annotations": {SOURCE: predictor["model"]["storageUri"]},
            },
            "spec": {"containers": [self._container(namespace, predictor["model"])]},
        }
        spec = {"selector": {"matchLabels": labels}, "template": template}
        spec["replicas"] = predictor.get("minReplicas", 1)
        spec["strategy"] = predictor.get("deploymentStrategy", DEFAULT)
        own = service["metadata"]["labels"] | {"serving.kserve.io/inferenceservice": key[2]}
        owner = [{"uid": service["metadata"]["uid"]}]
        self.store(made, {"metadata": {"labels": own, "ownerReferences": owner}, "spec": spec})
        self.steps.append(partial(self._report_standard, key, made))

    def _report_standard(self, key: Key, made: Key) -> None:
        if any(each.func == self._replace for each in self.steps if isinstance(each, partial)):
            self.steps.append(partial(self._report_standard, key, made))
            return
        found = self.objects[made]
        available = found["status"].get("availableReplicas")
        self._report(key, available == found["spec"]["replicas"])

    # Deployments: one ReplicaSet per revision, pods replaced by the strategy

    def _begin(self, key: Key) -> None:
        live = self.objects[key]
        metadata, template = live["metadata"], copy.deepcopy(live["spec"]["template"])
        annotations = metadata.setdefault("annotations", {})
        number = annotations[REVISION] = str(int(annotations.get(REVISION, 0)) + 1)
        template["metadata"]["labels"]["pod-template-hash"] = f"h{number}"
        own = {"labels": template["metadata"]["labels"], "annotations": {REVISION: number}}
        own["ownerReferences"] = [{"uid": metadata["uid"]}]
        replica_set = ("ReplicaSet", key[1], f"{key[2]}-h{number}")
        self.store(replica_set, {"metadata": own, "spec": {"template": template}})
        progress = {"type": "Progressing", "status": "True", "lastUpdateTime": NOW}
        counts = {"replicas": len(self._ready(key)), "updatedReplicas": 0, "availableReplicas": 0}
        generation = {"observedGeneration": metadata["generation"]}
        live["status"] = counts | generation | {"conditions": [progress]}

    def _replace(self, key: Key) -> None:
        """One round of a rolling update: end old pods, start new ones."""
        live = self.objects[key]
        spec, number = live["spec"], live["metadata"]["annotations"][REVISION]
        [argument] = spec["template"]["spec"]["containers"][0]["args"][:1]
        annotations = spec["template"]["metadata"].get("annotations", {})
        bundle = annotations.get(SOURCE, argument.rpartition("=")[2])
        limits, wanted = spec["strategy"].get("rollingUpdate", {}), spec["replicas"]
        surge = _number(limits.get("maxSurge", 0), wanted, math.ceil)
        spare = _number(limits.get("maxUnavailable", wanted), wanted, math.floor)
        pods = [k for k, o in self.objects.items() if k[0] == "Pod" and o["holder"] == key]
        new = [k for k in pods if k[2].startswith(f"{key[2]}-{number}-")]
        for each in new:
            self._wake(each)
        old = [each for each in pods if each not in new]
        first, awake = not pods, self._ready(key)
        for each in [each for each in old if each not in awake]:
            old.remove(each)
            del self.objects[each]
        while old and len(self._ready(key)) > wanted - spare:
            del self.objects[old.pop()]
        while len(new) < wanted and len(old) + len(new) < wanted + surge:
            name = f"{key[2]}-{number}-{len(new)}"
            self._pod(key, spec["selector"]["matchLabels"], bundle, name, ready=False)
            new.append(("Pod", key[1], name))
        ready = len(self._ready(key))
        if not first:
            self._count(key[2].removesuffix("-predictor"), ready)
        status = live["status"]
        status |= {"replicas": len(old) + len(new), "updatedReplicas": len(new)}
        awake = [each for each in new if each in self._ready(key)]
        status["availableReplicas"] = ready
        if "broken" in bundle:
            message = f'ReplicaSet "{key[2]}-1" has timed out progressing.'
            failure = {"reason": "ProgressDeadlineExceeded", "message": message}
            status["conditions"] = [{"type": "Progressing", "status": "False", **failure}]
        elif starts(bundle) and (old or len(awake) < wanted):
            self.steps.insert(0, partial(self._replace, key))

    def _ready(self, holder: Key) -> list[Key]:
        return [
            key
            for key, found in self.objects.items()
            if key[0] == "Pod"
            and found["holder"] == holder
            and found["status"]["conditions"][0]["status"] == "True"
        ]

    def _count(self, name: str, ready: int) -> None:
        self.fewest[name] = min(ready, self.fewest.get(name, ready))

    # Serverless mode: one Revision per bundle

    def _serverless(self, key: Key) -> None:
        service, namespace = self.objects[key], key[1]
        model = service["spec"]["predictor"]["model"]
        spec = {"containers": [self._container(namespace, model)]}
        least = str(service["spec"]["predictor"].get("minReplicas", 1))
        annotations = {SOURCE: model["storageUri"], MIN_SCALE: least}
        own = service["status"].setdefault("components", {}).setdefault("predictor", {})
        latest = ("Revision", namespace, own.get("latestCreatedRevision", ""))
        live = self.objects.get(latest)
        if not live or (live["metadata"]["annotations"], live["spec"]) != (annotations, spec):
            latest = ("Revision", namespace, f"{key[2]}-predictor-{next(self._numbers):05}")
            own["latestCreatedRevision"] = latest[2]
            unknown = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
            made = {"metadata": {"annotations": annotations}, "spec": spec, "status": unknown}
            self.store(latest, made)
            self.steps += [partial(self._route_traffic, key), partial(self._start, latest)]
        self.steps.append(partial(self._route_traffic, key))

    def _start(self, key: Key) -> None:
        revision = self.objects[key]
        bundle = revision["metadata"]["annotations"][SOURCE]
        condition = {"type": "Ready", "status": str(starts(bundle))}
        if not starts(bundle):
            condition |= {"reason": "ExitCode2", "message": "container failed"}
        revision["status"]["conditions"] = [condition]
        least = int(revision["metadata"]["annotations"][MIN_SCALE])
        self.scale(key, 1 if "thin" in bundle else least)
        if "thin" in bundle:
            self.late[key] = least

    def grow(self) -> None:
        """Start one more pod of each revision that has too few."""
        for key, least in self.late.items():
            self.scale(key, min(least, len(self._ready(key)) + 1))

    def scale(self, revision: Key, count: int) -> None:
        """Give a revision some number of pods."""
        bundle = self.objects[revision]["metadata"]["annotations"][SOURCE]
        for key in self._ready(revision)[count:]:
            del self.objects[key]
        for index in range(len(self._ready(revision)), count * starts(bundle)):
            labels = {"serving.knative.dev/revision": revision[2]}
            self._pod(revision, labels, bundle, f"{revision[2]}-{index}")

    def _route_traffic(self, key: Key) -> None:
        service = self.objects[key]
        own = service["status"]["components"]["predictor"]
        percent = service["spec"]["predictor"].get("canaryTrafficPercent")
        name, rolled = own["latestCreatedRevision"], own.get("latestRolledoutRevision")
        [condition] = self.objects["Revision", key[1], name]["status"]["conditions"]
        if condition["status"] == "True":
            own["latestReadyRevision"] = name
        if latest := own.get("latestReadyRevision"):
            share = 100 if percent is None or not rolled else percent
            if share == 100:
                own["latestRolledoutRevision"] = rolled = latest
            shares = Counter({latest: share})
            shares[rolled] += 100 - share
            own["traffic"] = [{"revisionName": k, "percent": v} for k, v in shares.items()]
            served = [each for each, part in shares.items() if part]
            pods = [self._ready(("Revision", key[1], each)) for each in served]
            self._count(key[2], sum(map(len, pods)))
            for each, part in shares.items():
                found = self.objects["Revision", key[1], each]
                bundle = found["metadata"]["annotations"][SOURCE]
                self.most[bundle] = max(part, self.most.get(bundle, 0))
        self._report(key, condition["status"] == "True")

    # Pods and their metrics

    def _pod(
        self, holder: Key, labels: Document, bundle: str, name: str, ready: bool = True
    ) -> None:
        state: Document = {"name": "kserve-container", "state": {"running": {}}}
        event: Document = {"reason": "FailedScheduling", "message": "0/3 nodes are available"}
        if "broken" in bundle:
            ended = {"exitCode": 2, "message": f"{bundle}: bundle.json is missing"}
            waiting = {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}
            state |= {"state": {"waiting": waiting}, "lastState": {"terminated": ended}}
            event = {"reason": "BackOff", "message": "restarting"}
        condition = {"type": "Ready", "status": str(ready and starts(bundle))}
        status = {"conditions": [condition], "containerStatuses": [state]}
        pod = {"metadata": {"labels": dict(labels)}, "status": status}
        self.store(("Pod", holder[1], name), {**pod, "holder": holder, "bundle": bundle})
        if not starts(bundle):
            event |= {"type": "Warning", "involvedObject": {"kind": "Pod", "name": name}}
            found = {"metadata": {}, "lastTimestamp": NOW, "holder": holder, **event}
            self.store(("Event", holder[1], f"{name}-1"), found)

    def _wake(self, key: Key) -> None:
        pod = self.objects[key]
        pod["status"]["conditions"][0]["status"] = str(starts(pod["bundle"]))

    def scrape(self, pod: Document) -> str:
        """Let a pod serve by its bundle's behaviour, and return its metrics."""
        numbers = self._metrics.setdefault(pod["metadata"]["uid"], ModelMetrics(10))
        does = {"requests": 100, "errors": 0, "seconds": 0.004, "abstained": 4}
        does |= self.behaviour.get(pod["bundle"], {})
        numbers.requests["predict", "ok"] += int(does["requests"] - does["errors"])
        numbers.requests["predict", "error"] += int(does["errors"])
        numbers.requests["predict", "invalid"] += 10
        numbers.abstentions += int(does["abstained"])
        for _ in range(int(does["requests"])):
            numbers.seconds["predict"].observe(does["seconds"])
            numbers.characters.observe(20)
        manifest = SimpleNamespace(version="1", task="t", runtime="r", precision="p")
        lane = SimpleNamespace(waiting=0)
        model = SimpleNamespace(metrics=numbers, lane=lane, manifest=manifest)
        registry = CollectorRegistry()
        registry.register(Metrics({"nlu": model}))
        return generate_latest(registry).decode()


def _number(given: int | str, whole: int, rounding: Callable[[float], int]) -> int:
    """A number of pods, or a percentage of them."""
    if isinstance(given, int):
        return given
    return rounding(whole * int(given.removesuffix("%")) / 100)
