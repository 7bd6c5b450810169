"""`saarthi deploy` against an API server: what is shown, applied, waited for and tried."""

from pathlib import Path

import pytest
import yaml

from tests.deployment.api_server import ApiServer
from tests.deployment.conftest import ROOT, Run
from tests.manifests.test_manifests import SCHEMAS

OVERLAYS = ROOT / "manifests" / "overlays"
STANDARD, PLAIN = OVERLAYS / "prod" / "standard", OVERLAYS / "prod" / "deployment"
BUNDLES = ("--bundle", "nlu=gs://b/nlu/0.1.0", "--bundle", "ner=gs://b/ner/0.1.0")
NEW = ("--bundle", "nlu=gs://b/nlu/0.2.0", "--bundle", "ner=gs://b/ner/0.1.0")


@pytest.mark.parametrize("mode", ["standard", "serverless", "deployment"])
def test_an_overlay_is_applied_waited_for_and_tried(
    mode: str, server: ApiServer, saarthi: Run, tmp_path: Path
) -> None:
    utterances = tmp_path / "utterances.txt"
    utterances.write_text("turn on the lights\tlights\nकल का मौसम\n", encoding="utf-8")
    overlay = OVERLAYS / "prod" / mode
    done = saarthi("deploy", overlay, *BUNDLES, "--yes", "--smoke-file", utterances)
    kind = "Deployment" if mode == "deployment" else "InferenceService"
    assert {"nlu", "ner"} <= server.names(kind)
    assert server.names("NetworkPolicy") == {"saarthi-serving"}
    assert {manager for _, manager, _ in server.writes} == {"saarthi"}
    assert f"{kind} nlu (new)" in done.stdout
    assert done.stdout.count("ok ") == 4  # two utterances, two predictors
    assert "nlu: turn on the lights → lights (0.900) [nlu 0.2.0]" in done.stdout
    assert [each["name"] for each in server.asked] == ["ner", "ner", "nlu", "nlu"]
    assert "nlu: stable 0.1.0: " in done.stderr
    assert done.stderr.index("yet") < done.stderr.index("ready")  # progress, in order

    writes = len(server.writes)
    again = saarthi("deploy", overlay, *BUNDLES, "--tag", "0.9.0", "--dry-run")
    assert "-    " in again.stdout and ":0.9.0" in again.stdout
    assert len(server.writes) == writes
    assert "nothing differs" in saarthi("deploy", overlay, *BUNDLES, "--yes").stdout


def test_the_difference_is_asked_about(server: ApiServer, saarthi: Run) -> None:
    saarthi("deploy", STANDARD, *BUNDLES, "--yes")
    before = list(server.writes)
    done = saarthi("deploy", STANDARD, *NEW, typed="n\n", code=1)
    assert "-      storageUri: gs://b/nlu/0.1.0" in done.stdout
    assert "+      storageUri: gs://b/nlu/0.2.0" in done.stdout
    assert "0.1.0" not in done.stdout.replace("gs://b/nlu/0.1.0", "")  # nothing else has changed
    assert "apply 1 changes to saarthi?" in done.stderr
    assert server.writes == before
    saarthi("deploy", STANDARD, *NEW, typed="y\n")
    model = server.get("InferenceService", "nlu")["spec"]["predictor"]["model"]
    assert model["storageUri"] == "gs://b/nlu/0.2.0"


def test_secrets_are_not_shown(server: ApiServer, saarthi: Run, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "x"}}
    (overlay / "kustomization.yaml").write_text("resources: [secret.yaml]\n")
    for value, shown in (("aHVudGVyMQ==", "hidden"), ("aHVudGVyMg==", "hidden, changed")):
        content = secret | {"data": {"password": value, "user": "bWU="}}
        (overlay / "secret.yaml").write_text(yaml.safe_dump(content))
        done = saarthi("deploy", overlay, "--yes")
        assert value not in done.stdout + done.stderr
        assert f"password: ({shown})" in done.stdout
        assert server.get("Secret", "s", "x")["data"]["password"] == value
    assert "user: (hidden)" in done.stdout  # is as it was


