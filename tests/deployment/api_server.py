"""A small API server on the loopback, with what KServe, Knative and Kubernetes do of a roll-out.

It keeps objects, applies and patches them as the real one does (field managers, conflicts, dry
runs) and checks each write strictly against the schemas. What controllers do comes a step a read
later, so that the state is stale at first, as it is in a cluster. A bundle whose URI says so is
`broken` (its pods crash until the deadline) or `slow` (they are never scheduled).
"""

import copy
import json
import re
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from predictors.metrics import Metrics, ModelMetrics
from tests.manifests.test_manifests import CUSTOM, SCHEMAS, validate

Document = dict[str, Any]
Key = tuple[str, str, str]  # kind, namespace, name

SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"
NOW = "2026-01-02T03:04:05Z"
CORE = {
    "v1": ("Pod", "Event", "Service", "ServiceAccount", "Secret", "ConfigMap"),
    "apps/v1": ("Deployment", "ReplicaSet"),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "policy/v1": ("PodDisruptionBudget",),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "monitoring.coreos.com/v1": ("PodMonitor",),
}
KSERVE = {
    "serving.kserve.io/v1alpha1": ("ServingRuntime",),
    "serving.kserve.io/v1beta1": ("InferenceService",),
    "serving.knative.dev/v1": ("Revision",),
}
MISSING: Any = object()


def plural(kind: str) -> str:
    return re.sub("y$", "ie", kind.lower()) + "s"


