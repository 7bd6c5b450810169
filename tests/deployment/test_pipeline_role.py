"""`manifests/pipeline`: the account of the pipelines, whose Roles allow each of their steps."""

import functools
import re
import shutil
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from components.check_canary.component import check_canary
from components.promote_canary.component import promote_canary
from components.start_canary.component import start_canary
from deployment.train_job import run_train_job
from pipelines.resources import Environment
from tests.deployment.api_server import ApiServer
from tests.deployment.conftest import CANDIDATE, overlay
from tests.deployment.test_train_job import condition, job

FOLDER = Path(__file__).parents[2] / "manifests" / "pipeline"
ACCOUNT = {"kind": "ServiceAccount", "name": "saarthi-pipeline", "namespace": "kubeflow"}
VERBS = {"GET": "get", "PATCH": "patch", "DELETE": "delete", "POST": "create"}
# kind of the path's last part: plural, and a name or subresource behind it
_PATH = re.compile(
    r"/apis?(?:/(?P<group>[^/]+\.[^/]+|apps))?/v[^/]+/namespaces/(?P<space>[^/]+)/(?P<kind>[^/]+)"
    r"(?:/(?P<name>[^/]+)(?:/(?P<sub>\w+))?)?"
)

Rule = tuple[str, str, str]  # group, resource, verb


@functools.cache
def documents() -> list[dict[str, Any]]:
    kubectl = shutil.which("kubectl", path=Path(sys.executable).parent) or "kubectl"
    done = subprocess.run([kubectl, "kustomize", FOLDER], capture_output=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def rules(name: str) -> set[Rule]:
    [role] = [
        each for each in documents() if (each["kind"], each["metadata"]["name"]) == ("Role", name)
    ]
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def needed(method: str, target: str) -> Rule | None:
    """Right that a request needs; None for the discovery, which every account may read."""
    found = _PATH.match(urllib.parse.urlsplit(target).path)
    if found is None:
        return None
    resource = found["kind"] + (f"/{found['sub']}" if found["sub"] else "")
    verb = VERBS[method] if found["name"] else "list"
    return found["group"] or "", resource, verb


@pytest.fixture
def used(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[Rule]]:
    """Rights that the requests of a test use; those outside `allowed` are refused."""
    rights: dict[str, set[Rule]] = {"allowed": set(), "used": set()}
    answer = server.answer

    def guarded(method: str, target: str, headers: Any, body: bytes) -> tuple[int, Any]:
        right = needed(method, target)
        if right is not None:
            rights["used"].add(right)
            if right not in rights["allowed"]:
                return 403, {"kind": "Status", "message": f"forbidden: {right}", "code": 403}
        return answer(method, target, headers, body)

    monkeypatch.setattr(server, "answer", guarded)
    return rights


@pytest.mark.parametrize("kubernetes", ["1.30", "1.37"])
def test_account_and_bindings_fit_together(kubernetes: str) -> None:
    names = {(each["kind"], each["metadata"]["name"]) for each in documents()}
    for each in documents():
        kubernetes_validate.validate(each, kubernetes, strict=True)
        assert each["metadata"]["labels"] == {"app.kubernetes.io/part-of": "saarthi"}
        if each["kind"] == "RoleBinding":
            assert each["subjects"] == [ACCOUNT]
            role = each["roleRef"]["name"]
            assert role == "pipeline-runner" or ("Role", role) in names  # KFP has the first
    assert ("ServiceAccount", Environment.load("prod").service_account) in names
    assert not any(
        "*" in right for role in ("saarthi-roll-out", "saarthi-train") for right in rules(role)
    )


@pytest.mark.parametrize("mode", ["standard", "serverless", "deployment"])
@pytest.mark.parametrize("behaviour", [{}, {"errors": 5}])
def test_the_role_allows_each_step_of_a_roll_out(
    server: ApiServer, used: dict[str, set[Rule]], mode: str, behaviour: dict[str, float]
) -> None:
    server.apply(overlay(mode))
    server.behaviour[CANDIDATE] = behaviour
    used["allowed"] = rules("saarthi-roll-out")
    for step in (
        lambda: start_canary.python_func("nlu", "saarthi", CANDIDATE, 20, 30),
        lambda: check_canary.python_func("nlu", "saarthi", 0.2, {}, ""),
        lambda: promote_canary.python_func("nlu", "saarthi", CANDIDATE, 30),
    ):
        try:
            step()
        except SystemExit:  # a mode without this step, or a canary that was rolled back
            break
    assert used["used"] and used["used"] <= used["allowed"]


def test_the_role_allows_each_step_of_a_train_job(
    server: ApiServer, used: dict[str, set[Rule]]
) -> None:
    wanted = job() | {"metadata": {**job()["metadata"], "namespace": "saarthi"}}
    used["allowed"] = rules("saarthi-train")

    def end(kind: str) -> None:
        server.get("TrainJob", "teacher")["status"] = condition(kind)

    server.steps = [lambda: end("Complete")]
    run_train_job(wanted, 20, print, poll=0.01)
    end("Failed")  # a retried task deletes the job
    with pytest.raises(Exception, match="Failed"):
        server.steps = [lambda: None, lambda: None, lambda: end("Failed")]
        run_train_job(wanted, 20, print, poll=0.01)
    # Only a real server asks for `create` when an applied object is new.
    assert used["used"] | {("trainer.kubeflow.org", "trainjobs", "create")} == used["allowed"]
