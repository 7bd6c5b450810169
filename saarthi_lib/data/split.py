"""Cut the splits that the user did not give from the training table, reproducibly."""

import numpy as np
import pandas as pd

from saarthi_lib.errors import DataError


def cut(table: pd.DataFrame, fraction: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut a share of the rows, stratified by language and, where there is one, by label.

    Args:
        table: the rows to cut from.
        fraction: the share to cut, 0 to 1; a group too small for it keeps all of its rows.
        seed: the same seed cuts the same rows.

    Returns:
        The rows that stay and the rows that were cut, both in their old order.

    Raises:
        DataError: there are too few rows to cut any.
    """
    generator = np.random.default_rng(seed)
    keys = [column for column in ("lang", "label") if column in table]
    # Rows with the same text go together, or the test would hold text that was trained on.
    distinct = table.drop_duplicates("text")
    chosen: list[int] = []
    # A group gets its share by accumulated rounding, so that many small groups still fill it.
    owed = 0.0
    for _, positions in sorted(distinct.groupby(keys, sort=True).indices.items(), key=str):
        owed += fraction * len(positions)
        take = min(int(owed), len(positions) - 1)
        chosen += generator.permutation(positions)[:take].tolist()
        owed -= take
    if not chosen:
        raise DataError(
            f"{len(table)} training rows are too few to cut a split from; "
            "give the split as a file of its own"
        )
    mask = table["text"].isin(distinct["text"].iloc[chosen])
    return table[~mask].reset_index(drop=True), table[mask].reset_index(drop=True)
