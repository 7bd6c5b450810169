"""`bundle.json`: the fields of a bundle's manifest and the checks when it is read.

The manifest names every other file of the bundle with its size and SHA-256, and has a digest of
itself.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from saarthi_lib.bundle.limits import (
    ALL_BYTES,
    FAMILIARITY_BYTES,
    FILES,
    LANGUAGES,
    LONGEST_INPUT,
    MODEL_BYTES,
    SETTINGS_BYTES,
    WORDS_BYTES,
    check_total,
    check_values,
)
from saarthi_lib.errors import BundleError
from saarthi_lib.json_text import parse_json
from saarthi_lib.layout import MANIFEST, SIGNATURE, SYNONYMS, current_names
from saarthi_lib.tasks import HEADS
from saarthi_lib.text.language_names import language_name
from saarthi_lib.text.normalize import PRESETS
from saarthi_lib.text.words import WORD_SPLITTING

FORMAT = 1
MODEL, ONNX_MODEL = "model.pt", "model.onnx"
LABELS, TRAINING_CONFIG = "labels.json", "training_config.json"
VOCABULARY, TOKENIZER = "distil_vocab.json", "tokenizer.json"
FAMILIARITY = "familiarity.bin"
RUNTIMES = ("onnxruntime", "torchscript")
PRECISIONS = ("float32", "float16", "int8")
HOW_TO_FIX = "write the bundle again, or copy it again from its source"

_FILE_BYTES = {
    LABELS: SETTINGS_BYTES,
    TRAINING_CONFIG: SETTINGS_BYTES,
    VOCABULARY: WORDS_BYTES,
    TOKENIZER: WORDS_BYTES,
    SYNONYMS: WORDS_BYTES,
    FAMILIARITY: FAMILIARITY_BYTES,
}
_UNSEALED = "0" * 64  # in place of the digest when it is computed

# A bundle's name becomes a path in URLs and a label in metrics; a file's name may hold no folders.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class FileRecord:
    """Size and SHA-256 (hexadecimal) of one file of a bundle."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Calibration:
    """Parameters that turn logits into probabilities, and these into the thresholded confidence.

    Attributes:
        temperature: divisor of the logits of the text's label.
        token_temperature: divisor of the logits of the words' tags.
        familiarity_weight: log-odds of confidence per unit of familiarity
            (`saarthi_lib.inference.familiarity`); at 0 the confidence is the probability.
        familiarity_mean: familiarity at which the confidence is the probability.
    """

    temperature: float = 1.0
    token_temperature: float = 1.0
    familiarity_weight: float = 0.0
    familiarity_mean: float = 0.0


@dataclass(frozen=True)
class BundleManifest:
    """Content of `bundle.json`.

    Attributes:
        name: name under which the model is served.
        version: the model's version, free text.
        task: one of `saarthi_lib.tasks.HEADS`.
        languages: lower-case full names, such as `hindi`.
        runtime: default engine, `onnxruntime` or `torchscript`.
        precision: precision of the weights, `float32`, `float16` or `int8`.
        max_seq_len: longest input in subword tokens, without special tokens.
        threshold: lowest confidence for an answer; below it, the model abstains. None: the model
            answers every text.
        language_thresholds: thresholds of the languages that have their own, by lower-case full
            name.
        metrics: metrics on the test split.
        made_by: versions and source that the bundle was made with.
        normalization: preset of `saarthi_lib.text.normalize` that is applied to texts first.
        word_splitting: rule of `saarthi_lib.text.words` for the words that get tags.
        calibration: calibration of the probabilities and of the confidence.
        trial: whether a trial run made the bundle (`fast_dev_run`); its answers mean nothing.
        expected_coverage: share of texts that the threshold answers, if they are like those of
            validation: lower and upper limit of a 95% interval; None without a threshold.
        created: time of creation, ISO 8601, UTC.
        files: every file except the manifest.
        format: version of the bundle's layout.
        digest: SHA-256 of `bundle.json` with zeros in place of this digest; None in bundles of
            earlier versions, whose changed fields cannot be found without a signature.
    """

    name: str
    version: str
    task: str
    languages: tuple[str, ...]
    runtime: str
    precision: str
    max_seq_len: int
    threshold: float | None = None
    language_thresholds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    made_by: dict[str, Any] = field(default_factory=dict)
    normalization: str = "none"
    word_splitting: str = "punctuation"
    calibration: Calibration = Calibration()
    trial: bool = False
    expected_coverage: tuple[float, float] | None = None
    created: str = field(default_factory=_now)
    files: dict[str, FileRecord] = field(default_factory=dict)
    format: int = FORMAT
    digest: str | None = None

    @property
    def abstains(self) -> bool:
        """Whether a text of any language has a threshold."""
        return self.threshold is not None or bool(self.language_thresholds)

    def threshold_of(self, lang: str | None) -> float | None:
        """Threshold of a text by its language, a name or a code; None: the text is answered."""
        if lang is None or not self.language_thresholds:
            return self.threshold
        return self.language_thresholds.get(language_name(lang), self.threshold)

    def to_dict(self) -> dict[str, Any]:
        """The content of `bundle.json`."""
        interval = self.expected_coverage
        return {
            **asdict(self),
            "languages": list(self.languages),
            "expected_coverage": None if interval is None else list(interval),
        }


