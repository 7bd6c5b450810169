"""Calibration of probabilities, and confidence intervals of proportions and means.

Pure functions over arrays: `probability` of each answer, and whether the answer is `right`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Z_95 = 1.959964  # quantile for a two-sided 95% interval of a normal distribution


@dataclass(frozen=True)
class Bin:
    """Mean probability and accuracy of the answers with a probability in `(lower, upper]`."""

    lower: float
    upper: float
    count: int
    probability: float
    accuracy: float


def reliability(probability: npt.ArrayLike, right: npt.ArrayLike, bins: int = 10) -> list[Bin]:
    """Bins of equal width, low to high, without empty bins.

    Args:
        probability: probability of each answer, 0 to 1, [answers].
        right: whether each answer is right, [answers].
        bins: number of bins, with the empty ones.
    """
    p, r = _arrays(probability, right)
    at = np.clip(np.ceil(p * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(at, minlength=bins)
    mean_p = np.bincount(at, weights=p, minlength=bins) / np.maximum(count, 1)
    mean_r = np.bincount(at, weights=r, minlength=bins) / np.maximum(count, 1)
    return [
        Bin(i / bins, (i + 1) / bins, int(count[i]), float(mean_p[i]), float(mean_r[i]))
        for i in range(bins)
        if count[i]
    ]


def expected_calibration_error(
    probability: npt.ArrayLike, right: npt.ArrayLike, bins: int = 10
) -> float:
    """Mean distance between accuracy and probability over the bins, weighted by count.

    Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599), section 2. It is 0
    without answers.
    """
    found = reliability(probability, right, bins)
    total = sum(each.count for each in found)
    gaps = (each.count * abs(each.accuracy - each.probability) for each in found)
    return sum(gaps) / total if total else 0.0


def risk_coverage(probability: npt.ArrayLike, right: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Share of wrong answers if only the most certain answers are given.

    Geifman and El-Yaniv, Selective Classification for Deep Neural Networks (arXiv 1705.08500).

    Returns:
        Coverage (share of answers given, rising to 1) and risk (share of these that are wrong), one
        point for each distinct probability: equal answers are given or withheld together.
    """
    p, r = _arrays(probability, right)
    order = np.argsort(-p, kind="stable")
    given = np.arange(1, len(p) + 1)
    wrong = np.cumsum(1 - r[order])
    last_of_equals = np.append(np.diff(p[order]) != 0, True)[: len(p)]
    return given[last_of_equals] / max(1, len(p)), (wrong / given)[last_of_equals]


def area_under_risk_coverage(probability: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """Mean risk over all coverages (AURC), 0 at best; 0 without answers."""
    coverage, risk = risk_coverage(probability, right)
    widths = np.diff(coverage, prepend=0.0)
    return float((widths * risk).sum())


def wilson_interval(successes: float, trials: float, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, 95% by default; (0, 1) without trials.

    Wilson, Probable Inference, the Law of Succession, and Statistical Inference (1927).
    """
    if trials <= 0:
        return 0.0, 1.0
    share, square = successes / trials, z * z
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = z * np.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    half /= 1 + square / trials
    # The interval contains the share; rounding can violate this at 0 and 1.
    low, high = max(0.0, float(middle - half)), min(1.0, float(middle + half))
    return min(low, share), max(high, share)


def mean_interval(
    values: npt.ArrayLike, seed: int = 0, resamples: int = 1000
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean, 95%; for one value, that value; for none, 0."""
    v = np.asarray(values, dtype=np.float64)
    if len(v) < 2:
        mean = float(v.sum())
        return mean, mean
    draws = np.random.default_rng(seed).integers(0, len(v), (resamples, len(v)))
    low, high = np.percentile(v[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def _arrays(probability: npt.ArrayLike, right: npt.ArrayLike) -> tuple[Floats, Floats]:
    p, r = np.asarray(probability, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if p.shape != r.shape or p.ndim != 1:
        raise ValueError(f"probability {p.shape} and right {r.shape} must be lists of one length")
    return p, r
