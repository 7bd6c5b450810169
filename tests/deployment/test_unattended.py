"""The roll-out's components against an API server: a canary that nobody watches."""

from pathlib import Path
from typing import Any

import pytest
from kubernetes.config import kube_config

from components.check_canary.component import check_canary
from components.promote_canary.component import promote_canary
from components.start_canary.component import start_canary
from deployment.overlay import override, render
from tests.deployment.api_server import ApiServer

OVERLAYS = Path(__file__).parents[2] / "manifests" / "overlays" / "prod"
STABLE, CANDIDATE, NAMESPACE = "gs://b/nlu/0.1.0", "gs://b/nlu/0.2.0", "saarthi"


@pytest.fixture(params=["standard", "serverless"])
def nlu(
    request: pytest.FixtureRequest,
    server: ApiServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ApiServer:
    """A cluster with the predictor `nlu`, which components reach as they do from a pod."""
    # The client has read KUBECONFIG already when it was imported.
    file = str(server.kubeconfig(tmp_path))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", file)
    bundles = {"nlu": STABLE, "ner": "gs://b/ner/0.1.0"}
    server.apply(override(render(OVERLAYS / request.param), bundles, None))
    return server


def start(bundle: str = CANDIDATE) -> None:
    start_canary.python_func("nlu", NAMESPACE, bundle, 20, 30)


def check(seconds: int = 1, **limits: Any) -> str:
    return str(check_canary.python_func("nlu", NAMESPACE, seconds, limits, ""))


def promote() -> None:
    promote_canary.python_func("nlu", NAMESPACE, CANDIDATE, 30)


def spec(server: ApiServer) -> Any:
    return server.get("InferenceService", "nlu")["spec"]


def test_a_canary_that_holds_is_promoted_and_each_step_can_be_repeated(nlu: ApiServer) -> None:
    start()
    start()
    assert check() == ""
    promote()
    after = spec(nlu)
    promote()
    start()
    assert check() == ""
    assert spec(nlu) == after
    assert after["predictor"]["model"]["storageUri"] == CANDIDATE


def test_a_worse_canary_is_taken_back_and_the_answer_says_why(nlu: ApiServer) -> None:
    before = spec(nlu)
    nlu.behaviour[CANDIDATE] = {"errors": 5}
    start()
    assert (
        check(30)
        == "canary of nlu taken back: error rate 5.00%, limit 1.00% (stable 0.00% + 1.00%)"
    )
    assert spec(nlu) == before
    start()
    assert "too few requests to compare" in check(requests=1_000_000)
    assert spec(nlu) == before


def test_what_cannot_start_is_taken_back(nlu: ApiServer, capfd: pytest.CaptureFixture[str]) -> None:
    before = spec(nlu)
    with pytest.raises(SystemExit):
        start("gs://b/nlu/broken")
    assert "nlu has failed" in capfd.readouterr().err
    assert spec(nlu) == before
    for bundle, said in (("", "publish_to is empty"), (CANDIDATE, "latencies unknown")):
        with pytest.raises(SystemExit):
            start(bundle)
            check(latencies=2)
        assert said in capfd.readouterr().err
