"""Raw rows of a file of any format, and samples of its tables.

Every reader streams, and so reads files of any size in bounded memory.
"""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from saarthi_lib.data.formats.columns import (
    Columns,
    Fault,
    MissingColumnError,
    RawRow,
    Record,
    locate,
)
from saarthi_lib.data.formats.conll import read_conll
from saarthi_lib.data.formats.delimited import delimited_records, find_delimiter, first_lines
from saarthi_lib.data.formats.json_rows import json_records
from saarthi_lib.data.formats.parquet import parquet_records
from saarthi_lib.errors import DataError

TABLES = ("csv", "tsv", "jsonl", "parquet")  # formats with named columns
Cells = dict[str, list[Any]]  # values of the rows by column


class Sample(NamedTuple):
    """Cells of a table, and whether they are those of all rows."""

    cells: Cells
    whole: bool


def raw_rows(path: Path, format: str, columns: Columns) -> Iterator[RawRow]:
    """Read a file of a known format (one that `recognize` returns).

    Raises:
        DataError: the file is not UTF-8, is not of the format, or lacks a column.
    """
    with _utf8(path):
        if format in TABLES:
            yield from _table_rows(path, format, columns)
        elif format == "lines":
            with path.open(encoding="utf-8-sig") as file:
                for number, line in enumerate(file, 1):
                    if not line.isspace():
                        yield RawRow(number, line.strip())
        else:
            yield from read_conll(path, columns, universal=format == "conllu")


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


def _records(
    path: Path, format: str, columns: Columns, *, chosen: bool = False
) -> Iterator[Record | Fault]:
    """Rows of a table; with `chosen`, Parquet files are read in the given columns only."""
    if format == "jsonl":
        return json_records(path)
    if format == "parquet":
        return parquet_records(path, columns if chosen else None)
    usual = "\t" if format == "tsv" else ","
    return delimited_records(path, find_delimiter(first_lines(path), columns, usual))


def _named(path: Path, format: str, columns: Columns) -> Iterator[dict[str, Any]]:
    for record in _records(path, format, columns):
        if isinstance(record, Record):
            yield dict(zip(record.names, record.values, strict=True))


def _by_column(rows: list[dict[str, Any]]) -> Cells:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _table_rows(path: Path, format: str, columns: Columns) -> Iterator[RawRow]:
    names: tuple[str, ...] | None = None
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
        if isinstance(row.words, str) or isinstance(row.tags, str):
            row = row._replace(words=_as_list(row.words), tags=_as_list(row.tags))
        yield row


def _as_list(value: Any) -> Any:
    """A list that is written as text, in JSON or separated by spaces."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.startswith("[") else value.split()
    except (ValueError, RecursionError):
        return value.split()


@contextmanager
def _utf8(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        row = _first_undecodable(path)
        message = f"{path}: row {row}: is not UTF-8; save the file with the encoding UTF-8"
        raise DataError(message) from error


def _first_undecodable(path: Path) -> int:
    """Number of the first line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1