def parse_manifest(content: bytes, path: Path) -> BundleManifest:
    """Parse the bytes of a `bundle.json`; `path` names them in errors.

    Raises:
        BundleError: the content is not JSON, a field is missing, unknown, wrong or beyond a limit,
            or the digest shows a change.
    """
    try:
        parsed = parse_json(content)
    except ValueError as error:
        raise BundleError(f"{path}: cannot be read as JSON ({error}); {HOW_TO_FIX}") from error
    if not isinstance(parsed, dict):
        raise BundleError(f"{path}: must hold a JSON object; {HOW_TO_FIX}")
    manifest = manifest_from_dict(parsed, path)
    if manifest.digest and _digest_of(content, manifest.digest) != manifest.digest:
        raise BundleError(
            f"{path}: was changed after the bundle was made: its field 'digest' does not match; "
            f"{HOW_TO_FIX}"
        )
    return manifest


def sealed(manifest: BundleManifest, path: Path) -> tuple[BundleManifest, bytes]:
    """Return a manifest with its digest, and its bytes as `bundle.json`.

    Raises:
        BundleError: a field is wrong.
    """
    content = {**manifest.to_dict(), "digest": _UNSEALED}
    checked = manifest_from_dict(content, path)
    text = json.dumps(content, ensure_ascii=False, indent=2).encode() + b"\n"
    digest = sha256(text).hexdigest()
    # The digest is the last field.
    before, after = text.rsplit(_UNSEALED.encode(), 1)
    return replace(checked, digest=digest), before + digest.encode() + after


def _digest_of(content: bytes, digest: str) -> str:
    before, _, after = content.rpartition(digest.encode())
    return sha256(before + _UNSEALED.encode() + after).hexdigest()


def manifest_from_dict(content: Mapping[str, Any], path: Path) -> BundleManifest:
    """Check the content of a `bundle.json`; `path` names it in errors.

    Raises:
        BundleError: a field is missing, unknown or wrong, or a required file is not listed.
    """
    # Bundles of earlier versions lack these fields.
    earlier = {"word_splitting": "punctuation", "trial": False, "expected_coverage": None}
    earlier |= {"language_thresholds": {}, "digest": None}
    check_values(content, path)
    content = {**earlier, **current_names(content)}
    for name, (expected, is_right) in _FIELD_CHECKS.items():
        if name not in content:
            raise BundleError(f"{path}: the field {name!r} is missing; {HOW_TO_FIX}")
        if not is_right(content[name]):
            shown = repr(content[name])[:200]
            raise BundleError(
                f"{path}: the field {name!r} must be {expected}, not {shown}; {HOW_TO_FIX}"
            )
    unknown = sorted(set(content) - set(_FIELD_CHECKS))
    if unknown:
        raise BundleError(f"{path}: the field {unknown[0]!r} is unknown; {HOW_TO_FIX}")
    interval = content["expected_coverage"]
    parsed = {
        "languages": tuple(content["languages"]),
        "calibration": Calibration(**content["calibration"]),
        "expected_coverage": None if interval is None else tuple(interval),
        "files": {
            name: _parse_record(name, record, path) for name, record in content["files"].items()
        },
    }
    manifest = BundleManifest(**{**content, **parsed})
    _check_files(manifest, path)
    return manifest


def check_file_names(names: Iterable[str], folder: Path) -> None:
    """Check names of a bundle's files.

    Raises:
        BundleError: a name holds a folder or is reserved.
    """
    for name in names:
        if not _PLAIN_NAME.fullmatch(name) or name in (MANIFEST, SIGNATURE):
            raise BundleError(
                f"{folder}: {name[:200]!r} cannot be a file of a bundle; use a plain name without "
                f"folders, other than {MANIFEST} and {SIGNATURE}"
            )


