"""The benchmarks of training and of cold start run and print their tables."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        (
            "training.py",
            ("### Fine-tuning the teacher", "### The five stages", "teacher fine-tuning: ", "sum"),
        ),
        (
            "cold_start.py",
            ("### Cold start", "### Memory", "library, ONNX Runtime", "first POST /predict"),
        ),
    ],
)
def test_it_prints_its_tables(script: str, lines: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), "--quick"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in lines if line not in done.stdout] == []
    assert "goal at least" in done.stdout or "at most" in done.stdout
