"""A short fuzzing run; `tests/fuzz/run.py` is the long one."""

import json
from pathlib import Path

import pytest

from tests.fuzz import servers
from tests.fuzz.run import main, try_inputs
from tests.fuzz.targets import IN_PROCESS


@pytest.mark.parametrize("name", [name for name in IN_PROCESS if "network" not in name])
def test_random_inputs_find_no_fault(name: str) -> None:
    slow = "trimmed" in name or "TorchScript" in name or "any file" in name
    processes = "never end" in name or "health" in name  # each input starts one
    found = try_inputs(name, 10**6, 3 if processes else 10 if slow else 60)

    assert found.findings == []


def test_server_survives_malformed_requests() -> None:
    with servers.a_server(fresh=False) as server:
        for ask in (servers.over_http, servers.over_raw_http, servers.over_grpc):
            statuses, found = ask(server, 100, 10**6)
            assert found == [] and sum(statuses.values()) == 100
            assert len(statuses) > 1


@pytest.mark.slow
def test_longer_fuzzing_run_finds_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "results.json"
    monkeypatch.setattr(
        "sys.argv", ["run", "--scale", "0.01", "--seed", "7", "--json", str(output)]
    )

    assert main() == 0, output.read_text(encoding="utf-8")
    seen = {each["target"]: each["inputs"] for each in json.loads(output.read_text())}
    assert sum(seen.values()) > 10_000 and min(seen.values()) > 0
