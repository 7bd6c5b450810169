"""Rank the tokens of a vocabulary by similarity to the tokens of a text."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saarthi_lib.errors import TeacherError

_RIDGE = 1e-3  # per row; a tenth or a hundredth of it keeps about the same tokens


def most_alike(
    table: NDArray[np.floating], used: Sequence[int], others: Sequence[int]
) -> list[int]:
    """Sort tokens by the similarity of their embeddings to those of the used tokens.

    Tokens of one language or subject lie on one side of a multilingual table. A linear classifier
    of used and other tokens finds this side; the other tokens are sorted by its score.

    Args:
        table: a teacher's embeddings, [vocabulary, width], by its tokenizer's ids.
        used: ids of the tokens of a text.
        others: ids of other tokens; equal scores keep their order.

    Returns:
        The others, most similar first.

    Raises:
        TeacherError: the table belongs to another tokenizer.
    """
    if not used or not others:
        return list(others)
    require_rows(table, max(*used, *others))
    from sklearn.linear_model import RidgeClassifier

    rows = table[[*used, *others]].astype(np.float32)
    rows -= rows.mean(axis=0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    is_used = np.arange(len(rows)) < len(used)
    classifier = RidgeClassifier(alpha=_RIDGE * len(rows), class_weight="balanced")
    scores = classifier.fit(rows, is_used).decision_function(rows[len(used) :])
    # Rounding keeps the order independent of the machine's arithmetic.
    order = np.argsort(-scores.round(3), kind="stable")
    return [others[place] for place in order]


def require_rows(table: NDArray[np.floating], largest: int) -> None:
    """Raise a TeacherError if the table lacks the row of the tokenizer's largest id."""
    if largest >= len(table):
        raise TeacherError(
            f"the teacher's tokenizer has the token {largest}, but its table of embeddings has "
            f"{len(table)} rows: take both from the same teacher"
        )
