"""Calibration and intervals: known values, and properties of random ones."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from saarthi_lib.evaluation.calibration import (
    area_under_risk_coverage,
    expected_calibration_error,
    mean_interval,
    reliability,
    risk_coverage,
    wilson_interval,
)

answered = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


def test_bins_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=500)
    right = rng.uniform(size=500) < p**2
    accuracy, mean = calibration_curve(right, p, n_bins=10)
    bins = reliability(p, right, bins=10)
    assert [each.accuracy for each in bins] == pytest.approx(list(accuracy))
    assert [each.probability for each in bins] == pytest.approx(list(mean))


def test_calibration_error_of_known_answers():
    # Four answers at 0.9 of which three are right, one wrong one at 0.55.
    value = expected_calibration_error([0.9, 0.9, 0.9, 0.9, 0.55], [1, 1, 1, 0, 0])
    assert value == pytest.approx(4 / 5 * 0.15 + 1 / 5 * 0.55)
    assert expected_calibration_error([1.0, 1.0], [True, True]) == 0
    assert expected_calibration_error([], []) == 0


def test_risk_and_coverage_of_known_answers():
    coverage, risk = risk_coverage([0.9, 0.8, 0.8, 0.1], [1, 1, 0, 0])
    assert coverage.tolist() == [0.25, 0.75, 1.0]  # the two at 0.8 come together
    assert risk.tolist() == pytest.approx([0, 1 / 3, 1 / 2])
    assert area_under_risk_coverage([0.9, 0.8, 0.8, 0.1], [1, 1, 0, 0]) == pytest.approx(
        0.5 / 3 + 0.25 / 2
    )


@given(answered)
def test_calibration_metrics_stay_in_their_bounds(rows):
    p, right = [row[0] for row in rows], [row[1] for row in rows]
    assert 0 <= expected_calibration_error(p, right) <= 1
    coverage, risk = risk_coverage(p, right)
    assert coverage[-1] == 1 and risk[-1] == pytest.approx(1 - np.mean(right))
    assert (np.diff(coverage) > 0).all()
    assert 0 <= area_under_risk_coverage(p, right) <= 1
    assert sum(each.count for each in reliability(p, right)) == len(rows)


@given(st.integers(0, 200), st.integers(1, 200))
@example(0, 75)  # 3e-18 by plain arithmetic
def test_wilson_interval_contains_share_and_narrows(successes, more):
    trials = successes + more
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    narrow = wilson_interval(10 * successes, 10 * trials)
    assert narrow[1] - narrow[0] < high - low


def test_wilson_interval_of_a_known_example():
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson_interval(0, 0) == (0, 1)


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        reliability([0.5], [1, 0])


def test_mean_interval_agrees_with_central_limit():
    values = np.random.default_rng(1).normal(2.0, 1.0, 400)
    low, high = mean_interval(values)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    assert mean_interval([0.7]) == (0.7, 0.7)
    assert mean_interval([]) == (0, 0)
