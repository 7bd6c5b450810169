"""Pieces on one side of a table are told from those on the other."""

import numpy as np
import pytest

from saarthi_lib.data.alike import most_alike
from saarthi_lib.errors import TeacherError


def test_tokens_on_the_side_of_the_texts_come_first() -> None:
    generator = np.random.default_rng(0)
    table = generator.normal(size=(400, 32)).astype(np.float32)
    side = generator.permutation(400)[:200]
    table[side, 3] += 12
    used = sorted(side[:100].tolist())
    others = sorted({*range(400)} - {*used})
    ranked = most_alike(table, used, others)

    assert sorted(ranked) == others
    assert len({*ranked[:100]} & {*side[100:].tolist()}) >= 99
    assert most_alike(table, used, others) == ranked


def test_equal_embeddings_keep_the_order() -> None:
    table = np.ones((9, 4), np.float32)

    assert most_alike(table, [1, 2], [8, 3, 5]) == [8, 3, 5]
    assert most_alike(table, [], [8, 3, 5]) == [8, 3, 5]
    assert most_alike(table, [1, 2], []) == []


def test_ranking_rejects_a_table_of_another_teacher() -> None:
    with pytest.raises(TeacherError, match="token 7, but its table of embeddings has 5 rows"):
        most_alike(np.zeros((5, 2), np.float32), [1], [7, 2])
