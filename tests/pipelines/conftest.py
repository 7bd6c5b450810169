"""The pipelines, compiled once, and a cluster to submit them to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.compile import compile_pipelines
from tests.pipelines.kfp_server import KfpServer


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every pipeline compiled for every environment."""
    folder = tmp_path_factory.mktemp("compiled")
    compile_pipelines(folder)
    return folder


@pytest.fixture
def server() -> Iterator[KfpServer]:
    """A stand-in for the API server of Kubeflow Pipelines."""
    with KfpServer() as running:
        yield running
