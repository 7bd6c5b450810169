"""The benchmarks of inference print their tables."""

import re

import pytest

from tests.benchmark_scripts import printed

OURS = "| lstm small, E 100 H 128, onnxruntime, int8 |"


@pytest.mark.slow
def test_latency_prints_a_table_for_each_workload() -> None:
    output = printed("latency.py", "--quick")

    assert "the numbers mean nothing" in output
    assert len(re.findall(r"### .*, one thread", output)) == 3
    rows = [line.split(" | ") for line in output.splitlines() if line.startswith(OURS)]
    assert len(rows) == 3
    assert all(re.search(r"\d", cell) for row in rows for cell in row[1:])


@pytest.mark.slow
def test_decoding_prints_a_row_for_each_case() -> None:
    assert len(re.findall(r"\| \d+[\d.]* \|", printed("decoding.py", "--quick"))) >= 15
