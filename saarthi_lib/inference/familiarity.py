"""How much of a text the training text had: what a model was never shown, it cannot judge.

A network's own probability says little about text unlike any that it learnt from. How rare a
text's pieces and pairs of pieces were in the training text tells much of the rest, whatever the
network, the language and the number of rows (`benchmarks/abstention.py`).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from saarthi_lib.errors import BundleError

_STEPS = 16  # of a table's entry, to one unit of log frequency
_LARGEST_TABLE = 2**16
# Multiplicative (Fibonacci) hashing of a pair of ids to the upper bits; a single piece is a pair
# with a second that no vocabulary has.
_PAIR, _ALONE, _GOLDEN, _WORD = 1_000_003, 1_000_002, 0x9E3779B97F4A7C15, 2**64 - 1


class Familiarity:
    """The rarity of pieces and of pairs of neighbouring pieces, in a table by their hash.

    Rarity is -log of the share of training texts that have the piece or the pair, where one that
    none has counts as half a text. The beginning and the end of a text pair up too.

    Args:
        table: an entry a hash, in sixteenths; their number is a power of two.
    """

    def __init__(self, table: bytes) -> None:
        self.table = table
        self._shift = 64 - (len(table).bit_length() - 1)
        self._pieces = _Pieces(table, self._shift)

    @classmethod
    def of(cls, sentences: Sequence[npt.NDArray[np.integer]]) -> "Familiarity":
        """Count the pieces and pairs of the training texts.

        Args:
            sentences: the piece ids of each, at least one.
        """
        lengths = np.array([len(ids) for ids in sentences])
        rows = np.repeat(np.arange(len(sentences)), 2 * lengths + 1)
        keys = np.concatenate([_keys(ids) for ids in sentences])
        distinct = len(np.unique(keys))
        # Twice as many entries as there are things to tell apart, as far as the table may grow.
        bits = min(_LARGEST_TABLE, 2 * distinct).bit_length()
        size = min(_LARGEST_TABLE, 2**bits)
        entries = (keys * np.uint64(_GOLDEN)) >> np.uint64(64 - (size.bit_length() - 1))
        seen = np.unique(rows.astype(np.uint64) * np.uint64(size) + entries) % np.uint64(size)
        texts = np.bincount(seen.astype(np.int64), minlength=size)
        rarity = -np.log((texts + 0.5) / (len(sentences) + 1))
        return cls(np.clip(np.round(_STEPS * rarity), 0, 255).astype(np.uint8).tobytes())

    @classmethod
    def load(cls, path: str | Path) -> "Familiarity":
        """Read the table.

        Raises:
            BundleError: the file cannot be read or has another size than a table can have.
        """
        try:
            return cls.parse(Path(path).read_bytes(), path)
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error}") from error

    @classmethod
    def parse(cls, table: bytes, path: str | Path) -> "Familiarity":
        """Take a table as it stands in a file; `path` is for the error's message.

        Raises:
            BundleError: it has another size than a table can have.
        """
        if len(table) < 2 or len(table) & (len(table) - 1):
            raise BundleError(f"{path}: is no table of rarities; make the bundle again")
        return cls(table)

    def __call__(self, ids: Sequence[int]) -> float:
        """The familiarity of a text, by its piece ids: minus the mean rarity, at most 0."""
        # In plain Python, which is faster than arrays for the dozen pieces that a text has.
        table, shift, before, total = self.table, self._shift, 0, 0
        for piece in ids:
            rarity, as_first, as_second = self._pieces[piece]
            total += rarity + table[(before + as_second & _WORD) >> shift]
            before = as_first
        total += table[before >> shift]
        return -total / (_STEPS * (2 * len(ids) + 1))

    def without_itself(
        self, sentences: Sequence[npt.NDArray[np.integer]], texts: int
    ) -> npt.NDArray[np.float64]:
        """Familiarity of training texts, each as if it had not been counted, [sentences].

        Args:
            sentences: the piece ids of texts that were counted.
            texts: number of all texts that were counted.
        """
        rarity = np.frombuffer(self.table, np.uint8) / _STEPS
        counted = np.round(np.exp(-rarity) * (texts + 1) - 0.5)
        others = np.log((np.maximum(counted - 1, 0) + 0.5) / texts)
        shift = np.uint64(self._shift)
        entries = ((_keys(ids) * np.uint64(_GOLDEN)) >> shift for ids in sentences)
        return np.array([others[each].mean() for each in entries])


class _Pieces(dict[int, tuple[int, int, int]]):
    """Of each piece that was met: its rarity alone, and its part of a pair's hash as first, second.

    The hash of a pair is the sum of both parts, so none is computed twice.
    """

    def __init__(self, table: bytes, shift: int) -> None:
        super().__init__()
        self._table, self._shift = table, shift

    def __missing__(self, piece: int) -> tuple[int, int, int]:
        as_second = (piece + 1) * _GOLDEN & _WORD
        as_first = as_second * _PAIR & _WORD
        rarity = self._table[(as_first + _ALONE * _GOLDEN & _WORD) >> self._shift]
        self[piece] = rarity, as_first, as_second
        return self[piece]


def _keys(ids: npt.NDArray[np.integer]) -> npt.NDArray[np.uint64]:
    """The keys of a text's pieces and pairs, [2 * pieces + 1]."""
    pieces = ids.astype(np.uint64) + np.uint64(1)
    edged = np.pad(pieces, 1)
    pairs = edged[:-1] * np.uint64(_PAIR) + edged[1:]
    return np.concatenate([pieces * np.uint64(_PAIR) + np.uint64(_ALONE), pairs])
