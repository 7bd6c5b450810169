"""Near duplicates between two sets of texts, found by MinHash and confirmed by similarity.

Similarity is Jaccard's over the sets of character trigrams. Candidates come from locality-sensitive
hashing (rensa): 96 hashes in 16 bands find a pair of similarity 0.8 with a chance of 0.99 and one
of 0.9 with 0.9999. Then the similarity of each candidate is computed exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rensa import RMinHash, RMinHashLSH

THRESHOLD = 0.8
HASHES = 96
BANDS = 16
# The hashes' own estimate is within 0.15 of the truth in 999 cases of 1000.
ESTIMATE_MARGIN = 0.15
MAX_TEXTS = 1_000_000
MAX_QUERIES = 50_000
MAX_COMPARISONS = 20_000_000
_CHUNK = 20_000


@dataclass(frozen=True)
class NearDuplicates:
    """The first similar text of each query, and its similarity."""

    found: dict[int, tuple[int, float]] = field(default_factory=dict)
    queries: int = 0  # number of queries compared
    texts: int = 0  # number of texts compared


def find_near_duplicates(texts: pa.Array, queries: pa.Array, *, seed: int) -> NearDuplicates:
    """Find, for each query, a text that is nearly the same.

    More than a million texts or 50,000 queries are sampled, and the search ends after 20 million
    candidates; the result has the numbers that were compared.

    Args:
        texts: distinct normalized texts, such as those of train.
        queries: other distinct normalized texts, such as those of test.
        seed: seed of the hashes and the samples.
    """
    chosen = _sample(len(texts), MAX_TEXTS, seed)
    positions = _sample(len(queries), MAX_QUERIES, seed)
    if not positions.size:
        return NearDuplicates(texts=len(chosen))
    hashed = list(_hashed(queries, positions, seed))
    grams = {query: query_grams for query, query_grams, _ in hashed}
    hashes = {query: query_hash for query, _, query_hash in hashed}
    index = RMinHashLSH(threshold=THRESHOLD, num_perm=HASHES, num_bands=BANDS)
    index.insert_pairs(list(hashes.items()))
    found: dict[int, tuple[int, float]] = {}
    comparisons = 0
    for compared, (text, text_grams, text_hash) in enumerate(_hashed(texts, chosen, seed)):
        if comparisons > MAX_COMPARISONS:
            return NearDuplicates(found, len(positions), compared)
        candidates = index.query(text_hash)
        comparisons += len(candidates)
        for query in candidates:
            if text_hash.jaccard(hashes[query]) < THRESHOLD - ESTIMATE_MARGIN:
                continue
            similarity = jaccard(text_grams, grams[query])
            if similarity >= THRESHOLD:
                found[query] = (text, similarity)
                index.remove(query)
    return NearDuplicates(found, len(positions), len(chosen))


def trigrams(text: str) -> set[str]:
    """All sequences of three characters; a shorter text is one sequence."""
    return {text[start : start + 3] for start in range(max(len(text) - 2, 1))}


def jaccard(left: set[str], right: set[str]) -> float:
    """Jaccard similarity of two sets, from 0 to 1."""
    common = len(left & right)
    return common / (len(left) + len(right) - common)


def _hashed(
    texts: pa.Array, positions: npt.NDArray[np.int64], seed: int
) -> Iterator[tuple[int, set[str], RMinHash]]:
    """Position, trigrams and hashes of the chosen texts."""
    for start in range(0, len(positions), _CHUNK):
        part = positions[start : start + _CHUNK]
        grams = [trigrams(text) for text in texts.take(pa.array(part)).to_pylist()]
        hashes = RMinHash.from_token_sets(grams, num_perm=HASHES, seed=seed)
        yield from zip(part.tolist(), grams, hashes, strict=True)


def _sample(size: int, limit: int, seed: int) -> npt.NDArray[np.int64]:
    if size <= limit:
        return np.arange(size)
    return np.sort(np.random.default_rng(seed).choice(size, limit, replace=False))
