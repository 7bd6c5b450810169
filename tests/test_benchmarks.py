"""The benchmarks of inference run and print their tables."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = "| small, E 100 H 128, onnxruntime, int8 |"


def printed(script: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), "--quick"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "the figures mean nothing" in done.stdout
    return done.stdout


@pytest.mark.parametrize(
    ("script", "title"),
    [("latency.py", "### Texts of "), ("throughput.py", " texts of ")],
)
def test_it_prints_a_table_for_each_workload(script: str, title: str) -> None:
    output = printed(script)

    assert len(re.findall(f"{title}.*one thread", output)) == 2
    rows = [line.split(" | ") for line in output.splitlines() if line.startswith(OURS)]
    assert len(rows) == 2
    for row in rows:
        # Every figure is there: a median with its spread, the ratios, the floor.
        assert all(re.search(r"\d", cell) for cell in row[1:])
    if script == "latency.py":
        # Two ratios and the floor, at two lengths.
        assert len(re.findall(r"goal \d+: (?:NOT )?reached", output)) == 6
