"""A small API server on the loopback: it keeps objects and checks each write by the schemas.

Server-side apply merges fields, and never removes one.
"""

import copy
import functools
import json
import operator
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import kubernetes_validate
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.deployment.controllers import Controllers, Document, Key
from tests.manifests.test_manifests import CUSTOM, SCHEMAS, custom_validator, validate

CORE = {
    "v1": ("Pod", "Event", "Service", "ServiceAccount", "Secret", "ConfigMap"),
    "apps/v1": ("Deployment", "ReplicaSet"),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "policy/v1": ("PodDisruptionBudget",),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "monitoring.coreos.com/v1": ("PodMonitor",),
    "trainer.kubeflow.org/v1alpha1": ("TrainJob",),
}
KSERVE = {
    "serving.kserve.io/v1alpha1": ("ServingRuntime",),
    "serving.kserve.io/v1beta1": ("InferenceService",),
    "serving.knative.dev/v1": ("Revision",),
}
CONTROLLED = ("InferenceService", "Deployment", "TrainJob")
APPLY = "application/apply-patch+yaml"


class Request(NamedTuple):
    method: str
    path: list[str]
    query: dict[str, str]
    headers: Any
    body: Any


class RefusalError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def plural(kind: str) -> str:
    return re.sub("y$", "ie", kind.lower()) + "s"


def at(node: Any, place: list[str]) -> Any:
    return functools.reduce(operator.getitem, place, node)


def merge(node: Any, change: Any) -> Any:
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(change, dict):
        return change
    merged = dict(node) if isinstance(node, dict) else {}
    for name, value in change.items():
        merged[name] = merge(merged.get(name), value)
    return {name: value for name, value in merged.items() if value is not None}


def patch(document: Document, step: Document) -> None:
    """One operation of a JSON patch (RFC 6902)."""
    *parents, last = step["path"].strip("/").split("/")
    node = document
    for name in parents:
        node = node[int(name)] if isinstance(node, list) else node[name]
    place: Any = int(last) if isinstance(node, list) else last
    if step["op"] == "remove":
        del node[place]
    elif isinstance(node, list) and step["op"] == "add":
        node.insert(place, step["value"])
    else:
        if step["op"] == "replace":
            node[place]  # must exist
        node[place] = step["value"]


def check(document: Document) -> None:
    """Refuse fields that the schemas do not know."""
    metadata = document["metadata"]
    names = {"name", "namespace", "labels", "annotations"} & metadata.keys()
    kept = {**document, "metadata": {name: metadata[name] for name in names}}
    kept.pop("status", None)
    try:
        check_text(json.dumps(kept, sort_keys=True))
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        raise RefusalError(400, f"failed to create typed patch object: {error.message}") from error


@functools.cache
def check_text(text: str) -> None:
    document = json.loads(text)
    version, kind = document["apiVersion"], document["kind"]
    if any(group in version for group in (*CUSTOM, "kubeflow.org")) and not SCHEMAS.is_dir():
        return
    if kind == "TrainJob":
        custom_validator(kind, version).validate(document)
    else:
        validate(document)


