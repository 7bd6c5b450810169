"""Read Parquet."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

from saarthi_lib.data.expansion import ParquetReader
from saarthi_lib.data.formats.columns import Columns, MissingColumnError, Record, locate
from saarthi_lib.errors import DataError


def parquet_records(path: Path, columns: Columns | None) -> Iterator[Record]:
    """Rows of a Parquet file, numbered from 1.

    Args:
        path: the file.
        columns: columns to read; None: all.

    Raises:
        DataError: the file is not valid Parquet, lacks a column, or expands to too much.
    """
    import pyarrow

    numbers = count(1)
    try:
        with ParquetReader(path) as file:
            names = file.names
            if columns:
                names = tuple(names[at] for at in sorted({*locate(columns, names)}) if at >= 0)
            for batch in file.batches(names):
                for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield Record(next(numbers), names, values)
    except MissingColumnError as error:
        raise DataError(f"{path}: {error}") from None
    except (pyarrow.ArrowException, OSError) as error:
        message = f"{path}: cannot be read as Parquet ({error}); write it again"
        raise DataError(message) from None
