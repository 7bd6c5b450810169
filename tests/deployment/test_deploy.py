"""`saarthi deploy` against an API server: difference, writes, waiting and utterances."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deployment.api_server import ApiServer
from tests.deployment.conftest import CANDIDATE, NER, PROD, ROOT, STABLE, Run, overlay
from tests.manifests.test_manifests import SCHEMAS

STANDARD, PLAIN = PROD / "standard", PROD / "deployment"
BUNDLES = ("--bundle", f"nlu={STABLE}", "--bundle", f"ner={NER}")
NEW = ("--bundle", f"nlu={CANDIDATE}", "--bundle", f"ner={NER}")


@pytest.mark.parametrize("mode", ["standard", "serverless", "deployment"])
def test_deploy_applies_waits_and_asks(
    mode: str, server: ApiServer, saarthi: Run, tmp_path: Path
) -> None:
    utterances = tmp_path / "utterances.txt"
    utterances.write_text("turn on the lights\tlights\nकल का मौसम\n", encoding="utf-8")
    done = saarthi("deploy", PROD / mode, *BUNDLES, "--yes", "--smoke-file", utterances)
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
    assert "no differences" in saarthi("deploy", PROD / mode, *BUNDLES, "--yes").stdout


@pytest.mark.parametrize("mode", ["standard", "deployment"])
def test_dry_run_shows_the_change_and_writes_nothing(
    mode: str, server: ApiServer, saarthi: Run
) -> None:
    server.apply(overlay(mode))
    writes = list(server.writes)
    done = saarthi("deploy", PROD / mode, *BUNDLES, "--tag", "0.9.0", "--dry-run")
    assert "-    " in done.stdout and ":0.9.0" in done.stdout
    assert server.writes == writes


def test_deploy_asks_before_it_writes(server: ApiServer, saarthi: Run) -> None:
    server.apply(overlay("standard"))
    before = list(server.writes)
    done = saarthi("deploy", STANDARD, *NEW, typed="n\n", code=1)
    assert f"-      storageUri: {STABLE}" in done.stdout
    assert f"+      storageUri: {CANDIDATE}" in done.stdout
    assert "0.1.0" not in done.stdout.replace(STABLE, "")  # no other change is shown
    assert "generation" not in done.stdout
    assert "apply 1 changes to saarthi?" in done.stderr
    assert server.writes == before
    saarthi("deploy", STANDARD, *NEW, typed="y\n")
    model = server.get("InferenceService", "nlu")["spec"]["predictor"]["model"]
    assert model["storageUri"] == CANDIDATE


def test_deploy_runs_as_a_process_of_its_own(server: ApiServer, tmp_path: Path) -> None:
    server.apply(overlay("standard"))
    missing = server.objects.pop(("NetworkPolicy", "saarthi", "saarthi-serving"))
    main = (sys.executable, "-c", "from saarthi_lib.cli import main; main()")
    done = subprocess.run(
        [*main, "deploy", str(STANDARD), *BUNDLES],
        input="y\n",
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "KUBECONFIG": str(server.kubeconfig(tmp_path))},
    )
    assert done.returncode == 0, done.stderr
    assert "apply 1 changes to saarthi?" in done.stderr
    assert "nlu: stable 0.1.0: 2 pods ready" in done.stderr
    assert server.get("NetworkPolicy", "saarthi-serving")["spec"] == missing["spec"]


def test_secrets_are_hidden(server: ApiServer, saarthi: Run, tmp_path: Path) -> None:
    folder = tmp_path / "overlay"
    folder.mkdir()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "x"}}
    (folder / "kustomization.yaml").write_text("resources: [secret.yaml]\n")
    for value, shown in (("aHVudGVyMQ==", "hidden"), ("aHVudGVyMg==", "hidden, changed")):
        content = secret | {"data": {"password": value, "user": "bWU="}}
        (folder / "secret.yaml").write_text(yaml.safe_dump(content))
        done = saarthi("deploy", folder, "--yes")
        assert value not in done.stdout + done.stderr
        assert f"password: ({shown})" in done.stdout
        assert server.get("Secret", "s", "x")["data"]["password"] == value
    assert "user: (hidden)" in done.stdout  # unchanged


@pytest.mark.skipif(
    not SCHEMAS.is_dir(), reason=f"the schemas of custom resources are not at {SCHEMAS}"
)
def test_an_unknown_field_is_refused_before_any_write(
    server: ApiServer, saarthi: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "overlay"
    folder.mkdir()
    patch = "- {op: add, path: /spec/predictor/minReplica, value: 1}"
    content = {
        "resources": ["../base"],
        "patches": [{"target": {"kind": "InferenceService"}, "patch": patch}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "base").symlink_to(STANDARD)
    done = saarthi("deploy", folder, *BUNDLES, "--yes", code=2)
    assert "InferenceService n" in done.stderr and "minReplica" in done.stderr
    assert server.writes == []


def test_a_failed_deploy_gives_the_reasons(saarthi: Run) -> None:
    broken = ("--bundle", "nlu=gs://b/nlu/broken", "--bundle", f"ner={NER}")
    done = saarthi("deploy", STANDARD, *broken, "--yes", code=2)
    assert "nlu has failed" in done.stderr
    assert "has timed out progressing" in done.stderr
    assert "ended with exit code 2: gs://b/nlu/broken: bundle.json is missing" in done.stderr
    assert "BackOff: restarting" in done.stderr


def test_a_late_deploy_gives_the_reasons(server: ApiServer, saarthi: Run) -> None:
    server.apply(overlay("deployment", "gs://b/nlu/slow"))
    slow = ("--bundle", "nlu=gs://b/nlu/slow", "--bundle", f"ner={NER}")
    done = saarthi("deploy", PLAIN, *slow, "--yes", "--timeout", 1, code=2)
    assert "not ready within 1 s: nlu\n" in done.stderr
    assert "1 of 2 pods available" in done.stderr
    assert "FailedScheduling: 0/3 nodes are available" in done.stderr


def test_a_wrong_answer_exits_with_1(server: ApiServer, saarthi: Run, tmp_path: Path) -> None:
    utterances = tmp_path / "utterances.txt"
    utterances.write_text("play some music\tmusic\n", encoding="utf-8")
    server.apply(overlay("deployment"))
    arguments = ("deploy", PLAIN, *BUNDLES, "--yes")
    done = saarthi(*arguments, "--smoke-file", utterances, code=1)
    assert "nlu: play some music → other (0.900) [nlu 0.2.0]; expected music" in done.stdout
    nowhere = ("--smoke", "hello", "--url", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9/predict: no answer" in saarthi(*arguments, *nowhere, code=1).stdout


def test_a_gateways_address_is_asked_by_host_name(server: ApiServer, saarthi: Run) -> None:
    server.apply(overlay("standard"))
    for name in ("nlu", "ner"):
        url = f"http://{name}.example.com"
        server.get("InferenceService", name)["status"]["url"] = url
    gateway = ("--smoke", "lights", "--url", f"{server.url}/served/gateway")
    done = saarthi("deploy", STANDARD, *BUNDLES, "--yes", *gateway)
    assert done.stdout.count("[gateway 0.2.0]") == 2
    assert [each["host"] for each in server.asked] == ["ner.example.com", "nlu.example.com"]


def test_user_errors_name_the_remedy(server: ApiServer, saarthi: Run, tmp_path: Path) -> None:
    def message(*arguments: object) -> str:
        return " ".join(saarthi(*arguments, code=2).stderr.split())

    assert "is a placeholder" in message("deploy", STANDARD, "--yes")
    unknown = message("deploy", STANDARD, "--bundle", "nul=x")
    assert "--bundle nul: the overlay has ner, nlu" in unknown
    assert "no overlay, since it has no kustomization.yaml" in message("deploy", tmp_path)
    (tmp_path / "kustomization.yaml").write_text("resources: [gone.yaml]\n")
    assert "cannot be rendered" in message("deploy", tmp_path)
    assert "--context nowhere:" in message("rollout", "status", "--context", "nowhere")
    del server.kinds["monitoring.coreos.com/v1"]
    missing = message("deploy", STANDARD, *BUNDLES, "--yes")
    assert "does not know PodMonitor (monitoring.coreos.com/v1)" in missing
    assert server.writes == []
    server.__exit__()
    assert "cannot be reached" in message("rollout", "status")
