"""A stand-in for the API server of Kubeflow Pipelines, on the loopback.

It supports the part of v2beta1 that KFP's client and command line use: health, upload, pipelines,
versions, experiments, runs, recurring runs. It checks uploads against the pipeline-spec protobufs,
and runs submitted pipelines with KFP's local runner in a separate process. It has no pods.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable
from datetime import UTC, datetime
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2 as pb

Document = dict[str, Any]

API = "/apis/v2beta1"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '([^']+)'")
_ENDED = re.compile(r"Task '([^']+)' finished with status (\w+)")
_STATES = {"SUCCESS": "SUCCEEDED", "FAILURE": "FAILED"}
# Script of a run's process: it reads the compiled pipeline and its parameters from a folder.
_RUN = """
import json, sys
from pathlib import Path
from kfp import components, local
folder = Path(sys.argv[1])
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "artifacts"))
pipeline = components.load_component_from_file(str(folder / "pipeline.yaml"))
pipeline(**json.loads((folder / "parameters.json").read_text()))
"""


class RefusalError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class KfpServer:
    """The server; tests read and set its state.

    Attributes:
        url: address of the API.
        token: token that requests must have; None: no token.
        cookie: header Cookie that requests must have; None: no cookie.
        version: tag of the release that the server reports; None: it reports no tag.
        executes: whether to run submitted pipelines; otherwise a run succeeds at the third request.
        page_size: most entries on a page of a list.
        faults: statuses of the first answers, by method and pattern of the path.
        delay: seconds before each answer.
        asked: method and path of each request.
        environment: variables of the runs' processes, in addition to those of the tests.
    """

    def __init__(self) -> None:
        self.token: str | None = None
        self.cookie: str | None = None
        self.version: str | None = "2.15.0"
        self.executes = False
        self.page_size = 2
        self.faults: dict[tuple[str, str], list[int]] = {}
        self.delay = 0.0
        self.asked: list[tuple[str, str]] = []
        self.environment: dict[str, str] = {}
        self.pipelines: dict[str, Document] = {}
        self.versions: dict[str, Document] = {}
        self.experiments: dict[str, Document] = {}
        self.runs: dict[str, Document] = {}
        self.recurring: dict[str, Document] = {}
        self.looks: dict[str, int] = {}
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"api": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._folder = tempfile.TemporaryDirectory(prefix="kfp-stand-in-")
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> "KfpServer":
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        for thread in self._threads:
            thread.join()
        self._folder.cleanup()

    def log_of(self, run_id: str) -> str:
        """Output of a run's process."""
        return (Path(self._folder.name) / run_id / "log").read_text(encoding="utf-8")

    # Methods of the API; each returns a document.

    def healthz(self) -> Document:
        tag = {} if self.version is None else {"tag_name": self.version, "commit_sha": "0" * 40}
        return {"multi_user": False, "pipeline_store": "database", **tag}

    def upload(self, query: dict[str, str], content: bytes) -> Document:
        name, namespace = query["name"], query.get("namespace", "")
        if any(each["display_name"] == name for each in self.in_namespace(namespace)):
            raise RefusalError(409, f"a pipeline with the name {name} exists already")
        pipeline = self._made("pipeline_id", display_name=name, namespace=namespace)
        self.pipelines[pipeline["pipeline_id"]] = pipeline
        self._version(pipeline["pipeline_id"], name, content)
        return pipeline

    def upload_version(self, query: dict[str, str], content: bytes) -> Document:
        if query["pipelineid"] not in self.pipelines:
            raise RefusalError(404, f"pipeline {query['pipelineid']} not found")
        return self._version(query["pipelineid"], query["name"], content)

    def in_namespace(self, namespace: str) -> list[Document]:
        """Pipelines of a namespace; an empty one has the shared pipelines."""
        return [each for each in self.pipelines.values() if each["namespace"] == namespace]

    def create_experiment(self, body: Document) -> Document:
        made = self._made("experiment_id", **body)
        self.experiments[made["experiment_id"]] = made
        return made

    def create_run(self, body: Document) -> Document:
        spec, platform = self._checked(body)
        run = self._made("run_id", state="PENDING", run_details={"task_details": []}, **body)
        self.runs[run["run_id"]] = run
        if self.executes:
            arguments = (run, spec, platform, body["runtime_config"].get("parameters", {}))
            self._threads.append(threading.Thread(target=self._execute, args=arguments))
            self._threads[-1].start()
        return run

    def get_run(self, run_id: str) -> Document:
        run = _found(self.runs, run_id)
        if not self.executes:
            self.looks[run_id] = self.looks.get(run_id, 0) + 1
            run["state"] = "SUCCEEDED" if self.looks[run_id] >= 3 else "RUNNING"
        return run

    def create_recurring_run(self, body: Document) -> Document:
        self._checked(body)
        cron = body["trigger"]["cron_schedule"]["cron"]
        if len(cron.split()) != 6:
            raise RefusalError(400, f"the schedule '{cron}' must have six fields")
        made = self._made("recurring_run_id", status="ENABLED", **body)
        self.recurring[made["recurring_run_id"]] = made
        return made

    def page(self, name: str, entries: list[Document], query: dict[str, str]) -> Document:
        """A page of the filtered list, and the token of the next page."""
        for each in json.loads(query.get("filter") or "{}").get("predicates", []):
            wanted = each.get("stringValue") or each.get("string_value")
            entries = [entry for entry in entries if entry[each["key"]] == wanted]
        start = int(query.get("page_token") or 0)
        end = start + min(self.page_size, int(query.get("page_size") or 20))
        following = {"next_page_token": str(end)} if end < len(entries) else {}
        return {name: entries[start:end], "total_size": len(entries), **following}

    def _version(self, pipeline_id: str, name: str, content: bytes) -> Document:
        pipeline_spec = _parsed(content)
        made = self._made(
            "pipeline_version_id",
            pipeline_id=pipeline_id,
            display_name=name,
            pipeline_spec=pipeline_spec,
        )
        self.versions[made["pipeline_version_id"]] = made
        return made

    def _checked(self, body: Document) -> tuple[Document, Document]:
        """The two specs of a submitted run, checked against its parameters."""
        _found(self.experiments, body["experiment_id"])
        if reference := body.get("pipeline_version_reference"):
            whole = _found(self.versions, reference["pipeline_version_id"])["pipeline_spec"]
        else:
            whole = body["pipeline_spec"]
        spec = whole.get("pipeline_spec", whole)
        platform = whole.get("platform_spec", {})
        known = json_format.ParseDict(spec, pb.PipelineSpec()).root.input_definitions.parameters
        json_format.ParseDict(platform, pb.PlatformSpec())
        given = body.get("runtime_config", {}).get("parameters", {})
        if unknown := set(given) - set(known):
            raise RefusalError(400, f"unknown parameters: {sorted(unknown)}")
        missing = {name for name, each in known.items() if not each.is_optional} - set(given)
        if missing:
            raise RefusalError(400, f"parameters without a value: {sorted(missing)}")
        return spec, platform

    def _execute(
        self, run: Document, spec: Document, platform: Document, parameters: Document
    ) -> None:
        folder = Path(self._folder.name) / run["run_id"]
        folder.mkdir()
        compiled = yaml.safe_dump_all([spec, platform] if platform else [spec])
        (folder / "pipeline.yaml").write_text(compiled, encoding="utf-8")
        (folder / "parameters.json").write_text(json.dumps(parameters), encoding="utf-8")
        error = folder / "error.json"
        environment = {
            **os.environ,
            **self.environment,
            "SAARTHI_ERROR_FILE": str(error),
            "SAARTHI_RUN_ID": run["run_id"],
        }
        run["state"] = "RUNNING"
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        tasks: dict[str, Document] = {}
        assert process.stdout is not None
        with (folder / "log").open("w", encoding="utf-8") as log:
            for line in process.stdout:
                plain = _COLOUR.sub("", line)
                log.write(plain)
                log.flush()
                if match := _STARTED.search(plain):
                    tasks[match[1]] = {
                        "task_id": str(uuid4()),
                        "display_name": match[1],
                        "state": "RUNNING",
                    }
                elif match := _ENDED.search(plain):
                    tasks[match[1]]["state"] = _STATES[match[2]]
                    if match[2] == "FAILURE" and error.is_file():
                        message = json.loads(error.read_text(encoding="utf-8"))["message"]
                        tasks[match[1]]["error"] = {"code": 1, "message": message}
                run["run_details"] = {"task_details": list(tasks.values())}
        run["state"] = "SUCCEEDED" if process.wait() == 0 else "FAILED"

    def _made(self, identifier: str, **fields: Any) -> Document:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return {identifier: str(uuid4()), "created_at": now, **fields}


