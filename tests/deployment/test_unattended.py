"""The pipeline's roll-out components against an API server, in every mode."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.check_canary.component import check_canary
from components.promote_canary.component import promote_canary
from components.start_canary.component import start_canary
from tests.deployment.api_server import ApiServer
from tests.deployment.conftest import CANDIDATE, STABLE, overlay
from tests.manifests.test_manifests import MANIFESTS
from tests.tiny_bundle import write_tiny_bundle

NAMESPACE = "saarthi"
NEEDED = {
    *(("get", "serving.kserve.io", kinds) for kinds in ("inferenceservices", "servingruntimes")),
    ("patch", "serving.kserve.io", "inferenceservices"),
    ("get", "serving.knative.dev", "revisions"),
    *((verb, "apps", "deployments") for verb in ("get", "patch")),
    ("list", "apps", "replicasets"),
    *(("list", "", kinds) for kinds in ("pods", "events")),
    *(("get", "", kinds) for kinds in ("pods", "pods/proxy")),
}
serverless = pytest.mark.parametrize("nlu", ["serverless"], indirect=True)


@pytest.fixture(params=["standard", "serverless", "deployment"])
def nlu(request: pytest.FixtureRequest, server: ApiServer) -> ApiServer:
    """A cluster with the predictor `nlu`."""
    server.apply(overlay(request.param))
    server.fewest.clear()
    return server


def start(bundle: str = CANDIDATE) -> None:
    start_canary.python_func("nlu", NAMESPACE, bundle, 20, 30)


def check(seconds: float = 0.2, **limits: Any) -> str:
    return str(check_canary.python_func("nlu", NAMESPACE, seconds, limits, ""))


def promote(bundle: str = CANDIDATE) -> None:
    promote_canary.python_func("nlu", NAMESPACE, bundle, 30)


def spec(server: ApiServer) -> Any:
    service = server.objects.get(("InferenceService", NAMESPACE, "nlu"))
    return (service or server.get("Deployment", "nlu"))["spec"]


def test_a_good_version_is_rolled_out_and_steps_repeat(nlu: ApiServer) -> None:
    start()
    start()
    assert check() == ""
    promote()
    after = spec(nlu)
    promote()
    start()
    assert check() == ""
    assert spec(nlu) == after
    assert CANDIDATE in str(after) and STABLE not in str(after)
    assert nlu.fewest["nlu"] >= 2  # ready pods, in every mode


def test_another_bundle_is_not_promoted(nlu: ApiServer, capfd: pytest.CaptureFixture[str]) -> None:
    before = spec(nlu)
    with pytest.raises(SystemExit):
        promote()
    assert f"{STABLE} is running, not {CANDIDATE}" in capfd.readouterr().err
    assert spec(nlu) == before


@serverless
def test_a_worse_canary_is_rolled_back_with_a_reason(nlu: ApiServer) -> None:
    before = spec(nlu)
    nlu.behaviour[CANDIDATE] = {"errors": 5}
    start()
    reason = "error rate 5.00%, limit 1.00% (stable 0.00% + 1.00%)"
    assert check(5) == f"canary of nlu rolled back: {reason}"
    assert spec(nlu) == before
    assert nlu.fewest["nlu"] >= 2


@serverless
def test_a_canary_with_few_requests_is_rolled_back(nlu: ApiServer) -> None:
    before = spec(nlu)
    start()
    assert "too few requests to compare" in check(1, requests=1_000_000)
    assert spec(nlu) == before


def test_a_version_that_fails_to_start_is_undone(
    nlu: ApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    before = spec(nlu)
    with pytest.raises(SystemExit):
        start("gs://b/nlu/broken")
    shown = capfd.readouterr().err
    assert "nlu has failed" in shown and f"returned to {STABLE}" in shown
    assert spec(nlu) == before
    assert nlu.fewest["nlu"] >= 2


def test_a_trial_is_not_rolled_out(
    nlu: ApiServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = spec(nlu)
    trial = write_tiny_bundle(tmp_path / "trial", trial=True)
    with pytest.raises(SystemExit):
        start(str(trial))
    assert "trial run" in capfd.readouterr().err
    assert spec(nlu) == before


@serverless
@pytest.mark.parametrize(
    ("bundle", "limits", "message"),
    [("", {}, "no bundle was published"), (CANDIDATE, {"latencies": 2}, "latencies unknown")],
)
def test_wrong_parameters_end_the_task(
    nlu: ApiServer,
    capfd: pytest.CaptureFixture[str],
    bundle: str,
    limits: dict[str, float],
    message: str,
) -> None:
    with pytest.raises(SystemExit):
        start(bundle)
        check(**limits)
    assert message in capfd.readouterr().err


def test_the_tasks_need_only_the_documented_permissions(nlu: ApiServer) -> None:
    nlu.used.clear()  # from the setup
    start()
    check()
    promote()
    with pytest.raises(SystemExit):
        start("gs://b/nlu/broken")
    assert nlu.used and nlu.used <= NEEDED
    guide = (MANIFESTS.parent / "docs" / "guides" / "roll-out.md").read_text(encoding="utf-8")
    assert all(f"`{kinds}`" in guide for _, _, kinds in NEEDED)


def test_the_role_of_the_pipeline_has_these_permissions() -> None:
    files = list((MANIFESTS / "pipeline").rglob("*.yaml"))
    found = [each for file in files for each in yaml.safe_load_all(file.read_text())]
    rules = [rule for each in found if each["kind"] == "Role" for rule in each["rules"]]
    if not rules:
        pytest.skip("manifests/pipeline has no Role")
    allowed = {
        (verb, group, kinds)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for kinds in rule["resources"]
    }
    assert allowed >= NEEDED
