"""Files of exports: their beginning, JSON documents, and YAML as nodes with line numbers.

The files are untrusted: sizes and depths are limited, and YAML constructs no objects.
"""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from saarthi_lib.data.formats.columns import Fault
from saarthi_lib.data.formats.encoding import not_utf8
from saarthi_lib.data.formats.json_rows import json_records
from saarthi_lib.errors import DataError
from saarthi_lib.json_text import parse_json

MOST_BYTES = 2**29
MOST_DEPTH = 50
YAML = (".yml", ".yaml")
_HEAD = 2**16  # bytes
_LONG_HEAD = 2**24
_TYPES = ("str", "int", "float", "bool", "null", "seq", "map")
_PLAIN_TAGS = (None, "!", *(f"tag:yaml.org,2002:{name}" for name in _TYPES))
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Head:
    """Beginning of a file.

    Attributes:
        path: the file.
    """

    path: Path

    @cached_property
    def suffix(self) -> str:
        return self.path.suffix.lower()

    @cached_property
    def text(self) -> str:
        """The first characters; of YAML and Markdown many more."""
        return self._read(_LONG_HEAD if self.suffix in (*YAML, ".md") else _HEAD)

    @cached_property
    def value(self) -> Any:
        """The document if it is an object; the first value of an array or of JSON lines."""
        text = self.text.lstrip()
        if text[:1] not in ("[", "{"):
            return None
        value = _first_value(text)
        if value is None and len(text) >= _HEAD // 4 and self.path.stat().st_size <= MOST_BYTES:
            value = _first_value(self._read(-1 if text[0] == "{" else _LONG_HEAD).lstrip())
        return value

    @property
    def object(self) -> dict[str, Any]:
        """`value` if it is an object, else an empty one."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def is_array(self) -> bool:
        """Whether the document is an array."""
        return self.text.lstrip()[:1] == "["

    def _read(self, size: int) -> str:
        with self.path.open("rb") as file:
            return file.read(size).decode("utf-8-sig", errors="replace")


def _first_value(text: str) -> Any:
    decode = json.JSONDecoder().raw_decode
    start = re.compile(r"\[\s*").match(text)
    try:
        return decode(text, start.end() if start else 0)[0]
    except (ValueError, RecursionError):
        return None


def load_json(path: Path) -> Any:
    """A JSON document.

    Raises:
        DataError: it is too large, or not JSON.
    """
    _check_size(path)
    try:
        return parse_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except UnicodeDecodeError:
        raise DataError(not_utf8(path)) from None
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); export it again") from None


def json_objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    """Objects of JSON lines or of one array, streamed, each with the number of its first line.

    Raises:
        DataError: an array is damaged.
    """
    for record in json_records(path):
        if isinstance(record, Fault):
            yield record.row, record
        else:
            yield record.row, dict(zip(record.names, record.values, strict=True))


def csv_objects(path: Path, delimiter: str = ",") -> Iterator[tuple[int, dict[str, str] | Fault]]:
    """Rows of a table with a header, each with the number of its last line."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.DictReader(file, delimiter=delimiter, strict=True)
        while True:
            try:
                found = next(lines, None)
            except csv.Error as error:
                message = f"cannot be read ({error}); correct its quotes"
                yield lines.line_num, Fault(lines.line_num, "wrong-cells", message)
                continue
            if found is None:
                return
            row = lines.line_num
            if None in found or None in found.values():
                message = "has more or fewer cells than row 1; correct its separators"
                yield row, Fault(row, "wrong-cells", message)
            else:
                yield row, found


def yaml_nodes(path: Path) -> list[yaml.Node]:
    """The documents of a YAML file, as nodes without constructed objects.

    Raises:
        DataError: the file is too large, not YAML, nested too deeply, has aliases or tags, or a
            key twice.
    """
    _check_size(path)
    content = path.read_bytes()
    try:
        _check_events(content, path)
        found = [node for node in yaml.compose_all(content, Loader=_LOADER) if node is not None]
    except (UnicodeDecodeError, yaml.reader.ReaderError):
        raise DataError(_unreadable(path, content)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"row {mark.line + 1}: " if mark else ""
        what = getattr(error, "problem", None) or "it is damaged"
        message = f"{path}: {place}cannot be read as YAML ({what}); correct it"
        raise DataError(message) from None
    for node in found:
        _check_keys(node, path)
    return found


def _unreadable(path: Path, content: bytes) -> str:
    """Error message for a file with bytes or characters that YAML does not allow."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return not_utf8(path)
    control = re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", content)
    row = content.count(b"\n", 0, control.start()) + 1 if control else 1
    return f"{path}: row {row}: has a control character, which YAML does not allow; remove it"


def _check_keys(node: yaml.Node, path: Path) -> None:
    """Refuse a key that occurs twice in a mapping; the last value would hide the others."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item, path)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if str(key.value) in seen:
                raise DataError(
                    f"{path}: row {row_of(key)}: the key '{key.value}' occurs twice in one "
                    "mapping; put both parts under one key"
                )
            seen.add(str(key.value))
            _check_keys(value, path)


def _check_events(content: bytes, path: Path) -> None:
    """Refuse aliases, tags and deep nesting; few aliases can stand for very many copies."""
    depth = 0
    for event in yaml.parse(content, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            row = _row_of_event(event)
            raise DataError(
                f"{path}: row {row}: the YAML alias *{event.anchor} is not supported; write the "
                "value out"
            )
        tag = getattr(event, "tag", None)
        if tag not in _PLAIN_TAGS:
            row = _row_of_event(event)
            raise DataError(f"{path}: row {row}: the YAML tag {tag} is not supported; remove it")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH:
            row = _row_of_event(event)
            raise DataError(f"{path}: row {row}: is nested more than {MOST_DEPTH} levels deep")


def _row_of_event(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def mapping_of(node: yaml.Node) -> dict[str, yaml.Node]:
    """Keys and values of a mapping; empty for other nodes."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {str(key.value): value for key, value in node.value}


def items_of(node: yaml.Node | None) -> list[yaml.Node]:
    """Items of a sequence; empty for other nodes."""
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def text_of(node: yaml.Node | None) -> str:
    """Text of a scalar as it is written; empty for other nodes and for null."""
    if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
        return ""
    return str(node.value)


def row_of(node: yaml.Node) -> int:
    """Number of a node's first line."""
    return int(node.start_mark.line) + 1


def lines_of(node: yaml.Node) -> list[tuple[int, str]]:
    """Lines of a scalar that are not empty, with their numbers in the file."""
    first = row_of(node) + (1 if getattr(node, "style", None) in ("|", ">") else 0)
    lines = text_of(node).split("\n")
    exact = getattr(node, "style", None) == "|"
    return [
        (first + at if exact else row_of(node), line)
        for at, line in enumerate(lines)
        if line.strip()
    ]


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise DataError(f"{path}: has {size} bytes, more than {MOST_BYTES}; split it")
