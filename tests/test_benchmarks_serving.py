"""The benchmarks of servers run, and report the expected behaviour under overload."""

from pathlib import Path

import pytest

from tests.benchmark_scripts import printed
from tests.tiny_bundle import write_tiny_bundle


@pytest.mark.slow
def test_overloaded_server_sheds_requests_and_keeps_memory() -> None:
    output = printed("overload.py", "--quick")

    rows = [line.split(" | ") for line in output.splitlines() if " × | " in line]
    assert [row[0] for row in rows] == ["| 0.5 ×", "| 1 ×", "| 2 ×", "| 5 ×", "| 10 ×"]
    assert "503: " in rows[-1][6]  # the server sheds requests beyond its capacity
    answered = [float(row[2]) for row in rows]
    assert answered[-1] > 0.25 * max(answered)
    memory = [float(row[-1].rstrip(" |")) for row in rows]
    assert max(memory) - min(memory) < 100


@pytest.mark.slow
def test_serving_compares_a_bundle_of_any_vocabulary(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")

    output = printed("serving.py", str(bundle), "--quick")

    rates = [line.split(" | ")[1] for line in output.splitlines() if line.startswith("| plain |")]
    assert len(rates) == 4 and all(float(rate) > 0 for rate in rates)
