"""Read JSON objects: one per line, in arrays, one after another, or in an object's only list."""

import json
import re
from collections.abc import Iterable, Iterator
from io import StringIO
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from saarthi_lib.data.formats.columns import Fault, Record
from saarthi_lib.errors import DataError
from saarthi_lib.json_text import DuplicateKeyError, with_unique_keys

_HALF_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_BETWEEN = re.compile(r"[\s,]*")
_WRAPPERS = ("data", "rows", "examples", "records", "items", "train", "test", "utterances")
_COLUMNS = (
    "{}: row 1: holds columns ({}), not rows; write one JSON object per line (pandas: "
    "orient='records', lines=True)"
)
_SHOWN = 6  # keys of an object in an error
_BLOCK = 2**20  # characters
_LONGEST_OBJECT = 2**26  # characters


def json_records(path: Path) -> Iterator[Record | Fault]:
    """JSON objects; a row's number is that of its first line.

    In an array that is written in one line, it is the object's place in the array, from 1.

    Raises:
        DataError: an array is damaged, or followed by something else; the file holds columns.
    """
    with path.open(encoding="utf-8-sig") as file:
        for number, value in _numbered(file, path):
            if isinstance(value, dict):
                yield Record(number, tuple(value), [*value.values()])
            elif isinstance(value, Fault):
                yield value
            else:
                yield Fault(number, "not-json", "is not a JSON object; write one per line")


def _numbered(file: TextIO, path: Path) -> Iterator[tuple[int, Any]]:
    """Values of a file, each with the number of its first line."""
    start = file.read(_BLOCK)
    kind = start.lstrip()[:1]
    whole = _first_object(file, start) if kind == "{" else None
    if whole is not None:
        text, value, end = whole
        if not text[end:].strip() and not file.read(1):
            yield from _only_object(path, text, value)
            return
        if "\n" in text[:end].strip():  # objects over several lines
            file.seek(0)
            yield from _placed(_values(file, path))
            return
    file.seek(0)
    yield from _placed(_values(file, path)) if kind == "[" else _lines(file)


