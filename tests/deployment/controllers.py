"""KServe, Knative and Kubernetes as far as a roll-out needs them: pods, traffic and conditions.

A controller acts one step per read of an object, so its state is stale at first, as in a cluster.
The pods of a bundle with `broken` in its URI crash until the deadline; with `slow` in it, they are
never scheduled.
"""

import copy
import itertools
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
REVISION = "deployment.kubernetes.io/revision"
NOW = "2026-01-02T03:04:05Z"


def starts(bundle: str) -> bool:
    return "broken" not in bundle and "slow" not in bundle


class Controllers:
    """The objects of a cluster, and the controllers that react to their changes.

    Attributes:
        objects: objects by kind, namespace and name.
        behaviour: work of a bundle's pods between two reads of their metrics, by bundle.
        steps: pending steps of the controllers.
        url: address of the server.
    """

    url: str

    def __init__(self) -> None:
        self.objects: dict[Key, Document] = {}
        self.behaviour: dict[str, dict[str, float]] = {}
        self.steps: list[Callable[[], None]] = []
        self._metrics: dict[str, ModelMetrics] = {}
        self._numbers = itertools.count(1)

    def store(self, key: Key, document: Document, dry_run: bool = False) -> Document:
        """Keep an object; a changed spec wakes its controller."""
        kind, namespace, name = key
        before = self.objects.get(key, {})
        changed = before.get("spec") != document.get("spec")
        own: Document = {"name": name, "namespace": namespace, "labels": {}, "generation": 0}
        own |= {"uid": f"uid-{next(self._numbers)}", "creationTimestamp": NOW}
        metadata = own | before.get("metadata", {}) | document["metadata"]
        metadata["generation"] += changed
        after = {"kind": kind, "status": before.get("status", {}), **document, "metadata": metadata}
        if dry_run:
            return after
        self.objects[key] = after
        if changed and kind == "InferenceService":
            self.steps += [lambda: None, lambda: None, partial(self._reconcile, key)]
        elif changed and kind == "ServingRuntime":
            services = [each for each in self.objects if each[0] == "InferenceService"]
            self.steps += [partial(self._reconcile, each) for each in services]
        elif changed and kind == "Deployment":
            self.steps += [lambda: None, partial(self._begin, key), partial(self._finish, key)]
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
        self.objects[key]["status"] |= {**status, "url": f"{self.url}/served/{key[2]}"}

    # Standard mode: one Deployment per bundle

    def _standard(self, key: Key) -> None:
        service, namespace = self.objects[key], key[1]
        stable = service["spec"]["predictor"]
        canaries = [stable | each["predictor"] for each in service["spec"].get("canary", [])]
        wanted: dict[Key, Document] = {}
        for part in (stable, *canaries):
            name = "-".join(filter(None, (key[2], part.get("name"), "predictor")))
            assert ("Deployment", namespace, name) not in wanted, "KServe refuses equal names"
            wanted["Deployment", namespace, name] = stable["model"] | part["model"]
        owner = [{"uid": service["metadata"]["uid"]}]
        for other in [
            k for k, o in self.objects.items() if o["metadata"].get("ownerReferences") == owner
        ]:
            if other not in wanted:
                self._pods(other, {}, "", 0)
                del self.objects[other]
        for other, model in wanted.items():
            labels = {"app": f"isvc.{other[2]}"}
            template = {
                "metadata": {"labels": labels, "annotations": {SOURCE: model["storageUri"]}},
                "spec": {"containers": [self._container(namespace, model)]},
            }
            own = service["metadata"]["labels"] | {"serving.kserve.io/inferenceservice": key[2]}
            spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
            metadata = {"labels": own, "ownerReferences": owner}
            self.store(other, {"metadata": metadata, "spec": spec})

        def report() -> None:
            found = [self.objects[each]["status"] for each in wanted if each in self.objects]
            self._report(key, all(each.get("availableReplicas") == 2 for each in found))

        self.steps.append(report)

    # Deployments: one ReplicaSet per revision

    def _begin(self, key: Key) -> None:
        if key not in self.objects:
            return
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
        counts = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}
        generation = {"observedGeneration": metadata["generation"]}
        live["status"] = counts | generation | {"conditions": [progress]}

    def _finish(self, key: Key) -> None:
        if key not in self.objects:
            return
        spec, status = self.objects[key]["spec"], self.objects[key]["status"]
        [argument] = spec["template"]["spec"]["containers"][0]["args"][:1]
        bundle = spec["template"]["metadata"].get("annotations", {}).get(SOURCE, argument)
        if starts(bundle):
            status["availableReplicas"] = 2
        elif "broken" in bundle:
            message = f'ReplicaSet "{key[2]}-1" has timed out progressing.'
            failure = {"reason": "ProgressDeadlineExceeded", "message": message}
            status["conditions"] = [{"type": "Progressing", "status": "False", **failure}]
        self._pods(key, spec["selector"]["matchLabels"], bundle, 2)

    # Serverless mode: one Revision per bundle

    def _serverless(self, key: Key) -> None:
        service, namespace = self.objects[key], key[1]
        model = service["spec"]["predictor"]["model"]
        spec = {"containers": [self._container(namespace, model)]}
        annotations = {SOURCE: model["storageUri"]}
        own = service["status"].setdefault("components", {}).setdefault("predictor", {})
        latest = ("Revision", namespace, own.get("latestCreatedRevision", ""))
        live = self.objects.get(latest)
        if not live or (live["metadata"]["annotations"], live["spec"]) != (annotations, spec):
            latest = ("Revision", namespace, f"{key[2]}-predictor-{next(self._numbers):05}")
            own["latestCreatedRevision"] = latest[2]
            unknown = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
            made = {"metadata": {"annotations": annotations}, "spec": spec, "status": unknown}
            self.store(latest, made)
            self.steps.append(partial(self._start, latest))
        self.steps.append(partial(self._route_traffic, key))

    def _start(self, key: Key) -> None:
        revision = self.objects[key]
        bundle = revision["metadata"]["annotations"][SOURCE]
        condition = {"type": "Ready", "status": str(starts(bundle))}
        if not starts(bundle):
            condition |= {"reason": "ExitCode2", "message": "container failed"}
        revision["status"]["conditions"] = [condition]
        self._pods(key, {"serving.knative.dev/revision": key[2]}, bundle, 2 * starts(bundle))

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
        self._report(key, condition["status"] == "True")

    # Pods and their metrics

    def _pods(self, holder: Key, labels: Document, bundle: str, count: int) -> None:
        """Replace a holder's pods."""
        for key in [k for k, o in self.objects.items() if o.get("holder") == holder]:
            del self.objects[key]
        state: Document = {"name": "kserve-container", "state": {"running": {}}}
        event: Document = {"reason": "FailedScheduling", "message": "0/3 nodes are available"}
        if "broken" in bundle:
            ended = {"exitCode": 2, "message": f"{bundle}: bundle.json is missing"}
            waiting = {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}
            state |= {"state": {"waiting": waiting}, "lastState": {"terminated": ended}}
            event = {"reason": "BackOff", "message": "restarting"}
        ready = {"type": "Ready", "status": str(starts(bundle))}
        status = {"conditions": [ready], "containerStatuses": [state]}
        for name in (f"{holder[2]}-{index}" for index in range(count)):
            pod = {"metadata": {"labels": dict(labels)}, "status": status}
            self.store(("Pod", holder[1], name), {**pod, "holder": holder, "bundle": bundle})
            if not starts(bundle):
                event |= {"type": "Warning", "involvedObject": {"kind": "Pod", "name": name}}
                found = {"metadata": {}, "lastTimestamp": NOW, "holder": holder, **event}
                self.store(("Event", holder[1], f"{name}-1"), found)

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
