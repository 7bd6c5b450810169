"""The pipelines, compiled once, and a cluster to submit them to."""

from pathlib import Path

import pytest

from pipelines.compile import compile_pipelines


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every pipeline compiled for every environment."""
    folder = tmp_path_factory.mktemp("compiled")
    compile_pipelines(folder)
    return folder
