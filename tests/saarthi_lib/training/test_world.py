"""Variables of torchrun."""

import pytest

from saarthi_lib.errors import ConfigError
from saarthi_lib.training.device import world
from tests.test_cli import process

RIGHT = {
    "TORCHELASTIC_RUN_ID": "a",
    **{"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
}


def set_variables(monkeypatch: pytest.MonkeyPatch, given: dict[str, str | None]) -> None:
    for name in (*RIGHT, "NODE_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        if value is not None:
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("rank", "size"),
    [
        ("x", "2"),
        (None, "2"),
        ("0", None),
        ("2", "2"),
        ("-1", "2"),
        ("0", "0"),
        ("٣", "9"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("prefix", ["", "LOCAL_"])
def test_broken_variables_of_torchrun_are_named(
    monkeypatch: pytest.MonkeyPatch, prefix: str, rank: str | None, size: str | None
) -> None:
    set_variables(monkeypatch, {**RIGHT, f"{prefix}RANK": rank, f"{prefix}WORLD_SIZE": size})
    with pytest.raises(ConfigError, match=rf"{prefix}RANK=.* {prefix}WORLD_SIZE=.*torchrun"):
        world()


def test_variables_of_torchrun_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, {**RIGHT})
    assert world() == (1, 4)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="WORLD_SIZE=3 must be a multiple of LOCAL_WORLD_SIZE=2"):
        world()


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "LOCAL_WORLD_SIZE"])
@pytest.mark.parametrize("value", ["x", "", "3"])
def test_variables_without_torchrun_are_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    set_variables(monkeypatch, {name: value})
    with pytest.raises(ConfigError, match=rf"^{name}='{value}' is set, but torchrun has not"):
        world()
    set_variables(monkeypatch, {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"})
    assert world() == (0, 1)


def test_train_names_a_broken_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, {"RANK": "x"})
    done = process("from saarthi_lib.cli import main; main()", "train", "no.yaml")
    assert done.returncode == 2 and "error: RANK='x' is set, but torchrun" in done.stderr
    assert "Traceback" not in done.stderr
