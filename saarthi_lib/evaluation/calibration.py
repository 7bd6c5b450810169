"""Arithmetic of probabilities and of proportions: how far to trust a figure or an answer.

Pure functions over arrays: `probability` is what a model gave each answer, `right` whether the
answer was.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Z_95 = 1.959964  # of a two-sided interval of 95% under a normal distribution


@dataclass(frozen=True)
class Bin:
    """Answers whose probabilities lie in `(lower, upper]`: their mean probability and accuracy."""

    lower: float
    upper: float
    count: int
    probability: float
    accuracy: float


def reliability(probability: npt.ArrayLike, right: npt.ArrayLike, bins: int = 10) -> list[Bin]:
    """Bins of equal width, low to high; those without an answer are left out.

    Args:
        probability: of each answer, 0 to 1, [answers].
        right: whether each answer was right, [answers].
        bins: how many.
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
    """Mean distance of accuracy from probability over `reliability`'s bins, weighted by count.

    Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599), section 2. 0 for no
    answers.
    """
    found = reliability(probability, right, bins)
    total = sum(each.count for each in found)
    gaps = (each.count * abs(each.accuracy - each.probability) for each in found)
    return sum(gaps) / total if total else 0.0


def risk_coverage(probability: npt.ArrayLike, right: npt.ArrayLike) -> tuple[Floats, Floats]:
    """What share is wrong when only the most certain answers are given.

    Geifman and El-Yaniv, Selective Classification for Deep Neural Networks (arXiv 1705.08500).

    Returns:
        Coverage (share of answers given, rising to 1) and risk (share of those that are wrong), a
        point for each threshold that tells answers apart: answers of one probability are given or
        withheld together.
    """
    p, r = _arrays(probability, right)
    order = np.argsort(-p, kind="stable")
    given = np.arange(1, len(p) + 1)
    wrong = np.cumsum(1 - r[order])
    last_of_its_kind = np.append(np.diff(p[order]) != 0, True)[: len(p)]
    return given[last_of_its_kind] / max(1, len(p)), (wrong / given)[last_of_its_kind]


def area_under_risk_coverage(probability: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """The mean risk over all coverages (AURC), 0 at best; 0 for no answers."""
    coverage, risk = risk_coverage(probability, right)
    widths = np.diff(coverage, prepend=0.0)
    return float((widths * risk).sum())


def wilson_interval(successes: float, trials: float, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, 95% by default; (0, 1) without a trial.

    Wilson, Probable Inference, the Law of Succession, and Statistical Inference (1927).
    """
    if trials <= 0:
        return 0.0, 1.0
    share, square = successes / trials, z * z
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = z * np.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    half /= 1 + square / trials
    # The share lies within, which rounding would not always have where it is 0 or 1.
    low, high = max(0.0, float(middle - half)), min(1.0, float(middle + half))
    return min(low, share), max(high, share)


def mean_interval(
    values: npt.ArrayLike, seed: int = 0, resamples: int = 1000
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean, 95%; of one value or none that value or 0 alone."""
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
