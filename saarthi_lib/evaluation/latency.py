"""Latency at batch 1, as a user of the library sees it: text in, answer out."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from saarthi_lib.evaluation.scores import Latency
from saarthi_lib.inference.predictor import Predictor

WARM_UP = 20  # calls before the first timed one, or as many as are timed


def latency_at_batch_1(predictor: Predictor, texts: Sequence[str], calls: int = 300) -> Latency:
    """`p50` and `p99` of `time_calls`, in milliseconds."""
    return summary(time_calls(predictor.predict, texts, calls))


def time_calls(
    predict: Callable[[list[str]], object], texts: Sequence[str], calls: int = 300
) -> npt.NDArray[np.float64]:
    """Time single predictions, one after the other, on one thread.

    Args:
        predict: function that answers a list of texts.
        texts: real texts, used in turn.
        calls: number of timed calls.

    Returns:
        Milliseconds of each call.
    """
    for call in range(min(WARM_UP, calls)):
        predict([texts[call % len(texts)]])
    seconds = np.empty(calls)
    for call in range(calls):
        text = texts[call % len(texts)]
        start = time.perf_counter()
        predict([text])
        seconds[call] = time.perf_counter() - start
    return seconds * 1000


def summary(milliseconds: npt.NDArray[np.float64]) -> Latency:
    """`p50` and `p99`."""
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {"p50": round(float(p50), 4), "p99": round(float(p99), 4)}


def distribution(milliseconds: npt.NDArray[np.float64]) -> list[float]:
    """The percentiles 0, 1, … 100."""
    return [round(float(value), 4) for value in np.percentile(milliseconds, range(101))]
