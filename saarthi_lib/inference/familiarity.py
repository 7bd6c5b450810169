"""Familiarity score: similarity of a text to the training text.

A network's probability is unreliable for text unlike its training text. The rarity of a text's
tokens and token pairs in the training text is a second signal, for any network, language and number
of rows (`benchmarks/abstention.py`).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from saarthi_lib.bundle.manifest import HOW_TO_FIX
from saarthi_lib.errors import BundleError

_STEPS = 16  # steps of a table's entry per unit of log frequency
_LARGEST_TABLE = 2**16
# Multiplicative (Fibonacci) hashing of a pair of ids to the upper bits; a single token is a pair
# whose second id is in no vocabulary.
_PAIR, _ALONE, _GOLDEN, _WORD = 1_000_003, 1_000_002, 0x9E3779B97F4A7C15, 2**64 - 1


class Familiarity:
    """The rarity of tokens and of pairs of neighbouring tokens, in a table by their hash.

    Rarity is -log of the share of training texts with the token or pair, with half a text added to
    every count. The beginning and the end of a text form pairs too.

    Args:
        table: one entry per hash, in sixteenths; the number of entries is a power of two.
    """

    def __init__(self, table: bytes) -> None:
        self.table = table
        self._shift = 64 - (len(table).bit_length() - 1)
        self._parts = _TokenParts(table, self._shift)

    @classmethod
    def of(cls, sentences: Sequence[npt.NDArray[np.integer]]) -> "Familiarity":
        """Count the tokens and pairs of the training texts.

        Args:
            sentences: token ids of each text, at least one text.
        """
        lengths = np.array([len(ids) for ids in sentences])
        rows = np.repeat(np.arange(len(sentences)), 2 * lengths + 1)
        keys = np.concatenate([_keys(ids) for ids in sentences])
        distinct = len(np.unique(keys))
        # At least two entries per distinct key, up to the largest table.
        bits = min(_LARGEST_TABLE, 2 * distinct).bit_length()
        size = min(_LARGEST_TABLE, 2**bits)
        entries = (keys * np.uint64(_GOLDEN)) >> np.uint64(64 - (size.bit_length() - 1))
        seen = np.unique(rows.astype(np.uint64) * np.uint64(size) + entries) % np.uint64(size)
        texts = np.bincount(seen.astype(np.int64), minlength=size)
        rarity = -np.log((texts + 0.5) / (len(sentences) + 1))
        return cls(np.clip(np.round(_STEPS * rarity), 0, 255).astype(np.uint8).tobytes())

    @classmethod
    def parse(cls, table: bytes, path: str | Path) -> "Familiarity":
        """Use a file's content as a table; `path` names it in errors.

        Raises:
            BundleError: the size is not a power of two.
        """
        if len(table) < 2 or len(table) & (len(table) - 1):
            raise BundleError(f"{path}: is not a table of familiarity; {HOW_TO_FIX}")
        return cls(table)

    def __call__(self, ids: Sequence[int]) -> float:
        """Familiarity of a text by its token ids: minus the mean rarity, at most 0."""
        # Plain Python is faster than arrays for the usual dozen tokens.
        table, shift, before, total = self.table, self._shift, 0, 0
        for token in ids:
            rarity, as_first, as_second = self._parts[token]
            total += rarity + table[(before + as_second & _WORD) >> shift]
            before = as_first
        total += table[before >> shift]
        return -total / (_STEPS * (2 * len(ids) + 1))

    def without_itself(
        self, sentences: Sequence[npt.NDArray[np.integer]], texts: int
    ) -> npt.NDArray[np.float64]:
        """Familiarity of training texts, each as if it was not counted, [sentences].

        Args:
            sentences: token ids of counted texts.
            texts: number of all counted texts.
        """
        rarity = np.frombuffer(self.table, np.uint8) / _STEPS
        counted = np.round(np.exp(-rarity) * (texts + 1) - 0.5)
        others = np.log((np.maximum(counted - 1, 0) + 0.5) / texts)
        shift = np.uint64(self._shift)
        entries = ((_keys(ids) * np.uint64(_GOLDEN)) >> shift for ids in sentences)
        return np.array([others[each].mean() for each in entries])


class _TokenParts(dict[int, tuple[int, int, int]]):
    """Cache by token: its rarity, and its parts of a pair's hash as first and second token.

    The hash of a pair is the sum of both parts.
    """

    def __init__(self, table: bytes, shift: int) -> None:
        super().__init__()
        self._table, self._shift = table, shift

    def __missing__(self, token: int) -> tuple[int, int, int]:
        as_second = (token + 1) * _GOLDEN & _WORD
        as_first = as_second * _PAIR & _WORD
        rarity = self._table[(as_first + _ALONE * _GOLDEN & _WORD) >> self._shift]
        self[token] = rarity, as_first, as_second
        return self[token]


def _keys(ids: npt.NDArray[np.integer]) -> npt.NDArray[np.uint64]:
    """Keys of a text's tokens and pairs, [2 * tokens + 1]."""
    tokens = ids.astype(np.uint64) + np.uint64(1)
    edged = np.pad(tokens, 1)
    pairs = edged[:-1] * np.uint64(_PAIR) + edged[1:]
    return np.concatenate([tokens * np.uint64(_PAIR) + np.uint64(_ALONE), pairs])
