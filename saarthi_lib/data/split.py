"""Cut the splits that the user did not give from the training table, and keep a few shots of it.

The same seed gives the same rows on every machine.
"""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.errors import DataError
from saarthi_lib.tasks import OUTSIDE, bio_spans, has_sequence_head, has_token_head, uses_bio


def cut(table: pd.DataFrame, fraction: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut a share of the rows, stratified by language and, where there is one, by label.

    Rows with the same text, and rows of the same `group` where the table has that column, go
    together: the test would hold text that was trained on otherwise.

    Args:
        table: the rows to cut from.
        fraction: the share to cut, 0 to 1; a stratum too small for it keeps all of its rows.
        seed: the same seed cuts the same rows.

    Returns:
        The rows that stay and the rows that were cut, both in their old order.

    Raises:
        DataError: there are too few rows to cut any.
    """
    generator = np.random.default_rng(seed)
    units = _units(table)
    first = np.unique(units, return_index=True)[1]  # a row that stands for each unit
    chosen: list[int] = []
    # A stratum gets its share by accumulated rounding, so that many small ones still fill it.
    owed = 0.0
    strata = _strata(table.iloc[first])
    for rows in strata:
        owed += fraction * len(rows)
        take = min(int(owed), len(rows) - 1)
        chosen += generator.permutation(rows)[:take].tolist()
        owed -= take
    largest = max(strata, key=len, default=first[:0])
    if not chosen and owed > 1 - 1e-9 and len(largest) > 1:  # owed by strata of one row
        chosen = generator.permutation(largest)[:1].tolist()
    if not chosen:
        raise DataError(
            f"{len(table)} training rows are too few to cut a split from; "
            "give the split as a file of its own"
        )
    mask = np.isin(units, units[first[chosen]])
    return table[~mask].reset_index(drop=True), table[mask].reset_index(drop=True)


def few_shot(table: pd.DataFrame, count: int, task: str, seed: int) -> pd.DataFrame:
    """Keep `count` rows of each label in each language, in their old order.

    For tasks that only tag words: rows are taken, those with the rarest tags first, until each
    entity type (each tag, for parts of speech) stands in `count` rows of its language or in all
    that there are (N-way K-shot sampling: Ding et al. 2021, "Few-NERD", arXiv 2105.07464,
    algorithm 1).
    """
    generator = np.random.default_rng(seed)
    if has_sequence_head(task):
        chosen = [
            row for rows in _strata(table) for row in generator.permutation(rows)[:count].tolist()
        ]
    else:
        chosen = [
            row
            for rows in _strata(table)
            for row in _covering(table, generator.permutation(rows), count, task)
        ]
    return table.iloc[sorted(chosen)].reset_index(drop=True)


def trial_rows(table: pd.DataFrame, task: str, most: int, seed: int) -> pd.DataFrame:
    """Choose rows for a trial: each label, language and kind of tag once, then rows at random.

    Args:
        table: rows of one split.
        task: its task, which says whether rows have a label, tags or both.
        most: number of rows to choose; more only if the labels and tags need more.
        seed: the same seed chooses the same rows.

    Returns:
        The rows in their old order; the whole table if it has at most `most` rows.
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
    """The rows of each language (and label), in a fixed order of the strata."""
    keys = [column for column in ("lang", "label") if column in table]
    by_key = table.groupby(keys, sort=True).indices
    ordered = sorted(by_key.items(), key=lambda item: str(item[0]))
    return [np.asarray(rows, dtype=np.int64) for _, rows in ordered]


def _units(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """A number for each row; rows that must stay together have the same one."""
    texts = pd.factorize(table["text"])[0].astype(np.int64)
    if "group" not in table:
        return texts
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups = pd.factorize(table["group"], use_na_sentinel=True)[0].astype(np.int64)
    known = groups >= 0
    # Texts and groups are the two sides of a graph with an edge a row.
    first_group = int(texts.max()) + 1
    size = first_group + int(groups.max()) + 1
    edges = (np.ones(int(known.sum())), (texts[known], groups[known] + first_group))
    parts = connected_components(coo_array(edges, shape=(size, size)), directed=False)[1]
    return np.asarray(parts, dtype=np.int64)[texts]


def _covering(table: pd.DataFrame, rows: npt.NDArray[np.int64], count: int, task: str) -> list[int]:
    """Rows, in the order given, such that each kind of tag is in `count` of them."""
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
