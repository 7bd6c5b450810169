"""Temperature, thresholds and out-of-scope metrics: known values and simulations."""

import numpy as np
import pytest

from saarthi_lib.evaluation.calibration import expected_calibration_error
from saarthi_lib.evaluation.selective import (
    coverage_interval,
    crossfit_threshold,
    fit_temperature,
    out_of_scope_metrics,
    risk_bound,
    threshold_at_bounded_risk,
    threshold_at_coverage,
    threshold_at_risk,
    threshold_by_scope,
)

GOLD = ["a", "a", "b", "b", "none", "none"]
PREDICTED = ["a", "b", "b", "b", "a", "b"]


def test_abstention_is_right_only_out_of_scope() -> None:
    abstained = [False, False, False, True, True, False]
    found = out_of_scope_metrics(GOLD, PREDICTED, abstained, ["a", "b"])
    assert found["accuracy"] == pytest.approx(3 / 6)
    assert found["in_scope_accuracy"] == pytest.approx(2 / 4)
    assert found["best_in_scope_accuracy"] == pytest.approx(3 / 4)
    assert found["oos_recall"] == pytest.approx(1 / 2)
    # Confusion (gold a, b, silent): [1 1 0], [0 1 1], [0 1 1]; Gorodkin's R_K by hand.
    assert found["mcc"] == pytest.approx((3 * 6 - 12) / ((36 - 14) * (36 - 12)) ** 0.5)


def test_scope_metrics_of_perfect_and_abstaining_model() -> None:
    perfect = out_of_scope_metrics(["a", "b", "none"], ["a", "b", "b"], [False] * 2 + [True], "ab")
    assert set(perfect.values()) == {1.0}
    silent = out_of_scope_metrics(GOLD, PREDICTED, [True] * 6, ["a", "b"])
    assert (silent["mcc"], silent["in_scope_accuracy"], silent["oos_recall"]) == (0, 0, 1)


def test_oos_recall_needs_out_of_scope_texts() -> None:
    found = out_of_scope_metrics(["a", "b"], ["a", "b"], [False, False], ["a", "b"])
    assert "oos_recall" not in found
    assert found["accuracy"] == 1.0


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_fit_finds_the_temperature_of_the_logits(temperature: float) -> None:
    generator = np.random.default_rng(0)
    honest = generator.normal(scale=2, size=(20_000, 5))
    labels = np.array([generator.choice(5, p=p) for p in softmax(honest)])
    assert fit_temperature(honest * temperature, labels) == pytest.approx(temperature, rel=0.05)


def test_temperature_reduces_calibration_error() -> None:
    generator = np.random.default_rng(1)
    honest = generator.normal(scale=2, size=(5000, 4))
    labels = np.array([generator.choice(4, p=p) for p in softmax(honest)])
    logits = honest * 4
    correct = logits.argmax(axis=1) == labels
    before = expected_calibration_error(softmax(logits).max(axis=1), correct)
    scaled = softmax(logits / fit_temperature(logits, labels))
    after = expected_calibration_error(scaled.max(axis=1), correct)
    assert before > 0.1
    assert after < 0.02


def test_few_correct_examples_give_no_overconfidence() -> None:
    logits = np.eye(4) * 5
    temperature = fit_temperature(logits, np.arange(4))
    assert 0.5 < softmax(logits / temperature).max() < 0.95
    assert fit_temperature(logits[:0], np.zeros(0, dtype=int)) == 1.0


def test_thresholds_reach_their_targets() -> None:
    generator = np.random.default_rng(2)
    confidence = generator.random(500)
    correct = generator.random(500) < confidence
    threshold = threshold_at_coverage(confidence, 0.9)
    assert (confidence >= threshold).sum() == 450
    at_risk = threshold_at_risk(confidence, correct, 0.1)
    assert at_risk is not None
    given = confidence >= at_risk
    assert (~correct[given]).mean() <= 0.1
    assert given.sum() > 50
    assert threshold_at_risk(confidence, np.zeros(500, dtype=bool), 0.1) is None


def draw(
    generator: np.random.Generator, examples: int, error: float
) -> tuple[np.ndarray, np.ndarray]:
    """Uniform confidence c; an answer is wrong with probability `error` * (1 - c)."""
    confidence = generator.random(examples)
    return confidence, generator.random(examples) >= error * (1 - confidence)


@pytest.mark.parametrize(
    ("examples", "error", "risk"), [(120, 0.2, 0.2), (600, 0.5, 0.15), (300, 1.0, 0.4)]
)
def test_bounded_risk_holds_in_95_percent_of_draws(
    examples: int, error: float, risk: float
) -> None:
    generator = np.random.default_rng(3)
    found = [
        threshold_at_bounded_risk(*draw(generator, examples, error), risk) for _ in range(1000)
    ]
    chosen = [each.threshold for each in found if each.threshold is not None]
    # The mean error above a threshold t is error * (1 - t) / 2.
    broken = sum(error * (1 - threshold) / 2 > risk for threshold in chosen)
    assert broken <= 0.05 * len(found)
    assert len(chosen) > 300
    assert all(each.bound <= risk for each in found if each.threshold is not None)


def test_higher_risk_never_answers_fewer() -> None:
    generator = np.random.default_rng(4)
    for _ in range(100):
        confidence, correct = draw(generator, int(generator.integers(1, 400)), 0.6)
        found = [
            threshold_at_bounded_risk(confidence, correct, risk).threshold
            for risk in np.linspace(0, 1, 21)
        ]
        chosen = [threshold for threshold in found if threshold is not None]
        assert found[len(found) - len(chosen) :] == chosen
        assert chosen == sorted(chosen, reverse=True)
        assert chosen[-1] == confidence.min()  # a risk of 1 answers everything


