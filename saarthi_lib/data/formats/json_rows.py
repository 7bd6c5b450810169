"""Read JSON objects, one per line or in one array."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from saarthi_lib.data.formats.columns import Fault, Record
from saarthi_lib.errors import DataError

_HALF_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_BETWEEN = re.compile(r"[\s,]*")
_BLOCK = 2**20  # characters
_LONGEST_OBJECT = 2**26  # characters


def json_records(path: Path) -> Iterator[Record | Fault]:
    """JSON objects; a row's number is that of its first line.

    Raises:
        DataError: an array is damaged.
    """
    with path.open(encoding="utf-8-sig") as file:
        start = file.read(_BLOCK).lstrip()[:1]
        file.seek(0)
        for number, value in _array(file, path) if start == "[" else _lines(file):
            if isinstance(value, dict):
                yield Record(number, tuple(value), [*value.values()])
            elif isinstance(value, Fault):
                yield value
            else:
                yield Fault(number, "not-json", "is not a JSON object; write one per line")


def _lines(file: Iterable[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file, 1):
        if line.isspace():
            continue
        try:
            yield number, _sound(json.loads(line), number, line)
        except (ValueError, RecursionError) as error:
            message = f"is not JSON ({error}); write one JSON object per line"
            yield number, Fault(number, "not-json", message)


def _array(file: TextIO, path: Path) -> Iterator[tuple[int, Any]]:
    """Values of one JSON array, each with the number of its first line."""
    decode = json.JSONDecoder().raw_decode
    buffer = file.read(_BLOCK)
    position = buffer.index("[") + 1
    line = 1 + buffer.count("\n", 0, position)
    while True:
        begin = _BETWEEN.match(buffer, position).end()  # type: ignore[union-attr]
        line += buffer.count("\n", position, begin)
        if buffer.startswith("]", begin):
            return
        try:
            value, position = decode(buffer, begin)
        except (ValueError, RecursionError) as error:
            block = file.read(_BLOCK)
            if not block or len(buffer) > _LONGEST_OBJECT:
                raise DataError(
                    f"{path}: row {line}: the array cannot be read from here on ({error}); "
                    "correct it, or write one JSON object per line"
                ) from None
            buffer, position = buffer[begin:] + block, 0
            continue
        yield line, _sound(value, line, buffer[begin:position])
        line += buffer.count("\n", begin, position)


def _sound(value: Any, number: int, source: str) -> Any:
    """The value, or a fault if its escapes are half of a surrogate pair."""
    if _HALF_SURROGATE.search(source):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            return Fault(number, "not-json", f"is not valid Unicode ({error}); correct its escapes")
    return value
