"""Cut missing splits from the training table, and draw few-shot and trial rows.

The same seed selects the same rows on every machine.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.data.cover import Cover, Names
from saarthi_lib.errors import DataError
from saarthi_lib.tasks import OUTSIDE, bio_spans, has_sequence_head, has_token_head, uses_bio

# A short CoNLL file without blank lines is read as one sentence.
_ONE_SENTENCE = ", or put a blank line after each sentence if a CoNLL file holds several sentences"


@dataclass(frozen=True)
class Share:
    """Share of train that a split gets.

    Attributes:
        fraction: share of the units, 0 to 1.
        is_limit: whether labels that need more rows get none.
        later: number of splits that are cut afterwards.
    """

    fraction: float
    is_limit: bool = False
    later: int = 0


def cut(
    table: pd.DataFrame, share: Share, task: str, seed: int, wanted: Iterable[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut a share of the rows, stratified by language and, if available, by label.

    Rows with the same text, or with the same value in a `group` column, stay together. Otherwise
    training text would leak into test. Every label, entity type and tag stays in train.

    Args:
        table: rows to cut from.
        share: share to cut; a stratum that is too small keeps all of its rows.
        task: task; determines whether rows have a label, tags or both.
        seed: seed of the selection.
        wanted: names (see `Names`) that must occur in both parts, if units and share allow it.

    Returns:
        The remaining rows and the cut rows, both in their original order.

    Raises:
        DataError: the table has too few rows to cut.
    """
    mask = chosen_rows(table, share, task, seed, wanted)
    if not mask.any():
        one_sentence = len(table) == 1 and has_token_head(task)
        raise DataError(
            f"{len(table)} training rows are too few to cut a "
            "split from; give the split as a file of its own"
            f"{_ONE_SENTENCE if one_sentence else ''}"
        )
    return table[~mask].reset_index(drop=True), table[mask].reset_index(drop=True)


def chosen_rows(
    table: pd.DataFrame, share: Share, task: str, seed: int, wanted: Iterable[str] = ()
) -> npt.NDArray[np.bool_]:
    """Whether `cut` takes each row; the arguments are the same."""
    generator = np.random.default_rng(seed)
    units = units_of(table)
    first = np.unique(units, return_index=True)[1]  # the first row represents its unit
    chosen: list[int] = []
    # Accumulate rounding errors across strata, so that many small strata still give their share.
    owed = 0.0
    strata = _strata(table.iloc[first])
    for rows in strata:
        owed += share.fraction * len(rows)
        take = min(int(owed), len(rows) - 1)
        chosen += generator.permutation(rows)[:take].tolist()
        owed -= take
    largest = max(strata, key=len, default=first[:0])
    if not chosen and owed > 1 - 1e-9 and len(largest) > 1:  # strata of one row cannot give any
        chosen = generator.permutation(largest)[:1].tolist()
    most = int(share.fraction * len(first) + 1e-9) if share.is_limit else None
    cover = Cover(units, Names(table, task), wanted, reserve=1 + share.later)
    return cover.choose(chosen, most, generator)[units]


def few_shot(table: pd.DataFrame, count: int, task: str, seed: int) -> pd.DataFrame:
    """Keep `count` rows of each label in each language, in their original order.

    For tasks with only tags, rows are drawn until each entity type (each tag, for parts of speech)
    occurs in `count` rows of its language, or in all rows that contain it. The rarest types come
    first. (N-way K-shot sampling: Ding et al. 2021, "Few-NERD", arXiv 2105.07464, algorithm 1.)
    """
    generator = np.random.default_rng(seed)
    chosen: list[int] = []
    for rows in _strata(table):
        shuffled = generator.permutation(rows)
        if has_sequence_head(task):
            chosen += shuffled[:count].tolist()
        else:
            chosen += _covering(table, shuffled, count, task)
    return table.iloc[sorted(chosen)].reset_index(drop=True)


def trial_rows(table: pd.DataFrame, task: str, most: int, seed: int) -> pd.DataFrame:
    """Choose rows for a trial: each label, language and kind of tag once, then rows at random.

    Args:
        table: rows of one split.
        task: task; determines whether rows have a label, tags or both.
        most: number of rows to choose; labels and tags may need more.
        seed: seed of the selection.

    Returns:
        The rows in their original order; the whole table if it has at most `most` rows.
    """
    if len(table) <= most:
        return table
    order = np.random.default_rng(seed).permutation(len(table))
    chosen: set[int] = set()
    for column in ("label", "lang"):
        if column in table:
            first = np.unique(pd.factorize(table[column].iloc[order])[0], return_index=True)[1]
            chosen.update(order[first].tolist())
    if has_token_head(task):
        chosen.update(_covering(table, order, 1, task))
    for row in order.tolist():
        if len(chosen) >= most:
            break
        chosen.add(row)
    return table.iloc[sorted(chosen)].reset_index(drop=True)


def _strata(table: pd.DataFrame) -> list[npt.NDArray[np.int64]]:
    """Rows of each language (and label); the order of strata is fixed."""
    keys = [column for column in ("lang", "label") if column in table]
    by_key = table.groupby(keys, sort=True).indices
    ordered = sorted(by_key.items(), key=lambda item: str(item[0]))
    return [np.asarray(rows, dtype=np.int64) for _, rows in ordered]


def units_of(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Unit number of each row; rows that must stay together share a number."""
    texts = pd.factorize(table["text"])[0].astype(np.int64)
    if "group" not in table:
        return texts
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups = pd.factorize(table["group"], use_na_sentinel=True)[0].astype(np.int64)
    known = groups >= 0
    # A bipartite graph of texts and groups with one edge per row; its components are the units.
    first_group = int(texts.max()) + 1
    size = first_group + int(groups.max()) + 1
    edges = (np.ones(int(known.sum())), (texts[known], groups[known] + first_group))
    parts = connected_components(coo_array(edges, shape=(size, size)), directed=False)[1]
    return np.asarray(parts, dtype=np.int64)[texts]


def _covering(table: pd.DataFrame, rows: npt.NDArray[np.int64], count: int, task: str) -> list[int]:
    """Choose rows, in the order of `rows`, until `count` of them contain each kind of tag."""
    tags = zip(rows.tolist(), table["tags"].iloc[rows], strict=True)
    kinds = {row: _kinds(each, task) for row, each in tags}
    total = Counter(kind for found in kinds.values() for kind in found)
    have: Counter[str] = Counter()
    chosen: set[int] = set()
    for kind in sorted(total, key=lambda name: (total[name], name)):
        for row, found in kinds.items():
            if have[kind] >= count:
                break
            if kind in found and row not in chosen:
                chosen.add(row)
                have.update(found)
    return sorted(chosen)


def _kinds(tags: list[str], task: str) -> set[str]:
    if uses_bio(task):
        return {label for _, _, label in bio_spans(list(tags))} or {OUTSIDE}
    return set(tags)
