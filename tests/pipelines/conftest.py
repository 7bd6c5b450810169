"""The pipelines, compiled once, and a cluster to submit them to."""

import inspect
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.compile import compile_pipelines
from tests.conftest import made_once
from tests.pipelines.kfp_server import KfpServer


@pytest.fixture(scope="session", autouse=True)
def _stacks_without_source() -> Iterator[None]:
    """Give KFP stack frames without source lines.

    KFP inspects the stack at each setting of a task. With torch loaded, Python searches thousands
    of modules for the source lines, which takes minutes for a pipeline.
    """

    def stack(context: int = 1) -> list[inspect.FrameInfo]:
        return [
            inspect.FrameInfo(frame, code.co_filename, line, code.co_name, None, None)
            for frame, line in traceback.walk_stack(sys._getframe(1))
            for code in [frame.f_code]
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect, "stack", stack)
        yield


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with every pipeline compiled for every environment."""
    return made_once(tmp_path_factory, "compiled", compile_pipelines)


@pytest.fixture
def server() -> Iterator[KfpServer]:
    """A stand-in for the API server of Kubeflow Pipelines."""
    with KfpServer() as running:
        yield running