class RefusalError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def leaves(node: Any, place: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Fields that a manager owns; a list is one."""
    if not isinstance(node, dict) or not node:
        return {place: node}
    return {k: v for name, child in node.items() for k, v in leaves(child, (*place, name)).items()}


def at(node: Any, place: tuple[str, ...]) -> Any:
    for name in place:
        node = node.get(name, MISSING) if isinstance(node, dict) else MISSING
    return node


def put(node: Document, place: tuple[str, ...], value: Any) -> None:
    for name in place[:-1]:
        node = node.setdefault(name, {})
    if value is MISSING:
        node.pop(place[-1], None)
    else:
        node[place[-1]] = value


def merge(node: Any, change: Any) -> Any:
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(change, dict):
        return change
    merged = dict(node) if isinstance(node, dict) else {}
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


class ApiServer:
    """The server; its state may be read and set by tests.

    Attributes:
        objects: by kind, namespace and name.
        behaviour: by bundle, what its pods do between two looks at their metrics.
        asked: bodies of predictions.
    """

    def __init__(self) -> None:
        self.kinds = CORE | KSERVE
        self.objects: dict[Key, Document] = {}
        self.owners: dict[Key, dict[tuple[str, ...], set[str]]] = {}
        self.writes: list[tuple[str, str, str]] = []  # form, manager, kind/name
        self.behaviour: dict[str, dict[str, float]] = {}
        self.asked: list[Document] = []
        self.steps: list[Callable[[], None]] = []
        self._metrics: dict[str, ModelMetrics] = {}
        self._count = 0
        self._lock = threading.RLock()
        handler = type("Handler", (Handler,), {"api": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> "ApiServer":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def kubeconfig(self, folder: Path) -> Path:
        named = {"cluster": "local", "user": "me", "namespace": "saarthi"}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "local",
            "clusters": [{"name": "local", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": "t"}}],
            "contexts": [{"name": "local", "context": named}],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(content))
        return path

    def get(self, kind: str, name: str, namespace: str = "saarthi") -> Document:
        return self.objects[kind, namespace, name]

    def names(self, kind: str) -> set[str]:
        return {name for found, _, name in self.objects if found == kind}

    def apply(self, documents: list[Document]) -> None:
        """Apply objects as `saarthi deploy` does, and let the controllers come to their end."""
        query = {"fieldManager": "saarthi", "force": "true"}
        for each in documents:
            key = (each["kind"], each["metadata"]["namespace"], each["metadata"]["name"])
            self._write(key, each["apiVersion"], "application/apply-patch+yaml", query, each)
        while self.steps:
            self.steps.pop(0)()

    # Requests

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> tuple[int, str]:
        url = urllib.parse.urlsplit(target)
        query = dict(urllib.parse.parse_qsl(url.query))
        with self._lock:
            try:
                answer = self._route(method, url.path, query, headers, body)
            except RefusalError as refusal:
                failed = {"kind": "Status", "message": str(refusal), "code": refusal.status}
                return refusal.status, json.dumps(failed)
        return 200, answer if isinstance(answer, str) else json.dumps(answer)

    def _route(
        self, method: str, path: str, query: dict[str, str], headers: Any, body: bytes
    ) -> Any:
        if path == "/version":
            return {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
        if path == "/apis":
            return {"kind": "APIGroupList", "groups": self._groups()}
        if path in ("/prometheus/api/v1/query",):
            return self._prometheus(query["query"])
        if served := re.fullmatch(r"/served/(\w+)/predict", path):
            return self._predict(served[1], body)
        if discovery := re.fullmatch(r"/(?:api|apis/([^/]+))/(\w+)", path):
            return self._resources("/".join(filter(None, discovery.groups())))
        proxied = r"/api/v1/namespaces/([^/]+)/(pods|services)/([^/:]+):(\w+)/proxy(/.*)"
        if found := re.fullmatch(proxied, path):
            if headers["Authorization"] != "Bearer t":
                raise RefusalError(401, "Unauthorized")
            return self._proxy(found, body)
        item = r"/(?:api|apis/([^/]+))/(\w+)/namespaces/([^/]+)/(\w+)(?:/([^/]+))?"
        found = re.fullmatch(item, path)
        if not found:
            raise RefusalError(404, "the server could not find the requested resource")
        version = "/".join(filter(None, found.groups()[:2]))
        kinds = [kind for kind in self.kinds.get(version, ()) if plural(kind) == found[4]]
        if not kinds:
            raise RefusalError(404, "the server could not find the requested resource")
        if headers["Authorization"] != "Bearer t":
            raise RefusalError(401, "Unauthorized")
        if not found[5]:
            return {
                "apiVersion": version,
                "kind": f"{kinds[0]}List",
                "metadata": {},
                "items": self._select(kinds[0], found[3], query),
            }
        key = (kinds[0], found[3], found[5])
        if method == "PATCH":
            return self._write(key, version, headers["Content-Type"], query, json.loads(body))
        if self.steps and key[0] in ("InferenceService", "Deployment"):
            self.steps.pop(0)()
        if key not in self.objects:
            raise RefusalError(404, f'{plural(key[0])} "{key[2]}" not found')
        return self.objects[key]

    def _groups(self) -> list[Document]:
        groups: dict[str, Document] = {}
        for version in self.kinds:
            group, slash, name = version.partition("/")
            if slash:
                entry = {"groupVersion": version, "version": name}
                found = groups.setdefault(group, {"name": group, "versions": []})
                found["versions"].append(entry)
                found["preferredVersion"] = entry
        return list(groups.values())

    def _resources(self, version: str) -> Document:
        if version not in self.kinds:
            raise RefusalError(404, "the server could not find the requested resource")
        verbs = ["get", "list", "patch"]
        entries = [
            {"name": plural(kind), "kind": kind, "namespaced": True, "verbs": verbs}
            for kind in self.kinds[version]
        ]
        return {"kind": "APIResourceList", "groupVersion": version, "resources": entries}

    def _select(self, kind: str, namespace: str, query: dict[str, str]) -> list[Document]:
        found = [o for (k, n, _), o in self.objects.items() if (k, n) == (kind, namespace)]
        for part in filter(None, query.get("labelSelector", "").split(",")):
            name, equals, value = part.partition("=")
            found = [
                each
                for each in found
                if (
                    each["metadata"]["labels"].get(name) == value
                    if equals
                    else name.lstrip("!") not in each["metadata"]["labels"]
                )
            ]
        for part in filter(None, query.get("fieldSelector", "").split(",")):
            name, _, value = part.partition("=")
            found = [each for each in found if at(each, tuple(name.split("."))) == value]
        return found

    # Writes

    def _write(
        self, key: Key, version: str, form: str, query: dict[str, str], body: Any
    ) -> Document:
        before = self.objects.get(key)
        manager = query.get("fieldManager")
        if not manager:
            raise RefusalError(400, "fieldManager is required")
        owners = copy.deepcopy(self.owners.get(key, {}))
        if form == "application/apply-patch+yaml":
            if (body["apiVersion"], body["kind"]) != (version, key[0]):
                raise RefusalError(400, "the object does not match the path")
            force = query.get("force", "").lower() == "true"
            after = self._applied(before or {}, body, owners, f"{manager}/Apply", force)
        elif before is None:
            raise RefusalError(404, f'{plural(key[0])} "{key[2]}" not found')
        elif form == "application/merge-patch+json":
            after = merge(before, body)
        elif form == "application/json-patch+json":
            after = copy.deepcopy(before)
            for step in body:
                assert step["op"] == "replace", "no other is used"
                put(after, tuple(step["path"].strip("/").split("/")), step["value"])
        else:
            raise RefusalError(415, f"{form} is not supported")
        if form != "application/apply-patch+yaml":
            old, new = leaves(before), leaves(after)
            for place in old.keys() | new.keys():
                if old.get(place, MISSING) != new.get(place, MISSING):
                    owners[place] = {f"{manager}/Update"}
        self._check(after)
        if query.get("dryRun") == "All":
            return after
        self.writes.append((form, manager, f"{key[0]}/{key[2]}"))
        metadata = after["metadata"]
        self._count += 1
        metadata.setdefault("uid", f"uid-{self._count}")
        metadata.setdefault("creationTimestamp", NOW)
        metadata.setdefault("labels", {})
        metadata["resourceVersion"] = str(self._count)
        changed = before is None or before.get("spec") != after.get("spec")
        metadata["generation"] = metadata.get("generation", 0) + changed
        self.objects[key], self.owners[key] = after, owners
        if changed and key[0] == "InferenceService":
            self.steps += [lambda: None, lambda: self._kserve(key, False)]
            self.steps.append(lambda: self._kserve(key, True))
        elif changed and key[0] == "ServingRuntime":
            for other in [each for each in self.objects if each[0] == "InferenceService"]:
                self.steps += [lambda o=other: self._kserve(o, False)]  # type: ignore[misc]
                self.steps += [lambda o=other: self._kserve(o, True)]  # type: ignore[misc]
        elif changed and key[0] == "Deployment":
            self.steps += [lambda: None, lambda: self._roll(key, False)]
            self.steps.append(lambda: self._roll(key, True))
        return copy.deepcopy(after)

    def _applied(
        self,
        before: Document,
        wanted: Document,
        owners: dict[tuple[str, ...], set[str]],
        owner: str,
        force: bool,
    ) -> Document:
        after, new = copy.deepcopy(before), leaves(wanted)
        for place, value in new.items():
            others = owners.get(place, set()) - {owner}
            current = at(before, place)
            if others and current not in (value, MISSING) and not force:
                raise RefusalError(409, f"conflict with {others}: .{'.'.join(place)}")
            owners[place] = {owner} if current != value else owners.get(place, set()) | {owner}
            put(after, place, value)
        for place in [place for place, held in owners.items() if owner in held]:
            if place not in new:
                owners[place].discard(owner)
                if not owners[place]:
                    put(after, place, MISSING)
        return after

    def _check(self, document: Document) -> None:
        """Refuse what the schemas, closed, do not know."""
        kept = {k: v for k, v in document.items() if k != "status"}
        kept["metadata"] = {
            name: value
            for name, value in document["metadata"].items()
            if name in ("name", "namespace", "labels", "annotations")
        }
        if any(group in document["apiVersion"] for group in CUSTOM) and not SCHEMAS.is_dir():
            return
        try:
            validate(kept)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
            raise RefusalError(
                400, f"failed to create typed patch object: {error.message}"
            ) from error

    # What controllers do

    def _kserve(self, key: Key, done: bool) -> None:
        service = self.objects[key]
        mode = service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"]
        (self._standard if mode == "Standard" else self._knative)(service, done)

    def _image(self, service: Document, model: Document) -> str:
        namespace = service["metadata"]["namespace"]
        runtime = self.objects["ServingRuntime", namespace, model["runtime"]]
        image = runtime["spec"]["containers"][0]["image"]
        if "runtimeVersion" in model:
            image = f"{image.rpartition(':')[0]}:{model['runtimeVersion']}"
        return image

    def _standard(self, service: Document, done: bool) -> None:
        metadata, spec = service["metadata"], service["spec"]
        stable = spec["predictor"]
        parts = [stable, *(stable | each["predictor"] for each in spec.get("canary", []))]
        wanted = {}
        for part in parts:
            model = stable["model"] | part["model"]
            name = "-".join(filter(None, (metadata["name"], part.get("name"), "predictor")))
            assert name not in wanted, "KServe asks for unique names"
            wanted[name] = (model["storageUri"], self._image(service, model))
        for name in self.names("Deployment") - wanted.keys():
            deployment = self.objects["Deployment", metadata["namespace"], name]
            if deployment["metadata"].get("ownerReferences") == [{"uid": metadata["uid"]}]:
                del self.objects["Deployment", metadata["namespace"], name]
                self._pods(deployment, 0, "")
        for name, (bundle, image) in wanted.items():
            key = ("Deployment", metadata["namespace"], name)
            container = {"name": "kserve-container", "image": image, "args": ["/mnt/models"]}
            template = {
                "metadata": {"labels": {"app": f"isvc.{name}"}, "annotations": {SOURCE: bundle}},
                "spec": {"containers": [container]},
            }
            live = self.objects.get(key)
            if live is None or live["spec"]["template"] != template:
                self._count += 1
                labels = metadata["labels"] | {"serving.kserve.io/inferenceservice": "nlu"}
                self.objects[key] = {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "metadata": {
                        "name": name,
                        "namespace": metadata["namespace"],
                        "uid": f"uid-{self._count}",
                        "generation": (live["metadata"]["generation"] if live else 0) + 1,
                        "labels": labels,
                        "ownerReferences": [{"uid": metadata["uid"]}],
                    },
                    "spec": {
                        "replicas": 2,
                        "selector": {"matchLabels": {"app": f"isvc.{name}"}},
                        "template": template,
                    },
                    "status": live["status"] if live else {},
                }
            if self.objects[key]["status"].get("bundle") != (bundle, image):
                self._roll(key, done)
        ready = all(self._ready(("Deployment", metadata["namespace"], name)) for name in wanted)
        # As the real one: not of this object's, and a reader must not trust it.
        generation = self.objects["Deployment", metadata["namespace"], next(iter(wanted))]
        self._say(service, ready, generation["status"].get("observedGeneration", 0))
        service["status"]["canaryStatuses"] = [
            {
                "name": each["predictor"]["name"],
                "ready": ready,
                "trafficPercent": each["trafficPercent"],
            }
            for each in spec.get("canary", [])
        ]

    def _ready(self, key: Key) -> bool:
        status = self.objects[key]["status"]
        return bool(status.get("availableReplicas") == 2)

    def _say(self, service: Document, ready: bool, generation: int) -> None:
        said: Document = {"type": "Ready", "status": "True" if ready else "False"}
        if not ready:
            said |= {"reason": "MinimumReplicasUnavailable", "message": "pods are not available"}
        name = service["metadata"]["name"]
        service.setdefault("status", {}).update(
            conditions=[said], observedGeneration=generation, url=f"{self.url}/served/{name}"
        )

    def _knative(self, service: Document, done: bool) -> None:
        metadata, predictor = service["metadata"], service["spec"]["predictor"]
        model, image = predictor["model"], self._image(service, predictor["model"])
        status = service.setdefault("status", {}).setdefault("components", {})
        own = status.setdefault("predictor", {})
        latest = self.objects.get(
            ("Revision", metadata["namespace"], own.get("latestCreatedRevision", ""))
        )
        made = (
            (latest["metadata"]["annotations"][SOURCE], latest["spec"]["containers"][0]["image"])
            if latest
            else None
        )
        if made != (model["storageUri"], image):
            self._count += 1
            name = f"{metadata['name']}-predictor-{self._count:05}"
            own["latestCreatedRevision"] = name
            self.objects["Revision", metadata["namespace"], name] = latest = {
                "apiVersion": "serving.knative.dev/v1",
                "kind": "Revision",
                "metadata": {
                    "name": name,
                    "namespace": metadata["namespace"],
                    "labels": {},
                    "annotations": {SOURCE: model["storageUri"]},
                    "creationTimestamp": NOW,
                },
                "spec": {"containers": [{"name": "kserve-container", "image": image}]},
                "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
            }
        assert latest is not None
        name = latest["metadata"]["name"]
        if done and latest["status"]["conditions"][0]["status"] == "Unknown":
            broken = "broken" in model["storageUri"]
            said = {"reason": "ExitCode2", "message": "container failed"} if broken else {}
            verdict = {"type": "Ready", "status": "False" if broken else "True", **said}
            latest["status"]["conditions"] = [verdict]
            if not broken:
                own["latestReadyRevision"] = name
            label = {"serving.knative.dev/revision": name}
            holder = {"metadata": latest["metadata"], "spec": {"bundle": model["storageUri"]}}
            self._pods(holder | {"labels": label}, 0 if broken else 2, model["storageUri"])
        percent, ready = predictor.get("canaryTrafficPercent"), own.get("latestReadyRevision")
        rolled = own.get("latestRolledoutRevision")
        shares: Counter[str] = Counter()
        if ready:
            shares[ready] += 100 if percent is None or not rolled else percent
            if percent is not None and rolled:
                shares[rolled] += 100 - percent
            if shares[ready] == 100 and ready != rolled:
                own["previousRolledoutRevision"] = rolled or ""
                own["latestRolledoutRevision"] = ready
        own["traffic"] = [{"revisionName": k, "percent": v} for k, v in shares.items()]
        self._say(service, latest["status"]["conditions"][0]["status"] == "True", 1)

    def _roll(self, key: Key, done: bool) -> None:
        """A Deployment's controller: a ReplicaSet a revision, and pods."""
        live = self.objects[key]
        metadata, template = live["metadata"], live["spec"]["template"]
        container = template["spec"]["containers"][0]
        bundle = template["metadata"].get("annotations", {}).get(SOURCE) or container["args"][0]
        status = live.setdefault("status", {})
        status["observedGeneration"] = metadata["generation"]
        broken, slow = "broken" in bundle, "slow" in bundle
        good = done and not broken and not slow
        status.update(replicas=2, updatedReplicas=2, availableReplicas=2 if good else 1)
        status["conditions"] = [
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
            | {"lastUpdateTime": NOW}
        ]
        if done and broken:
            message = f'ReplicaSet "{key[2]}-1" has timed out progressing.'
            status["conditions"] = [
                {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
                | {"message": message}
            ]
        if not done:
            self._replica_set(live, bundle)
            return
        status["bundle"] = (bundle, container["image"])
        holder = {"metadata": metadata, "labels": live["spec"]["selector"]["matchLabels"]}
        self._pods(holder, 2, bundle)

    def _replica_set(self, live: Document, bundle: str) -> None:
        metadata = live["metadata"]
        number = (
            int(metadata.get("annotations", {}).get("deployment.kubernetes.io/revision", 0)) + 1
        )
        metadata.setdefault("annotations", {})["deployment.kubernetes.io/revision"] = str(number)
        template = copy.deepcopy(live["spec"]["template"])
        template["metadata"].setdefault("labels", {})["pod-template-hash"] = f"h{number}"
        name = f"{metadata['name']}-h{number}"
        self.objects["ReplicaSet", metadata["namespace"], name] = {
            "metadata": {
                "name": name,
                "labels": dict(template["metadata"]["labels"]),
                "annotations": {"deployment.kubernetes.io/revision": str(number)},
                "ownerReferences": [{"uid": metadata["uid"]}],
            },
            "spec": {"template": template},
        }

    def _pods(self, holder: Document, count: int, bundle: str) -> None:
        """Make a holder's pods anew, or take them away."""
        namespace, name = holder["metadata"]["namespace"], holder["metadata"]["name"]
        for key in [k for k, o in self.objects.items() if o.get("holder") == name]:
            del self.objects[key]
        for index in range(count):
            self._count += 1
            pod = f"{name}-{index}"
            state: Document = {"name": "kserve-container", "state": {"running": {}}}
            ready = "broken" not in bundle and "slow" not in bundle
            if "broken" in bundle:
                ended = {"exitCode": 2, "message": f"{bundle}: bundle.json is missing"}
                waiting = {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}
                state |= {"state": {"waiting": waiting}, "lastState": {"terminated": ended}}
            self.objects["Pod", namespace, pod] = {
                "holder": name,
                "bundle": bundle,
                "metadata": {
                    "name": pod,
                    "namespace": namespace,
                    "labels": dict(holder["labels"]),
                    "uid": f"uid-{self._count}",
                },
                "status": {
                    "conditions": [{"type": "Ready", "status": str(ready)}],
                    "containerStatuses": [state],
                },
            }
            if not ready:
                self.objects["Event", namespace, f"{pod}-1"] = {
                    "holder": name,
                    "metadata": {"name": f"{pod}-1", "namespace": namespace, "labels": {}},
                    "type": "Warning",
                    "involvedObject": {"kind": "Pod", "name": pod},
                    "reason": "FailedScheduling" if "slow" in bundle else "BackOff",
                    "message": "0/3 nodes are available" if "slow" in bundle else "restarting",
                    "lastTimestamp": NOW,
                }

    # Pods

    def _proxy(self, found: re.Match[str], body: bytes) -> Any:
        namespace, kind, name, port, path = found.groups()
        if kind == "services":
            service = self.objects.get(("Service", namespace, name))
            if service is None or port not in [p["name"] for p in service["spec"]["ports"]]:
                raise RefusalError(404, f'services "{name}" not found')
            return self._predict(name, body)
        pod = self.objects.get(("Pod", namespace, name))
        if pod is None or (port, path) != ("8080", "/metrics"):
            raise RefusalError(404, f'pods "{name}" not found')
        self._work(pod)
        return self._text(pod)

    def _work(self, pod: Document) -> None:
        """Let a pod serve what its bundle's behaviour says."""
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

    def _text(self, pod: Document) -> str:
        made = SimpleNamespace(version="1", task="t", runtime="r", precision="p")
        model = SimpleNamespace(
            metrics=self._metrics[pod["metadata"]["uid"]],
            lane=SimpleNamespace(waiting=0),
            manifest=made,
        )
        registry = CollectorRegistry()
        registry.register(Metrics({"nlu": model}))  # type: ignore[dict-item]
        return generate_latest(registry).decode()

    def _prometheus(self, query: str) -> Document:
        names = set(re.findall(r"[\w|]+", query.split('"')[1])[0].split("|"))
        label, value = re.findall(r',(app|serving_knative_dev_revision)="([^"]+)"', query)[0]
        wanted = {"app": "app", "serving_knative_dev_revision": "serving.knative.dev/revision"}
        result = []
        for (kind, _, name), pod in list(self.objects.items()):
            if kind != "Pod" or pod["metadata"]["labels"].get(wanted[label]) != value:
                continue
            self._work(pod)
            for line in self._text(pod).splitlines():
                found = re.fullmatch(r"(\w+)\{(.*)\} (.*)", line)
                if found and found[1] in names:
                    labels = dict(re.findall(r'(\w+)="([^"]*)"', found[2]))
                    metric = {"__name__": found[1], "pod": name, **labels}
                    result.append({"metric": metric, "value": [0, found[3]]})
        return {"status": "success", "data": {"resultType": "vector", "result": result}}

    def _predict(self, name: str, body: bytes) -> Document:
        asked = json.loads(body)
        self.asked.append({"name": name, **asked})
        label = "lights" if "light" in asked["text"] else "other"
        answer = {"label": label, "probability": 0.9, "abstained": False}
        return answer | {"model": name, "version": "0.2.0"}


class Handler(BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are sent apart

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, text = self.api.answer(self.command, self.path, self.headers, body)
        content = text.encode()
        self.send_response(status)
        plain = text.startswith("#")
        self.send_header("Content-Type", "text/plain" if plain else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PATCH = do_POST = _answer  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Quiet."""
