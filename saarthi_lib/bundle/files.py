"""Model bundles: folders with all files for serving, and a digest of every file.

`bundle.json` is the manifest. It is written last and names every other file with its size and
SHA-256. All files are checked before any of them is loaded.
"""

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import Any

from saarthi_lib.bundle.signing import SIGNATURE_BYTES, check_signature, sign
from saarthi_lib.errors import BundleError
from saarthi_lib.layout import MANIFEST, SIGNATURE, current_names
from saarthi_lib.storage import digest_file, parse_json, whole_file, whole_folder, write_json
from saarthi_lib.tasks import HEADS
from saarthi_lib.text.normalize import PRESETS
from saarthi_lib.text.words import WORD_SPLITTING

FORMAT = 1
MODEL, ONNX_MODEL = "model.pt", "model.onnx"
LABELS, TRAINING_CONFIG = "labels.json", "training_config.json"
VOCABULARY, TOKENIZER = "distil_vocab.json", "tokenizer.json"
FAMILIARITY = "familiarity.bin"
RUNTIMES = ("onnxruntime", "torchscript")
PRECISIONS = ("float32", "float16", "int8")
LONGEST_INPUT = 8192  # subword tokens

# Maximum size of a file in bytes: files are read whole and must fit into memory, from any source.
_MOST_BYTES = {
    MANIFEST: 4 << 20,
    LABELS: 4 << 20,
    TRAINING_CONFIG: 4 << 20,
    VOCABULARY: 64 << 20,
    TOKENIZER: 64 << 20,
    FAMILIARITY: 1 << 20,
}
_MOST_BYTES_OF_A_MODEL = 4 << 30

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
        format: version of the bundle's layout.
        name: name under which the model is served.
        version: the model's version, free text.
        task: one of `saarthi_lib.tasks.HEADS`.
        languages: lower-case full names, such as `hindi`.
        runtime: engine that the bundle is made for, `onnxruntime` or `torchscript`.
        precision: precision of the weights, `float32`, `float16` or `int8`.
        created: time of creation, ISO 8601, UTC.
        max_seq_len: longest input in subword tokens, without special tokens.
        threshold: lowest confidence for an answer; below it, the model abstains.
        metrics: metrics on the test split.
        made_by: versions and source that the bundle was made with.
        files: every file except the manifest.
        normalization: preset of `saarthi_lib.text.normalize` that is applied to texts first.
        word_splitting: rule of `saarthi_lib.text.words` for the words that get tags.
        calibration: calibration of the probabilities and of the confidence.
        trial: whether a trial run made the bundle (`fast_dev_run`); its answers mean nothing.
        expected_coverage: share of texts that the threshold answers, if they are like those of
            validation: lower and upper limit of a 95% interval; None without a threshold.
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
    normalization: str = "none"
    word_splitting: str = "punctuation"
    calibration: Calibration = Calibration()
    trial: bool = False
    expected_coverage: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The content of `bundle.json`."""
        interval = self.expected_coverage
        return {
            **asdict(self),
            "languages": list(self.languages),
            "expected_coverage": None if interval is None else list(interval),
        }


def write_bundle(
    folder: str | Path, *, files: Mapping[str, Path], manifest: Mapping[str, Any]
) -> BundleManifest:
    """Copy files into a new bundle folder and write its manifest.

    The bundle is completed and flushed to disk in a sibling folder and then renamed, so `folder` is
    never half-written. An older bundle is replaced only when the new one is complete.

    Args:
        folder: the bundle to make.
        files: file to copy for each name in the bundle.
        manifest: the manifest's fields, without `files`; `format`, `created`, `calibration`,
            `trial` and `expected_coverage` are optional.

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
    """Read `bundle.json`, and none of the other files.

    Raises:
        BundleError: the manifest is missing or unreadable, or a field of it is missing or wrong.
    """
    path = Path(folder) / MANIFEST
    return _parse_manifest(_read_manifest_bytes(path), path)


