"""Let every label with a few rows occur in each split that is cut from train.

Rows that stay together (one text, or one group) form a unit. A label, entity type or tag is
*frequent* if it has at least three rows in train.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array

from saarthi_lib.tasks import OUTSIDE, has_sequence_head, has_token_head, uses_bio

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

LEAST_ROWS = 3  # of a label that occurs in train, validation and test
_MOST_TRIED = 1_000  # units that are considered for a label


@dataclass(frozen=True)
class Uncovered:
    """Frequent names that a split lacks.

    Attributes:
        split: split that was cut from train.
        together: names whose rows are fewer than three units.
        others: names without room in the fraction, or with the group of another name.
    """

    split: str
    together: list[str]
    others: list[str]


class Names:
    """Labels, entity types and tags of a table, and the rows that contain them."""

    def __init__(self, table: pd.DataFrame, task: str) -> None:
        self.names: list[str] = []
        rows: list[IntArray] = []
        numbers: list[IntArray] = []
        if has_sequence_head(task):
            codes, labels = pd.factorize(table["label"], sort=True)
            self.names += [f"label {label}" for label in labels]
            rows.append(np.arange(len(table)))
            numbers.append(codes.astype(np.int64))
        if has_token_head(task):
            row_of_tag, codes, kinds = _tags(table, task)
            numbers.append(codes + len(self.names))
            self.names += kinds
            rows.append(row_of_tag)
        self._rows, self._numbers = np.concatenate(rows), np.concatenate(numbers)

    def by_unit(self, units: IntArray) -> Any:
        """Sparse matrix of units and names; each value is 1."""
        shape = (int(units.max(initial=-1)) + 1, len(self.names))
        places = (units[self._rows], self._numbers)
        matrix = coo_array((np.ones(len(self._rows), np.int64), places), shape=shape).tocsr()
        matrix.data[:] = 1
        return matrix

    def frequent(self) -> list[str]:
        """Names with at least three rows."""
        counts = self.by_unit(np.arange(int(self._rows.max(initial=-1)) + 1)).sum(axis=0)
        return [self.names[number] for number in np.flatnonzero(counts >= LEAST_ROWS)]


def _tags(table: pd.DataFrame, task: str) -> tuple[IntArray, IntArray, list[str]]:
    """Row and number of each tag, apart from O of entities; and names by number."""
    tags = pa.Table.from_pandas(table[["tags"]], preserve_index=False)["tags"]
    row_of_tag = np.repeat(np.arange(len(table)), pc.list_value_length(tags).to_numpy())
    flat = pc.list_flatten(tags).combine_chunks().dictionary_encode()
    written = flat.dictionary.to_pylist()
    codes = flat.indices.to_numpy().astype(np.int64)
    if not uses_bio(task):
        return row_of_tag, codes, [f"tag {tag}" for tag in written]
    kinds = sorted({tag[2:] for tag in written if tag != OUTSIDE})
    number = {kind: at for at, kind in enumerate(kinds)}
    kind_of = np.array([-1 if tag == OUTSIDE else number[tag[2:]] for tag in written], np.int64)
    codes = kind_of[codes] if len(kind_of) else codes
    inside = codes >= 0
    return row_of_tag[inside], codes[inside], [f"entity type {kind}" for kind in kinds]


def uncovered(
    train: pd.DataFrame,
    names: Names,
    splits: Mapping[str, pd.DataFrame],
    task: str,
    units_of: Callable[[pd.DataFrame], IntArray],
) -> list[Uncovered]:
    """Frequent names that splits lack.

    Args:
        train: train before the splits were cut.
        names: names of train.
        splits: splits that were cut.
        task: the task.
        units_of: gives the unit of each row.
    """
    found = []
    frequent = {*names.frequent()}
    for split, table in splits.items():
        if lacking := sorted(frequent - {*Names(table, task).names}):
            units = names.by_unit(units_of(train)).sum(axis=0)
            few = {
                name for name, count in zip(names.names, units, strict=True) if count < LEAST_ROWS
            }
            together = [name for name in lacking if name in few]
            others = [name for name in lacking if name not in few]
            found.append(Uncovered(split, together, others))
    return found


class Cover:
    """Which units of train are cut.

    Args:
        units: unit of each row.
        names: names of the rows.
        wanted: names that must occur in the cut units and in those that stay.
        reserve: units with each wanted name that must stay, for train and later splits.
    """

    def __init__(self, units: IntArray, names: Names, wanted: Iterable[str], reserve: int) -> None:
        self._has = names.by_unit(units)
        self._units_with = self._has.tocsc()
        self._sizes = np.bincount(units)
        total = np.asarray(self._has.sum(axis=0), np.int64)
        wanted = {*wanted}
        is_wanted = np.array([name in wanted for name in names.names], bool)
        self._wanted = is_wanted & (total > reserve)
        # Of other names one unit stays: train must know every name.
        self._stay = np.where(self._wanted, reserve, 1)
        self._left, self._out = total.copy(), np.zeros_like(total)
        self._chosen = np.zeros(len(self._sizes), bool)

    def choose(
        self, chosen: Iterable[int], most: int | None, generator: np.random.Generator
    ) -> BoolArray:
        """Change a choice of units so that wanted names are on both sides.

        Args:
            chosen: units that are cut, such as a stratified share.
            most: most units to cut; None: as many as the names need.
            generator: chooses among units that are equally good.

        Returns:
            Whether each unit is cut.
        """
        for unit in chosen:
            self._move(unit, 1)
        for name in np.flatnonzero(self._left < self._stay).tolist():
            while self._left[name] < self._stay[name]:
                self._move(self._most_spare(self._with(name, chosen=True)), -1)
        added = []
        lacking = np.flatnonzero(self._wanted & (self._out == 0))
        for name in lacking[np.argsort(self._left[lacking], kind="stable")].tolist():
            if not self._out[name]:
                added += self._add(name, generator)
        while most is not None and self._chosen.sum() > most:
            spare = self._most_spare(np.flatnonzero(self._chosen), least=2)
            self._move(added.pop() if spare < 0 else spare, -1)
            added = [unit for unit in added if unit != spare]
        return self._chosen

    def _add(self, name: int, generator: np.random.Generator) -> list[int]:
        """Cut the smallest unit with a name that takes no name below its reserve."""
        units = generator.permutation(self._with(name, chosen=False))[:_MOST_TRIED]
        scarce = (self._left <= self._stay).astype(np.int64)
        free = units[self._has[units] @ scarce == 0]
        if not free.size:
            return []
        unit = int(free[np.argmin(self._sizes[free])])
        self._move(unit, 1)
        return [unit]

    def _with(self, name: int, *, chosen: bool) -> IntArray:
        start, end = self._units_with.indptr[name : name + 2]
        units = self._units_with.indices[start:end]
        return np.asarray(units[self._chosen[units] == chosen], np.int64)

    def _most_spare(self, units: IntArray, least: int = 0) -> int:
        """The cut unit whose rarest wanted name is the most frequent; -1: below `least`."""
        count = np.where(self._wanted, self._out, np.iinfo(np.int64).max)
        part = self._has[units]
        rarest = np.full(len(units), np.iinfo(np.int64).max)
        filled = np.flatnonzero(np.diff(part.indptr))
        if filled.size:
            rarest[filled] = np.minimum.reduceat(count[part.indices], part.indptr[filled])
        best = int(np.argmax(rarest))
        return int(units[best]) if rarest[best] >= least else -1

    def _move(self, unit: int, to_cut: int) -> None:
        start, end = self._has.indptr[unit : unit + 2]
        names = self._has.indices[start:end]
        self._out[names] += to_cut
        self._left[names] -= to_cut
        self._chosen[unit] = to_cut > 0
