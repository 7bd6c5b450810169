"""Run a script of benchmarks/, or a module of the tests, in its own process."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def printed(script: str, *options: str, code: int = 0) -> str:
    """Output of a script of benchmarks/, which must end with this exit code."""
    return output_of(str(ROOT / "benchmarks" / script), *options, code=code)


def output_of(*arguments: str, code: int = 0) -> str:
    """Output of Python with these arguments, which must end with this exit code."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=600,
    )
    assert done.returncode == code, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