def verify_bundle(folder: str | Path, trusted_keys: Sequence[Path] = ()) -> BundleManifest:
    """Check every file of a bundle against its manifest, and the manifest against its signature.

    Args:
        folder: the bundle.
        trusted_keys: PEM files of Ed25519 public keys, one of which must have signed the bundle;
            without keys, no signature is required.

    Raises:
        BundleError: a file is missing, changed, a link or not listed, or no trusted key has signed.
    """
    folder = Path(folder)
    content = _read_manifest_bytes(folder / MANIFEST)
    if trusted_keys:
        _check_signature(folder, content, trusted_keys)
    manifest = _parse_manifest(content, folder / MANIFEST)
    for name, record in manifest.files.items():
        with _opened(folder / name, record) as file:
            _compare(hashlib.file_digest(file, "sha256").hexdigest(), folder / name, record)
    for entry in sorted(folder.iterdir()):
        known = (MANIFEST, SIGNATURE, *manifest.files)
        if entry.name not in known and not entry.name.startswith("."):
            raise BundleError(
                f"{entry}: is not listed in {MANIFEST}; take it out of the bundle's folder"
            )
    return manifest


def read_verified(folder: str | Path, manifest: BundleManifest, name: str) -> bytes:
    """Read a file of a bundle, and check these bytes against the manifest.

    Raises:
        BundleError: the file is missing, a link or changed.
    """
    path, record = Path(folder) / name, manifest.files[name]
    with _opened(path, record) as file:
        content = file.read(record.size_bytes + 1)
    _compare(hashlib.sha256(content).hexdigest(), path, record)
    return content


def sign_bundle(folder: str | Path, key: Path) -> BundleManifest:
    """Verify a bundle and write its signature next to its manifest, replacing an earlier one.

    Args:
        folder: the bundle.
        key: PEM file of a private key; see `saarthi_lib.bundle.signing.sign`.

    Raises:
        BundleError: the bundle was changed.
        ConfigError: the key cannot be used.
    """
    manifest = verify_bundle(folder)
    signature = sign(_read_manifest_bytes(Path(folder) / MANIFEST), key)
    with whole_file(Path(folder) / SIGNATURE) as aside:
        aside.write_bytes(signature)
    return manifest


def _check_signature(folder: Path, content: bytes, trusted_keys: Sequence[Path]) -> None:
    path = folder / SIGNATURE
    try:
        with _regular(path) as file:
            signature = file.read(SIGNATURE_BYTES + 1)
    except FileNotFoundError as error:
        raise BundleError(
            f"{folder}: is not signed, and only bundles that a trusted key has signed are taken; "
            "sign it: saarthi bundle sign"
        ) from error
    check_signature(content, signature, trusted_keys, str(folder))


def _read_manifest_bytes(path: Path) -> bytes:
    try:
        with _regular(path) as file:
            content = file.read(_MOST_BYTES[MANIFEST] + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(f"{path}: not found, so {path.parent} is not a model bundle") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error}); {_MEND}") from error
    if len(content) > _MOST_BYTES[MANIFEST]:
        raise BundleError(f"{path}: has more than {_MOST_BYTES[MANIFEST]} bytes; {_MEND}")
    return content


def _parse_manifest(content: bytes, path: Path) -> BundleManifest:
    try:
        parsed = parse_json(content)
    except ValueError as error:
        raise BundleError(f"{path}: cannot be read as JSON ({error}); {_MEND}") from error
    if not isinstance(parsed, dict):
        raise BundleError(f"{path}: must hold a JSON object; {_MEND}")
    return _parse(parsed, path)


def _regular(path: Path) -> BufferedReader:
    """Open a regular file; links and files that could block are refused."""
    if path.is_symlink():
        raise BundleError(f"{path}: is a link; put the file itself in its place")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise BundleError(f"{path}: is missing or not a regular file; {_MEND}")
    return file


