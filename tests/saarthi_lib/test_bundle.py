import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from saarthi_lib.bundle import (
    BundleManifest,
    Calibration,
    read_manifest,
    verify_bundle,
    write_bundle,
)
from saarthi_lib.errors import BundleError
from tests.tiny_bundle import reseal, write_tiny_bundle

FILES = [
    "model.pt",
    "model.onnx",
    "labels.json",
    "training_config.json",
    "distil_vocab.json",
    "tokenizer.json",
]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    return write_tiny_bundle(folder, name="lights", version="1.2", runtime="onnxruntime")


@pytest.fixture
def bundle(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "bundle"))


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    change(manifest)
    reseal(bundle, manifest)


def test_manifest_is_read_as_written(bundle: Path) -> None:
    manifest = verify_bundle(bundle)

    assert (manifest.name, manifest.version) == ("lights", "1.2")
    assert manifest.task == "intent_classification"
    assert manifest.languages == ("english", "hindi")
    assert set(manifest.files) == set(FILES)
    assert manifest.to_dict() == json.loads((bundle / "bundle.json").read_text())


@pytest.mark.parametrize("name", FILES)
def test_changed_byte_is_found(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)

    with pytest.raises(BundleError, match=rf"{name}: was changed.*write the bundle again"):
        verify_bundle(bundle)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()

    with pytest.raises(BundleError, match=f"{name}: is missing"):
        verify_bundle(bundle)


def test_cut_file_is_named_with_its_size(bundle: Path) -> None:
    os.truncate(bundle / "model.pt", 100)

    with pytest.raises(BundleError, match=r"model\.pt: has 100 bytes"):
        verify_bundle(bundle)


def test_link_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "model.pt").rename(tmp_path / "elsewhere.pt")
    (bundle / "model.pt").symlink_to(tmp_path / "elsewhere.pt")

    with pytest.raises(BundleError, match=r"model\.pt: is a link"):
        verify_bundle(bundle)


def test_unlisted_file_is_refused(bundle: Path) -> None:
    (bundle / "model.onnx.data").write_bytes(b"weights")

    with pytest.raises(BundleError, match=r"model\.onnx\.data: is not listed"):
        verify_bundle(bundle)


@pytest.mark.parametrize("name", ["../model.pt", "/etc/passwd", "a/b", "..", "bundle.json", ""])
def test_file_names_with_folders_are_refused(bundle: Path, name: str) -> None:
    record = {"sha256": "0" * 64, "size_bytes": 1}
    edit(bundle, lambda manifest: manifest["files"].update({name: record}))

    with pytest.raises(BundleError, match="plain name"):
        verify_bundle(bundle)


LATER_FIELDS = (
    "word_splitting",
    "trial",
    "expected_coverage",
    "language_thresholds",
    "digest",
)  # bundles of earlier versions lack them


@pytest.mark.parametrize(
    "field", [field.name for field in fields(BundleManifest) if field.name not in LATER_FIELDS]
)
def test_missing_field_is_named(bundle: Path, field: str) -> None:
    edit(bundle, lambda manifest: manifest.pop(field))

    with pytest.raises(BundleError, match=f"field '{field}' is missing"):
        read_manifest(bundle)


def test_earlier_manifest_without_trial_is_not_a_trial(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest.pop("trial"))

    assert verify_bundle(bundle).trial is False


def test_an_earlier_bundle_has_one_threshold(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest.pop("language_thresholds"))
    edit(bundle, lambda manifest: manifest.update(threshold=0.4))

    manifest = verify_bundle(bundle)
    assert manifest.language_thresholds == {}
    assert manifest.threshold_of("hindi") == manifest.threshold_of(None) == 0.4


def test_expected_coverage_is_read_as_written(bundle: Path) -> None:
    assert read_manifest(bundle).expected_coverage is None
    edit(bundle, lambda manifest: manifest.update(expected_coverage=[0.86, 0.93]))

    assert read_manifest(bundle).expected_coverage == (0.86, 0.93)
    assert read_manifest(bundle).to_dict()["expected_coverage"] == [0.86, 0.93]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("name", "a/b"),
        ("name", 3),
        ("version", ""),
        ("task", "translation"),
        ("task", ["ner"]),
        ("languages", "english"),
        ("runtime", "tensorflow"),
        ("precision", "int4"),
        ("created", "yesterday"),
        ("created", "2026-01-01T00:00:00"),
        ("max_seq_len", 0),
        ("max_seq_len", True),
        ("threshold", 1.5),
        ("language_thresholds", {"hindi": 1.5}),
        ("language_thresholds", {"hi": 0.5}),
        ("language_thresholds", {"": 0.5}),
        ("language_thresholds", [0.5]),
        ("language_thresholds", None),
        ("metrics", []),
        ("files", {"model.pt": {"sha256": "abc", "size_bytes": 1}}),
        ("files", {}),
        ("normalization", "strong"),
        ("normalization", None),
        ("calibration", {}),
        ("calibration", {**asdict(Calibration()), "temperature": 0}),
        ("calibration", {**asdict(Calibration()), "familiarity_mean": "low"}),
        ("calibration", {**asdict(Calibration()), "surprise": 1}),
        ("trial", "false"),
        ("trial", None),
        ("trial", 1),
        ("expected_coverage", [0.9]),
        ("expected_coverage", [0.9, 0.8]),
        ("expected_coverage", [0.9, 1.2]),
        ("expected_coverage", "0.8 to 0.9"),
        ("surprise", 1),
    ],
)
def test_wrong_field_is_named(bundle: Path, field: str, value: object) -> None:
    edit(bundle, lambda manifest: manifest.update({field: value}))

    with pytest.raises(BundleError, match=rf"bundle\.json: the field '{field}'"):
        read_manifest(bundle)


def test_familiarity_weight_needs_the_table(bundle: Path) -> None:
    weighed = asdict(Calibration(familiarity_weight=2.0))
    edit(bundle, lambda manifest: manifest.update({"calibration": weighed}))

    with pytest.raises(BundleError, match=r"'files' lists no familiarity\.bin"):
        read_manifest(bundle)


@pytest.mark.parametrize("content", ["", "[]", "{", "\x00"])
def test_unreadable_manifest_is_named(bundle: Path, content: str) -> None:
    (bundle / "bundle.json").write_text(content)

    with pytest.raises(BundleError, match=r"bundle\.json"):
        read_manifest(bundle)


def test_folder_without_manifest_is_not_a_bundle(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError, match="not a bundle"):
            verify_bundle(folder)


def test_new_bundle_replaces_the_old_one(original: Path, bundle: Path) -> None:
    manifest = replace(read_manifest(original), version="2")
    files = {name: original / name for name in FILES}

    write_bundle(bundle, files=files, manifest=manifest)

    assert verify_bundle(bundle).version == "2"
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("mistake", ["field", "missing file", "required file", "file name"])
def test_failed_write_changes_nothing(original: Path, bundle: Path, mistake: str) -> None:
    manifest = read_manifest(original)
    files = {name: original / name for name in FILES}
    if mistake == "field":
        manifest = replace(manifest, task="translation")
    elif mistake == "missing file":
        files["model.pt"] = original / "nowhere.pt"
    elif mistake == "required file":
        del files["tokenizer.json"]
    else:
        files["../escaped.pt"] = original / "model.pt"

    with pytest.raises(BundleError):
        write_bundle(bundle, files=files, manifest=manifest)

    assert verify_bundle(bundle) == verify_bundle(original)
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]
