"""Limits on the content of bundles, and the digest of `bundle.json`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saarthi_lib.bundle import read_manifest, verify_bundle
from saarthi_lib.errors import BundleError
from saarthi_lib.inference.predictor import Predictor
from tests.saarthi_lib.test_hostile_bundles import put
from tests.test_cli import saarthi
from tests.tiny_bundle import BIO_LABELS, SEQUENCE_LABELS, reseal, write_tiny_bundle

OLD = Path(__file__).parents[1] / "old_run" / "bundle-int8"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    fields: dict[str, Any] = {"metrics": {"main": 0.875, "by_language": {"hindi": {"main": 0.75}}}}
    write_tiny_bundle(folder / "intents", runtime="onnxruntime", threshold=0.5, **fields)
    write_tiny_bundle(folder / "joint", "joint", runtime="onnxruntime")
    return folder


@pytest.fixture
def bundle(originals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals / "intents", tmp_path / "bundle"))


def nested(levels: int, last: Any = 1) -> Any:
    for _ in range(levels):
        last = {"a": last}
    return last


def listed(levels: int) -> Any:
    last: Any = 1
    for _ in range(levels):
        last = [last]
    return last


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("metrics", {"main": 10**30}, r"metrics\.main is 1000"),
        ("metrics", {"main": -(10**4000)}, r"metrics\.main is -1000"),
        ("metrics", {"by_language": {"hindi": {"main": 1e200}}}, r"by_language\.hindi\.main"),
        ("metrics", {"seconds": [1, 2, 1e16]}, r"seconds\[2\]"),
        ("metrics", nested(600), "levels deep"),
        ("metrics", nested(20), "levels deep"),
        ("made_by", listed(500), "levels deep|must be an object"),
        ("made_by", {"a": listed(50)}, "levels deep"),
        ("languages", listed(300), "levels deep"),
        ("version", nested(700), "levels deep"),
        ("metrics", {f"m{n}": n for n in range(60_000)}, r"bytes; the limit is|more than"),
        ("metrics", {"note": "x" * 300_000}, "bytes; the limit is"),
        ("made_by", {"note": "x" * 300_000}, "bytes; the limit is"),
        ("languages", ["hindi"] * 501, "at most 500"),
        ("expected_coverage", [0, 10**100], "expected_coverage"),
        ("surprise", nested(900), "levels deep"),
    ],
)
def test_extreme_values_are_refused_by_field(
    bundle: Path, field: str, value: Any, message: str
) -> None:
    reseal(bundle, {**json.loads((bundle / "bundle.json").read_bytes()), field: value})
    with pytest.raises(BundleError, match=message) as caught:
        Predictor.load(bundle)
    assert "bundle.json" in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 4000, "NaN"])
def test_numbers_that_no_reader_holds_are_refused(bundle: Path, number: str) -> None:
    text = (bundle / "bundle.json").read_text(encoding="utf-8").replace("0.875", number)
    (bundle / "bundle.json").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=r"bundle\.json") as caught:
        read_manifest(bundle)
    assert "digest" not in str(caught.value)


def test_a_key_given_twice_is_refused(bundle: Path) -> None:
    text = (bundle / "bundle.json").read_text(encoding="utf-8")
    (bundle / "bundle.json").write_text(text.replace("{", '{"trial": true,', 1), encoding="utf-8")
    with pytest.raises(BundleError, match="given twice"):
        read_manifest(bundle)


def test_number_and_size_of_files_have_limits(bundle: Path) -> None:
    manifest = json.loads((bundle / "bundle.json").read_bytes())
    record = {"sha256": "0" * 64, "size_bytes": 4 << 30}
    many = {f"part-{number}": {**record, "size_bytes": 1} for number in range(3000)}
    large = {f"part-{number}": record for number in range(5)}
    for more, message in ((many, "3006 files; the limit"), (large, "bytes; the limit")):
        reseal(bundle, {**manifest, "files": {**manifest["files"], **more}})
        with pytest.raises(BundleError, match=message):
            read_manifest(bundle)


@given(st.data())
def test_each_flipped_bit_of_a_manifest_is_found(originals: Path, data: st.DataObject) -> None:
    path = originals / "joint" / "bundle.json"
    content = path.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    try:
        path.write_bytes(changed)
        with pytest.raises(BundleError, match=r"bundle\.json"):
            read_manifest(originals / "joint")
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("old", "new"), [("0.875", "0.877"), ('"threshold": 0.5', '"threshold": 0')]
)
def test_verify_and_load_find_a_changed_number(bundle: Path, old: str, new: str) -> None:
    text = (bundle / "bundle.json").read_text(encoding="utf-8")
    (bundle / "bundle.json").write_text(text.replace(old, new, 1), encoding="utf-8")
    done = saarthi("bundle", "verify", str(bundle))
    assert done.returncode == 2 and "bundle.json: was changed" in done.stderr
    with pytest.raises(BundleError, match="'digest' does not match"):
        Predictor.load(bundle)


def test_verify_with_a_key_reports_a_missing_digest(tmp_path: Path) -> None:
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    forms = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    key, copy = ed25519.Ed25519PrivateKey.generate(), Path(shutil.copytree(OLD, tmp_path / "old"))
    private = (forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    public = (forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*private))
    (tmp_path / "public.pem").write_bytes(key.public_key().public_bytes(*public))
    assert saarthi("bundle", "sign", str(copy), "--key", str(tmp_path / "key.pem")).returncode == 0
    done = saarthi("bundle", "verify", str(copy), "--key", str(tmp_path / "public.pem"))
    assert done.returncode == 0 and "signed by a trusted key" in " ".join(done.stdout.split())
    assert "has no digest of itself" in done.stderr and "signature covers it" in done.stderr


def test_verify_reports_old_bundles_without_digest(bundle: Path) -> None:
    old = saarthi("bundle", "verify", str(OLD))
    assert old.returncode == 0 and "has no digest of itself" in old.stderr
    new = saarthi("bundle", "verify", str(bundle))
    assert new.returncode == 0 and not new.stderr


@pytest.mark.parametrize(
    ("head", "label", "message"),
    [
        ("sequence", "lights", "'lights' is given 2 times"),
        ("sequence", "", "'' is empty"),
        ("sequence", " \u2003", "is empty"),
        ("sequence", "a" * 1_000_000, "has 1000000 characters"),
        ("sequence", "a\nb", r"'a\\nb' has control characters"),
        ("sequence", "\x1b]0;owned\x07", "has control characters"),
        ("sequence", "\x9b31m", "has control characters"),
        ("token", "B-area", "'B-area' is given 2 times"),
        ("token", "B-", "'B-' is empty"),
        ("token", "I-person\r", "has control characters"),
        ("token", "B-" + "ए" * 2000, "has 2002 characters"),
    ],
)
def test_labels_that_no_bundle_may_have_are_named(
    originals: Path, tmp_path: Path, head: str, label: str, message: str
) -> None:
    bundle = Path(shutil.copytree(originals / "joint", tmp_path / "bundle"))
    labels = {"sequence": [*SEQUENCE_LABELS], "token": [*BIO_LABELS]}
    labels[head][-1] = label
    put(bundle, "labels.json", json.dumps(labels).encode())
    with pytest.raises(BundleError, match=rf"labels\.json: {head}: .*{message}") as caught:
        Predictor.load(bundle)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("head", "names", "message"),
    [
        ("sequence", ["a", "(out of scope)", "b", "c"], "must be the last one"),
        ("sequence", ["(out of scope)"], "must be the last one"),
        ("token", ["O", "B-area", "I-area", "person", "I-person"], "the tag 'person' is not O"),
        ("token", ["O", "B-area", "I-area", "b-person", "E-person"], "the tag 'b-person' is not O"),
    ],
)
def test_labels_that_would_be_misread_are_named(
    originals: Path, tmp_path: Path, head: str, names: list[str], message: str
) -> None:
    bundle = Path(shutil.copytree(originals / "joint", tmp_path / "bundle"))
    labels = {"sequence": [*SEQUENCE_LABELS], "token": [*BIO_LABELS], head: names}
    put(bundle, "labels.json", json.dumps(labels).encode())
    with pytest.raises(BundleError, match=message.replace("(", r"\(")):
        Predictor.load(bundle)


def test_tables_of_labels_have_a_limit(originals: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(originals / "joint", tmp_path / "bundle"))
    tags = ["O", *(f"B-{number}" for number in range(9000))]
    put(bundle, "labels.json", json.dumps({"sequence": [*"abcd"], "token": tags}).encode())
    with pytest.raises(BundleError, match="9001 tags need a table"):
        Predictor.load(bundle)


def test_labels_with_any_visible_characters_load(originals: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(originals / "intents", tmp_path / "bundle"))
    names = ["$5_to_$10", "खाता खोलो", "a\u200db | *x* <b>", "n" * 1000]
    put(bundle, "labels.json", json.dumps({"sequence": names, "token": []}).encode())
    verify_bundle(bundle)
    [answer] = Predictor.load(bundle).predict(["turn on the lights"], top_k=4)
    assert {label for label, _ in answer.top_k} == set(names)
