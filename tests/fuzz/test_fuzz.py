"""A short run of the fuzzing, so that it goes on working; the long one is `tests/fuzz/run.py`."""

import json
from pathlib import Path

import pytest

from tests.fuzz import servers
from tests.fuzz.run import main, try_inputs
from tests.fuzz.targets import IN_PROCESS


@pytest.mark.parametrize("name", [name for name in IN_PROCESS if "network" not in name])
def test_inputs_of_chance_find_nothing(name: str) -> None:
    slow = "trimmed" in name or "TorchScript" in name or "any file" in name
    found = try_inputs(name, 10**6, 10 if slow else 150)

    assert found.findings == []


def test_a_server_asked_with_what_went_wrong_answers_on() -> None:
    with servers.a_server() as server:
        for ask in (servers.over_http, servers.over_raw_http, servers.over_grpc):
            statuses, found = ask(server, 250, 10**6)
            assert found == [] and sum(statuses.values()) == 250
            assert len(statuses) > 1


@pytest.mark.slow
def test_a_longer_run_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "results.json"
    monkeypatch.setattr(
        "sys.argv", ["run", "--scale", "0.01", "--seed", "7", "--json", str(output)]
    )

    assert main() == 0, output.read_text(encoding="utf-8")
    seen = {each["target"]: each["inputs"] for each in json.loads(output.read_text())}
    assert sum(seen.values()) > 10_000 and min(seen.values()) > 0
