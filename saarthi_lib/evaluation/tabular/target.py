"""Write a table with added columns, as CSV, TSV, JSON or Parquet."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from saarthi_lib.errors import DataError
from saarthi_lib.evaluation.tabular.source import Part, TextTable

if TYPE_CHECKING:
    import pyarrow as pa

# Formats of the answered table, by extension.
TARGETS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
TARGETS |= {".parquet": "parquet"}
# Cells to quote. In TSV, as few as possible: many programs read its quotes as plain characters.
_QUOTED = {"csv": re.compile(r'[,"\r\n]'), "tsv": re.compile(r'[\t\r\n]|^"')}
_DELIMITERS = {"csv": ",", "tsv": "\t"}


class Column(NamedTuple):
    """An added column: its values, which may be None, and their type; lists become JSON."""

    values: Sequence[Any]
    type: type = str


Added = Mapping[str, Column]
Write = Callable[[Part, Added], None]


def target_kind(target: Path) -> str:
    """Format of the answered table.

    Raises:
        DataError: the extension is unknown, or the path is a folder.
    """
    kind = TARGETS.get(target.suffix.lower())
    if kind is None:
        raise DataError(f"--output {target}: unknown extension; use one of {', '.join(TARGETS)}")
    if target.is_dir():
        raise DataError(f"--output {target}: is a folder; give the name of a file in it")
    return kind


@contextmanager
def writer(kind: str, aside: Path, table: TextTable) -> Iterator[Write]:
    """Yield a function that appends some rows to a file in a format of `TARGETS`.

    Raises:
        DataError: the format cannot hold a column or a value of the table.
    """
    if kind == "parquet":
        with _parquet(aside, table) as write:
            yield write
        return
    with aside.open("w", encoding="utf-8", newline="") as file:
        if kind in _DELIMITERS:
            yield _delimited(file, kind, table)
        elif kind == "jsonl":
            yield _json(file, "", "\n")
            file.write("\n")
        else:
            yield _json(file, "[\n", ",\n")
            file.write("\n]\n")


# --- text -----------------------------------------------------------------------------------------


def _delimited(file: TextIO, kind: str, table: TextTable) -> Write:
    quoted, delimiter = _QUOTED[kind], _DELIMITERS[kind]
    names = list(_names(table)) if table.kind == "jsonl" else []
    begun = False

    def line(cells: Sequence[str]) -> str:
        return delimiter.join(_quoted(c) if quoted.search(c) else c for c in cells) + "\n"

    def write(part: Part, added: Added) -> None:
        nonlocal begun
        if not begun:
            file.write(line([*(names or part.names[0]), *added]))
            begun = True
        for row, values in enumerate(part.values()):
            if names:
                given = dict(zip(part.names[row], values, strict=True))
                values = [given.get(name) for name in names]
            whole = [*values, *(column.values[row] for column in added.values())]
            try:
                file.write(line([_text(value) for value in whole]))
            except TypeError as error:
                raise _not_text(part, row, error) from None

    return write


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


def _json(file: TextIO, before: str, between: str) -> Write:
    begun = False

    def write(part: Part, added: Added) -> None:
        nonlocal begun
        last: Sequence[str] = ()
        for row, values in enumerate(part.values()):
            names = part.names[row]
            if names is not last:
                last = _distinct(part.path, names)
            whole = dict(zip(names, values, strict=True))
            whole |= {name: column.values[row] for name, column in added.items()}
            try:
                text = _json_text(whole, strict=part.batch is not None)
            except (TypeError, ValueError) as error:
                raise _not_text(part, row, error) from None
            file.write((between if begun else before) + text)
            begun = True

    return write


def _json_text(row: dict[str, Any], strict: bool) -> str:
    """A row as JSON. NaN stays if JSON had it, and is null otherwise (`strict`).

    Raises:
        TypeError: a value has no text.
        ValueError: a number is infinite (`strict`).
    """
    if strict:
        row = {name: None if value != value else value for name, value in row.items()}
    return json.dumps(row, ensure_ascii=False, default=_plain, allow_nan=not strict)


def _text(value: Any) -> str:
    """A cell of a delimited file: pandas reads numbers, dates, true and false from it."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=_plain)
    return _plain(value)