def _opened(path: Path, record: FileRecord) -> BufferedReader:
    """Open a file of a bundle, if its size matches the manifest."""
    try:
        file = _regular(path)
    except OSError as error:
        raise BundleError(f"{path}: is missing or not a regular file; {_MEND}") from error
    size = os.fstat(file.fileno()).st_size
    if size != record.size_bytes:
        file.close()
        raise BundleError(
            f"{path}: has {size} bytes where {MANIFEST} says {record.size_bytes}; {_MEND}"
        )
    return file


def _compare(digest: str, path: Path, record: FileRecord) -> None:
    if digest != record.sha256:
        raise BundleError(f"{path}: was changed after the bundle was made; {_MEND}")


def _copy(source: Path, target: Path) -> FileRecord:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise BundleError(f"{source}: cannot be copied into the bundle ({error})") from error
    return FileRecord(digest_file(target), target.stat().st_size)


def _parse(content: Mapping[str, Any], path: Path) -> BundleManifest:
    # Bundles of earlier versions lack these fields.
    earlier = {"word_splitting": "punctuation", "trial": False, "expected_coverage": None}
    content = {**earlier, **current_names(content)}
    names = [field.name for field in fields(BundleManifest)]
    for name in names:
        if name not in content:
            raise BundleError(f"{path}: the field {name!r} is missing; {_MEND}")
        expected, is_right = _FIELD_CHECKS[name]
        if not is_right(content[name]):
            shown = repr(content[name])[:200]
            raise BundleError(
                f"{path}: the field {name!r} must be {expected}, not {shown}; {_MEND}"
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
    if content["expected_coverage"] is not None:
        parsed["expected_coverage"] = tuple(content["expected_coverage"])
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
    most = _MOST_BYTES.get(name, _MOST_BYTES_OF_A_MODEL)
    if record["size_bytes"] > most:
        raise BundleError(
            f"{path}: {name} has {record['size_bytes']} bytes, and no bundle's may have more than "
            f"{most}"
        )
    return FileRecord(**record)


def _check_file_names(names: Iterable[str], folder: Path) -> None:
    for name in names:
        if not _PLAIN_NAME.fullmatch(name) or name in (MANIFEST, SIGNATURE):
            raise BundleError(
                f"{folder}: {name[:200]!r} cannot be a file of a bundle; use a plain name without "
                f"folders, other than {MANIFEST} and {SIGNATURE}"
            )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable()


def _is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_probability(value: Any) -> bool:
    return _is_number(value, 0, 1)


def _is_interval(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(map(_is_probability, value))
        and value[0] <= value[1]
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


_FIELD_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "format": (str(FORMAT), lambda value: _is_count(value) and value == FORMAT),
    "name": (
        "a name of letters, digits, '.', '_' and '-'",
        lambda value: isinstance(value, str) and bool(_PLAIN_NAME.fullmatch(value)),
    ),
    "version": ("a string of 1 to 256 characters that can be seen", _is_text),
    "task": (f"one of {', '.join(HEADS)}", lambda value: value in list(HEADS)),
    "languages": (
        "a list of language names",
        lambda value: isinstance(value, list | tuple) and all(map(_is_text, value)),
    ),
    "runtime": (f"one of {', '.join(RUNTIMES)}", lambda value: value in RUNTIMES),
    "precision": (f"one of {', '.join(PRECISIONS)}", lambda value: value in PRECISIONS),
    "created": ("an ISO 8601 time with its zone", _is_time),
    "max_seq_len": (
        f"a whole number from 1 to {LONGEST_INPUT}",
        lambda value: _is_count(value) and 0 < value <= LONGEST_INPUT,
    ),
    "threshold": (
        "null or a number from 0 to 1",
        lambda value: value is None or _is_probability(value),
    ),
    "metrics": ("an object", lambda value: isinstance(value, dict)),
    "made_by": ("an object", lambda value: isinstance(value, dict)),
    "files": ("an object", lambda value: isinstance(value, dict)),
    "normalization": (f"one of {', '.join(PRESETS)}", lambda value: value in PRESETS),
    "word_splitting": (
        f"one of {', '.join(WORD_SPLITTING)}",
        lambda value: value in WORD_SPLITTING,
    ),
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
}
