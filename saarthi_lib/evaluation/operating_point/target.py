"""Targets of a threshold, and the threshold that meets one on labelled rows."""

from dataclasses import dataclass

import numpy as np

from saarthi_lib.errors import DataError, InputError
from saarthi_lib.evaluation.operating_point.judged import Judged
from saarthi_lib.evaluation.selective import (
    CONFIDENCE,
    threshold_at_bounded_risk,
    threshold_at_coverage,
)

KINDS = ("risk", "coverage", "value")


@dataclass(frozen=True)
class Target:
    """Goal of a threshold.

    Attributes:
        kind: `risk`: at most this share of the answers to new texts is wrong, with 95% confidence;
            `coverage`: this share of new texts is answered, on average; `value`: the threshold
            itself.
        number: the share or the value, from 0 to 1.
    """

    kind: str
    number: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"a target is one of {', '.join(KINDS)}, not {self.kind!r}")
        low = self.number <= 0 if self.kind != "value" else self.number < 0
        if low or not self.number <= 1:
            span = "from 0 to 1" if self.kind == "value" else "above 0, and at most 1"
            raise InputError(f"{self.kind} must be a number {span}, not {self.number:g}")

    def __str__(self) -> str:
        return f"{self.kind} {self.number:g}"


def threshold_for(target: Target, judged: Judged) -> float:
    """Choose the threshold that meets a target on labelled rows of the kind to expect.

    Args:
        target: the target.
        judged: the rows; those out of scope do not count.

    Raises:
        DataError: no row is in scope, or the rows cannot support the risk.
    """
    if target.kind == "value":
        return target.number
    within = judged.rows(judged.within)
    if not len(within.confidence):
        raise DataError(
            f"{judged.name}: no row has a label of the bundle; a threshold by {target.kind} needs "
            "such rows"
        )
    if target.kind == "coverage":
        confidence = np.where(within.fits, within.confidence, 0.0)
        return threshold_at_coverage(confidence, target.number)
    fitting = within.rows(within.fits)
    if len(fitting.confidence):
        bounded = threshold_at_bounded_risk(fitting.confidence, fitting.right, target.number)
        if bounded.threshold is not None:
            return bounded.threshold
        lowest = f"; the lowest risk that they support is {np.ceil(1000 * bounded.bound) / 1000:g}"
    else:
        lowest = ""
    raise DataError(
        f"{judged.name}: {target} cannot be guaranteed with {CONFIDENCE:.0%} confidence on "
        f"{len(fitting.confidence)} rows in scope{lowest}. Add labelled rows, raise the risk, or "
        "choose a coverage or a value by the curve"
    )
