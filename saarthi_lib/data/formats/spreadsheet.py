"""Read Excel workbooks, if openpyxl is installed."""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, time
from itertools import count
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from saarthi_lib.data.expansion import Budget
from saarthi_lib.data.formats.cells import number_name
from saarthi_lib.data.formats.columns import Fault, Record
from saarthi_lib.errors import DataError

_ROWS = 1 << 20  # of a sheet, as in Excel
_ROW_BYTES = 32  # that any row takes, even an empty one
# Bytes of memory for each byte of a part: openpyxl makes an object of each element of styles and of
# the list of sheets, and a string of each shared text. Sheets are read row by row.
_STYLES, _OTHERS, _SHEETS = 64, 8, 1
_CELLS = 200_000_000


def spreadsheet_records(path: Path) -> Iterator[Record | Fault]:
    """Rows of the only sheet with rows, as text; row 1 names the columns.

    Raises:
        DataError: openpyxl is missing, the file is not a workbook, or several sheets have rows, or
            it expands to too much.
    """
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ImportError:
        raise DataError(
            f"{path}: .xlsx files need the package openpyxl; install it, or save the sheet as CSV"
        ) from None
    budget = Budget(path)
    try:
        with ZipFile(path) as archive:
            budget.spend(
                sum(_weight(entry.filename) * entry.file_size for entry in archive.infolist())
            )
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except DataError:
        raise
    except Exception as error:  # openpyxl passes on those of zip and XML
        message = f"{path}: cannot be read as a workbook ({error}); save it again, or as CSV"
        raise DataError(message) from None
    try:
        budget = Budget(path)  # of the rows of all sheets
        sheets = [sheet for sheet in book.worksheets if _has_cells(_limited(sheet, path, budget))]
        if len(sheets) > 1:
            listed = ", ".join(sheet.title for sheet in sheets)
            raise DataError(f"{path}: several sheets have rows ({listed}); keep one")
        for sheet in sheets:
            yield from _rows(_counted(_limited(sheet, path, Budget(path)), Budget(path)))
    finally:
        book.close()


def _weight(name: str) -> int:
    if name in ("xl/styles.xml", "xl/workbook.xml"):
        return _STYLES
    return _SHEETS if name.startswith("xl/worksheets/") else _OTHERS


def _limited(sheet: Any, path: Path, budget: Budget) -> Iterator[Sequence[Any]]:
    """Rows of a sheet; its file can number them as it likes, and missing ones are made up."""
    rows = sheet.iter_rows(values_only=True)
    for number in count(1):
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # openpyxl passes on those of zip and XML, and has others
            message = f"{path}: row {number}: cannot be read ({error}); save it again, or as CSV"
            raise DataError(message) from None
        budget.spend(_ROW_BYTES)
        if number > _ROWS or number * len(row) > _CELLS:
            raise DataError(
                f"{path}: the sheet {sheet.title!r} has more than {_ROWS} rows or {_CELLS} cells; "
                "delete empty ones, or save it as CSV"
            )
        yield row


def _counted(rows: Iterable[Sequence[Any]], budget: Budget) -> Iterator[Sequence[Any]]:
    """Rows whose texts are counted: many cells can refer to one long text."""
    for row in rows:
        budget.spend(sum(len(cell) for cell in row if isinstance(cell, str)))
        yield row


def _has_cells(rows: Iterable[Sequence[Any]]) -> bool:
    return any(value is not None for row in rows for value in row)


def _rows(rows: Iterator[Sequence[Any]]) -> Iterator[Record | Fault]:
    names: tuple[str, ...] | None = None
    for number, row in enumerate(rows, 1):
        cells = [_text(value) for value in row]
        while cells and cells[-1] is None:
            cells.pop()
        if not cells:
            continue
        if names is None:
            names = tuple(cell or "" for cell in cells)
        elif len(cells) > len(names):
            message = f"has {len(cells)} cells where row 1 has {len(names)}; name each column"
            yield Fault(number, "wrong-cells", message)
        else:
            yield Record(number, names, [*cells, *[None] * (len(names) - len(cells))])


def _text(value: Any) -> str | None:
    """Text of a cell, as in CSV."""
    if value is None or isinstance(value, str):
        return value
    return value.isoformat() if isinstance(value, date | time) else number_name(value)
