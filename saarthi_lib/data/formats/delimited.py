"""Read CSV and TSV."""

import csv
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from saarthi_lib.data.formats.columns import Columns, Fault, Record, find_columns
from saarthi_lib.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
_SAMPLE_BYTES = 2**16
_MOST_LINES = 1_000  # most lines of a quoted cell in TSV
_SEPARATOR_LINE = re.compile(r"\ufeff?\"?sep=([,;|:^~\t])\"?\s*\Z", re.IGNORECASE)
_WRONG = (
    "has {} cells where row 1 has {}; put a text that holds a separator in double quotes, or "
    "correct the separators"
)
_TOO_LONG = (
    f"a cell holds more than {csv.field_size_limit():,} characters; close its quotation mark if it "
    "should end earlier, or split the text"
)

Cells = list[str]


# Number of a row's last line, its cells, notes on it, and its error ("" if it is good).
_Row = tuple[int, Cells, tuple[Fault, ...], str]


class Dialect(NamedTuple):
    """Form of a delimited file.

    Attributes:
        delimiter: separator of the cells.
        trailing: whether rows end in one more separator than the header.
        spaced: whether spaces precede quotes, as in `"a", "b"`.
    """

    delimiter: str
    trailing: bool = False
    spaced: bool = False


def delimited_records(path: Path, dialect: Dialect) -> Iterator[Record | Fault]:
    """Rows of a delimited file; a row's number is that of its last line.

    Raises:
        DataError: a quote is not closed, or row 1 has a wrong quote.
    """
    names: tuple[str, ...] | None = None
    with path.open(encoding="utf-8-sig", newline="") as file:
        start = 0
        if _SEPARATOR_LINE.match(file.readline()):
            start = 1
        else:
            file.seek(0)
        width, trailing = 0, dialect.trailing
        is_tsv = dialect.delimiter == "\t"
        rows = iter(_TabRows(file, start)) if is_tsv else _rows(file, dialect, start, path)
        for last, cells, notes, error in rows:
            if names is None and not (any(cells) or error):
                continue
            if names is None:
                names = _header(path, last, cells, error)
                width = len(names) + trailing
            elif error:
                yield Fault(last, "wrong-cells", error)
            elif width > 1 and cells and _repeats(cells, names):
                yield Fault(last, "wrong-cells", "repeats the names of row 1; remove it")
            elif len(cells) == width and not (trailing and cells[-1]):
                yield Record(last, names, cells[:-1] if trailing else cells, notes)
            elif any(map(str.strip, cells)):  # else a blank row, such as `,,`
                yield Fault(last, "wrong-cells", _WRONG.format(len(cells), len(names)))


def _repeats(cells: Cells, names: tuple[str, ...]) -> bool:
    """Whether a row repeats the header, as in files that were put together."""
    first = cells[0].lstrip("\ufeff") if cells[0][:1] == "\ufeff" else cells[0]
    return first == names[0] and (first, *cells[1 : len(names)]) == names


def _header(path: Path, row: int, cells: Cells, error: str) -> tuple[str, ...]:
    if any("\0" in name for name in cells):
        error = "holds null characters, so it is probably UTF-16; save it with the encoding UTF-8"
    if error:
        raise DataError(f"{path}: row {row}: {error}")
    return tuple(cells)


def first_lines(path: Path) -> str:
    """The first whole lines of a file, without a line that names the separator."""
    with path.open("rb") as file:
        content = file.read(_SAMPLE_BYTES)
    if len(content) == _SAMPLE_BYTES:
        content = content[: content.rfind(b"\n") + 1] or content
    sample = content.decode("utf-8-sig", errors="replace")
    line, _, rest = sample.partition("\n")
    return rest if _SEPARATOR_LINE.match(line) else sample


def find_dialect(path: Path, columns: Columns, usual: str) -> Dialect:
    """The form of a file.

    The delimiter is the one that a first line `sep=;` names, or else the one that gives the header
    a known name, and most rows the header's width.
    """
    with path.open("rb") as file:
        line = file.readline(_SAMPLE_BYTES).decode("utf-8-sig", errors="replace")
    sample = first_lines(path)
    named = _SEPARATOR_LINE.match(line)

    def merits(delimiter: str) -> tuple[bool, float, bool, bool]:
        rows = _sample_rows(sample, delimiter)
        width = len(rows[0]) if rows else 0
        fit = sum(len(row) == width for row in rows) / max(len(rows), 1)
        return _is_header(rows, columns), fit, width > 1, delimiter == usual

    delimiter = named[1] if named else max(DELIMITERS, key=merits)
    header, *rows = _sample_rows(sample, delimiter) or [[""]]
    longer = (len(row) == len(header) + 1 and not row[-1] for row in rows)
    trailing = bool(rows) and all(longer)
    mark = re.escape(delimiter)
    spaced = re.search(rf'{mark} +"(?:[^"]|"")*"(?={mark}|\r?$)', sample, re.MULTILINE)
    return Dialect(delimiter, trailing, bool(spaced))


def has_header(sample: str, columns: Columns) -> bool:
    """Whether the first row names a column of text, with any delimiter."""
    return any(_is_header(_sample_rows(sample, mark), columns) for mark in DELIMITERS)


