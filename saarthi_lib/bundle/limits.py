"""Limits on everything that is read from a bundle.

A bundle may come from anywhere. Its files are read whole, its manifest travels with every health
check, and its labels are in answers, metrics and logs.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from saarthi_lib.errors import BundleError

FILES, ALL_BYTES = 64, 16 << 30  # of a bundle; a server can set less
MANIFEST_BYTES = 1 << 20
MODEL_BYTES = 4 << 30  # of a network, and of files that are not named here
WORDS_BYTES = 64 << 20  # of vocabulary, tokenizer and synonyms
SETTINGS_BYTES = 4 << 20  # of labels and configuration
FAMILIARITY_BYTES = 1 << 20

LONGEST_INPUT = 8192  # subword tokens
LANGUAGES = 500
OBJECT_BYTES = 256 << 10  # each of the manifest's objects, as JSON
DEPTH = 10  # nested lists and objects of a manifest
LARGEST = 1e15  # absolute value of a number; every reader of JSON holds such integers exactly

LABEL_CHARACTERS = 1_000
LABELS_OF_HEAD = 100_000
CELLS = 25_000_000  # of the tables of labels by tags, and of tags by tags


def check_values(content: Mapping[str, Any], path: Path) -> None:
    """Check depth, sizes and numbers of a manifest's content; `path` names it in errors.

    Raises:
        BundleError: a value is beyond a limit; the message has its field.
    """
    for name, value in content.items():
        where = f"{path}: the field {name[:200]!r}"
        if _is_deep(value, DEPTH - 1):
            raise BundleError(f"{where} is nested more than {DEPTH - 1} levels deep; flatten it")
        for place, number in _numbers(name, value):
            if not abs(number) <= LARGEST:
                raise BundleError(
                    f"{where}: {place[:200]} is {_short(number)}; a number must be from "
                    f"-{LARGEST:.0e} to {LARGEST:.0e}; correct it"
                )
        if name != "files" and isinstance(value, dict):
            size = len(json.dumps(value, ensure_ascii=False).encode())
            if size > OBJECT_BYTES:
                raise BundleError(
                    f"{where} has {size} bytes; the limit is {OBJECT_BYTES}; leave values out"
                )


def check_total(sizes: Sequence[int], where: str, most_files: int, most_bytes: int) -> None:
    """Check number and total size of a bundle's files; `where` names the bundle in errors.

    Raises:
        BundleError: they are beyond a limit.
    """
    if len(sizes) > most_files:
        raise BundleError(
            f"{where}: the field 'files' lists {len(sizes)} files; the limit is {most_files}"
        )
    if sum(sizes) > most_bytes:
        raise BundleError(
            f"{where}: the field 'files' lists {sum(sizes)} bytes; the limit is {most_bytes}"
        )


def check_names(names: Mapping[str, Sequence[str]], path: str | Path, *, bio: bool) -> None:
    """Check the labels of each head; `path` names their file in errors.

    Args:
        names: labels by head, `sequence` and `token`.
        path: the file.
        bio: whether the tags are BIO spans, which need a table of tags by tags.

    Raises:
        BundleError: a label is empty, given twice, too long, or has control characters, or there
            are too many labels.
    """
    for head, labels in names.items():
        for fault in label_faults(labels):
            raise BundleError(f"{path}: {head}: {fault}; correct the label, and train again")
        if len(labels) > LABELS_OF_HEAD:
            raise BundleError(
                f"{path}: {head}: has {len(labels)} labels; the limit is {LABELS_OF_HEAD}"
            )
    rows, tags = (len(names.get(head, ())) for head in ("sequence", "token"))
    if (cells := max(rows, tags if bio else 0) * tags) > CELLS:
        raise BundleError(
            f"{path}: {max(rows, tags)} labels and {tags} tags need a table of {cells} cells; the "
            f"limit is {CELLS}; use fewer labels"
        )


def label_faults(labels: Iterable[str]) -> Iterator[str]:
    """Describe each label that no bundle may have, with its value."""
    for label, count in Counter(labels).items():
        shown = _short(label)
        if not label.strip() or label in ("B-", "I-"):
            yield f"the label {shown} is empty"
        elif count > 1:
            yield f"the label {shown} is given {count} times"
        elif len(label) > LABEL_CHARACTERS:
            yield f"the label {shown} has {len(label)} characters; the limit is {LABEL_CHARACTERS}"
        elif any(letter < " " or "\x7f" <= letter <= "\x9f" for letter in label):
            yield f"the label {shown} has control characters"


def _is_deep(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested more than this number of levels."""
    inside = [value]
    for _ in range(levels + 1):
        inside = [each for outer in inside for each in _parts(outer)]
        if not inside:
            return False
    return True


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _numbers(place: str, value: Any) -> Iterator[tuple[str, int | float]]:
    """The numbers in a value that is not nested deeply, each with its place."""
    if isinstance(value, int | float):
        yield place, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _numbers(f"{place}.{key}", each)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _numbers(f"{place}[{number}]", each)


def _short(value: object) -> str:
    shown = repr(value if not isinstance(value, str) else value[:80])
    return shown if len(shown) <= 100 else f"{shown[:100]}…"
