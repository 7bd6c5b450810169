"""Read CSV and TSV."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from saarthi_lib.data.formats.columns import Columns, Fault, MissingColumnError, Record, locate
from saarthi_lib.errors import DataError

DELIMITERS = (",", ";", "\t")
_SAMPLE_BYTES = 2**16


def delimited_records(path: Path, delimiter: str) -> Iterator[Record | Fault]:
    """Rows of a delimited file; a row's number is that of its last line.

    A wrong quote invalidates its row.

    Raises:
        DataError: a quote is not closed, or row 1 has a wrong quote.
    """
    names: tuple[str, ...] | None = None
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        while True:
            before = lines.line_num
            try:
                cells = next(lines, None)
            except csv.Error as error:
                first, last = before + 1, lines.line_num
                if last > first:
                    raise DataError(
                        f"{path}: rows {first} to {last}: a quote is not closed ({error}); correct "
                        "the quotes"
                    ) from None
                message = f"cannot be read ({error}); correct its quotes"
                if names is None:
                    raise DataError(f"{path}: row {last}: {message}") from None
                yield Fault(last, "wrong-cells", message)
                continue
            if cells is None:
                return
            if names is None:
                names = tuple(cells)
            elif len(cells) == len(names):
                yield Record(lines.line_num, names, cells)
            elif cells:
                message = (
                    f"has {len(cells)} cells where row 1 has {len(names)}; put a text that holds "
                    "a separator in double quotes"
                )
                yield Fault(lines.line_num, "wrong-cells", message)


def first_lines(path: Path) -> str:
    """The first whole lines of a file."""
    with path.open("rb") as file:
        content = file.read(_SAMPLE_BYTES)
    if len(content) == _SAMPLE_BYTES:
        content = content[: content.rfind(b"\n") + 1] or content
    return content.decode("utf-8-sig", errors="replace")


def find_delimiter(sample: str, columns: Columns, usual: str) -> str:
    """The delimiter that gives the header a known name, and most rows the header's width."""

    def merits(delimiter: str) -> tuple[bool, float, bool, bool]:
        rows = _rows(sample, delimiter)
        width = len(rows[0]) if rows else 0
        fit = sum(len(row) == width for row in rows) / max(len(rows), 1)
        return _is_header(rows, columns), fit, width > 1, delimiter == usual

    return max(DELIMITERS, key=merits)


def has_header(sample: str, columns: Columns) -> bool:
    """Whether the first row names a column of text, with any delimiter."""
    return any(_is_header(_rows(sample, mark), columns) for mark in DELIMITERS)


def _is_header(rows: list[list[str]], columns: Columns) -> bool:
    try:
        locate(Columns(text=columns.text), tuple(rows[0] if rows else ()))
    except MissingColumnError:
        return False
    return True


def _rows(sample: str, delimiter: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(io.StringIO(sample), delimiter=delimiter) if row]
    except csv.Error:
        return []
