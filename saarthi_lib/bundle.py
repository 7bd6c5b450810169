"""The model bundle: a folder that holds all that serving needs, with the digest of every file.

`bundle.json` is the manifest. It is written last and names every other file with its size and
SHA-256; nothing of a bundle is loaded before all of them are checked.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from saarthi_lib.errors import BundleError
from saarthi_lib.storage import digest_file, whole_folder, write_json
from saarthi_lib.tasks import HEADS
from saarthi_lib.text.normalise import PRESETS

FORMAT = 1
MANIFEST = "bundle.json"
MODEL, ONNX_MODEL = "model.pt", "model.onnx"
LABELS, TRAINING_CONFIG = "labels.json", "training_config.json"
VOCABULARY, TOKENIZER = "distil_vocab.json", "tokenizer.json"
FAMILIARITY = "familiarity.bin"
RUN_BUNDLES = ("bundle-int8", "bundle-float16", "bundle")  # of a run's folder, smallest first
RUNTIMES = ("onnxruntime", "torchscript")
PRECISIONS = ("float32", "float16", "int8")

# A bundle's name becomes a path in URLs and a label in metrics; a file's name may hold no folders.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MEND = "make the bundle again, or copy it again from where it was made"


@dataclass(frozen=True)
class FileRecord:
    """Size and SHA-256 (hexadecimal) of one file of a bundle."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities, and these the confidence that the threshold is for.

    Attributes:
        temperature: that the logits of the text's label are divided by.
        token_temperature: the same for the tags of words.
        familiarity_weight: log-odds of confidence for a unit of familiarity
            (`saarthi_lib.inference.familiarity`); at 0 the confidence is the probability.
        familiarity_mean: the familiarity at which the confidence is the probability.
    """

    temperature: float = 1.0
    token_temperature: float = 1.0
    familiarity_weight: float = 0.0
    familiarity_mean: float = 0.0


@dataclass(frozen=True)
class BundleManifest:
    """What `bundle.json` says.

    Attributes:
        format: version of the bundle's layout.
        name: name under which the model is served.
        version: the model's version, free text.
        task: one of `saarthi_lib.tasks.HEADS`.
        languages: lower-case full names, such as `hindi`.
        runtime: the engine the bundle is made for, `onnxruntime` or `torchscript`.
        precision: of the weights, `float32`, `float16` or `int8`.
        created: time of creation, ISO 8601, UTC.
        max_seq_len: longest input in pieces, without special tokens.
        threshold: least confidence at which the model answers; below it, it abstains.
        metrics: figures measured on the test split.
        made_by: versions and source that the bundle was made with.
        files: every file but the manifest.
        normalisation: preset of `saarthi_lib.text.normalise` that texts go through first.
        calibration: of the probabilities, and of the confidence.
    """

    format: int
    name: str
    version: str
    task: str
    languages: tuple[str, ...]
    runtime: str
    precision: str
    created: str
    max_seq_len: int
    threshold: float | None
    metrics: dict[str, Any]
    made_by: dict[str, Any]
    files: dict[str, FileRecord]
    normalisation: str = "none"
    calibration: Calibration = Calibration()

    def to_dict(self) -> dict[str, Any]:
        """The content of `bundle.json`."""
        return {**asdict(self), "languages": list(self.languages)}


def write_bundle(
    folder: str | Path, *, files: Mapping[str, Path], manifest: Mapping[str, Any]
) -> BundleManifest:
    """Copy files into a new bundle folder and write its manifest.

    The bundle is completed and flushed to disk in a sibling folder and then renamed, so `folder` is
    never half-written; an older bundle there goes only when the new one is complete.

    Args:
        folder: the bundle to make.
        files: for each name in the bundle the file to copy.
        manifest: the manifest's fields, without `files`; `format`, `created` and `calibration`
            may be left out.

    Raises:
        BundleError: a file or field is missing or wrong; nothing was changed.
    """
    folder = Path(folder)
    _check_file_names(files, folder)
    with whole_folder(folder) as aside:
        records = {name: _copy(source, aside / name) for name, source in files.items()}
        created = datetime.now(UTC).isoformat(timespec="seconds")
        plain = asdict(Calibration())
        content = {"format": FORMAT, "created": created, "calibration": plain, **manifest}
        content["files"] = {name: asdict(record) for name, record in records.items()}
        made = _parse(content, folder / MANIFEST)
        write_json(aside / MANIFEST, made.to_dict())
    return made


def read_manifest(folder: str | Path) -> BundleManifest:
    """Read `bundle.json` without looking at the other files.

    Raises:
        BundleError: the manifest is missing or unreadable, or a field of it is missing or wrong.
    """
    path = Path(folder) / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(f"{path}: not found, so {folder} is not a model bundle") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read as JSON ({error}); {_MEND}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path}: must hold a JSON object; {_MEND}")
    return _parse(content, path)


def verify_bundle(folder: str | Path) -> BundleManifest:
    """Check every file of a bundle against its manifest.

    Raises:
        BundleError: a file is missing, changed, a link, or there without being listed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, record in manifest.files.items():
        _verify_file(folder / name, record)
    for entry in sorted(folder.iterdir()):
        if entry.name not in (MANIFEST, *manifest.files) and not entry.name.startswith("."):
            raise BundleError(
                f"{entry}: is not listed in {MANIFEST}; take it out of the bundle's folder"
            )
    return manifest


