"""Temperature, thresholds and out-of-scope metrics, by hand and by simulation."""

import numpy as np
import pytest

from saarthi_lib.evaluation.calibration import expected_calibration_error
from saarthi_lib.evaluation.selective import (
    fit_temperature,
    out_of_scope_metrics,
    threshold_at_coverage,
    threshold_at_risk,
    threshold_by_scope,
)

GOLD = ["a", "a", "b", "b", "none", "none"]
PREDICTED = ["a", "b", "b", "b", "a", "b"]


def test_silence_is_right_out_of_scope_and_wrong_in_scope() -> None:
    abstained = [False, False, False, True, True, False]
    found = out_of_scope_metrics(GOLD, PREDICTED, abstained, ["a", "b"])
    assert found["accuracy"] == pytest.approx(3 / 6)
    assert found["in_scope_accuracy"] == pytest.approx(2 / 4)
    assert found["best_in_scope_accuracy"] == pytest.approx(3 / 4)
    assert found["oos_recall"] == pytest.approx(1 / 2)
    # Confusion (gold a, b, silent): [1 1 0], [0 1 1], [0 1 1]; Gorodkin's R_K by hand.
    assert found["mcc"] == pytest.approx((3 * 6 - 12) / ((36 - 14) * (36 - 12)) ** 0.5)


def test_perfect_and_always_silent() -> None:
    perfect = out_of_scope_metrics(["a", "b", "none"], ["a", "b", "b"], [False] * 2 + [True], "ab")
    assert set(perfect.values()) == {1.0}
    silent = out_of_scope_metrics(GOLD, PREDICTED, [True] * 6, ["a", "b"])
    assert (silent["mcc"], silent["in_scope_accuracy"], silent["oos_recall"]) == (0, 0, 1)


def test_without_out_of_scope_texts_there_is_no_recall_of_them() -> None:
    found = out_of_scope_metrics(["a", "b"], ["a", "b"], [False, False], ["a", "b"])
    assert "oos_recall" not in found
    assert found["accuracy"] == 1.0


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_overconfident_logits_is_found(temperature: float) -> None:
    generator = np.random.default_rng(0)
    honest = generator.normal(scale=2, size=(20_000, 5))
    labels = np.array([generator.choice(5, p=p) for p in softmax(honest)])
    assert fit_temperature(honest * temperature, labels) == pytest.approx(temperature, rel=0.05)


def test_scaling_calibrates() -> None:
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


def test_a_few_examples_without_an_error_do_not_make_certain() -> None:
    logits = np.eye(4) * 5
    temperature = fit_temperature(logits, np.arange(4))
    assert 0.5 < softmax(logits / temperature).max() < 0.95
    assert fit_temperature(logits[:0], np.zeros(0, dtype=int)) == 1.0


def test_thresholds_keep_what_they_promise() -> None:
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


def test_the_threshold_by_scope_parts_the_two() -> None:
    inside, outside = np.array([0.9, 0.8, 0.6, 0.2]), np.array([0.1, 0.3, 0.5])
    correct = np.array([True, True, True, False])
    assert threshold_by_scope(inside, correct, outside) == pytest.approx(0.55)
    # A thousand more of the same out-of-scope texts change nothing.
    assert threshold_by_scope(inside, correct, np.tile(outside, 1000)) == pytest.approx(0.55)
