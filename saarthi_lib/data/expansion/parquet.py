"""Read Parquet files within a limit on their unpacked size."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from saarthi_lib.addresses import is_utf8
from saarthi_lib.data.expansion.arrow import TypeOfValuesError, expanded
from saarthi_lib.data.expansion.budget import OF_VALUE, Budget
from saarthi_lib.data.expansion.pages import (
    DELTA_BYTE_ARRAY,
    PageError,
    Pages,
    longest_value,
    read_pages,
)
from saarthi_lib.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

ROWS, _ROWS_OF_TABLE = 2**13, 2**20
_AT_ONCE = 64 << 20  # bytes that may be decoded without a further look
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}


class ParquetReader:
    """An open Parquet file.

    Args:
        path: the file.

    Attributes:
        schema: schema of the file.
        names: names of the columns.
        rows: number of rows, as the file's footer gives it.

    Raises:
        DataError: the file is not valid Parquet.
    """

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        self._path = path
        self._closing = ExitStack()
        with self._errors():
            self._budget = Budget(path)
            self._file = self._closing.enter_context(parquet.ParquetFile(self._source()))
        self.schema: pa.Schema = self._file.schema_arrow
        self.names: tuple[str, ...] = tuple(self.schema.names)
        self.rows: int = self._file.metadata.num_rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.close()

    def _source(self) -> "Path | BinaryIO":
        """The path, or the open file where Arrow cannot use the path: one that is not UTF-8."""
        if is_utf8(self._path):
            return self._path
        return self._closing.enter_context(self._path.open("rb"))

    def batches(
        self, columns: Sequence[str] | None = None, rows: int = ROWS
    ) -> Iterator["pa.RecordBatch"]:
        """Rows of the file.

        Args:
            columns: names of the columns to read; None: all.
            rows: most rows in a batch.

        Raises:
            DataError: the file is damaged, or expands to more than its limit.
        """
        from pyarrow import parquet

        with self._errors():
            shared, rows = self._plan(columns, rows)
            file = self._file
            if shared:
                file = parquet.ParquetFile(self._source(), read_dictionary=shared)
                self._closing.enter_context(file)
                if any(not _is_shared(each.type) for each in _leaves(file, shared)):
                    raise PageError("values of this length in a column of this type")
            for batch in file.iter_batches(rows, columns=columns):
                # Indices of a dictionary are small, but their values may be long.
                indices = [each for each in batch.columns if "dictionary<" in str(each.type)]
                self._budget.spend(batch.nbytes)
                self._budget.spend(expanded(indices, self._budget.limit))
                yield self._plain(batch) if shared else batch

    def table(self, columns: Sequence[str] | None = None) -> "pa.Table":
        """Read the whole file; see `batches`."""
        import pyarrow as pa

        batches = list(self.batches(columns, _ROWS_OF_TABLE))
        if not batches:
            with self._errors():
                return self._file.schema_arrow.empty_table().select(columns or self.names)
        return pa.Table.from_batches(batches)

    def _plan(self, columns: Sequence[str] | None, rows: int) -> tuple[list[str], int]:
        """Columns to read as indices of a dictionary, and rows of a batch.

        The sizes in the page headers are counted first.
        """
        metadata, shared = self._file.metadata, set()
        budget = Budget(self._path)
        with self._path.open("rb") as opened:
            for group in range(metadata.num_row_groups):
                for at in range(metadata.num_columns):
                    column = self._file.schema.column(at)
                    if columns is not None and not _is_of(column.path, columns):
                        continue
                    chunk = metadata.row_group(group).column(at)
                    pages = _pages(opened.fileno(), chunk)
                    text = chunk.physical_type == "BYTE_ARRAY"
                    width = _WIDTHS.get(chunk.physical_type, 4 if text else column.length)
                    budget.spend(pages.values * max(OF_VALUE, width) + sum(pages.sizes))
                    if text and pages.by_dictionary:
                        budget.spend(pages.dictionary[2] if pages.dictionary else 0)
                        if self._is_long(opened.fileno(), chunk, pages):
                            shared.add(column.path)
                    if text and DELTA_BYTE_ARRAY in pages.encodings:
                        longest = max(pages.sizes)
                        if column.max_repetition_level and pages.values * longest > budget.limit:
                            raise DataError(
                                f"{self._path}: the lists of the column '{column.path}' may expand "
                                "to any size; write them without the encoding DELTA_BYTE_ARRAY"
                            )
                        rows = min(rows, max(1, _AT_ONCE // max(1, longest)))
        return sorted(shared), rows

    def _is_long(self, descriptor: int, chunk: Any, pages: Pages) -> bool:
        """Whether the values of a chunk, written out, may be long."""
        import pyarrow as pa

        if pages.dictionary is None:
            return False
        at, packed, unpacked, values = pages.dictionary
        if pages.by_dictionary * max(0, unpacked - 4 * values) <= _AT_ONCE:
            return False
        content = os.pread(descriptor, packed, at)
        if chunk.compression == "LZ4":  # in Hadoop's form, which Arrow's codec does not read
            return True
        if chunk.compression != "UNCOMPRESSED":
            codec = chunk.compression.lower()
            content = pa.decompress(content, unpacked, codec=codec, asbytes=True)
        return pages.by_dictionary * longest_value(content) > _AT_ONCE

    def _plain(self, batch: "pa.RecordBatch") -> "pa.RecordBatch":
        """A batch with its values written out."""
        import pyarrow as pa

        schema = pa.schema([self.schema.field(name) for name in batch.schema.names])
        arrays = [
            array if array.type == field.type else array.cast(field.type)
            for array, field in zip(batch.columns, schema, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema.with_metadata(self.schema.metadata))

    def _errors(self) -> "_Errors":
        return _Errors(self._path)


class _Errors:
    """Converts errors of Arrow into a `DataError` that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        import pyarrow

        if isinstance(error, pyarrow.ArrowException | OSError | PageError | TypeOfValuesError):
            message = f"{self._path}: cannot be read as Parquet ({error}); write it again"
            raise DataError(message) from None


def _is_of(path: str, columns: Sequence[str]) -> bool:
    """Whether a column of values belongs to one of the columns, perhaps as part of its lists."""
    return any(path == name or path.startswith(f"{name}.") for name in columns)


def _pages(descriptor: int, chunk: Any) -> Pages:
    if chunk.num_values <= 0:  # nothing is read then
        return Pages()
    start, first = chunk.data_page_offset, chunk.dictionary_page_offset
    if chunk.has_dictionary_page and first and 0 < first < start:
        start = first
    pages = read_pages(descriptor, start, chunk.total_compressed_size)
    if pages.values < chunk.num_values:
        raise PageError("its pages have fewer values than its footer gives")
    return pages


def _leaves(file: Any, paths: Sequence[str]) -> Iterator["pa.Field"]:
    """The columns that hold these columns of values."""
    for field in file.schema_arrow:
        if any(_is_of(path, [field.name]) for path in paths):
            yield field


def _is_shared(kind: "pa.DataType") -> bool:
    """Whether the values of a column, or of its lists, are indices of a dictionary."""
    from pyarrow import types

    while types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
    return bool(types.is_dictionary(kind))
