"""A stand-in for the Kubeflow Model Registry over HTTP: the part of its REST API that is in use.

It refuses unknown fields, properties of a wrong form and names that exist, as the registry does.
Its answers follow the OpenAPI document of the registry (0.3).
"""

import json
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

Document = dict[str, Any]

_NAMED = {"name", "description", "externalId", "customProperties"}
_FIELDS = {
    "registered_models": _NAMED | {"owner", "state"},
    "model_versions": _NAMED | {"author", "state", "registeredModelId"},
    "artifacts": _NAMED
    | {"artifactType", "uri", "state", "modelFormatName", "modelFormatVersion"}
    | {f"modelSource{part}" for part in ("Kind", "Class", "Group", "Id", "Name")},
}
_REQUIRED = {
    "registered_models": {"name"},
    "model_versions": {"name", "registeredModelId"},
    "artifacts": {"artifactType"},
}
_VALUES = {
    "MetadataStringValue": ("string_value", str),
    "MetadataDoubleValue": ("double_value", float),
}


class RefusalError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ModelRegistry:
    """The server; tests read and set its state.

    Attributes:
        url: address of the registry.
        apis: versions of the API that it has.
        token: token that requests must have; None: no token.
        passes: requests before the server answers 503; None: all.
        objects: models, versions and artifacts, each by its ID.
    """

    def __init__(self) -> None:
        self.apis: tuple[str, ...] = ("v1", "v1alpha3")
        self.token: str | None = None
        self.passes: int | None = None
        self.objects: dict[str, dict[str, Document]] = {name: {} for name in _FIELDS}
        self._ids = count(1)
        handler = type("Handler", (_Handler,), {"registry": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> "ModelRegistry":
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Document:
        """Answer a request below the version of the API."""
        match method, path.split("/"):
            case "GET", ["registered_models"]:
                return self._page(list(self.objects["registered_models"].values()))
            case "GET", ["registered_model"]:
                return self._found("registered_models", name=query["name"])
            case "GET", ["model_version"]:
                parent = query["parentResourceId"]
                return self._found("model_versions", name=query["name"], registeredModelId=parent)
            case "GET", ["model_versions", version, "artifacts"]:
                artifacts = self.objects["artifacts"].values()
                return self._page([each for each in artifacts if each["version"] == version])
            case "POST", ["model_versions", version, "artifacts"]:
                self._found("model_versions", id=version)
                return self._made("artifacts", body, version=version)
            case "POST", ["registered_models" | "model_versions" as kind]:
                if parent := body.get("registeredModelId"):
                    self._found("registered_models", id=parent)
                return self._made(kind, body)
        raise RefusalError(404, f"{method} {path}: not found")

    def _page(self, items: list[Document]) -> Document:
        return {"items": items, "nextPageToken": "", "pageSize": len(items), "size": len(items)}

    def _found(self, kind: str, **fields: str) -> Document:
        for each in self.objects[kind].values():
            if all(each[name] == value for name, value in fields.items()):
                return each
        raise RefusalError(404, f"no {kind} with {fields}")

    def _made(self, kind: str, body: Document, **more: str) -> Document:
        if unknown := set(body) - _FIELDS[kind]:
            raise RefusalError(400, f"unknown fields: {unknown}")
        if missing := _REQUIRED[kind] - set(body):
            raise RefusalError(400, f"missing fields: {missing}")
        if not re.fullmatch(r"[1-9][0-9]{0,8}", body.get("registeredModelId", "1")):
            raise RefusalError(400, "registeredModelId: not an ID")
        for name, value in body.get("customProperties", {}).items():
            field, form = _VALUES[value["metadataType"]]
            if set(value) != {"metadataType", field} or not isinstance(value[field], form):
                raise RefusalError(400, f"customProperties.{name}: wrong form")
        parent = body.get("registeredModelId")
        for each in self.objects[kind].values():
            if (each.get("name"), each.get("registeredModelId")) == (body.get("name"), parent):
                raise RefusalError(409, f"{body.get('name')} exists already")
        identifier = str(next(self._ids))
        self.objects[kind][identifier] = {"id": identifier, **body, **more}
        return self.objects[kind][identifier]


class _Handler(BaseHTTPRequestHandler):
    registry: ModelRegistry

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, document = 200 + (self.command == "POST"), self._checked(url, content)
        except RefusalError as refusal:
            status, document = (
                refusal.status,
                {"code": str(refusal.status), "message": str(refusal)},
            )
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _checked(self, url: urllib.parse.SplitResult, content: bytes) -> Document:
        if self.registry.passes is not None:
            self.registry.passes -= 1
            if self.registry.passes < 0:
                raise RefusalError(503, "a fault of the test")
        if (token := self.registry.token) and self.headers["Authorization"] != f"Bearer {token}":
            raise RefusalError(401, "no valid token")
        found = re.fullmatch(r"/api/model_registry/(\w+)/(.+)", url.path)
        if not found or found[1] not in self.registry.apis:
            raise RefusalError(404, "no such API")
        query = dict(urllib.parse.parse_qsl(url.query))
        return self.registry.answer(self.command, found[2], query, json.loads(content or "{}"))

    def log_message(self, *_: Any) -> None:
        pass
