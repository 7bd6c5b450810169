"""`saarthi rollout` against an API server: canaries in both modes, the way forward and back."""

import functools
import json
import math
from typing import Any

import numpy as np
import pytest

from deployment.comparison import figures_of, increase, quantile
from deployment.overlay import override, render
from tests.deployment.api_server import KSERVE, ApiServer
from tests.deployment.conftest import ROOT, Run

OVERLAYS = ROOT / "manifests" / "overlays" / "prod"
STABLE, CANDIDATE = "gs://b/nlu/0.1.0", "gs://b/nlu/0.2.0"
BUNDLES = ("--bundle", f"nlu={STABLE}", "--bundle", "ner=gs://b/ner/0.1.0")
CANARY = ("rollout", "canary", "nlu", "--yes", "--bundle", CANDIDATE)
both_modes = pytest.mark.parametrize("mode", ["standard", "serverless"])


rendered = functools.cache(render)


@pytest.fixture
def deployed(server: ApiServer, mode: str) -> str:
    bundles = {"nlu": STABLE, "ner": "gs://b/ner/0.1.0"}
    server.apply(override(rendered(OVERLAYS / mode), bundles, None))
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


@both_modes
def test_a_canary_that_holds_is_promoted(server: ApiServer, saarthi: Run, deployed: str) -> None:
    done = saarthi(*CANARY, "--percent", 20, "--watch", 2)
    assert "the canary holds; next: saarthi rollout promote nlu" in done.stdout
    found = status(saarthi)
    assert (found["mode"], found["ready"], found["canary_percent"]) == (deployed, True, 20)
    assert found["stable"]["bundle"] == STABLE
    assert found["canary"]["bundle"] == CANDIDATE and found["canary"]["version"] == "0.2.0"
    table = saarthi("rollout", "status").stdout
    assert "80%" in table and "20%" in table and "ner" in table
    more = saarthi("rollout", "canary", "nlu", "--yes", "--percent", 60, "--watch", 0)
    assert "40%" in more.stdout and "60%" in more.stdout
    running = pods(server, CANDIDATE)
    said = saarthi("rollout", "promote", "nlu", "--yes")
    assert f"saarthi rollout rollback nlu --to {STABLE}" in said.stdout
    assert f"put {CANDIDATE} into the overlay's settings.yaml" in said.stdout
    now = status(saarthi)
    assert (now["stable"]["bundle"], now["canary"], now["ready"]) == (CANDIDATE, None, True)
    assert "canary" not in spec(server)
    assert "canaryTrafficPercent" not in spec(server)["predictor"]
    assert running == pods(server, CANDIDATE)  # no pod was started anew

    assert STABLE in saarthi("rollout", "rollback", "nlu", "--yes", "--to", STABLE).stdout


@pytest.mark.parametrize("mode", ["serverless"])
def test_a_running_canary_is_not_run_over(server: ApiServer, saarthi: Run, deployed: str) -> None:
    saarthi(*CANARY, "--watch", 0)
    before = spec(server)
    refused = saarthi("deploy", OVERLAYS / deployed, *BUNDLES, "--yes", code=2)
    assert "a canary is running, which this overlay does not have" in refused.stderr
    other = saarthi(*CANARY[:-1], "gs://b/nlu/0.3.0", code=2)
    assert f"a canary of {CANDIDATE} is running" in other.stderr
    assert spec(server) == before


@both_modes
def test_rollback_takes_a_canary_back(server: ApiServer, saarthi: Run, deployed: str) -> None:
    before, running = spec(server), pods(server, STABLE)
    asked = saarthi(*CANARY[:3], *CANARY[4:], typed="n\n", code=1)
    assert f"10% of nlu's traffic to {CANDIDATE}?" in asked.stderr
    assert spec(server) == before
    assert CANDIDATE in saarthi(*CANARY, "--watch", 0).stdout
    assert running <= pods(server, STABLE)
    saarthi("rollout", "rollback", "nlu", "--yes")
    assert spec(server) == before
    now = status(saarthi)
    assert (now["stable"]["bundle"], now["canary"], now["ready"]) == (STABLE, None, True)
    none = saarthi("rollout", "rollback", "nlu", "--yes", code=2)
    assert "no canary is running that could be taken back" in none.stderr
    assert "no canary is running" in saarthi("rollout", "promote", "nlu", code=2).stderr


WORSE: dict[str, tuple[dict[str, float], str]] = {
    "error rate": ({"errors": 5}, "error rate 5.00%, limit 1.00% (stable 0.00% + 1.00%)"),
    "p95": ({"seconds": 0.02}, "p95 latency 24.25 ms, limit 7.31 ms (stable 4.88 ms × 1.5)"),
    "abstentions": ({"abstained": 12}, "abstention rate 12.00%, limit 9.00% (stable 4.00% + 5"),
}


