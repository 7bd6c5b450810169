"""The engine of the tests leaves nothing behind."""

import pytest

from tests.docker.engine import Engine, why_not

pytestmark = pytest.mark.docker


def test_it_ends_with_its_processes_mounts_and_files() -> None:
    if reason := why_not():
        pytest.skip(reason)
    with Engine() as engine:
        assert engine.docker("images", "--quiet") == ""
        assert len(engine.processes()) >= 2  # dockerd and containerd
    assert engine.processes() == [] and engine.mounts() == []
    assert not engine.folder.exists()
