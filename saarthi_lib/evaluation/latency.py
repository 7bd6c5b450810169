"""Latency at batch 1, as a user of the library sees it: text in, answer out."""

import time
from collections.abc import Sequence

import numpy as np

from saarthi_lib.inference.predictor import Predictor

WARM_UP = 20


def latency_at_batch_1(
    predictor: Predictor, texts: Sequence[str], calls: int = 300
) -> dict[str, float]:
    """Time single predictions, one after the other, on one thread.

    Args:
        predictor: any engine.
        texts: real texts; they are gone through in turn.
        calls: how many are timed.

    Returns:
        `p50` and `p99` in milliseconds.
    """
    for call in range(WARM_UP):
        predictor.predict([texts[call % len(texts)]])
    seconds = np.empty(calls)
    for call in range(calls):
        text = texts[call % len(texts)]
        start = time.perf_counter()
        predictor.predict([text])
        seconds[call] = time.perf_counter() - start
    p50, p99 = np.percentile(seconds * 1000, [50, 99])
    return {"p50": round(float(p50), 4), "p99": round(float(p99), 4)}
