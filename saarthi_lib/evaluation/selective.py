"""Abstention: temperatures, thresholds and their metrics.

Temperature scaling follows Guo et al. 2017 (arXiv 1706.04599).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saarthi_lib.evaluation.calibration import risk_coverage

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

CONFIDENCE = 0.95  # of the bound of the risk, and of the interval of the coverage

FEW = 500  # most examples for a cross-fit; with more, the threshold is certain enough

_TEMPERATURES = (0.05, 20.0)
_FEWEST = 10  # examples to fit a slope on
_SHIFT = 1.645  # standard errors; a larger difference has a probability of 10% by chance


def fit_temperature(logits: Floats, labels: npt.NDArray[np.integer]) -> float:
    """Fit the temperature that maximizes the likelihood of the labels.

    As in Platt scaling, labels are slightly smoothed, by one example in all of them. So a network
    without errors on few examples does not become overconfident.

    Args:
        logits: [examples, classes].
        labels: right class of each example, [examples]; without examples the temperature is 1.
    """
    examples, classes = logits.shape
    if not examples or classes < 2:
        return 1.0
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    doubt = 1 / (examples + 2)
    right = shifted[np.arange(examples), labels]
    target = np.mean((1 - doubt) * right + doubt * shifted.mean(axis=1))
    # The negative log-likelihood is convex in 1/T, so its slope changes sign once.
    low, high = (np.log(1 / temperature) for temperature in reversed(_TEMPERATURES))
    for _ in range(50):
        middle = (low + high) / 2
        weights = np.exp(np.exp(middle) * shifted)
        slope = np.mean((weights * shifted).sum(axis=1) / weights.sum(axis=1)) - target
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def threshold_at_coverage(confidence: Floats, coverage: float) -> float:
    """Choose the threshold at which this share of new examples of the same kind is answered.

    The share of the population above the k-th highest of n independent values is k / (n + 1) on
    average for any distribution. The threshold therefore lies at rank `coverage * (n + 1)`, if
    necessary between two values. It answers at least this share of the examples too. Rank n + 1 is
    0, the lowest confidence of all: few examples do not show how low those of the population are.

    Args:
        confidence: confidence of each example, at least one, [examples].
        coverage: share of examples to answer.
    """
    ranked = np.sort(np.asarray(confidence, dtype=np.float64))[::-1]
    kept = max(coverage * (len(ranked) + 1), np.ceil(coverage * len(ranked) - 1e-9))
    ranked = np.append(ranked, 0.0)
    rank = min(max(1.0, kept), len(ranked)) - 1
    above = int(rank)
    below = min(above + 1, len(ranked) - 1)
    return float(ranked[above] + (rank - above) * (ranked[below] - ranked[above]))


def crossfit_threshold(
    confidence: Floats, covariate: Floats, others: Floats, coverage: float
) -> float | None:
    """Choose the threshold at a coverage with the help of a covariate of many more examples.

    A line fitted on the examples predicts the log-odds of the confidence from the covariate, for
    all examples and the others. The predictions with all residuals of the fit (smearing, Duan 1983)
    give the distribution of the confidence, and its quantile a threshold. The result is the mean,
    in log-odds, of this threshold and of `threshold_at_coverage`.

    Args:
        confidence: confidence of each example, [examples].
        covariate: covariate of each example, [examples].
        others: covariate of examples without a confidence, [others].
        coverage: share of examples to answer.

    Returns:
        The threshold; None if all examples are to be answered, or if they are more than `FEW`, too
        few to fit a line, or differ from the others (mean covariates differ at the level of 10%).
    """
    count = len(confidence)
    enough = _FEWEST <= count <= FEW and len(others) >= _FEWEST
    if coverage == 1 or not enough or covariate.std() < 1e-6:
        return None
    error = np.sqrt(covariate.var(ddof=1) / count + others.var() / len(others))
    if abs(covariate.mean() - others.mean()) > _SHIFT * error:
        return None
    bounded = np.clip(confidence.astype(np.float64), 1e-9, 1 - 1e-9)
    odds, centred = np.log(bounded / (1 - bounded)), covariate - covariate.mean()
    slope = (centred @ odds) / (centred @ centred)
    residuals = (odds - odds.mean() - slope * centred) * np.sqrt(count / (count - 2))
    predicted = odds.mean() + slope * (np.append(covariate, others) - covariate.mean())
    quantile = np.quantile(predicted[:, None] + residuals, 1 - coverage)
    ranked = np.clip(threshold_at_coverage(bounded, coverage), 1e-9, 1 - 1e-9)
    return float(1 / (1 + np.exp(-(quantile + np.log(ranked / (1 - ranked))) / 2)))


def threshold_at_risk(confidence: Floats, correct: Bools, risk: float) -> float | None:
    """The lowest threshold with at most this share of wrong answers; None if none exists.

    The risk of new examples may be higher; `threshold_at_bounded_risk` bounds it.
    """
    coverage, risks = risk_coverage(confidence, correct)
    allowed = np.flatnonzero(risks <= risk + 1e-12)
    if not len(allowed):
        return None
    answered = round(float(coverage[allowed[-1]]) * len(confidence))
    return float(np.sort(np.asarray(confidence))[-answered])


@dataclass(frozen=True)
class BoundedThreshold:
    """A threshold with a guaranteed risk.

    Attributes:
        threshold: the threshold; None if the examples support no threshold for the target.
        bound: upper bound of the risk at the threshold; without a threshold, the lowest risk that
            the examples support.
    """

    threshold: float | None
    bound: float


def threshold_at_bounded_risk(
    confidence: Floats, correct: Bools, risk: float, certainty: float = CONFIDENCE
) -> BoundedThreshold:
    """Choose a threshold whose risk on new examples of the same kind is at most `risk`.

    SGR, algorithm 1 of Geifman and El-Yaniv (arXiv 1705.08500): a binary search for the threshold
    with the highest coverage whose bound is at most `risk`. The bound holds for all thresholds of
    the search together, with probability `certainty` over draws of the examples.

    Args:
        confidence: confidence of each example, at least one, [examples].
        correct: whether its answer is right, [examples].
        risk: highest share of wrong answers.
        certainty: probability that the bound holds.
    """
    order = np.argsort(confidence, kind="stable")
    ranked, wrong = np.asarray(confidence)[order], ~np.asarray(correct, dtype=bool)[order]
    wrong_from = np.append(np.cumsum(wrong[::-1])[::-1], 0)  # errors among examples i, i+1, …
    steps = max(1, int(np.ceil(np.log2(len(ranked)))))
    low, high = 0, len(ranked) - 1
    found, lowest = BoundedThreshold(None, 1.0), 1.0
    for _ in range(steps):
        # The paper rounds up, and never tries to answer everything.
        middle = (low + high) // 2
        first = int(np.searchsorted(ranked, ranked[middle]))  # ties are answered together
        bound = risk_bound(int(wrong_from[first]), len(ranked) - first, (1 - certainty) / steps)
        lowest = min(lowest, bound)
        if bound <= risk:
            high, found = middle, BoundedThreshold(float(ranked[middle]), bound)
        else:
            low = middle
    return found if found.threshold is not None else BoundedThreshold(None, lowest)


def risk_bound(errors: int, answers: int, doubt: float) -> float:
    """Upper bound of the share of wrong answers, which fails with probability `doubt`.

    Inversion of the binomial tail, Lemma 3.1 of Geifman and El-Yaniv (arXiv 1705.08500): the risk
    at which at most `errors` of `answers` are wrong with probability `doubt`.
    """
    from scipy.stats import beta

    if errors >= answers:
        return 1.0
    return float(beta.ppf(1 - doubt, errors + 1, answers - errors))


def coverage_interval(
    answered: int, examples: int, certainty: float = CONFIDENCE
) -> tuple[float, float]:
    """Clopper-Pearson interval of the coverage to expect on new examples of the same kind.

    It also holds for a threshold that was chosen by its rank: the share of the population above the
    k-th highest of n independent values has the distribution Beta(k, n + 1 - k) for any
    distribution of the values.

    Args:
        answered: examples at or above the threshold.
        examples: examples that the threshold was chosen on, at least `answered`.
        certainty: probability that the coverage lies in the interval.
    """
    from scipy.stats import beta

    tail = (1 - certainty) / 2
    low = beta.ppf(tail, answered, examples + 1 - answered) if answered else 0.0
    high = beta.ppf(1 - tail, answered + 1, examples - answered) if answered < examples else 1.0
    return float(low), float(high)


def threshold_by_scope(inside: Floats, correct: Bools, outside: Floats) -> float:
    """The threshold with the best balance of in-scope answers kept and out-of-scope ones withheld.

    It maximizes the share of in-scope examples that are answered and right plus the share of
    out-of-scope examples that are not answered (Youden's index), so their numbers do not matter. It
    lies halfway between the two scores that it separates.

    Args:
        inside: confidence of in-scope examples, [examples].
        correct: whether their answers are right, [examples].
        outside: confidence of out-of-scope examples, [others].
    """
    scores = np.unique(np.concatenate([inside, outside]))
    right = np.sort(np.asarray(inside)[np.asarray(correct, dtype=bool)])
    others = np.sort(np.asarray(outside))
    kept = (len(right) - np.searchsorted(right, scores)) / max(1, len(inside))
    withheld = np.searchsorted(others, scores) / max(1, len(others))
    best = int(np.argmax(kept + withheld))
    return float((scores[max(0, best - 1)] + scores[best]) / 2)


def out_of_scope_metrics(
    gold: Sequence[str],
    predicted: Sequence[str],
    abstained: Sequence[bool],
    in_scope: Sequence[str],
) -> dict[str, float]:
    """The metrics of HINT3 (Arora et al. 2020, arXiv 2009.13833); each is 1 at best.

    A text is out of scope if its gold label is not in `in_scope`. Abstention is the right answer to
    it, and an extra class for MCC and F1.

    Args:
        gold: gold label of each text.
        predicted: most likely label of each text, also if the model abstains.
        abstained: whether the model abstains.
        in_scope: labels that a model can predict.

    Returns:
        `accuracy` over all texts, `weighted_f1`, `mcc` (Matthews' correlation over all classes),
        `in_scope_accuracy` (abstention is an error), `best_in_scope_accuracy` (all texts answered)
        and `oos_recall`. Metrics of in-scope or out-of-scope texts require such texts.
    """
    from sklearn.metrics import f1_score, matthews_corrcoef

    # All out-of-scope labels share one class.
    names = {name: number for number, name in enumerate(dict.fromkeys(in_scope))}
    outside = len(names)
    right = np.array([names.get(name, outside) for name in gold])
    best = np.array([names.get(name, outside) for name in predicted])
    given = np.where(np.asarray(abstained, dtype=bool), outside, best)
    known = right != outside
    found = {
        "accuracy": float((given == right).mean()),
        "weighted_f1": float(f1_score(right, given, average="weighted", zero_division=0)),
        "mcc": float(matthews_corrcoef(right, given)),
    }
    if known.any():
        found["in_scope_accuracy"] = float((given == right)[known].mean())
        found["best_in_scope_accuracy"] = float((best == right)[known].mean())
    if not known.all():
        found["oos_recall"] = float((given == outside)[~known].mean())
    return found
