"""A few kills of a run; `tests/faults/crashes.py` is the long test."""

import pytest

from tests.benchmark_scripts import output_of


@pytest.mark.slow
def test_run_killed_at_random_moments_resumes_to_equal_result() -> None:
    output = output_of("-m", "tests.faults.crashes", "--kills", "10", "--seed", "7")
    assert "| **all** | 10 | 10 | 0 | 0 |" in output