def _check_files(manifest: BundleManifest, path: Path) -> None:
    sizes = [record.size_bytes for record in manifest.files.values()]
    check_total(sizes, str(path), FILES, ALL_BYTES)
    check_file_names(manifest.files, path.parent)
    required = [MODEL, LABELS, TRAINING_CONFIG, VOCABULARY, TOKENIZER]
    if manifest.runtime == "onnxruntime":
        required.append(ONNX_MODEL)
    if manifest.calibration.familiarity_weight:
        required.append(FAMILIARITY)
    for name in required:
        if name not in manifest.files:
            raise BundleError(f"{path}: the field 'files' lists no {name}; {HOW_TO_FIX}")


def _parse_record(name: str, record: Any, path: Path) -> FileRecord:
    if (
        not isinstance(record, dict)
        or set(record) != {"sha256", "size_bytes"}
        or not (isinstance(record["sha256"], str) and _SHA256.fullmatch(record["sha256"]))
        or not _is_count(record["size_bytes"])
    ):
        raise BundleError(
            f"{path}: the field 'files' must give 'sha256' (64 hexadecimal digits) and "
            f"'size_bytes' of {name!r}; {HOW_TO_FIX}"
        )
    most = _FILE_BYTES.get(name, MODEL_BYTES)
    if record["size_bytes"] > most:
        raise BundleError(
            f"{path}: {name} has {record['size_bytes']} bytes; the limit for this file is {most}"
        )
    return FileRecord(**record)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable()


def _is_number(value: Any, least: float = 0, most: float = 1) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_interval(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(map(_is_number, value))
        and value[0] <= value[1]
    )


def _is_by_language(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= LANGUAGES
        and all(_is_text(name) and language_name(name) == name for name in value)
        and all(map(_is_number, value.values()))
    )


def _is_calibration(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {field.name for field in fields(Calibration)}
        and all(_is_number(number, -1e6, 1e6) for number in value.values())
        and value["temperature"] >= 1e-6
        and value["token_temperature"] >= 1e-6
    )


def _is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _one_of(values: Iterable[str]) -> tuple[str, Callable[[Any], bool]]:
    names = tuple(values)
    return f"one of {', '.join(names)}", lambda value: value in names


_OBJECT = ("an object", lambda value: isinstance(value, dict))
_FIELD_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "format": (str(FORMAT), lambda value: _is_count(value) and value == FORMAT),
    "name": (
        "a name of letters, digits, '.', '_' and '-'",
        lambda value: isinstance(value, str) and bool(_PLAIN_NAME.fullmatch(value)),
    ),
    "version": ("a printable string of 1 to 256 characters", _is_text),
    "task": _one_of(HEADS),
    "languages": (
        f"a list of at most {LANGUAGES} language names",
        lambda value: (
            isinstance(value, list | tuple)
            and len(value) <= LANGUAGES
            and all(map(_is_text, value))
        ),
    ),
    "runtime": _one_of(RUNTIMES),
    "precision": _one_of(PRECISIONS),
    "created": ("an ISO 8601 time with its zone", _is_time),
    "max_seq_len": (
        f"a whole number from 1 to {LONGEST_INPUT}",
        lambda value: _is_count(value) and 0 < value <= LONGEST_INPUT,
    ),
    "threshold": (
        "null or a number from 0 to 1",
        lambda value: value is None or _is_number(value),
    ),
    "language_thresholds": (
        "an object of numbers from 0 to 1, by full lower-case names of languages",
        _is_by_language,
    ),
    "metrics": _OBJECT,
    "made_by": _OBJECT,
    "files": _OBJECT,
    "normalization": _one_of(PRESETS),
    "word_splitting": _one_of(WORD_SPLITTING),
    "calibration": (
        "an object of numbers, temperatures above 0, named "
        + ", ".join(field.name for field in fields(Calibration)),
        _is_calibration,
    ),
    "trial": ("true or false", lambda value: isinstance(value, bool)),
    "expected_coverage": (
        "null or two numbers from 0 to 1, the lower one first",
        lambda value: value is None or _is_interval(value),
    ),
    "digest": (
        "64 hexadecimal digits",
        lambda value: value is None or (isinstance(value, str) and bool(_SHA256.fullmatch(value))),
    ),
}