def _rows(file: Iterable[str], dialect: Dialect, start: int, path: Path) -> Iterator[_Row]:
    """Rows of CSV; a wrong quote invalidates its row."""
    lines = csv.reader(
        file, delimiter=dialect.delimiter, strict=True, skipinitialspace=dialect.spaced
    )
    while True:
        before = lines.line_num
        try:
            cells = next(lines, None)
        except csv.Error as error:
            first, last = start + before + 1, start + lines.line_num
            too_long = _TOO_LONG if "field limit" in str(error) else ""
            if last > first:
                reason = too_long or f"a quote is not closed ({error}); correct the quotes"
                raise DataError(f"{path}: rows {first} to {last}: {reason}") from None
            yield last, [], (), too_long or f"cannot be read ({error}); correct its quotes"
            continue
        if cells is None:
            return
        after = lines.line_num
        notes = () if after == before + 1 else _joined(start + before + 1, start + after)
        yield start + after, cells, notes, ""


def _joined(first: int, last: int) -> tuple[Fault, ...]:
    """Note on a row of several lines."""
    if last <= first:
        return ()
    message = (
        f"rows {first} to {last} are one row, since a quotation mark opens in row {first} and "
        f"closes in row {last}; if it should not, double the marks and put the text in quotes"
    )
    return (Fault(last, "joined-lines", message),)


class _TabRows:
    """Rows of TSV: each line is a row, unless quotes certainly join several lines.

    A quotation mark at the beginning of a cell is part of the text, unless the cell ends in another
    one and those inside are doubled.
    """

    def __init__(self, lines: Iterable[str], start: int) -> None:
        self._lines = iter(lines)
        self._ahead: deque[str] = deque()
        self._number, self._width = start, 0

    def __iter__(self) -> Iterator[_Row]:
        while (line := self._line(0)) is not None:
            self._ahead.popleft()
            self._number += 1
            text = line.rstrip("\r\n")
            if not text or not (self._width or text.strip("\t")):
                continue
            if '"' in text:
                yield self._with_quotes(line, text)
            else:
                cells = text.split("\t")
                self._width = self._width or len(cells)
                yield self._number, cells, (), ""

    def _line(self, index: int) -> str | None:
        """A line that was not taken yet."""
        while len(self._ahead) <= index and (line := next(self._lines, None)) is not None:
            self._ahead.append(line)
        return self._ahead[index] if index < len(self._ahead) else None

    def _with_quotes(self, line: str, text: str) -> _Row:
        cells = text.split("\t")
        first = self._number
        plain = [_unquoted(cell) for cell in cells]
        lone = any(_is_open(cell, own) for cell, own in zip(cells, plain, strict=True))
        if self._width and lone:
            quoted, taken = self._joined_cells(line, text, len(cells) == self._width)
            if quoted:
                for _ in range(taken):
                    self._ahead.popleft()
                self._number += taken
                return self._number, quoted, _joined(first, self._number), ""
        self._width = self._width or len(cells)
        notes: tuple[Fault, ...] = ()
        if lone and len(cells) == self._width:
            message = (
                "a cell begins with a quotation mark that does not enclose it; it is read as text"
            )
            notes = (Fault(first, "lone-quote", message),)
        return first, plain, notes, ""

    def _joined_cells(self, line: str, text: str, fits: bool) -> tuple[Cells | None, int]:
        """Cells if quotes are resolved, and the number of further lines; None if they do not fit.

        Args:
            line: the line with its end.
            text: the line without its end.
            fits: whether the line alone has the header's cells. Then lines after it must not.
        """
        if not fits and len(quoted := _quoted(text) or []) == self._width:
            return quoted, 0
        for index in range(_MOST_LINES):
            following = self._line(index)
            if following is None:
                break
            line += following
            alone = len(following.rstrip("\r\n").split("\t")) == self._width
            if alone and fits:
                break
            if (
                '"' in following
                and len(quoted := _quoted(line.rstrip("\r\n")) or []) == self._width
            ):
                return quoted, index + 1
            if alone:
                break
        return None, 0


def _is_open(cell: str, unquoted: str) -> bool:
    return cell[:1] == '"' and cell == unquoted


def _quoted(text: str) -> Cells | None:
    """Cells of a row of TSV with quotes; None if the quotes are wrong or not closed."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _unquoted(cell: str) -> str:
    """The text of a cell, without quotation marks around it if those inside are doubled."""
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        inner = cell[1:-1]
        if '"' not in inner.replace('""', ""):
            return inner.replace('""', '"')
    return cell


def _is_header(rows: list[Cells], columns: Columns) -> bool:
    at = find_columns(Columns(text=columns.text), rows[0] if rows else ())
    return at.text >= 0 or (at.words >= 0 and not columns.text)


def _sample_rows(sample: str, delimiter: str) -> list[Cells]:
    if delimiter == "\t":
        return [
            cells for _, cells, _, _ in _TabRows(io.StringIO(sample, newline=""), 0) if any(cells)
        ]
    try:
        lines = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
        return [row for row in lines if any(row)]
    except csv.Error:
        return []
