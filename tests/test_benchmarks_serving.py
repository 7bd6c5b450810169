"""The benchmark of overload reports the expected behaviour of a server."""

import pytest

from tests.benchmark_scripts import printed


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
