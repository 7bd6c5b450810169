"""Limits on the unpacked size of compressed and encoded files.

A file of a few hundred bytes can describe gigabytes: by compression, by runs of equal values, or by
many references to one long value. Sizes are read from headers before anything is unpacked.
"""

from saarthi_lib.data.expansion.budget import Budget
from saarthi_lib.data.expansion.ipc import arrow_rows
from saarthi_lib.data.expansion.parquet import ParquetReader

__all__ = ["Budget", "ParquetReader", "arrow_rows"]
