"""The benchmarks of training and of cold start run and print their tables."""

import pytest

from tests.benchmark_scripts import printed


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
    output = printed(script, "--quick")

    assert [line for line in lines if line not in output] == []
    assert "goal at least" in output or "at most" in output
