"""Tables of texts: all columns of their rows, in parts of bounded size."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saarthi_lib.addresses import absent
from saarthi_lib.data.expansion import ParquetReader
from saarthi_lib.data.formats import Columns, Fault, raw_rows, recognize
from saarthi_lib.data.formats.cells import BadCellError, list_of
from saarthi_lib.data.formats.columns import MissingColumnError, Places, Record, locate
from saarthi_lib.data.formats.rivals import settled
from saarthi_lib.data.formats.rows import TABLES, whole_rows
from saarthi_lib.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 10_000  # of a part
LINES = "lines"  # format of files with a text in each line


@dataclass(frozen=True)
class Part:
    """Some rows of a table.

    Attributes:
        path: the table's file.
        names: names of the columns of each row.
        texts: text of each row, as the file has it; words are joined by spaces.
        langs: language of each row, as the file has it; None without one.
        numbers: number of each row, as in errors.
        cells: cells of each row, unless the file is Parquet.
        notes: remarks on how rows were read.
        batch: the rows in Arrow, if the file is Parquet.
    """

    path: Path
    names: Sequence[tuple[str, ...]]
    texts: Sequence[Any]
    langs: Sequence[str | None]
    numbers: Sequence[int]
    cells: Sequence[Sequence[Any]] = ()
    notes: Sequence[Fault] = ()
    batch: "pa.RecordBatch | None" = None

    def values(self) -> Sequence[Sequence[Any]]:
        """Cells of each row.

        Raises:
            DataError: a column of a Parquet file has values that Python cannot hold.
        """
        if self.batch is None:
            return self.cells
        columns = [
            _values(self.path, name, column)
            for name, column in zip(self.names[0], self.batch.columns, strict=True)
        ]
        return [*zip(*columns, strict=True)]


@dataclass(frozen=True)
class TextTable:
    """A file with a text in each row.

    Attributes:
        path: the file.
        columns: names that the user gives.
        kind: format of the file.
    """

    path: Path
    columns: Columns
    kind: str

    @classmethod
    def of(cls, path: Path, named: Mapping[str, str], format: str) -> "TextTable":
        """Recognize the format of a file.

        Args:
            path: the file.
            named: names of its columns, by field of the configuration.
            format: its format; "auto": detect it by content.

        Raises:
            DataError: the file is missing, is not a table of texts, or has two different ones.
        """
        require_file(path)
        text, language = (named.get(f"{kind}_column", "") for kind in ("text", "language"))
        columns = Columns(text=text, language=language, labelled=False)
        kind = recognize(path, columns, format)
        if kind.startswith("conll"):
            raise DataError(
                f"{path}: CoNLL has a word in each line, not a text in each row; give the texts as "
                "CSV, JSON lines, Parquet or plain lines"
            )
        if kind not in (*TABLES, LINES):
            raise DataError(
                f"{path}: an export of {kind} is not a table of texts; convert it first: "
                f"saarthi convert {shlex.quote(str(path))} {shlex.quote(path.stem)}"
            )
        return cls(path, settled(path, kind, columns), kind)

    def parts(self) -> Iterator[Part]:
        """All rows of the file.

        Raises:
            DataError: the file or a row cannot be read, or a row lacks a column of text.
        """
        if self.kind == "parquet":
            yield from self._batches()
            return
        if self.kind == LINES:
            rows = self._lines()
        else:
            rows = whole_rows(self.path, self.kind, self.columns)
        while some := list(islice(rows, ROWS)):
            texts = [self._text(row) for row in some]
            langs = [_lang(row.values, self._place(row.row, row.names)) for row in some]
            numbers, names, cells, notes = zip(*some, strict=True)
            remarks = [*chain.from_iterable(notes)]
            yield Part(self.path, names, texts, langs, numbers, cells, remarks)

    def _text(self, row: Record) -> Any:
        try:
            return _text(row.values, self._place(row.row, row.names))
        except BadCellError as error:
            raise DataError(f"{self.path}: row {row.row}: {error}") from None

    def _lines(self) -> Iterator[Record]:
        names = ("text",)
        for row in raw_rows(self.path, LINES, self.columns):
            yield Record(row.row, names, (row.text,))

    def _batches(self) -> Iterator[Part]:
        import pyarrow

        first = 1
        try:
            with ParquetReader(self.path) as file:
                names = file.names
                at = self._place(1, names)
                for batch in file.batches(rows=ROWS):
                    numbers = range(first, first + len(batch))
                    rows, near = _rows(self.path, names, at, batch)
                    texts = [_text(row, near) for row in rows]
                    langs = [_lang(row, near) for row in rows]
                    every = [names] * len(batch)
                    yield Part(self.path, every, texts, langs, numbers, batch=batch)
                    first += len(batch)
        except (pyarrow.ArrowException, OSError) as error:
            message = f"{self.path}: cannot be read as Parquet ({error}); write it again"
            raise DataError(message) from None

    def _place(self, row: int, names: tuple[str, ...]) -> Places:
        try:
            return locate(self.columns, names)
        except MissingColumnError as error:
            at = row if self.kind == "jsonl" else 1  # of the header
            raise DataError(f"{self.path}: row {at}: {error}") from None


def require_file(path: Path) -> None:
    """Check that a path is a file.

    Raises:
        DataError: it is a folder, or does not exist.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give a file in it")
    if not path.is_file():
        raise DataError(f"{path}: {absent(path)}")


def _text(values: Sequence[Any], at: Places) -> Any:
    """Text of a row; words are joined by spaces.

    Raises:
        BadCellError: the words are a damaged list.
    """
    text = values[at.text] if at.text >= 0 else None
    if text is None and at.words >= 0:
        words = list_of(values[at.words])
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return " ".join(words)
    return text


def _lang(values: Sequence[Any], at: Places) -> str | None:
    """Language of a row; None if its cell is missing, empty or not a text."""
    lang = values[at.language] if at.language >= 0 else None
    return lang if isinstance(lang, str) and lang.strip() else None


def _rows(
    path: Path, names: Sequence[str], at: Places, batch: "pa.RecordBatch"
) -> tuple[list[tuple[Any, ...]], Places]:
    """Texts, words and languages of a batch, row by row, and their places in these rows."""
    found = {
        place: _values(path, names[place], batch.column(place))
        for place in (at.text, at.words, at.language)
        if place >= 0
    }
    kept = {-1: -1} | dict(zip(found, range(len(found)), strict=True))
    near = at._replace(text=kept[at.text], words=kept[at.words], language=kept[at.language])
    return [*zip(*found.values(), strict=True)], near


def _values(path: Path, name: str, column: Any) -> list[Any]:
    import pyarrow

    try:
        return list(column.to_pylist())
    except (pyarrow.ArrowException, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: the column '{name}' cannot be written as text ({error}); give an --output "
            "with the extension .parquet, or leave the column out"
        ) from None
