"""Raw rows of a file of any format, and samples of its tables.

Every reader streams, and so reads files of any size in bounded memory.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from saarthi_lib.data.formats.cells import BadCellError, check_tags, is_literal, list_of
from saarthi_lib.data.formats.columns import (
    REJECTED,
    Columns,
    Fault,
    MissingColumnError,
    Places,
    RawRow,
    Record,
    find_columns,
    locate,
    other_tags,
)
from saarthi_lib.data.formats.conll import conll_layout, read_conll, read_conllu
from saarthi_lib.data.formats.delimited import delimited_records, find_dialect
from saarthi_lib.data.formats.encoding import not_utf8
from saarthi_lib.data.formats.json_rows import json_records
from saarthi_lib.data.formats.layout import Layout
from saarthi_lib.data.formats.names import class_names, name_of
from saarthi_lib.data.formats.parquet import parquet_records
from saarthi_lib.data.formats.spreadsheet import spreadsheet_records
from saarthi_lib.errors import DataError

TABLES = ("csv", "tsv", "jsonl", "parquet", "xlsx")  # formats with named columns
NAMED = 100  # first rows whose unread columns are named
Cells = dict[str, list[Any]]  # values of the rows by column


class Sample(NamedTuple):
    """Cells of a table, and whether they are those of all rows."""

    cells: Cells
    whole: bool


def raw_rows(
    path: Path, format: str, columns: Columns, layout: Layout | None = None
) -> Iterator[RawRow]:
    """Read a file of a known format (one that `recognize` returns).

    Args:
        path: the file.
        format: its format.
        columns: columns to read.
        layout: layout of a CoNLL file, if known.

    Raises:
        DataError: the file is not UTF-8, is not of the format, or lacks a column.
    """
    from saarthi_lib.data.exports.reading import Reading
    from saarthi_lib.data.exports.registry import EXPORTS, export_rows

    with _utf8(path):
        if format in EXPORTS:
            yield from export_rows(path, format, Reading(columns))
        elif format in TABLES:
            yield from _table_rows(path, format, columns)
        elif format == "lines":
            with path.open(encoding="utf-8-sig") as file:
                for number, line in enumerate(file, 1):
                    if not line.isspace():
                        yield RawRow(number, line.strip())
        elif format == "conllu":
            yield from read_conllu(path, columns)
        else:
            yield from read_conll(path, columns, layout or conll_layout(path, columns))


def layout_of_tags(path: Path, columns: Columns) -> Layout:
    """Layout of a CoNLL file; see `conll_layout`."""
    with _utf8(path):
        return conll_layout(path, columns)


def whole_rows(path: Path, format: str, columns: Columns) -> Iterator[Record]:
    """Rows of a table with all its columns; see `first_cells` for the arguments.

    Raises:
        DataError: the file or a row cannot be read.
    """
    with _utf8(path):
        for record in _records(path, format, columns):
            if isinstance(record, Fault):
                raise DataError(f"{path}: row {record.row}: {record.message}")
            yield record


def has_rows(path: Path, format: str) -> bool:
    """Whether a file of a format that `recognize` returns has a row, apart from a header.

    Raises:
        DataError: the file cannot be read.
    """
    found: Iterator[object] = (
        _records(path, format, Columns())
        if format in TABLES
        else raw_rows(path, format, Columns(labelled=False))
    )
    with _utf8(path):
        return next(found, None) is not None


def first_cells(path: Path, format: str, rows: int, columns: Columns) -> Cells:
    """Cells of the first rows of a table.

    Args:
        path: file of one of the formats `TABLES`.
        format: format of the file.
        rows: most rows to read.
        columns: names given by the user; they help to find the delimiter.

    Raises:
        DataError: the file cannot be read.
    """
    with _utf8(path):
        return _by_column([*islice(_named(path, format, columns), rows)])


def spread_cells(path: Path, format: str, rows: int, columns: Columns) -> Sample:
    """Cells of random rows of a whole table, the same ones each time; see `first_cells`."""
    choose = random.Random(0)
    kept: list[tuple[int, dict[str, Any]]] = []
    number = -1
    with _utf8(path):
        for number, row in enumerate(_named(path, format, columns)):
            if number < rows:
                kept.append((number, row))
            elif (place := int(choose.random() * (number + 1))) < rows:
                kept[place] = (number, row)
    kept.sort(key=lambda pair: pair[0])
    return Sample(_by_column([row for _, row in kept]), number < rows)


def unread_columns(path: Path, format: str, columns: Columns) -> list[str]:
    """Names of the columns in the first rows of a table that are not read; see `first_cells`."""
    names: dict[str, None] = {}
    used: set[str] = set()
    with _utf8(path):
        for record in islice(_records(path, format, columns) if format in TABLES else (), NAMED):
            if isinstance(record, Record):
                at = find_columns(columns, record.names)
                read = at if columns.labelled else at._replace(label=-1, tags=-1)
                places = {*read, _answer_at(record.names) if columns.labelled else -1} - {-1}
                used.update(record.names[place] for place in places)
                names |= dict.fromkeys(record.names)
    return [str(name).strip() or "(without a name)" for name in names if name not in used]


def _records(
    path: Path, format: str, columns: Columns, *, chosen: bool = False
) -> Iterator[Record | Fault]:
    """Rows of a table; with `chosen`, Parquet files are read in the given columns only."""
    if format == "jsonl":
        return json_records(path)
    if format == "xlsx":
        return spreadsheet_records(path)
    if format == "parquet":
        return parquet_records(path, columns if chosen else None)
    usual = "\t" if format == "tsv" else ","
    return delimited_records(path, find_dialect(path, columns, usual))


def _named(path: Path, format: str, columns: Columns) -> Iterator[dict[str, Any]]:
    for record in _records(path, format, columns):
        if isinstance(record, Record):
            yield dict(zip(record.names, record.values, strict=True))


def _by_column(rows: list[dict[str, Any]]) -> Cells:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _table_rows(path: Path, format: str, columns: Columns) -> Iterator[RawRow]:
    names: tuple[str, ...] | None = None
    classes = class_names(path, format)
    told = False  # whether the names of classes were reported
    may_reject = format == "jsonl" and columns.labelled
    for record in _records(path, format, columns, chosen=True):
        if isinstance(record, Fault):
            yield RawRow(record.row, faults=(record,))
            continue
        if record.names is not names:
            try:
                at = locate(columns, record.names)
            except MissingColumnError as error:
                if format != "jsonl":
                    message = f"{path}: row 1: {error} (row 1 must name the columns)"
                    raise DataError(message) from None
                yield RawRow(record.row, faults=(Fault(record.row, error.kind, str(error)),))
                continue
            names = record.names
        values = [*record.values, None]  # value of missing columns, at position -1
        row = RawRow(record.row, *map(values.__getitem__, at))
        if record.notes:
            row = row._replace(notes=record.notes)
        if columns.entities and not row.tags and (other := _entities_elsewhere(record, columns)):
            message = f"has entities in '{other}', which is not the column that is read; "
            message += f"set {columns.tags_field}, or remove one of the columns"
            row = row._replace(faults=(Fault(record.row, "bad-entity", message),))
        if may_reject and _is_rejected(record):
            message = "an annotator rejected or ignored the row ('answer')"
            row = row._replace(faults=(Fault(record.row, REJECTED, message),))
        if classes:
            named = _with_names(row, at, names, classes)
            if named is not row and not told:
                told = True
                message = "classes are numbers, read by their names in the data set's description"
                named = named._replace(notes=(*row.notes, Fault(row.row, "class-names", message)))
            row = named
        if isinstance(row.words, str) or isinstance(row.tags, str):
            row = _with_lists(row, detecting=columns.sequence and columns.entities is None)
        yield row


def _with_lists(row: RawRow, detecting: bool) -> RawRow:
    """A row whose words and tags are lists, if they are written as text.

    If the task is not known yet (`detecting`), text of another length than the words is not tags.
    """
    try:
        words, tags = list_of(row.words), list_of(row.tags)
        count = len(words if isinstance(words, list) else str(row.text).split())
        if detecting and not is_literal(str(row.tags)) and tags and len(tags) != count:
            tags = None
        elif isinstance(row.tags, str):
            check_tags(tags)
    except BadCellError as error:
        return row._replace(faults=(Fault(row.row, "bad-words", str(error)),))
    return row._replace(words=words, tags=tags)


def _with_names(
    row: RawRow, at: Places, names: tuple[str, ...], classes: Mapping[str, Sequence[str]]
) -> RawRow:
    """A row with the names of its numbered label and tags."""
    label, tags = (
        classes.get(names[place]) if place >= 0 else None for place in (at.label, at.tags)
    )
    try:
        if tags and isinstance(row.tags, list) and row.tags and _is_number(row.tags[0]):
            row = row._replace(tags=[name_of(tags, tag) for tag in row.tags])
        if label and _is_number(row.label):
            row = row._replace(label=name_of(label, row.label))
    except (BadCellError, TypeError) as error:
        return row._replace(faults=(Fault(row.row, "bad-words", str(error)),))
    return row


def _entities_elsewhere(record: Record, columns: Columns) -> str:
    """Name of another usual column of tags that holds entities with offsets; "" for none."""
    if columns.tags:
        return ""
    for place in other_tags(columns, record.names):
        value = record.values[place]
        if isinstance(value, list) and value and isinstance(value[0], dict | list):
            return str(record.names[place])
    return ""


def _is_rejected(record: Record) -> bool:
    """Whether an annotator rejected or ignored a row, in the form of Prodigy."""
    at = _answer_at(record.names)
    return at >= 0 and record.values[at] in ("reject", "ignore")


@lru_cache(maxsize=1024)
def _answer_at(names: tuple[str, ...]) -> int:
    """Position of the answers of annotators; -1: missing."""
    form = {"spans", "label", "accept", "options", "_input_hash", "_task_hash"}
    return names.index("answer") if "answer" in names and form & {*names} else -1


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@contextmanager
def _utf8(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(not_utf8(path)) from error
