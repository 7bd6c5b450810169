"""Choose the threshold of any model, by the target in the configuration."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError
from saarthi_lib.evaluation.selective import (
    CONFIDENCE,
    coverage_interval,
    crossfit_threshold,
    threshold_at_bounded_risk,
    threshold_at_coverage,
    threshold_at_risk,
    threshold_by_scope,
)
from saarthi_lib.logs import get_logger

logger = get_logger("evaluation")

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Threshold:
    """A chosen threshold.

    Attributes:
        value: lowest confidence for an answer.
        target: target that chose it: `coverage`, `risk` or `out_of_scope`.
        interval: share of new texts in scope that are answered, if they are like those of
            validation: a 95% interval. It ignores that thresholds by risk or out-of-scope texts
            also depend on other values than the confidence.
    """

    value: float
    target: str
    interval: tuple[float, float]


def choose_threshold(
    confidence: Floats,
    right: Bools,
    outside: Floats,
    config: TrainConfig,
    familiar: tuple[Floats, Floats] | None = None,
    may_refuse: bool = True,
) -> Threshold:
    """Choose the threshold of any model by the target in the configuration.

    Args:
        confidence: confidence of validation rows in scope, at least one, [examples].
        right: whether their answers are right, [examples].
        outside: confidence of validation rows out of scope, [others].
        config: configuration; its fields `abstention…` apply.
        familiar: familiarity of the validation rows in scope, [examples], and of training rows,
            each without itself, [others]; None: thresholds by coverage use validation only.
        may_refuse: whether a risk that the rows cannot support is an error; otherwise the threshold
            keeps the risk on these rows, without a bound for new texts.

    Raises:
        ConfigError: `abstention_target` is `out_of_scope`, but `outside` is empty; or it is `risk`,
            and the rows cannot support `abstention_risk`.
    """
    target: str = config.abstention_target
    if target == "auto":
        target = "out_of_scope" if len(outside) else "coverage"
    if target == "out_of_scope":
        if not len(outside):
            raise ConfigError(
                "abstention_target: out_of_scope needs validation rows with the label that "
                "out_of_scope_label names; add some, or set abstention_target: coverage"
            )
        value = threshold_by_scope(confidence, right, outside)
    elif target == "risk":
        value = _by_risk(confidence, right, config.abstention_risk, may_refuse)
    else:
        share = config.abstention_coverage
        fitted = crossfit_threshold(confidence, *familiar, share) if familiar else None
        value = threshold_at_coverage(confidence, share) if fitted is None else fitted
    answered = int((confidence >= value).sum())
    return Threshold(value, target, coverage_interval(answered, len(confidence)))


def check_risk_target(config: TrainConfig, rows: int) -> None:
    """Check before training that validation can support the risk target.

    Args:
        config: configuration; its fields `abstention…` apply.
        rows: validation rows.

    Raises:
        ConfigError: the rows cannot support `abstention_risk`, even if all answers are right.
    """
    wanted = config.abstention != "none" and config.abstention_target == "risk"
    if not wanted or not rows or config.fast_dev_run:
        return
    best = np.arange(rows, dtype=np.float64), np.ones(rows, dtype=bool)
    bounded = threshold_at_bounded_risk(*best, config.abstention_risk)
    if bounded.threshold is None:
        raise ConfigError(_refusal(config.abstention_risk, rows, bounded.bound))


def _by_risk(confidence: Floats, right: Bools, risk: float, may_refuse: bool) -> float:
    """Threshold with a bounded risk; see `choose_threshold`."""
    bounded = threshold_at_bounded_risk(confidence, right, risk)
    if bounded.threshold is not None:
        logger.info(
            "abstention_risk: at most %.1f%% of the answers to new texts like those of validation "
            "are wrong (bound with %.0f%% confidence)",
            100 * bounded.bound,
            100 * CONFIDENCE,
        )
        return bounded.threshold
    problem = _refusal(risk, len(right), bounded.bound)
    if may_refuse:
        raise ConfigError(problem)
    logger.warning("%s. Without the bound, the risk is kept on these rows only", problem)
    value = threshold_at_risk(confidence, right, risk)
    return float(confidence.max()) if value is None else value


def _refusal(risk: float, rows: int, lowest: float) -> str:
    return (
        f"abstention_risk: {risk:g} cannot be guaranteed with {CONFIDENCE:.0%} confidence on "
        f"{rows} validation rows in scope; the lowest risk that they support is "
        f"{np.ceil(1000 * lowest) / 1000:g}. Add validation rows, raise abstention_risk, or set "
        "abstention_target: coverage"
    )
