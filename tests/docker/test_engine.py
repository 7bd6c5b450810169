"""The engine of the tests leaves nothing behind."""

import pytest

from tests.docker.engine import Engine

pytestmark = pytest.mark.docker


def test_engine_ends_with_its_processes_mounts_and_files(engine: Engine) -> None:
    with Engine() as another:  # next to the engine of the other tests, which is running
        assert another.docker("images", "--quiet") == ""
        assert len(another.processes()) >= 2  # dockerd and containerd
    assert another.processes() == [] and another.mounts() == []
    assert not another.folder.exists()
    assert engine.processes()
