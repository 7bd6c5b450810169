"""doccano: exports of text classification, sequence labelling, and intents with slots.

Source of the description: doccano's documentation, and the formatters of its exporter
`backend/data_export/pipeline/formatters.py` (lists of labels, `[start, end, label]`, objects with
`start_offset`, labels joined by `#` in CSV before the column of comments, `__label__` and
`__comment__` of fastText, written by pandas as CSV with one column).
"""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from saarthi_lib.data.exports.documents import Head, csv_objects, json_objects
from saarthi_lib.data.exports.reading import Reading, example, unfit
from saarthi_lib.data.exports.spans import BadSpanError, Entity, entity
from saarthi_lib.data.formats.columns import Fault, RawRow

_LABELS = ("label", "labels", "cats", "entities")
_COMMENTS = ("Comments", "comments")
_FASTTEXT = re.compile(r"((?:__label__\S+\s+)+)(.*\S)\s*", re.DOTALL)
_CSV_HEADER = re.compile(r'"?id"?,"?(?:text|data)"?,(?:.*,)?"?label"?,"?(?:Comments|comments)"?\s*')
_KEYS = {"id", "text", "data", *_LABELS}


def recognize(head: Head) -> str:
    """Whether a file is an export of doccano, and not only like one."""
    first = head.text.lstrip().split("\n", 1)[0]
    if head.suffix == ".txt":
        lines = head.text.lstrip().split("\n")
        return "rows" if any(_FASTTEXT.fullmatch(line.strip(' "\r')) for line in lines[:2]) else ""
    if head.suffix == ".csv":
        return "rows" if _CSV_HEADER.fullmatch(first) else ""
    found = head.object
    if "id" not in found or not isinstance(found.get("text", found.get("data")), str):
        return ""
    if "tokens" in found or "words" in found or "_task_hash" in found:
        return ""
    marked = any(name in found for name in (*_COMMENTS, "relations", "cats"))
    listed = any(isinstance(found.get(name), list) for name in _LABELS)
    only_ours = listed and found.keys() <= _KEYS and _are_ours(found)
    return "rows" if marked or only_ours else ""


def _are_ours(found: dict[str, Any]) -> bool:
    """Whether lists of labels have the form of doccano's: texts, triples or objects."""
    values = [each for name in _LABELS for each in (found.get(name) or []) if name in found]
    return all(
        isinstance(each, str)
        or (isinstance(each, list) and len(each) == 3)
        or (isinstance(each, dict) and "start_offset" in each)
        for each in values
    )


def rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Texts with their label, their entities, or both. Comments and relations are counted."""
    if path.suffix.lower() == ".txt":
        yield from _fasttext_rows(path, reading)
    elif path.suffix.lower() == ".csv":
        yield from _csv_rows(path, reading)
    else:
        for row, found in json_objects(path):
            if isinstance(found, Fault):
                yield RawRow(row, faults=(found,))
            else:
                yield _json_row(row, found, path, reading)


def _json_row(row: int, found: dict[str, Any], path: Path, reading: Reading) -> RawRow:
    text = found.get("text", found.get("data"))
    for name, kind in (*((each, "comment") for each in _COMMENTS), ("relations", "relation")):
        if isinstance(found.get(name), list):
            reading.leave(kind, path, row, len(found[name]))
    for name in found.keys() - _KEYS - {*_COMMENTS, "relations", "lang"}:
        reading.leave(f"column {name}", path, row)
    labels: list[str] = []
    entities: list[Entity] = []
    if not isinstance(text, str):
        return unfit(row, "has no text; give it one")
    try:
        for name in _LABELS:
            value = found.get(name)
            for each in value if isinstance(value, list) else [] if value is None else [value]:
                if isinstance(each, str | int):
                    labels.append(str(each))
                else:
                    entities.append(_entity(text, each))
    except BadSpanError as error:
        return unfit(row, str(error))
    return example(row, text, _one_label(labels), found.get("lang"), entities)


def _entity(text: str, given: Any) -> Entity:
    if isinstance(given, dict):
        start, end = given.get("start_offset"), given.get("end_offset")
        return entity(text, start, end, given.get("label"), unclear=True)
    if isinstance(given, list) and len(given) == 3:
        return entity(text, *given, unclear=True)
    raise BadSpanError(f"{given!r} is not a label or [start, end, label]; export the project again")


def _one_label(labels: Sequence[str]) -> Any:
    """The only label; several stay a list, which no task accepts as a label."""
    return labels[0] if len(labels) == 1 else list(labels) or None


def _csv_rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    for row, found in csv_objects(path):
        if isinstance(found, Fault):
            yield RawRow(row, faults=(found,))
            continue
        for name, value in found.items():
            if name in _COMMENTS:
                reading.leave("comment", path, row, int(value not in ("", "[]")))
            elif name not in _KEYS:
                reading.leave(f"column {name}", path, row, int(value != ""))
        text = found.get("text", found.get("data"))
        label = str(found.get("label") or "")
        if "#" in label:
            message = f"the label {label!r} may be several labels joined by '#'; export JSONL"
            yield unfit(row, message)
        else:
            yield example(row, text, label or None)


def _fasttext_rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Rows of fastText, which doccano writes like CSV with one column."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row, line in _fasttext_lines(file):
            if not line.strip():
                continue
            found = _FASTTEXT.fullmatch(line.strip())
            if found is None:
                yield unfit(row, "does not begin with __label__ and a text; correct it")
                continue
            text, *comments = re.split(r"\s+__comment__", found[2])
            reading.leave("comment", path, row, len(comments))
            labels = [each.removeprefix("__label__") for each in found[1].split()]
            yield example(row, text, _one_label(labels))


def _fasttext_lines(file: Iterator[str]) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; those that begin with a quote are read as a cell of CSV."""
    row = 0
    for line in file:
        row += 1
        first, whole = row, line
        if line.startswith('"'):
            while whole.count('"') % 2 and (more := next(file, "")):
                row += 1
                whole += more
            cells = next(csv.reader([whole]), [""])
            whole = cells[0] if len(cells) == 1 else line
        yield first, whole
