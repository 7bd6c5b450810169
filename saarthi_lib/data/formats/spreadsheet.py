"""Read Excel workbooks, if openpyxl is installed."""

import importlib
from collections.abc import Iterator, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any

from saarthi_lib.data.formats.cells import number_name
from saarthi_lib.data.formats.columns import Fault, Record
from saarthi_lib.errors import DataError


def spreadsheet_records(path: Path) -> Iterator[Record | Fault]:
    """Rows of the only sheet with rows, as text; row 1 names the columns.

    Raises:
        DataError: openpyxl is missing, the file is not a workbook, or several sheets have rows.
    """
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ImportError:
        raise DataError(
            f"{path}: .xlsx files need the package openpyxl; install it, or save the sheet as CSV"
        ) from None
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl passes on those of zip and XML
        message = f"{path}: cannot be read as a workbook ({error}); save it again, or as CSV"
        raise DataError(message) from None
    try:
        sheets = [sheet for sheet in book.worksheets if _has_cells(sheet)]
        if len(sheets) > 1:
            listed = ", ".join(sheet.title for sheet in sheets)
            raise DataError(f"{path}: several sheets have rows ({listed}); keep one")
        for sheet in sheets:
            yield from _rows(sheet.iter_rows(values_only=True))
    finally:
        book.close()


def _has_cells(sheet: Any) -> bool:
    rows = sheet.iter_rows(values_only=True)
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
