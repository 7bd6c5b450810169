"""Bundles that a service fetches from S3, and addresses that it refuses."""

from pathlib import Path
from typing import Any

import pytest

from predictors.sources import Source, find_sources
from saarthi_lib.bundle.publishing import publish_bundle
from saarthi_lib.errors import BundleError, ConfigError
from tests.predictors.serving import serving, wait_for
from tests.stores.s3 import SETTINGS, S3Bucket
from tests.tiny_bundle import write_tiny_bundle


def make(folder: Path, **fields: Any) -> Path:
    return write_tiny_bundle(folder, name="far", runtime="onnxruntime", **fields)


def test_published_bundle_is_served_and_reloaded(s3: S3Bucket, s3_url: str, tmp_path: Path) -> None:
    uri = publish_bundle(make(tmp_path / "1"), f"s3://{s3.name}/bots")
    environment = {**SETTINGS, "AWS_ENDPOINT_URL": s3_url}
    with serving(uri, environment=environment, reload_seconds=0.2) as running:
        assert running.post("/predict", {"text": "turn on"}).json()["version"] == "1"
        s3.put_folder(make(tmp_path / "2", version="2"), "bots/far/1")
        wait_for(lambda: running.post("/predict", {"text": "a"}).json()["version"] == "2")
        assert "Traceback" not in running.log.read_text(encoding="utf-8")


def test_only_files_of_the_manifest_are_fetched(s3: S3Bucket, tmp_path: Path) -> None:
    uri = publish_bundle(make(tmp_path / "1"), f"s3://{s3.name}")
    s3.put("far/1/other.bin", bytes(1 << 20))
    s3.put("far/10/bundle.json", b"of another version")
    with Source(uri).folder() as folder:
        found = {path.name for path in folder.iterdir()}
    assert found == {path.name for path in (tmp_path / "1").iterdir()}


def test_missing_bundle_is_named(s3: S3Bucket, tmp_path: Path) -> None:
    uri = publish_bundle(make(tmp_path / "1"), f"s3://{s3.name}")
    with pytest.raises(BundleError, match=r"/far/2: lacks bundle\.json"):
        Source(f"s3://{s3.name}/far/2").digest()
    with pytest.raises(BundleError, match=r"^s3://no-such-bucket/x: the bucket does not exist"):
        Source("s3://no-such-bucket/x").digest()
    s3.client.delete_object(Bucket=s3.name, Key="far/1/model.onnx")
    with pytest.raises(BundleError, match=r"/far/1: lacks model\.onnx"), Source(uri).folder():
        pass


@pytest.mark.parametrize(
    "uri", ["s3a://bucket/bundle", "name=foo://bucket/bundle", "pvc://claim/bundle", "s3:/b/bundle"]
)
def test_unknown_scheme_is_refused_at_once(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"bundle: .*://"):
        find_sources([uri])


def test_file_address_of_a_folder_of_bundles(tmp_path: Path) -> None:
    make(tmp_path / "my bundles" / "1")
    [source] = find_sources([(tmp_path / "my bundles").as_uri()])
    assert source.uri == str(tmp_path / "my bundles" / "1")
