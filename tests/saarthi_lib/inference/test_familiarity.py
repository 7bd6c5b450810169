"""Familiarity is high for texts like the training texts, and fast."""

import math
import time

import numpy as np
import pytest

from saarthi_lib.errors import BundleError
from saarthi_lib.inference.familiarity import Familiarity


def sentences(count: int, pieces: int, seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(pieces, size=generator.integers(3, 12)) for _ in range(count)]


def test_familiarity_is_minus_mean_rarity_of_tokens_and_pairs() -> None:
    texts = [np.array([1, 2]), np.array([1, 3]), np.array([1, 2])]
    known = Familiarity.of(texts)
    rarity = {n: -math.log((n + 0.5) / 4) for n in (0, 1, 2, 3)}
    # Tokens 1 (three texts), 2 (two); pairs start-1 (three), 1-2 (two), 2-end (two).
    expected = -(2 * rarity[3] + 3 * rarity[2]) / 5
    assert known([1, 2]) == pytest.approx(expected, abs=1 / 16)
    assert known([7, 8]) == pytest.approx(-rarity[0], abs=1 / 16)
    assert known([1, 2]) > known([1, 3]) > known([3, 1]) > known([7, 8])


def test_new_words_and_orders_are_less_familiar() -> None:
    train = sentences(500, 200, seed=0)
    known = Familiarity.of(train)
    seen = np.mean([known(ids.tolist()) for ids in train])
    shuffled = np.mean([known(np.flip(ids).tolist()) for ids in train])
    fresh = np.mean([known((ids + 1000).tolist()) for ids in train])
    assert seen > shuffled + 0.2
    assert shuffled > fresh + 0.5


def test_without_itself_equals_a_fit_on_the_others() -> None:
    train = sentences(300, 60, seed=3)
    left_out = Familiarity.of(train).without_itself(train[:20], len(train))
    fitted = [Familiarity.of(train[:row] + train[row + 1 :]) for row in range(20)]
    expected = [known(train[row].tolist()) for row, known in enumerate(fitted)]
    assert left_out == pytest.approx(expected, abs=0.05)


def test_table_of_many_rows_stays_small_and_separates() -> None:
    train = sentences(20_000, 5000, seed=1)
    known = Familiarity.of(train)
    assert len(known.table) == 2**16
    seen = np.mean([known(ids.tolist()) for ids in train[:500]])
    fresh = np.mean([known((ids + 6000).tolist()) for ids in train[:500]])
    assert seen > fresh + 0.5


def test_table_parses_as_written_and_cut_one_is_refused() -> None:
    known = Familiarity.of(sentences(50, 80, seed=2))
    again = Familiarity.parse(known.table, "familiarity.bin")
    assert again([3, 1, 4, 1, 5]) == known([3, 1, 4, 1, 5])
    with pytest.raises(BundleError, match="not a table of familiarity"):
        Familiarity.parse(known.table[:-1], "familiarity.bin")


def test_familiarity_takes_microseconds() -> None:
    known = Familiarity.of(sentences(500, 200, seed=3))
    ids = list(range(12))
    best = min(_seconds(known, ids) for _ in range(20))
    assert best < 50e-6


def _seconds(known: Familiarity, ids: list[int]) -> float:
    start = time.perf_counter()
    known(ids)
    return time.perf_counter() - start
