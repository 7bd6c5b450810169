"""Read labelled text of several formats into one table.

The table (pandas, pyarrow types) has one row per text: `file` and `row` (its origin), `text`
(normalized) and `lang`. Tasks with a sequence head add `label`; `group_column` adds `group`. Tasks
with a token head add `words`, `starts`, `ends` (character offsets in the text) and `tags` to
labelled rows. Part-of-speech tagging keeps the words of the file. Entity recognition uses the words
that the service splits, and cuts a word where an entity begins or ends inside it. Unusable rows are
listed, counted and left out.
"""

from saarthi_lib.data.read.files import SplitFile, find_splits, lies_in_data
from saarthi_lib.data.read.problems import Problem
from saarthi_lib.data.read.table import read_chunks, read_table

__all__ = [
    "Problem",
    "SplitFile",
    "find_splits",
    "lies_in_data",
    "read_chunks",
    "read_table",
]
