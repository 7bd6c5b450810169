"""Effect of thresholds on labelled rows, and the curve of all thresholds."""

from typing import TypedDict

import numpy as np

from saarthi_lib.bundle import BundleManifest
from saarthi_lib.evaluation.calibration import wilson_interval
from saarthi_lib.evaluation.operating_point.judged import Judged

ALL = "all"  # in place of a language
POINTS = 200  # of a curve


class Counts(TypedDict):
    """Texts at some thresholds; only `answered_out_of_scope` counts texts out of scope.

    `withheld` are right answers that are not given.
    """

    answered: int
    right: int
    wrong: int
    withheld: int
    answered_out_of_scope: int


class Effect(TypedDict):
    """Texts of a language at the thresholds of the old and the new bundle.

    `texts` are in scope. Intervals of shares are 95% intervals (Wilson).
    """

    language: str
    texts: int
    out_of_scope: int
    threshold_before: float | None
    threshold_after: float | None
    before: Counts
    after: Counts


class Point(TypedDict):
    """A point of the curve: a threshold, and the answers at it.

    `coverage` is the share of the texts that are answered, `risk` the share of these answers that
    are wrong, with its 95% interval (Wilson).
    """

    threshold: float
    answered: int
    wrong: int
    coverage: float
    risk: float
    low: float
    high: float


def counts(judged: Judged, manifest: BundleManifest) -> Counts:
    """Count the answers of a bundle with these thresholds."""
    thresholds = [manifest.threshold_of(language) or 0.0 for language in judged.languages]
    given = judged.fits & (judged.confidence >= np.array(thresholds, dtype=np.float64))
    answered = given & judged.within
    right = answered & judged.right
    return {
        "answered": int(answered.sum()),
        "right": int(right.sum()),
        "wrong": int((answered & ~judged.right).sum()),
        "withheld": int((judged.within & judged.right & ~given).sum()),
        "answered_out_of_scope": int((given & ~judged.within).sum()),
    }


def effects(judged: Judged, before: BundleManifest, after: BundleManifest) -> list[Effect]:
    """Effect on all texts, and on those of each of several languages."""
    spoken = sorted(set(judged.languages))
    named = [None, *spoken] if len(spoken) > 1 else [None]
    found: list[Effect] = []
    for language in named:
        part = judged.of_language(language)
        found.append(
            {
                "language": language or ALL,
                "texts": int(part.within.sum()),
                "out_of_scope": int((~part.within).sum()),
                "threshold_before": before.threshold_of(language),
                "threshold_after": after.threshold_of(language),
                "before": counts(part, before),
                "after": counts(part, after),
            }
        )
    return found


def curve(judged: Judged) -> list[Point]:
    """Answers at each threshold, from the fewest answers to all, thinned to `POINTS` points.

    Texts out of scope do not count.
    """
    texts = int(judged.within.sum())
    chosen = judged.within & judged.fits
    order = np.argsort(-judged.confidence[chosen], kind="stable")
    confidence = judged.confidence[chosen][order]
    wrong = np.cumsum(~judged.right[chosen][order])
    # Equal answers are given together.
    last = np.flatnonzero(np.append(np.diff(confidence) != 0, True)[: len(confidence)])
    if len(last) > POINTS:
        last = last[np.unique(np.linspace(0, len(last) - 1, POINTS).round().astype(int))]
    return [_point(float(confidence[at]), at + 1, int(wrong[at]), texts) for at in last.tolist()]


def _point(threshold: float, answered: int, wrong: int, texts: int) -> Point:
    low, high = wilson_interval(wrong, answered)
    return {
        "threshold": threshold,
        "answered": answered,
        "wrong": wrong,
        "coverage": answered / texts,
        "risk": wrong / answered,
        "low": low,
        "high": high,
    }