class ApiServer(Controllers):
    """The server; tests may read and set its state.

    Attributes:
        kinds: kinds by API version.
        writes: form, field manager and kind/name of each write.
        used: verb, API group and resource of each request in the namespace `saarthi`.
        forbidden: namespaces that the account may not read.
        pruned: fields of a predictor that an old definition does not know.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kinds = CORE | KSERVE
        self.writes: list[tuple[str, str, str]] = []
        self.used: set[tuple[str, str, str]] = set()
        self.forbidden: set[str] = set()
        self.pruned: set[str] = set()
        self._lock = threading.Lock()
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
            "current-context": "local",
            "clusters": [{"name": "local", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": "t"}}],
            "contexts": [{"name": "local", "context": named}],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    def get(self, kind: str, name: str, namespace: str = "saarthi") -> Document:
        return self.objects[kind, namespace, name]

    def names(self, kind: str) -> set[str]:
        return {name for found, _, name in self.objects if found == kind}

    def apply(self, documents: list[Document]) -> None:
        """Apply objects as `kubectl apply` does, and let the controllers finish."""
        query = {"fieldManager": "kubectl"}
        for each in documents:
            key = (each["kind"], each["metadata"]["namespace"], each["metadata"]["name"])
            self._write(key, APPLY, query, each)
        while self.steps:
            self.steps.pop(0)()

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> tuple[int, Any]:
        url = urllib.parse.urlsplit(target)
        path, query = url.path.strip("/").split("/"), dict(urllib.parse.parse_qsl(url.query))
        request = Request(method, path, query, headers, json.loads(body) if body else None)
        try:
            with self._lock:
                return 200, self._route(request)
        except RefusalError as refusal:
            status = refusal.status
            return status, {"kind": "Status", "message": str(refusal), "code": status}

    def _route(self, request: Request) -> Any:
        if request.path[0] != "prometheus" and request.headers["Authorization"] != "Bearer t":
            raise RefusalError(401, "Unauthorized")
        self._note(request)
        match request.path:
            case ["prometheus", "api", "v1", "query"]:
                return self._prometheus(request.query["query"])
            case ["version"]:
                return {"major": "1", "minor": "33"}
            case ["apis"]:
                return {"kind": "APIGroupList", "groups": self._groups()}
            case ["api", _] | ["apis", _, _]:
                return self._resources("/".join(request.path[1:]))
            case ["api", "v1", "namespaces", namespace, kinds, target, "proxy", path]:
                return self._proxy(kinds, namespace, target, path)
            case [_, *_, "namespaces", namespace, _, _] if namespace in self.forbidden:
                raise RefusalError(403, f"cannot get resource in the namespace {namespace}")
            case [_, *group, "namespaces", namespace, kinds]:
                version = "/".join(group)
                kind = self._kind(version, kinds)
                items = self._select(kind, namespace, request.query)
                return {"apiVersion": version, "kind": f"{kind}List", "items": items}
            case [_, *group, "namespaces", namespace, kinds, name]:
                return self._item((self._kind("/".join(group), kinds), namespace, name), request)
        raise RefusalError(404, "the server could not find the requested resource")

    def _note(self, request: Request) -> None:
        match request.path:
            case ["api", "v1", "namespaces", "saarthi", kinds, _, "proxy", *_]:
                self.used.add(("get", "", f"{kinds}/proxy"))
            case [_, *group, "namespaces", "saarthi", kinds, _]:
                name = group[0] if len(group) > 1 else ""
                self.used.add((request.method.lower(), name, kinds))
            case [_, *group, "namespaces", "saarthi", kinds]:
                self.used.add(("list", group[0] if len(group) > 1 else "", kinds))

    def _groups(self) -> list[Document]:
        groups: dict[str, list[Document]] = {}
        for name, _, version in (each.rpartition("/") for each in self.kinds if "/" in each):
            entry = {"groupVersion": f"{name}/{version}", "version": version}
            groups.setdefault(name, []).append(entry)
        return [{"name": k, "versions": v, "preferredVersion": v[0]} for k, v in groups.items()]

    def _resources(self, version: str) -> Document:
        verbs = ["get", "list", "patch", "delete"]
        entries = [
            {"name": plural(kind), "kind": kind, "namespaced": True, "verbs": verbs}
            for kind in self.kinds.get(version, ())
        ]
        return {"kind": "APIResourceList", "groupVersion": version, "resources": entries}

    def _kind(self, version: str, kinds: str) -> str:
        for kind in self.kinds.get(version, ()):
            if plural(kind) == kinds:
                return kind
        raise RefusalError(404, "the server could not find the requested resource")

    def _select(self, kind: str, namespace: str, query: dict[str, str]) -> list[Document]:
        if kind == "Pod":
            self.grow()
        found = [o for (k, n, _), o in self.objects.items() if (k, n) == (kind, namespace)]
        for part in filter(None, query.get("labelSelector", "").split(",")):
            name, _, value = part.removeprefix("!").partition("=")  # !name: without this label
            found = [o for o in found if o["metadata"]["labels"].get(name, "") == value]
        for part in filter(None, query.get("fieldSelector", "").split(",")):
            name, _, value = part.partition("=")
            found = [o for o in found if at(o, name.split(".")) == value]
        return found

    def _item(self, key: Key, request: Request) -> Document:
        if request.method == "PATCH":
            return self._write(key, request.headers["Content-Type"], request.query, request.body)
        if request.method == "GET" and key in self.objects and key[0] in CONTROLLED and self.steps:
            self.steps.pop(0)()
        if key not in self.objects:
            raise RefusalError(404, f'{plural(key[0])} "{key[2]}" not found')
        if request.method == "DELETE":
            self.writes.append(("DELETE", "", f"{key[0]}/{key[2]}"))
            return self.objects.pop(key)
        return self.objects[key]

    def _write(self, key: Key, form: str, query: dict[str, str], body: Any) -> Document:
        before = self.objects.get(key)
        if form == APPLY:
            after = merge(before, body)
        elif before is None:
            raise RefusalError(404, f'{plural(key[0])} "{key[2]}" not found')
        elif form == "application/json-patch+json":
            after = copy.deepcopy(before)
            for step in body:
                patch(after, step)
        else:
            raise RefusalError(415, f"{form} is not supported")
        if key[0] == "InferenceService":
            for name in self.pruned:
                after["spec"]["predictor"].pop(name, None)
        check(after)
        self.writes.append((form, query.get("fieldManager", ""), f"{key[0]}/{key[2]}"))
        return self.store(key, after)

    def _proxy(self, kinds: str, namespace: str, target: str, path: str) -> Any:
        name, _, port = target.partition(":")
        found = self.objects.get((kinds.title()[:-1], namespace, name))
        if found and (kinds, port, path) == ("pods", "8080", "metrics"):
            return self.scrape(found)
        raise RefusalError(404, f'{kinds} "{target}" not found')

    def _prometheus(self, query: str) -> Document:
        wanted = dict(re.findall(r'(\w+)=~?"([^"]*)"', query))
        names = wanted.pop("__name__").split("|")
        result: list[Document] = []
        for (kind, namespace, pod), found in self.objects.items():
            labels = {re.sub(r"\W", "_", k): v for k, v in found["metadata"]["labels"].items()}
            if kind == "Pod" and wanted.items() <= (labels | {"namespace": namespace}).items():
                for family in text_string_to_metric_families(self.scrape(found)):
                    for name, own, value in (sample[:3] for sample in family.samples):
                        metric = {"__name__": name, "pod": pod, **own}
                        result.append({"metric": metric, "value": [0, str(value)]})
        result = [each for each in result if each["metric"]["__name__"] in names]
        return {"status": "success", "data": {"resultType": "vector", "result": result}}


class Handler(BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are sent separately

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, answer = self.api.answer(self.command, self.path, self.headers, body)
        content = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PATCH = do_POST = do_DELETE = _answer  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Quiet."""
