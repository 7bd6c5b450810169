"""Problems of rows: rows that cannot be used, and rows that were repaired."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from saarthi_lib.data.formats import Fault
from saarthi_lib.data.formats.columns import REJECTED
from saarthi_lib.errors import DataError
from saarthi_lib.logs import get_logger

logger = get_logger("data")

_SHOWN = 3  # most problems listed in an error
# Kinds of problems: rows left out (plural name, remedy), and repairs.
LEFT_OUT = {
    "malformed-tag": ("malformed tags", "correct the tags"),
    "malformed-line": ("malformed lines", "give each line a word and a tag"),
    "empty-text": ("empty texts", "fill in the text or delete the row"),
    "empty-label": ("empty labels", "fill in the label or delete the row"),
    "bad-entity": ("entities that cannot be used", "correct the entity's offsets and label"),
    "bad-words": ("words that cannot be used", "give each word of the text one tag"),
    "bad-export": ("rows that cannot be taken over", "correct them in the tool, and export again"),
    "not-json": ("rows that are not JSON", "write one JSON object per line"),
    REJECTED: ("rows that an annotator rejected or ignored", "accept them, or leave them out"),
    "wrong-cells": (
        "rows with wrong cells",
        "put a text that holds a separator in double quotes",
    ),
}
REPAIRED = {
    "widened-entity": "entities begin or end inside a word; each was widened to whole words",
    "split-word": "rows have an entity that begins or ends inside a word; predictions cover whole "
    "words and cannot find it",
    "joined-lines": "rows span several lines, joined by quotation marks",
    "lone-quote": "rows have a cell that begins with a quotation mark, read as text",
    "class-names": "files have numbers for classes, read by their names",
    "whole-number": "files have labels such as 1.0, which are read as 1",
    "missing-name": "labels or languages look like missing values (nan, null), and are kept as "
    "written",
    "missing-group": "rows have no group, and each is a group of its own",
    "header-row": "rows name the columns, and are not read as words",
    "multiword-token": "sentences have words of several parts, each read as its parts",
    "lost-word": "words are removed by normalization; they count as wrong",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A malformed or repaired row.

    Attributes:
        file: file name, relative to the input folder.
        row: line number in a text file (line of the word, for a malformed tag) or row number in a
            Parquet file or in a JSON array of one line; all start at 1.
        kind: a key of `LEFT_OUT` or `REPAIRED`, "unknown-label" or "refused-label".
        message: description of the problem and its fix.
        left_out: whether the row is missing from the table.
        sentence: `row` of the first problem in the same sentence; groups several problems.
    """

    file: str
    row: int
    kind: str
    message: str
    left_out: bool
    sentence: int = 0


class ProblemLog:
    """Collects the problems of a file's rows and reports them once.

    Attributes:
        name: file name, relative to the input folder.
        rows: rows that were read.
        used: rows in the table.
    """

    def __init__(
        self, path: Path, name: str, max_share: float, problems: list[Problem] | None
    ) -> None:
        self.name = name
        self.rows = self.used = 0
        self._path = path
        self._max_share = max_share
        self._problems: list[Problem] = [] if problems is None else problems
        self._first: list[Problem] = []  # rows left out only
        self._first_of: dict[str, Problem] = {}  # the first of each kind
        self._counts: Counter[str] = Counter()

    def add(self, faults: Sequence[Fault], left_out: bool) -> None:
        """Add the faults of one row that is left out, or repairs of any rows."""
        new = [
            Problem(self.name, *fault, left_out, (faults[0] if left_out else fault).row)
            for fault in faults
        ]
        self._problems.extend(new)
        for problem in new:
            self._counts[problem.kind] += 1
            self._first_of.setdefault(problem.kind, problem)
        if left_out:
            self._first.extend(new[: _SHOWN - len(self._first)])

    def finish(self) -> None:
        """Log a warning that counts the rows left out or repaired.

        Raises:
            DataError: too many rows were left out, or the file is empty.
        """
        left_out, rejected = self.rows - self.used, self._counts[REJECTED]
        if not self.used or left_out - rejected > self._max_share * (self.rows - rejected):
            self.fail()
        parts = [
            f"{n} {what} (the first: row {self._first_of[kind].row})"
            for kind, what in REPAIRED.items()
            if (n := self._counts[kind])
        ]
        if left_out:
            first = self._first[0]
            parts.insert(
                0,
                f"{left_out} of {self.rows} rows are left out ({self._kinds()}), the first at row "
                f"{first.row}: {first.message}",
            )
        if parts:
            logger.warning("%s: %s", self.name, "; ".join(parts))

    def fail(self) -> NoReturn:
        """Raise a DataError that lists the first problems and counts all."""
        if not self.rows:
            raise DataError(f"{self._path}: holds no rows; fill it in or remove it")
        first, *others = (f"row {problem.row}: {problem.message}" for problem in self._first)
        also = "".join(f"\n  also {other}" for other in others)
        limit = (
            f", more than max_malformed_share ({self._max_share:g}) allows: correct them or allow "
            "more"
        )
        raise DataError(
            f"{self._path}: {first}. {self.rows - self.used} of {self.rows} rows cannot be used "
            f"({self._kinds()}){limit if self.used else ''}{also}"
        )

    def _kinds(self) -> str:
        counts = ((kind, n) for kind, n in self._counts.most_common() if kind in LEFT_OUT)
        return ", ".join(f"{LEFT_OUT[kind][0]}: {n}" for kind, n in counts)
