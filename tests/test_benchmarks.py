"""The benchmarks of inference run and print their tables."""

import re

import pytest

from tests.benchmark_scripts import printed

OURS = "| lstm small, E 100 H 128, onnxruntime, int8 |"


@pytest.mark.parametrize(
    ("script", "title"),
    [("latency.py", "### Texts of "), ("throughput.py", " texts of ")],
)
@pytest.mark.slow
def test_it_prints_a_table_for_each_workload(script: str, title: str) -> None:
    output = printed(script, "--quick")

    assert "the figures mean nothing" in output

    assert len(re.findall(f"{title}.*one thread", output)) == 2
    rows = [line.split(" | ") for line in output.splitlines() if line.startswith(OURS)]
    assert len(rows) == 2
    for row in rows:
        # All numbers are present: a median with its spread, the ratios, the floor.
        assert all(re.search(r"\d", cell) for cell in row[1:])
    if script == "latency.py":
        # Two ratios and the floor, at two lengths.
        assert len(re.findall(r"goal \d+: (?:NOT )?reached", output)) == 6
