"""A few kills of the crash test; its script runs many."""

import pytest

from tests.benchmark_scripts import printed


@pytest.mark.slow
def test_run_killed_at_random_moments_resumes_to_equal_result() -> None:
    said = printed("crashes.py", "--kills", "10", "--seed", "7")
    assert "| **all** | 10 | 10 | 0 | 0 |" in said