@pytest.mark.parametrize(
    ("mode", "figure"),
    [*(("standard", figure) for figure in WORSE), ("serverless", "error rate")],
)
def test_a_worse_canary_is_taken_back(
    server: ApiServer, saarthi: Run, deployed: str, figure: str
) -> None:
    before = spec(server)
    server.behaviour[CANDIDATE], said = WORSE[figure]
    done = saarthi(*CANARY, "--watch", 30, code=1)  # which ends at the first look
    assert "taken back:" in done.stderr and said in done.stderr
    assert all(name not in done.stderr for other, (_, name) in WORSE.items() if other != figure)
    assert spec(server) == before


@both_modes
def test_a_canary_that_does_not_start_is_taken_back(
    server: ApiServer, saarthi: Run, deployed: str
) -> None:
    before = spec(server)
    done = saarthi(*CANARY[:-1], "gs://b/nlu/broken", code=1)
    assert "taken back: nlu has failed" in done.stderr
    assert spec(server) == before


@pytest.mark.parametrize("mode", ["standard"])
def test_too_few_requests_tell_nothing(server: ApiServer, saarthi: Run, deployed: str) -> None:
    done = saarthi(*CANARY, "--watch", 1, "--min-requests", 1_000_000, code=1)
    assert "too few requests to compare" in done.stderr
    assert spec(server)["canary"][0]["trafficPercent"] == 10  # it stays


@both_modes
def test_figures_may_come_from_prometheus(server: ApiServer, saarthi: Run, deployed: str) -> None:
    server.behaviour[CANDIDATE] = {"errors": 7}
    url = ("--prometheus", f"{server.url}/prometheus")
    done = saarthi(*CANARY, "--watch", 30, *url, code=1)
    assert "error rate 7.00%, limit 1.00%" in done.stderr


@pytest.mark.parametrize("mode", ["standard"])
def test_metrics_that_cannot_be_read_start_no_canary(
    server: ApiServer, saarthi: Run, deployed: str
) -> None:
    before = spec(server)
    nowhere = ("--prometheus", "http://127.0.0.1:9")
    assert "no answer" in saarthi(*CANARY, *nowhere, code=2).stderr
    assert spec(server) == before


@pytest.mark.parametrize("mode", ["standard"])
def test_a_candidates_own_image_gives_way_to_the_next_deploy(
    server: ApiServer, saarthi: Run, deployed: str
) -> None:
    saarthi("rollout", "canary", "nlu", "--yes", "--tag", "0.5.0", "--watch", 0)
    found = status(saarthi)
    assert found["canary"]["image"] == "saarthi/nlu:0.5.0" != found["stable"]["image"]
    saarthi("rollout", "promote", "nlu", "--yes")
    saarthi(*CANARY, "--watch", 0)
    assert {"nlu-candidate-predictor", "nlu-candidate-2-predictor"} <= server.names("Deployment")
    saarthi("rollout", "rollback", "nlu", "--yes")
    saarthi("deploy", OVERLAYS / "standard", *BUNDLES, "--tag", "0.6.0", "--yes")
    now = status(saarthi)
    assert now["stable"]["image"] == "saarthi/nlu:0.6.0"
    assert now["stable"]["name"] == "nlu-candidate-predictor"  # the pods were not moved


@pytest.mark.parametrize("mode", ["deployment"])
def test_a_plain_deployment_goes_back_by_its_history(
    server: ApiServer, saarthi: Run, deployed: str
) -> None:
    for version in KSERVE:
        del server.kinds[version]  # the cluster has never heard of KServe
    refused = saarthi(*CANARY, code=2)
    assert "a plain Deployment, and nothing there splits the traffic" in refused.stderr
    none = saarthi("rollout", "rollback", "nlu", "--yes", code=2)
    assert "its history has no revision before this one" in none.stderr
    first = server.get("Deployment", "nlu")["spec"]["template"]
    for version in ("0.2.0", "0.3.0"):
        bundles = {"nlu": f"gs://b/nlu/{version}", "ner": "gs://b/ner/0.1.0"}
        server.apply(override(rendered(OVERLAYS / "deployment"), bundles, None))
    assert status(saarthi)["stable"]["version"] == "0.3.0"
    assert "back to gs://b/nlu/0.2.0" in saarthi("rollout", "rollback", "nlu", "--yes").stderr
    assert server.get("Deployment", "nlu")["status"]["bundle"][0] == "gs://b/nlu/0.2.0"
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


def test_a_counter_that_began_anew_counts_from_zero() -> None:
    ok = ("pod", "saarthi_requests_total", (("outcome", "ok"),))
    error = ("pod", "saarthi_requests_total", (("outcome", "error"),))
    gone = ("pod", "saarthi_requests_total", (("outcome", "gone"),))
    grown = increase({ok: 100.0, error: 1.0}, {ok: 40.0, error: 11.0, gone: 9.0})
    figures = figures_of(grown)
    assert (figures.requests, figures.error_rate) == (50, 0.2)
