"""`saarthi rollout --write`: kustomize patches for git, rendered with the overlays."""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deployment.change import operations, version_change, write_patch
from deployment.state import Mode, Predictor, Workload
from saarthi_lib.errors import SaarthiError
from tests.deployment.api_server import ApiServer, merge, patch
from tests.deployment.conftest import CANDIDATE, NER, STABLE, Run, overlay
from tests.deployment.controllers import DEFAULT, Document
from tests.manifests.test_manifests import MANIFESTS, validate

TO = ("rollout", "nlu", "--bundle", CANDIDATE)
every_mode = pytest.mark.parametrize("mode", ["standard", "serverless", "deployment"])
serverless = pytest.mark.parametrize("mode", ["serverless"])


@pytest.fixture
def deployed(server: ApiServer, mode: str) -> str:
    server.apply(overlay(mode))
    return mode


def rendered(mode: str, component: Path | None, folder: Path) -> dict[tuple[str, str], Document]:
    """Prod's overlay with a component, rendered by kubectl, by kind and name."""
    folder.mkdir(exist_ok=True)
    place = os.path.relpath(MANIFESTS / "overlays" / "prod" / mode, folder)
    components = [os.path.relpath(component, folder)] if component else []
    content = {"resources": [place], "components": components}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    kubectl = shutil.which("kubectl", path=Path(sys.executable).parent) or "kubectl"
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {
        (each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout)
    }


def applied(server: ApiServer, objects: dict[tuple[str, str], Document]) -> None:
    """Apply the predictor as Argo CD does, which removes a field that it has set before."""
    kind = "InferenceService" if ("InferenceService", "nlu") in objects else "Deployment"
    before = copy.deepcopy(server.get(kind, "nlu"))
    before["spec"].get("predictor", {}).pop("canaryTrafficPercent", None)
    server.store((kind, "saarthi", "nlu"), merge(before, objects[kind, "nlu"]))
    while server.steps:
        server.steps.pop(0)()


@every_mode
def test_the_patch_changes_only_the_predictor(
    server: ApiServer, saarthi: Run, deployed: str, tmp_path: Path
) -> None:
    writes, folder = list(server.writes), tmp_path / "deep" / "roll-out"
    done = saarthi(*TO, "--tag", "0.9.0", "--write", folder)
    assert f"{folder / 'kustomization.yaml'}: written; commit it" in done.stdout
    assert server.writes == writes
    before = rendered(deployed, None, tmp_path / "before")
    after = rendered(deployed, folder, tmp_path / "after")
    kind = "Deployment" if deployed == "deployment" else "InferenceService"
    changed = [key for key in after if after[key] != before[key]]
    assert changed == [(kind, "nlu")] and after.keys() == before.keys()
    validate(after[kind, "nlu"])
    text = yaml.safe_dump(after[kind, "nlu"])
    assert CANDIDATE in text and "0.9.0" in text
    assert ("canaryTrafficPercent: 10" in text) is (deployed == "serverless")
    applied(server, after)
    assert "0.2.0" in saarthi("rollout", "nlu").stdout


@every_mode
def test_patches_of_other_predictors_stay(
    server: ApiServer, saarthi: Run, deployed: str, tmp_path: Path
) -> None:
    saarthi(*TO, "--write", tmp_path)
    saarthi("rollout", "ner", "--bundle", "gs://b/ner/0.4.0", "--write", tmp_path)
    saarthi(*TO[:-1], "gs://b/nlu/0.3.0", "--write", tmp_path)
    text = (tmp_path / "kustomization.yaml").read_text(encoding="utf-8")
    assert text.startswith("# Written by `saarthi rollout`")
    assert "gs://b/ner/0.4.0" in text and "gs://b/nlu/0.3.0" in text
    assert CANDIDATE not in text and NER not in text
    assert len(yaml.safe_load(text)["patches"]) == 2


@pytest.mark.parametrize("mode", ["standard"])
def test_a_kustomization_of_the_user_is_kept(
    server: ApiServer, saarthi: Run, deployed: str, tmp_path: Path
) -> None:
    file = tmp_path / "kustomization.yaml"
    for text in ("resources: [../base]\n", "# empty\n", "kind: Component\npatches: []\n"):
        file.write_text(text)
        refused = saarthi(*TO, "--write", tmp_path, code=2)
        assert "has another kustomization.yaml" in " ".join(refused.stderr.split())
        assert file.read_text() == text
    refused = saarthi(*TO, "--write", "s3://b/patch", code=2)
    assert "s3://b/patch" in refused.stderr


@pytest.mark.parametrize("mode", ["standard", "deployment"])
def test_undo_is_written_too(
    server: ApiServer, saarthi: Run, deployed: str, tmp_path: Path
) -> None:
    saarthi(*TO, "--yes")
    writes = list(server.writes)
    again = saarthi(*TO, "--write", tmp_path / "c")
    assert "nothing to write" in again.stdout and not (tmp_path / "c").exists()
    saarthi("rollout", "nlu", "--undo", "--write", tmp_path / "c")
    assert STABLE in (tmp_path / "c" / "kustomization.yaml").read_text()
    assert server.writes == writes