def test_few_examples_do_not_support_a_low_risk() -> None:
    confidence, correct = np.linspace(0.5, 1, 20), np.ones(20, dtype=bool)
    refused = threshold_at_bounded_risk(confidence, correct, 0.05)
    assert refused.threshold is None
    # Ten of 20 are answered in the first of five steps: 1 - (0.05 / 5) ** (1 / 11).
    assert refused.bound == pytest.approx(1 - 0.01 ** (1 / 11))
    accepted = threshold_at_bounded_risk(confidence, correct, refused.bound)
    assert accepted.threshold is not None
    many = threshold_at_bounded_risk(np.linspace(0.5, 1, 200), np.ones(200, dtype=bool), 0.05)
    assert many.threshold == 0.5
    assert threshold_at_bounded_risk(confidence, ~correct, 0.9).threshold is None


def test_equal_confidence_is_answered_together() -> None:
    correct = np.arange(100) % 2 == 0
    found = threshold_at_bounded_risk(np.full(100, 0.7), correct, 0.4)
    assert found.threshold is None and found.bound > 0.5


def test_risk_bound_inverts_the_binomial_tail() -> None:
    assert risk_bound(0, 10, 0.05) == pytest.approx(1 - 0.05**0.1)
    assert risk_bound(10, 10, 0.05) == risk_bound(0, 0, 0.05) == 1
    bound = risk_bound(1, 10, 0.05)
    assert (1 - bound) ** 10 + 10 * bound * (1 - bound) ** 9 == pytest.approx(0.05)


@pytest.mark.parametrize(("examples", "coverage"), [(32, 0.9), (328, 0.9), (100, 0.5)])
def test_coverage_of_new_examples_lies_in_its_interval(examples: int, coverage: float) -> None:
    generator = np.random.default_rng(5)
    within = 0
    for _ in range(1000):
        confidence = generator.random(examples)
        threshold = threshold_at_coverage(confidence, coverage)
        low, high = coverage_interval(int((confidence >= threshold).sum()), examples)
        within += low <= 1 - threshold <= high
    assert within >= 940


@pytest.mark.parametrize(
    ("examples", "coverage"), [(1, 0.9), (7, 0.95), (20, 0.95), (32, 0.9), (100, 0.9), (9, 1)]
)
def test_mean_coverage_of_new_examples_is_the_target(examples: int, coverage: float) -> None:
    generator = np.random.default_rng(6)
    reached = [1 - threshold_at_coverage(generator.random(examples), coverage) for _ in range(4000)]
    assert np.mean(reached) == pytest.approx(coverage, abs=0.005)


def test_coverage_interval_narrows_with_rows() -> None:
    low, high = coverage_interval(296, 328)
    assert (low, high) == pytest.approx((0.867, 0.93), abs=0.005)
    few = coverage_interval(29, 32)
    assert few[0] < low < high < few[1]
    assert coverage_interval(1, 1) == pytest.approx((0.025, 1))
    assert coverage_interval(0, 1) == pytest.approx((0, 0.975))


def population(generator: np.random.Generator, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Confidence, and a covariate that explains most of its log-odds."""
    covariate = generator.normal(size=examples)
    odds = 2 + 2 * covariate + generator.normal(size=examples)
    return 1 / (1 + np.exp(-odds)), covariate


def test_crossfit_comes_closer_to_the_target_coverage() -> None:
    generator = np.random.default_rng(7)
    new, _ = population(generator, 20_000)
    misses: dict[str, list[float]] = {"alone": [], "crossfit": []}
    for _ in range(300):
        confidence, covariate = population(generator, 32)
        _, others = population(generator, 300)
        found = crossfit_threshold(confidence, covariate, others, 0.9)
        alone = threshold_at_coverage(confidence, 0.9)
        if found is not None:  # by chance, 10% of the draws differ too much
            misses["crossfit"].append(float((new >= found).mean()) - 0.9)
            misses["alone"].append(float((new >= alone).mean()) - 0.9)
    assert len(misses["alone"]) > 250
    spread = {name: float(np.sqrt(np.mean(np.square(each)))) for name, each in misses.items()}
    assert spread["crossfit"] < 0.85 * spread["alone"]
    assert np.mean(misses["crossfit"]) == pytest.approx(0, abs=0.02)


def test_full_coverage_answers_everything() -> None:
    confidence, covariate = population(np.random.default_rng(9), 60)
    assert threshold_at_coverage(confidence, 1) == 0
    assert crossfit_threshold(confidence, covariate, covariate, 1) is None


def test_crossfit_refuses_different_examples() -> None:
    generator = np.random.default_rng(8)
    confidence, covariate = population(generator, 200)
    _, others = population(generator, 2000)
    assert crossfit_threshold(confidence, covariate, others, 0.9) is not None
    assert crossfit_threshold(confidence, covariate, others + 1, 0.9) is None
    assert crossfit_threshold(confidence, np.zeros(200), others, 0.9) is None
    assert crossfit_threshold(confidence[:5], covariate[:5], others, 0.9) is None
    many = population(generator, 501)
    assert crossfit_threshold(*many, others, 0.9) is None


def test_threshold_by_scope_separates_the_two() -> None:
    inside, outside = np.array([0.9, 0.8, 0.6, 0.2]), np.array([0.1, 0.3, 0.5])
    correct = np.array([True, True, True, False])
    assert threshold_by_scope(inside, correct, outside) == pytest.approx(0.55)
    # A thousand more of the same out-of-scope texts change nothing.
    assert threshold_by_scope(inside, correct, np.tile(outside, 1000)) == pytest.approx(0.55)
