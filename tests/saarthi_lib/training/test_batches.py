"""Batches draw every row once, or rare groups more often."""

from collections import Counter

import numpy as np
import pytest

from saarthi_lib.training.batches import BatchStream, balanced_weights
from tests.saarthi_lib.training.test_reweighting import sentences


def test_balanced_sampling_draws_rare_groups_more_often() -> None:
    labels = np.array([0] * 100 + [1] * 100 + [2] * 4)
    languages = ["english"] * 100 + ["hindi"] * 104
    weights = balanced_weights(labels, languages)

    shares = [weights[labels == label].sum() / weights.sum() for label in range(3)]
    assert shares[2] == pytest.approx(0.09, abs=0.01)  # 0.02 of the rows
    assert shares[0] == pytest.approx(shares[1], rel=0.05)
    assert len(set(balanced_weights(np.zeros(9), ["hindi"] * 9))) == 1


def test_weighted_stream_keeps_its_size_and_repeats_by_seed() -> None:
    data = sentences(64, seed=0)
    weights = np.where(np.arange(64) < 4, 100.0, 1.0)

    def drawn(seed: int) -> list[int]:
        stream = BatchStream(data, 8, seed=seed, weights=weights)
        return [int(row) for batch in stream for row in batch["rows"]]

    first = drawn(7)
    assert first == drawn(7) and first != drawn(8)
    assert len(first) == 64
    assert sum(count for row, count in Counter(first).items() if row < 4) > 40
