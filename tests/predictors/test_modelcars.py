"""Bundles in a modelcar: a link leads through /proc into the container beside the server's."""

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictors.sources import Source, find_sources
from saarthi_lib.errors import BundleError
from tests.predictors.serving import bytes_tensor, serving, start
from tests.tiny_bundle import write_tiny_bundle

ASYNC = {"MODEL_INIT_MODE": "async"}  # set by KServe for oci://
# Mounts a bundle where only this process sees it, as in the root of another container.
CAR = 'mount --bind "$0" "$1" && echo mounted && exec sleep 600'


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle", name="my-bot", runtime="onnxruntime")


@pytest.fixture
def target(bundle: Path, tmp_path: Path) -> Iterator[Path]:
    """Target of a modelcar's link: a folder that is empty here, and a bundle in the modelcar."""
    models = tmp_path / "models"
    models.mkdir()
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    command = ["unshare", "-rm", "sh", "-c", CAR, str(bundle), str(models)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as car:
        assert car.stdout
        if car.stdout.readline() != "mounted\n":
            pytest.skip("needs a mount namespace")
        try:
            yield Path(f"/proc/{car.pid}/root{models}")
        finally:
            car.kill()


def test_bundle_of_a_modelcar_is_served(target: Path, tmp_path: Path) -> None:
    link = tmp_path / "mounted"

    def drive_up() -> None:
        time.sleep(1.0)
        link.symlink_to(target)

    threading.Thread(target=drive_up).start()
    with serving(f"nlu={link}", environment=ASYNC, reload_seconds=0.1) as running:
        v1 = running.post("/v1/models/nlu:predict", {"instances": ["turn on"]})
        assert v1.status_code == 200
        v2 = running.post("/v2/models/nlu/infer", {"inputs": [bytes_tensor("text", ["turn on"])]})
        assert (v2.status_code, v2.json()["model_name"]) == (200, "nlu")
        assert running.get("/v2/models/my-bot").status_code == 404
        time.sleep(0.5)  # looks for new versions
        assert "stays at version" not in running.log.read_text(encoding="utf-8")


def test_link_into_a_modelcar_is_not_resolved(target: Path, tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(target)
    (tmp_path / "two").symlink_to("one")
    with Source(str(tmp_path / "two")).folder() as folder:
        assert (folder / "bundle.json").is_file()


def test_other_link_is_resolved_once(bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(bundle)
    with Source(str(link)).folder() as folder:
        link.unlink()
        assert (folder / "bundle.json").is_file()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("links")
    return write_tiny_bundle(root / "bundle", name="far", runtime="onnxruntime")


@settings(max_examples=30, deadline=None)
@given(kinds=st.lists(st.sampled_from(["absolute", "relative", "root", "cwd"]), max_size=5))
def test_any_chain_of_links_leads_to_the_bundle(shared: Path, kinds: list[str]) -> None:
    """Links through /proc lead where the kernel says, not where their text does."""
    with tempfile.TemporaryDirectory(dir=shared.parent) as folder:
        path, proc = shared, f"/proc/{os.getpid()}"
        for number, kind in enumerate(kinds):
            link = Path(folder) / str(number)
            link.symlink_to(
                {
                    "absolute": str(path),
                    "relative": os.path.relpath(path, folder),
                    "root": f"{proc}/root{path}",
                    "cwd": f"{proc}/cwd/{os.path.relpath(path)}",
                }[kind]
            )
            path = link
        with Source(str(path)).folder() as found:
            assert found.samefile(shared)
            if kinds:
                path.unlink()
            assert (found / "bundle.json").is_file()


def test_server_names_a_modelcar_that_never_starts(tmp_path: Path) -> None:
    link = tmp_path / "models"
    link.symlink_to(f"/proc/{os.getpid()}/root{tmp_path}/nothing")
    log = tmp_path / "log"
    process = start(log, f"nlu={link}", "--fetch-seconds=0.3", environment=ASYNC)
    assert process.wait(30) == 2
    assert f"{link}: does not exist after 0.3 s; check that the image" in log.read_text()


def test_missing_folder_without_modelcar_fails_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    [source] = find_sources([f"nlu={tmp_path / 'missing'}"])
    with pytest.raises(BundleError, match="missing"):
        source.digest()
    assert time.monotonic() - started < 1