@pytest.mark.skipif(
    not SCHEMAS.is_dir(), reason=f"the schemas of custom resources are not at {SCHEMAS}"
)
def test_a_wrong_field_is_refused_before_anything_is_applied(
    server: ApiServer, saarthi: Run, tmp_path: Path
) -> None:
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    patch = "- {op: add, path: /spec/predictor/minReplica, value: 1}"
    content = {
        "resources": ["../base"],
        "patches": [{"target": {"kind": "InferenceService"}, "patch": patch}],
    }
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "base").symlink_to(STANDARD)
    done = saarthi("deploy", overlay, *BUNDLES, "--yes", code=2)
    assert "InferenceService n" in done.stderr and "minReplica" in done.stderr
    assert server.writes == []


def test_what_failed_is_told_with_the_reasons(server: ApiServer, saarthi: Run) -> None:
    broken = ("--bundle", "nlu=gs://b/nlu/broken", "--bundle", "ner=gs://b/ner/0.1.0")
    done = saarthi("deploy", STANDARD, *broken, "--yes", code=2)
    assert "nlu has failed" in done.stderr
    assert "has timed out progressing" in done.stderr
    assert "ended with exit code 2: gs://b/nlu/broken: bundle.json is missing" in done.stderr
    assert "BackOff: restarting" in done.stderr


def test_what_is_not_ready_in_time_is_told_with_the_reasons(saarthi: Run) -> None:
    slow = ("--bundle", "nlu=gs://b/nlu/slow", "--bundle", "ner=gs://b/ner/0.1.0")
    done = saarthi("deploy", PLAIN, *slow, "--yes", "--timeout", 3, code=2)
    assert "not ready within 3 s: nlu\n" in done.stderr
    assert "1 of 2 pods available" in done.stderr
    assert "FailedScheduling: 0/3 nodes are available" in done.stderr


def test_a_wrong_answer_is_a_failure(server: ApiServer, saarthi: Run, tmp_path: Path) -> None:
    utterances = tmp_path / "utterances.txt"
    utterances.write_text("play some music\tmusic\n", encoding="utf-8")
    arguments = ("deploy", PLAIN, *BUNDLES, "--yes")
    done = saarthi(*arguments, "--smoke-file", utterances, code=1)
    assert "nlu: play some music → other (0.900) [nlu 0.2.0]; expected music" in done.stdout
    nowhere = ("--smoke", "hello", "--url", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9/predict: no answer" in saarthi(*arguments, *nowhere, code=1).stdout
    elsewhere = ("--smoke", "lights", "--url", f"{server.url}/served/other")
    assert saarthi(*arguments, *elsewhere).stdout.count("[other 0.2.0]") == 2


def test_what_the_user_can_mend_is_said(server: ApiServer, saarthi: Run, tmp_path: Path) -> None:
    def says(*arguments: object) -> str:
        return " ".join(saarthi(*arguments, code=2).stderr.split())

    assert "is a placeholder" in says("deploy", STANDARD, "--yes")
    assert "--bundle nul: the overlay has ner, nlu" in says("deploy", STANDARD, "--bundle", "nul=x")
    assert "no overlay, since it has no kustomization.yaml" in says("deploy", tmp_path)
    (tmp_path / "kustomization.yaml").write_text("resources: [gone.yaml]\n")
    assert "cannot be rendered" in says("deploy", tmp_path)
    assert "--context nowhere:" in says("rollout", "status", "--context", "nowhere")
    del server.kinds["monitoring.coreos.com/v1"]
    unknown = says("deploy", STANDARD, *BUNDLES, "--yes")
    assert "does not know PodMonitor (monitoring.coreos.com/v1)" in unknown
    assert server.writes == []
    server.__exit__()
    assert "cannot be reached" in says("rollout", "status")