def _plain(value: Any) -> str:
    """Text of a value that JSON lacks.

    Raises:
        TypeError: the value has no text.
    """
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not text")


def _not_text(part: Part, row: int, error: Exception) -> DataError:
    return DataError(
        f"{part.path}: row {part.numbers[row]}: a cell cannot be written as text ({error}); give "
        "an --output with the extension .parquet, or leave the column out"
    )


def _names(table: TextTable) -> dict[str, None]:
    """Names of all columns of JSON rows, which may have different ones."""
    seen = (names for part in table.parts() for names in dict.fromkeys(part.names))
    return dict.fromkeys(chain.from_iterable(seen))


def _distinct(path: Path, names: Sequence[str]) -> Sequence[str]:
    """The names, if they are distinct; JSON and Parquet hold each name once.

    Raises:
        DataError: names the column that occurs twice.
    """
    if len({*names}) < len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise DataError(
            f"{path}: the column '{twice}' occurs twice; rename one, or give an --output with the "
            "extension .csv or .tsv"
        )
    return names


# --- Parquet --------------------------------------------------------------------------------------


@contextmanager
def _parquet(aside: Path, table: TextTable) -> Iterator[Write]:
    import pyarrow as pa
    from pyarrow import parquet

    writers: list[parquet.ParquetWriter] = []
    given = _schema(table) if table.kind == "jsonl" else None

    def write(part: Part, added: Added) -> None:
        columns = {name: _arrow(column) for name, column in added.items()}
        batch = part.batch
        if batch is None:
            names = given.names if given else part.names[0]
            batch = _batch(part, given or pa.schema([(name, pa.string()) for name in names]))
        _distinct(part.path, batch.schema.names)
        schema = batch.schema  # with the metadata of pandas
        for name, column in columns.items():
            schema = schema.append(pa.field(name, column.type))
        if not writers:  # the first part has the schema
            # An open file: Arrow writes only to paths that are UTF-8.
            writers.append(parquet.ParquetWriter(file, schema))
        whole = pa.RecordBatch.from_arrays([*batch.columns, *columns.values()], schema=schema)
        writers[0].write_batch(whole)

    try:
        with aside.open("wb") as file:
            yield write
            for each in writers:
                each.close()
    except (pa.ArrowException, OverflowError) as error:
        raise DataError(
            f"{table.path}: cannot be written as Parquet ({error}); give an --output with the "
            "extension .jsonl or .csv"
        ) from None


def _arrow(column: Column) -> "pa.Array":
    import pyarrow as pa

    kinds = {bool: pa.bool_(), float: pa.float64(), str: pa.string()}
    plain = (_text(value) if isinstance(value, list) else value for value in column.values)
    return pa.array(plain, kinds[column.type])


def _schema(table: TextTable) -> "pa.Schema":
    """Names and types of all columns of JSON rows.

    Raises:
        DataError: a column holds values of several types.
    """
    import pyarrow as pa

    schema = pa.schema([])
    for part in table.parts():
        for name, values in _by_name(part).items():
            try:
                field = pa.schema([(name, pa.array(values).type)])
                schema = pa.unify_schemas([schema, field], promote_options="permissive")
            except (pa.ArrowException, OverflowError) as error:
                raise DataError(
                    f"{part.path}: rows {part.numbers[0]} to {part.numbers[-1]}: the column "
                    f"'{name}' has no common type ({error}); give an --output with the extension "
                    ".jsonl or .csv"
                ) from None
    return schema


def _by_name(part: Part) -> dict[str, list[Any]]:
    rows = [dict(zip(*row, strict=True)) for row in zip(part.names, part.values(), strict=True)]
    names = dict.fromkeys(chain.from_iterable(dict.fromkeys(part.names)))
    return {name: [row.get(name) for row in rows] for name in names}


def _batch(part: Part, schema: "pa.Schema") -> "pa.RecordBatch":
    import pyarrow as pa

    _distinct(part.path, schema.names)
    columns = _by_name(part)
    empty = [None] * len(part.numbers)
    arrays = [pa.array(columns.get(field.name, empty), field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
