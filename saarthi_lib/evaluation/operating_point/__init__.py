"""Move the threshold of a bundle without training: curve, choice and effect."""

from saarthi_lib.evaluation.operating_point.effect import Counts, Effect, Point
from saarthi_lib.evaluation.operating_point.move import (
    Moved,
    Thresholds,
    move_threshold,
    show_threshold,
)
from saarthi_lib.evaluation.operating_point.target import Target

__all__ = [
    "Counts",
    "Effect",
    "Moved",
    "Point",
    "Target",
    "Thresholds",
    "move_threshold",
    "show_threshold",
]
