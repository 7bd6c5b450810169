"""Which pieces of a vocabulary are of the same languages and matters as those of a text."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saarthi_lib.errors import TeacherError

_RIDGE = 1e-3  # for each row; ten or a hundred times less keep about the same pieces


def most_alike(
    table: NDArray[np.floating], used: Sequence[int], others: Sequence[int]
) -> list[int]:
    """Sort pieces by how much their rows of the table are like those of the used ones.

    Pieces of a language, and of a subject, lie on one side of a multilingual table. A linear
    classifier of used against other pieces finds that side, and the others that lie farthest to it
    come first.

    Args:
        table: a teacher's embeddings, [vocabulary, width], by its tokenizer's ids.
        used: ids of the pieces of a text.
        others: ids of other pieces, in the order that they have where nothing tells them apart.

    Returns:
        The others, the most alike first.

    Raises:
        TeacherError: the table is another tokenizer's.
    """
    if not used or not others:
        return list(others)
    if max(*used, *others) >= len(table):
        raise TeacherError(
            f"the teacher's tokenizer has the piece {max(*used, *others)}, but its table of "
            f"embeddings has {len(table)} rows: take both from the same teacher"
        )
    from sklearn.linear_model import RidgeClassifier

    rows = table[[*used, *others]].astype(np.float32)
    rows -= rows.mean(axis=0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    is_used = np.arange(len(rows)) < len(used)
    classifier = RidgeClassifier(alpha=_RIDGE * len(rows), class_weight="balanced")
    scores = classifier.fit(rows, is_used).decision_function(rows[len(used) :])
    # Rounded, so that the order does not hang on a machine's arithmetic.
    order = np.argsort(-scores.round(3), kind="stable")
    return [others[place] for place in order]
