"""Storage with KServe's clients has limits of bytes and time; files of the web are refused."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from predictors.sources import BundleLimits, Source
from predictors.version import Version
from saarthi_lib.errors import BundleError
from tests.stores.web import Answer, web_server
from tests.tiny_bundle import write_tiny_bundle

COMMIT = "c" * 40


class ModelHub:
    """Answers of a hub with one model; `files` may differ from the sizes that it lists."""

    def __init__(self, folder: Path) -> None:
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.sizes = {name: len(content) for name, content in self.files.items()}
        self.seconds = 0.0

    def __call__(self, path: str, headers: Mapping[str, str]) -> Answer:
        path, _, _ = path.partition("?")
        if "/tree/" in path:
            listed = [
                {"type": "file", "path": name, "size": size, "oid": COMMIT}
                for name, size in self.sizes.items()
            ]
            return 200, {"Content-Type": "application/json"}, json.dumps(listed).encode()
        if path.startswith("/api/models/owner/bot"):
            siblings = [{"rfilename": name, "size": size} for name, size in self.sizes.items()]
            content = {"id": "owner/bot", "sha": COMMIT, "siblings": siblings, "tags": []}
            return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()
        name = path.rpartition("/")[2]
        if path.startswith("/owner/bot/resolve/") and name in self.files:
            time.sleep(self.seconds)
            body = self.files[name]
            named = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
            return 200, named, body
        return 404, {"X-Error-Code": "EntryNotFound"}, b""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    pytest.importorskip("huggingface_hub")
    hub = ModelHub(write_tiny_bundle(tmp_path / "1", name="far", runtime="onnxruntime"))
    with web_server(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):  # set by loading a teacher
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield hub


def test_bundle_of_a_hub_is_loaded(hub: ModelHub) -> None:
    source = Source("hf://owner/bot")
    version = Version.load(source, 1)
    assert version.digest == source.digest()


def test_larger_files_than_a_hub_lists_are_refused(
    hub: ModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))  # no other test writes here
    manifest = hub.files["bundle.json"]
    hub.files["bundle.json"] += b" " * (3 << 20)
    with pytest.raises(BundleError, match=r"hf://owner/bot.* has more than 10485\d\d bytes"):
        Source("hf://owner/bot").digest()
    hub.files["bundle.json"] = manifest
    hub.files["labels.json"] += b" " * (20 << 20)
    with (
        pytest.raises(BundleError, match=r"hf://owner/bot.* has more than \d+ bytes"),
        Source("hf://owner/bot").folder(),
    ):
        pass
    assert not os.listdir(temporary)


def test_hub_that_hangs_is_left_at_the_deadline(hub: ModelHub) -> None:
    hub.seconds = 20
    source = Source("hf://owner/bot", limits=BundleLimits(seconds=60))
    start = time.monotonic()
    with pytest.raises(BundleError, match="has not answered within 3 s"):
        source.digest()
    assert time.monotonic() - start < 15
    hub.seconds = 0
    assert Source("hf://owner/bot").digest()


@pytest.mark.parametrize(
    "uri",
    [
        "https://github.com/owner/bundle.git",
        "https://example.org/bundle",
        "http://example.org/model.bin",
        "https://example.org/a.taz",
        "https://blob.core.windows.net.example.org/a/b",
    ],
)
def test_files_and_repositories_of_the_web_are_refused(uri: str) -> None:
    with pytest.raises(BundleError, match=r"is an archive|is a file or repository on the web"):
        Source(uri)


def test_storage_of_azure_may_be_named() -> None:
    assert not Source("https://me.blob.core.windows.net/models/far").is_local