def _placed(values: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """Values with their lines; with their places if the first two are in one line."""
    start = list(islice(values, 2))
    if len(start) < 2 or start[0][0] != start[1][0]:
        yield from chain(start, values)
        return
    for place, (_, value) in enumerate(chain(start, values), 1):
        yield place, value._replace(row=place) if isinstance(value, Fault) else value


def _first_object(file: TextIO, text: str) -> tuple[str, dict[str, Any], int] | None:
    """The text read, its first object and that object's end; None if it is damaged or very long."""
    begin = text.index("{")
    while True:
        try:
            value, end = _DECODER.raw_decode(text, begin)
            return text, value, end
        except (ValueError, RecursionError):
            first_line = text[begin:].split("\n", 1)
            longer = len(first_line) == 1 or first_line[0].strip() == "{"
            block = file.read(_BLOCK) if longer and len(text) < _LONGEST_OBJECT else ""
            if not block:
                return None
            text += block


def _only_object(path: Path, text: str, value: dict[str, Any]) -> Iterator[tuple[int, Any]]:
    """Rows of a file that is one object: those in its only list of objects, or the object."""
    lists = [key for key, each in value.items() if _are_objects(each)]
    if len(value) > 1 and all(isinstance(each, dict) for each in value.values()):
        keys = [each.keys() for each in value.values()]
        if keys[0] and all(each == keys[0] for each in keys):
            raise DataError(_COLUMNS.format(path, _some(value)))
    if len(value) > 1 and not {"text", "tokens", "words"} & {*value} and _are_nested(value):
        raise DataError(
            f"{path}: row 1: holds lists or objects under {_some(value)}, and no text; write "
            "one JSON object with a text per line, and a file for each split"
        )
    if isinstance(value.get("text"), list) and all(isinstance(e, list) for e in value.values()):
        raise DataError(_COLUMNS.format(path, _some(value)))
    is_row = any(isinstance(each, str) and " " in each for each in value.values())
    if (
        len(lists) == 1
        and (lists[0] in _WRAPPERS or not is_row)
        and not {"text", "tokens", "words"} & {*value}
    ):
        mark = re.search(rf"{re.escape(json.dumps(lists[0]))}\s*:\s*\[", text)
        begin = mark.end() - 1 if mark else 0
        rows = value[lists[0]]
        if mark and _DECODER.raw_decode(text, begin)[0] == rows:
            end = _DECODER.raw_decode(text, begin)[1]
            padding = "\n" * text.count("\n", 0, begin)
            yield from _placed(_values(StringIO(padding + text[begin:end]), path))
        else:
            yield from enumerate(rows, 1)
    else:
        yield 1 + text[: text.index("{")].count("\n"), _sound(value, 1, text)


def _some(value: dict[str, Any]) -> str:
    """The first keys of an object."""
    return ", ".join([*islice(value, _SHOWN), *(["…"] if len(value) > _SHOWN else [])])


def _are_nested(value: dict[str, Any]) -> bool:
    """Whether an object has only lists or objects, without a list of objects that may be rows."""
    lists = sum(_are_objects(each) for each in value.values())
    return lists != 1 and all(isinstance(each, list | dict) for each in value.values())


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _lines(file: Iterable[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file, 1):
        if line.isspace():
            continue
        try:
            yield number, _sound(_DECODER.decode(line), number, line)
        except (ValueError, RecursionError) as error:
            if values := _several(line):
                for value in values:
                    yield number, _sound(value, number, line)
                continue
            message = f"is not JSON ({error}); write one JSON object per line"
            yield number, Fault(number, "not-json", message)


def _several(line: str) -> list[Any]:
    """Objects of a line that follow each other; empty if there is something else."""
    values, position = [], 0
    try:
        while (begin := _BETWEEN.match(line, position).end()) < len(line):  # type: ignore[union-attr]
            value, position = _DECODER.raw_decode(line, begin)
            values.append(value)
    except (ValueError, RecursionError):
        return []
    return values if all(isinstance(value, dict) for value in values) else []


def _values(file: TextIO, path: Path) -> Iterator[tuple[int, Any]]:
    """Values of arrays, and objects outside them, each with the number of its first line."""
    buffer, position, line, inside = file.read(_BLOCK), 0, 1, False
    while True:
        begin = _BETWEEN.match(buffer, position).end()  # type: ignore[union-attr]
        line += buffer.count("\n", position, begin)
        mark, position = buffer[begin : begin + 1], begin
        if not mark and not inside:
            buffer, position = file.read(_BLOCK), 0
            if not buffer:
                return
        elif mark in "[]" and mark and inside == (mark == "]"):
            inside, position = not inside, begin + 1
        elif not inside and mark != "{":
            raise DataError(
                f"{path}: row {line}: extra data after the array ({buffer[begin : begin + 20]!r}); "
                "remove it, or write one JSON object per line"
            )
        else:
            try:
                value, position = _DECODER.raw_decode(buffer, begin)
            except (ValueError, RecursionError) as error:
                damaged = isinstance(error, DuplicateKeyError) or len(buffer) > _LONGEST_OBJECT
                block = "" if damaged else file.read(_BLOCK)
                if not block:
                    raise DataError(
                        f"{path}: row {line}: the array cannot be read from here on ({error}); "
                        "correct it, or write one JSON object per line"
                    ) from None
                buffer, position = buffer[begin:] + block, 0
                continue
            yield line, _sound(value, line, buffer[begin:position])
            line += buffer.count("\n", begin, position)


_DECODER = json.JSONDecoder(object_pairs_hook=with_unique_keys)


def _sound(value: Any, number: int, source: str) -> Any:
    """The value, or a fault if its escapes are half of a surrogate pair."""
    if _HALF_SURROGATE.search(source):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            return Fault(number, "not-json", f"is not valid Unicode ({error}); correct its escapes")
    return value