@serverless
@pytest.mark.parametrize("worse", [False, True])
def test_a_canary_is_judged_and_its_end_is_written(
    server: ApiServer, saarthi: Run, deployed: str, tmp_path: Path, worse: bool
) -> None:
    status = server.get("InferenceService", "nlu")["status"]
    stable = status["components"]["predictor"]["latestRolledoutRevision"]
    server.scale(("Revision", "saarthi", stable), 5)
    saarthi(*TO, "--percent", 30, "--write", tmp_path / "c")
    applied(server, rendered(deployed, tmp_path / "c", tmp_path / "o"))
    assert "canary 0.2.0 (30%)" in saarthi("rollout", "nlu").stdout
    server.behaviour[CANDIDATE] = {"errors": 9 * worse}
    writes = list(server.writes)
    done = saarthi(*TO, "--watch", 0.2, "--write", tmp_path / "c", code=int(worse))
    assert ("the canary is worse: error rate 9.00%" in done.stderr) is worse
    assert server.writes == writes
    revisions = server.names("Revision")
    server.fewest.clear()
    applied(server, rendered(deployed, tmp_path / "c", tmp_path / "o"))
    state = saarthi("rollout", "nlu").stdout
    assert server.fewest["nlu"] >= 5
    if not worse:
        assert state == "serverless nlu: stable 0.2.0: ready\n"
        assert server.names("Revision") == revisions  # the same pods get the traffic
        return
    assert state == "serverless nlu: stable 0.1.0: ready; canary 0.1.0 (0%): ready\n"
    assert server.most[CANDIDATE] == 30  # never more
    saarthi("rollout", "nlu", "--undo", "--write", tmp_path / "c")
    applied(server, rendered(deployed, tmp_path / "c", tmp_path / "o"))
    assert saarthi("rollout", "nlu").stdout == "serverless nlu: stable 0.1.0: ready\n"


@serverless
def test_the_next_roll_out_may_follow_a_worse_canary(
    server: ApiServer, saarthi: Run, deployed: str, tmp_path: Path
) -> None:
    for bundle in (CANDIDATE, CANDIDATE, "gs://b/nlu/0.3.0"):
        server.behaviour[CANDIDATE] = {"errors": 9}
        again = "canary 0.2.0" in saarthi("rollout", "nlu").stdout
        saarthi(*TO[:-1], bundle, "--watch", 0.2, "--write", tmp_path / "c", code=int(again))
        applied(server, rendered(deployed, tmp_path / "c", tmp_path / "o"))
    assert "stable 0.1.0: ready; canary 0.3.0 (10%): ready" in saarthi("rollout", "nlu").stdout


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
URIS = st.builds("gs://{}/{}/{}".format, NAMES, NAMES, NAMES)


@given(st.sampled_from(Mode), URIS, URIS, st.none() | NAMES, st.booleans(), st.booleans())
@settings(deadline=None)
def test_the_patch_for_git_does_what_the_live_change_does(
    tmp_path_factory: pytest.TempPathFactory,
    mode: Mode,
    old: str,
    new: str,
    tag: str | None,
    surges: bool,
    named: bool,
) -> None:
    strategy: dict[str, Any] = DEFAULT if not surges else {"type": "RollingUpdate"}
    if surges:
        strategy = strategy | {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    argument = f"nlu={old}" if named else old
    sidecar = {"name": "proxy", "image": "p:1", "args": ["--x"]}
    container = {"name": "predictor", "image": "r:5000/nlu:1", "args": [argument, "--threads=1"]}
    template = {"metadata": {}, "spec": {"containers": [sidecar, container]}}
    deployment: Document = {"spec": {"strategy": strategy, "template": template}}
    service: Document = {"spec": {"predictor": {"model": {"storageUri": old}}}}
    document = deployment if mode is Mode.DEPLOYMENT else service
    document |= {"kind": "K", "metadata": {"name": "nlu", "namespace": "n"}}
    found = Workload("nlu", old, "r:5000/nlu:1", "", True, "", None, deployment)
    predictor = Predictor(mode, document, found)
    change = version_change(predictor, new, tag)
    live, git = copy.deepcopy(document), copy.deepcopy(document)
    for step in operations(document, change):
        patch(live, step)
    file = write_patch(tmp_path_factory.mktemp("patch"), predictor, change)
    [entry] = yaml.safe_load(file.read_text(encoding="utf-8"))["patches"]
    for step in yaml.safe_load(entry["patch"]):
        patch(git, step)
    assert live == git
    assert new in str(live) and (tag is None or tag in str(live))
    strategies = str(live.get("spec", {}))
    assert "maxUnavailable': 0" in strategies or surges or mode is Mode.SERVERLESS
    assert operations(live, {}) == []


def test_another_folder_is_refused_by_name(tmp_path: Path) -> None:
    document = {"kind": "K", "metadata": {"name": "nlu", "namespace": "n"}}
    found = Workload("nlu", STABLE, "i:1", "", True, "", None, {})
    (tmp_path / "kustomization.yaml").write_text("[]")
    with pytest.raises(SaarthiError, match=f"--write {tmp_path}"):
        write_patch(tmp_path, Predictor(Mode.STANDARD, document, found), {"/spec/x": 1})