def _verify_file(path: Path, record: FileRecord) -> None:
    if path.is_symlink():
        raise BundleError(f"{path}: is a link; put the file itself in its place")
    if not path.is_file():
        raise BundleError(f"{path}: is missing or not a regular file; {_MEND}")
    size = path.stat().st_size
    if size != record.size_bytes:
        raise BundleError(
            f"{path}: has {size} bytes where {MANIFEST} says {record.size_bytes}; {_MEND}"
        )
    if digest_file(path) != record.sha256:
        raise BundleError(f"{path}: was changed after the bundle was made; {_MEND}")


def _copy(source: Path, target: Path) -> FileRecord:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise BundleError(f"{source}: cannot be copied into the bundle ({error})") from error
    return FileRecord(digest_file(target), target.stat().st_size)


def _parse(content: Mapping[str, Any], path: Path) -> BundleManifest:
    names = [field.name for field in fields(BundleManifest)]
    for name in names:
        if name not in content:
            raise BundleError(f"{path}: the field {name!r} is missing; {_MEND}")
        expected, is_right = _FIELD_CHECKS[name]
        if not is_right(content[name]):
            raise BundleError(
                f"{path}: the field {name!r} must be {expected}, not {content[name]!r}; {_MEND}"
            )
    unknown = sorted(set(content) - set(names))
    if unknown:
        raise BundleError(f"{path}: the field {unknown[0]!r} is unknown; {_MEND}")
    records = {name: _parse_record(name, record, path) for name, record in content["files"].items()}
    _check_file_names(records, path.parent)
    required = [MODEL, LABELS, TRAINING_CONFIG, VOCABULARY, TOKENIZER]
    if content["runtime"] == "onnxruntime":
        required.append(ONNX_MODEL)
    calibration = Calibration(**content["calibration"])
    if calibration.familiarity_weight:
        required.append(FAMILIARITY)
    for name in required:
        if name not in records:
            raise BundleError(f"{path}: the field 'files' lists no {name}; {_MEND}")
    languages = tuple(content["languages"])
    parsed = {"languages": languages, "files": records, "calibration": calibration}
    return BundleManifest(**{**content, **parsed})


def _parse_record(name: str, record: Any, path: Path) -> FileRecord:
    if (
        not isinstance(record, dict)
        or set(record) != {"sha256", "size_bytes"}
        or not (isinstance(record["sha256"], str) and _SHA256.fullmatch(record["sha256"]))
        or not _is_count(record["size_bytes"])
    ):
        raise BundleError(
            f"{path}: the field 'files' must give 'sha256' (64 hexadecimal digits) and "
            f"'size_bytes' of {name!r}; {_MEND}"
        )
    return FileRecord(**record)


def _check_file_names(names: Iterable[str], folder: Path) -> None:
    for name in names:
        if not _PLAIN_NAME.fullmatch(name) or name == MANIFEST:
            raise BundleError(
                f"{folder}: {name!r} cannot be a file of a bundle; use a plain name without "
                f"folders, other than {MANIFEST}"
            )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_probability(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_calibration(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {field.name for field in fields(Calibration)}
        and all(
            isinstance(number, int | float) and not isinstance(number, bool) and isfinite(number)
            for number in value.values()
        )
        and value["temperature"] > 0
        and value["token_temperature"] > 0
    )


def _is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


_FIELD_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "format": (str(FORMAT), lambda value: value == FORMAT),
    "name": (
        "a name of letters, digits, '.', '_' and '-'",
        lambda value: isinstance(value, str) and bool(_PLAIN_NAME.fullmatch(value)),
    ),
    "version": ("a string", _is_text),
    "task": (f"one of {', '.join(HEADS)}", lambda value: value in list(HEADS)),
    "languages": (
        "a list of language names",
        lambda value: isinstance(value, list | tuple) and all(map(_is_text, value)),
    ),
    "runtime": (f"one of {', '.join(RUNTIMES)}", lambda value: value in RUNTIMES),
    "precision": (f"one of {', '.join(PRECISIONS)}", lambda value: value in PRECISIONS),
    "created": ("an ISO 8601 time with its zone", _is_time),
    "max_seq_len": ("a whole number above 0", lambda value: _is_count(value) and value > 0),
    "threshold": (
        "null or a number from 0 to 1",
        lambda value: value is None or _is_probability(value),
    ),
    "metrics": ("an object", lambda value: isinstance(value, dict)),
    "made_by": ("an object", lambda value: isinstance(value, dict)),
    "files": ("an object", lambda value: isinstance(value, dict)),
    "normalisation": (f"one of {', '.join(PRESETS)}", lambda value: value in PRESETS),
    "calibration": (
        "an object of numbers, temperatures above 0, named "
        + ", ".join(field.name for field in fields(Calibration)),
        _is_calibration,
    ),
}