class _Handler(BaseHTTPRequestHandler):
    api: KfpServer

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def _answer(self, method: str) -> None:
        url = urllib.parse.urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(self.api.delay)
        with self.api.lock:
            self.api.asked.append((method, url.path))
            try:
                self._admit(method, url.path)
                status, document = 200, self._route(method, url, content)
            except RefusalError as refusal:
                status, document = refusal.status, {"code": 9, "message": str(refusal)}
            except (KeyError, ValueError, json_format.ParseError) as error:
                status, document = 400, {"code": 3, "message": f"malformed: {error!r}"}
            body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _admit(self, method: str, path: str) -> None:
        token = self.api.token
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            raise RefusalError(401, "Unauthenticated: the request bears no valid token")
        if self.api.cookie and self.headers.get("Cookie") != self.api.cookie:
            raise RefusalError(403, "Forbidden: the request has no session")
        for (fault_method, pattern), statuses in self.api.faults.items():
            if fault_method == method and re.fullmatch(API + pattern, path) and statuses:
                raise RefusalError(statuses.pop(0), "an internal error of the test")

    def _route(self, method: str, url: urllib.parse.SplitResult, content: bytes) -> Document:
        api, query = self.api, dict(urllib.parse.parse_qsl(url.query))
        lists: dict[str, Callable[[], dict[str, Document]]] = {
            "pipelines": lambda: api.pipelines,
            "experiments": lambda: api.experiments,
            "runs": lambda: api.runs,
            "recurringruns": lambda: api.recurring,
        }
        match method, url.path.removeprefix(API).strip("/").split("/"):
            case "GET", ["healthz"]:
                return api.healthz()
            case "POST", ["pipelines", "upload"]:
                return api.upload(query, self._file(content))
            case "POST", ["pipelines", "upload_version"]:
                return api.upload_version(query, self._file(content))
            case "POST", ["experiments"]:
                return api.create_experiment(json.loads(content))
            case "POST", ["runs"]:
                return api.create_run(json.loads(content))
            case "POST", ["recurringruns"]:
                return api.create_recurring_run(json.loads(content))
            case "GET", ["runs", run_id]:
                return api.get_run(run_id)
            case "GET", ["pipelines", pipeline_id, "versions"]:
                versions = [v for v in api.versions.values() if v["pipeline_id"] == pipeline_id]
                return api.page("pipeline_versions", versions, query)
            case "GET", ["pipelines", _, "versions", version_id]:
                return _found(api.versions, version_id)
            case "GET", ["pipelines"]:
                return api.page("pipelines", api.in_namespace(query.get("namespace", "")), query)
            case "GET", [kind] if kind in lists:
                name = {"recurringruns": "recurringRuns"}.get(kind, kind)
                return api.page(name, list(lists[kind]().values()), query)
            case "GET", [kind, identifier] if kind in lists:
                return _found(lists[kind](), identifier)
        raise RefusalError(404, f"{method} {url.path}: not supported by the stand-in")

    def _file(self, content: bytes) -> bytes:
        """The file of a multipart upload."""
        kind = self.headers["Content-Type"]
        message = BytesParser().parsebytes(
            b"Content-Type: " + kind.encode() + b"\r\n\r\n" + content
        )
        [part] = [part for part in message.walk() if part.get_filename()]
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        return payload

    def log_message(self, *_: Any) -> None:
        pass


def _parsed(content: bytes) -> Document:
    documents = list(yaml.safe_load_all(content))
    json_format.ParseDict(documents[0], pb.PipelineSpec())
    if len(documents) == 1:
        return dict(documents[0])
    json_format.ParseDict(documents[1], pb.PlatformSpec())
    return {"pipeline_spec": documents[0], "platform_spec": documents[1]}


def _found(entries: dict[str, Document], identifier: str) -> Document:
    if identifier not in entries:
        raise RefusalError(404, f"{identifier} not found")
    return entries[identifier]
