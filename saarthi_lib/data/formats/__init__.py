"""Formats of input files: recognize one, and read its raw rows.

`saarthi_lib.data.read` turns raw rows into a table.
"""

from saarthi_lib.data.formats.columns import (
    LABEL_COLUMNS,
    LANGUAGE_COLUMNS,
    TEXT_COLUMNS,
    Columns,
    Fault,
    RawRow,
)
from saarthi_lib.data.formats.recognize import EXTENSIONS, recognize
from saarthi_lib.data.formats.rows import raw_rows

__all__ = [
    "EXTENSIONS",
    "LABEL_COLUMNS",
    "LANGUAGE_COLUMNS",
    "TEXT_COLUMNS",
    "Columns",
    "Fault",
    "RawRow",
    "raw_rows",
    "recognize",
]
