"""A TrainJob: its manifest against the schema, and how it is started and watched."""

import copy
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kubernetes.config import kube_config

from deployment.train_job import run_train_job, train_job
from saarthi_lib.errors import SaarthiError

SCHEMAS = Path(__file__).parents[3] / "shared" / "schemas"
PLACE = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/ml/trainjobs"


def job(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "image": "saarthi/train:1",
        "arguments": ["--config", "{}", "--data", "gs://b/d", "--out", "gs://b/t"],
        "nodes": 2,
        "processes": 4,
        "runtime": "torch-distributed",
        "resources": {"nvidia.com/gpu": "4", "memory": "64Gi"},
        "environment": {"SAARTHI_RUN_ID": "r1"},
        "seconds": 3600,
        **changes,
    }
    return train_job("teacher", "ml", **given)


def closed(node: Any) -> Any:
    """The schema, with every object closed where nothing says to keep unknown fields."""
    if isinstance(node, dict):
        node = {name: closed(child) for name, child in node.items()}
        keeps = node.get("x-kubernetes-preserve-unknown-fields")
        if isinstance(node.get("properties"), dict) and not keeps:
            node.setdefault("additionalProperties", False)
    return [closed(child) for child in node] if isinstance(node, list) else node


def test_the_manifest_is_what_the_schema_asks_for() -> None:
    path = SCHEMAS / "trainjob-trainer.kubeflow.org-v1alpha1.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there: the schemas are not part of the repository")
    schema = closed(json.loads(path.read_text(encoding="utf-8")))
    schema["properties"]["metadata"] = {"type": "object"}  # of which this schema knows nothing
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(job())
    wrong = copy.deepcopy(job())
    wrong["spec"]["trainer"]["numNode"] = 2
    with pytest.raises(jsonschema.ValidationError, match="numNode"):
        validator.validate(wrong)


class Trainer:
    """A stand-in for the API server, with what Kubeflow Trainer does of a job: a state a look."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.states: list[dict[str, Any]] = []
        self.deleted = 0

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        name = path.removeprefix(PLACE).strip("/")
        if path == "/version":
            return 200, {"major": "1", "minor": "33"}
        if path == "/apis":
            version = {"groupVersion": "trainer.kubeflow.org/v1alpha1", "version": "v1alpha1"}
            group = {"name": "trainer.kubeflow.org", "versions": [version]}
            return 200, {"kind": "APIGroupList", "groups": [{**group, "preferredVersion": version}]}
        if path == "/apis/trainer.kubeflow.org/v1alpha1":
            verbs = ["get", "list", "patch", "delete"]
            kind = {"name": "trainjobs", "kind": "TrainJob", "namespaced": True, "verbs": verbs}
            return 200, {"kind": "APIResourceList", "resources": [kind]}
        if method == "PATCH":
            self.jobs[name] = {**self.jobs.get(name, {}), **body}
            return 200, self.jobs[name]
        if name not in self.jobs:
            return 404, {"kind": "Status", "message": f"{path} not found"}
        if method == "DELETE":
            self.deleted += 1
            return 200, self.jobs.pop(name)
        if "spec" in self.jobs[name] and self.states:
            self.jobs[name]["status"] = self.states.pop(0)
        return 200, self.jobs[name]


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    trainer = Trainer()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"null")
            status, document = trainer.answer(self.command, self.path.split("?")[0], body)
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PATCH = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        content = {
            "current-context": "c",
            "clusters": [
                {"name": "l", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
            ],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "l", "user": "u"}}],
        }
        file = tmp_path / "kubeconfig"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(file))
        yield trainer
        server.shutdown()


def state(kind: str, message: str = "") -> dict[str, Any]:
    found = {"type": kind, "status": "True", "reason": f"Job{kind}", "message": message}
    return {"conditions": [found]}


def working(active: int) -> dict[str, Any]:
    counts = {"active": active, "failed": 0, "ready": active, "succeeded": 0, "suspended": 0}
    return {"jobsStatus": [{"name": "node", **counts}]}


def run(trainer: Trainer, seconds: float = 20) -> list[str]:
    lines: list[str] = []
    show: Callable[[str], None] = lines.append
    run_train_job(job(), seconds, show, poll=0.01)
    return lines


def test_it_is_watched_until_it_is_complete(trainer: Trainer) -> None:
    trainer.states = [working(1), working(2), working(2), state("Complete")]
    assert run(trainer) == [
        "TrainJob teacher: node: 1 active, 1 ready, 0 failed",
        "TrainJob teacher: node: 2 active, 2 ready, 0 failed",
        "TrainJob teacher: complete",
    ]
    assert trainer.jobs["teacher"]["spec"]["trainer"]["numNodes"] == 2
    assert run(trainer)[-1] == "TrainJob teacher: complete"  # asked again, it is not started anew
    assert trainer.deleted == 0


def test_why_it_failed_is_told_and_the_next_attempt_starts_anew(trainer: Trainer) -> None:
    trainer.states = [working(2), state("Failed", "node 1 ran out of memory")]
    with pytest.raises(SaarthiError, match=r"JobFailed: node 1 ran out of memory.*kubectl logs"):
        run(trainer)
    trainer.states = [state("Failed"), working(2), state("Complete")]
    assert run(trainer)[-1] == "TrainJob teacher: complete"
    assert trainer.deleted == 1


def test_it_is_not_waited_for_for_ever(trainer: Trainer) -> None:
    trainer.states = [working(2)] * 1000
    with pytest.raises(SaarthiError, match=r"after 0\.05 s; it goes on"):
        run(trainer, seconds=0.05)
