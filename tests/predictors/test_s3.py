"""Bundles that a service fetches from S3, and addresses that it refuses."""

from pathlib import Path
from typing import Any

import pytest

from predictors.sources import Source, find_sources
from saarthi_lib.bundle import read_manifest
from saarthi_lib.bundle.publishing import publish_bundle, roll_back
from saarthi_lib.errors import BundleError, ConfigError
from tests.predictors.serving import serving, wait_for
from tests.stores.s3 import SETTINGS, S3Bucket
from tests.tiny_bundle import write_tiny_bundle

COUNTED = {"bundle_version": ""}


def make(folder: Path, **fields: Any) -> Path:
    return write_tiny_bundle(folder, name="far", runtime="onnxruntime", **fields)


def test_server_follows_publishing_and_rollback(s3: S3Bucket, s3_url: str, tmp_path: Path) -> None:
    bundles = f"s3://{s3.name}/bots"
    publish_bundle(make(tmp_path / "1"), bundles)
    environment = {**SETTINGS, "AWS_ENDPOINT_URL": s3_url}
    with serving(f"{bundles}/far", environment=environment, reload_seconds=1) as running:

        def served() -> str:
            return str(running.post("/predict", {"text": "turn on"}).json()["version"])

        assert served() == "1"
        publish_bundle(
            make(tmp_path / "2", trained_with=COUNTED, metrics={"main": 0.2}),
            bundles,
        )
        wait_for(lambda: served() == "2")
        roll_back(f"{bundles}/far")
        wait_for(lambda: served() == "1")
        assert "Traceback" not in running.log.read_text(encoding="utf-8")


def test_folder_of_versions_is_one_source_that_changes(tmp_path: Path) -> None:
    folder = tmp_path / "bots"
    for number in (1, 2):
        bundle = make(
            tmp_path / f"{number}",
            trained_with={"bundle_version": ""},
            metrics={"main": number / 10},
        )
        publish_bundle(bundle, str(folder))
    publish_bundle(write_tiny_bundle(tmp_path / "other", name="other"), str(folder))
    far, other = find_sources([str(folder)])
    assert [far.uri, other.uri] == [str(folder / "far"), str(folder / "other")]
    assert [each.uri for each in find_sources([str(folder / "far")])] == [far.uri]
    digests = [far.digest()]
    with far.folder() as served:
        assert read_manifest(served).version == "2"
    roll_back(far.uri)
    digests.append(far.digest())
    assert digests == [Source(str(folder / "far" / version)).digest() for version in ("2", "1")]
    (folder / "far" / ".served").write_text("../../secret\n")
    with pytest.raises(BundleError, match=r"far/\.served: must list versions"):
        far.digest()


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
