"""Two columns of one kind in a table, such as `label` and `intent`: use one if it is certain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

from saarthi_lib.data.formats.cells import BadCellError, label_of, list_of
from saarthi_lib.data.formats.columns import (
    LABEL_COLUMNS,
    LANGUAGE_COLUMNS,
    TEXT_COLUMNS,
    WORD_COLUMNS,
    Columns,
    plain_name,
    usual_tags,
)
from saarthi_lib.data.formats.rows import TABLES, Cells, first_cells, spread_cells
from saarthi_lib.errors import DataError
from saarthi_lib.logs import get_logger
from saarthi_lib.text.language_names import language_name

logger = get_logger("data")

FIRST = 200  # rows whose columns are named
SPREAD = 3_000  # rows that are compared
_LISTS = ("words", "tags")  # not fields of one value; the first column is read, if all are alike
_SHOWN = 30  # characters of a value in a message
_language = lru_cache(1024)(language_name)


class RivalError(DataError):
    """Two columns of one kind hold different values."""


@dataclass(frozen=True)
class Choice:
    """The column to read, of several of one kind; and why."""

    column: str
    others: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return f"'{self.column}' is read, and {' and '.join(self.others)} not ({self.reason})"


def settled(path: Path, kind: str, columns: Columns) -> Columns:
    """The columns, with names for those that several columns would do for.

    Args:
        path: the file.
        kind: its format.
        columns: columns to read.

    Raises:
        RivalError: both columns vary, and differ.
        DataError: the file cannot be read.
    """
    if kind not in TABLES or not rivals(columns, [*first_cells(path, kind, FIRST, columns)]):
        return columns
    chosen = choose(path, spread_cells(path, kind, SPREAD, columns).cells, columns)
    for field, choice in chosen.items():
        logger.info("%s: the column %s; set %s to correct", path.name, choice, field)
    given = {field: choice.column for field, choice in chosen.items()}
    return replace(
        columns,
        text=given.get("text_column", columns.text),
        label=given.get("label_column", columns.label),
        language=given.get("language_column", columns.language),
    )


def rivals(columns: Columns, names: Sequence[str]) -> dict[str, list[str]]:
    """Columns with usual names by field, if a field is not given and has several."""
    usual: dict[str, Sequence[str]] = {"words": WORD_COLUMNS}
    if not columns.text:
        usual["text_column"] = TEXT_COLUMNS
    if columns.sequence and not columns.label:
        usual["label_column"] = LABEL_COLUMNS
    if not columns.language:
        usual["language_column"] = LANGUAGE_COLUMNS
    if columns.entities is not None and not columns.tags:
        usual["tags"] = usual_tags(columns, names)
    found = {
        field: sorted(
            (name for name in names if plain_name(name) in wanted),
            key=lambda name, wanted=wanted: wanted.index(plain_name(name)),  # type: ignore[misc]
        )
        for field, wanted in usual.items()
    }
    return {field: each for field, each in found.items() if len(each) > 1}


def choose(path: Path, cells: Cells, columns: Columns) -> dict[str, Choice]:
    """The certain column of each field that has several.

    Raises:
        RivalError: two columns vary, and differ.
    """
    chosen = {}
    for field, names in rivals(columns, [*cells]).items():
        values = {name: [_value(field, cell) for cell in cells[name]] for name in names}
        remedy = f"set {columns.tags_field if field == 'tags' else field} to one of them"
        _check_pairs(path, "remove one" if field == "words" else remedy, field, values)
        if choice := _choice(field, values):
            chosen[field] = choice
    return chosen


def _check_pairs(path: Path, remedy: str, field: str, values: Mapping[str, list[str]]) -> None:
    """Raise a RivalError if two columns vary, and differ in a row that has both."""
    varying = [name for name in values if field in _LISTS or len({*values[name]} - {""}) > 1]
    for first, other in combinations(varying, 2):
        for a, b in zip(values[first], values[other], strict=True):
            if not (a and b) or a == b or (field in _LISTS and a.count(" ") != b.count(" ")):
                continue
            raise RivalError(
                f"{path}: the columns '{first}' and '{other}' hold different values ('{_shown(a)}' "
                f"and '{_shown(b)}' in one row); {remedy}"
            )


def _choice(field: str, values: Mapping[str, list[str]]) -> Choice | None:
    """The column to read; None if no row has both, or if the first column is read anyway."""
    kinds = {name: {*each} - {""} for name, each in values.items()}
    names = [name for name in values if kinds[name]]
    first = next(iter(values))
    if field in _LISTS or not names or names == [first]:
        return None
    if len(names) == 1:
        reason = f"empty, or not a {field.removesuffix('_column')}"
        return Choice(names[0], tuple(name for name in values if name != names[0]), reason)
    if not any(sum(map(bool, row)) > 1 for row in zip(*values.values(), strict=True)):
        return None
    varying = [name for name in names if len(kinds[name]) > 1]
    column = max(varying or names, key=lambda name: sum(map(bool, values[name])))  # the fullest
    others = tuple(name for name in names if name != column)
    odd = next((name for name in others if len(kinds[name]) == 1 != len(kinds[column])), "")
    reason = f"always '{_shown(next(iter(kinds[odd])))}'" if odd else "the same values"
    return Choice(column, others, reason)


def _value(field: str, cell: Any) -> str:
    """A cell as text to compare; "" if it is empty or of another kind."""
    try:
        if field in _LISTS:
            found = list_of(cell) if " " in str(cell) else cell
            plain = isinstance(found, list) and all(isinstance(each, str | int) for each in found)
            return " ".join(map(str, found)) if plain else ""
        if field == "label_column":
            return label_of(cell)
    except BadCellError:
        return ""
    if not isinstance(cell, str) or not cell.strip():
        return ""
    if field == "language_column":
        return _language(cell)
    return "" if cell.strip().isdecimal() else cell.strip()


def _shown(value: str) -> str:
    return value if len(value) <= _SHOWN else f"{value[: _SHOWN - 3]}..."
