"""Variables of torchrun."""

import pytest

from saarthi_lib.errors import ConfigError
from saarthi_lib.training.device import world


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
def test_broken_variables_of_torchrun_are_named(
    monkeypatch: pytest.MonkeyPatch, rank: str | None, size: str | None
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
    for name, value in (("RANK", rank), ("WORLD_SIZE", size)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"RANK=.* WORLD_SIZE=.*torchrun"):
        world()


def test_variables_of_torchrun_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TORCHELASTIC_RUN_ID", "a"), ("RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    assert world() == (1, 2)
