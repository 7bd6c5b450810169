"""A cluster to deploy to, and the commands as processes."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deployment.api_server import ApiServer

ROOT = Path(__file__).parents[2]
# The commands under the real entry's handling of errors.
SCRIPT = """
import typer
from deployment.commands import deploy, rollout
from saarthi_lib import cli
cli.app = typer.Typer(pretty_exceptions_enable=False)
cli.app.command()(deploy)
cli.app.add_typer(rollout, name="rollout")
cli.main()
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as running:
        yield running


@pytest.fixture
def saarthi(server: ApiServer, tmp_path: Path) -> Run:
    """Run a command against the server; it must leave with `code`."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(server.kubeconfig(tmp_path)),
        "COLUMNS": "200",
        "PYTHONPATH": str(ROOT),
    }

    def run(*arguments: object, code: int = 0, typed: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *map(str, arguments)],
            capture_output=True,
            text=True,
            input=typed,
            timeout=120,
            env=environment,
            cwd=tmp_path,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run
