"""Real child processes to kill, and real disks that are full or read-only."""

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest


def in_child(work: Callable[[], Any]) -> int:
    """Run a function in a forked process; returns the status of `os.waitpid`."""
    child = fork(work)
    return os.waitpid(child, 0)[1]


def fork(work: Callable[[], Any]) -> int:
    """Start a function in a forked process, which ends with code 0, or 1 after an error."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return child


def killed_at(point: int, file: str, work: Callable[[], Any]) -> bool:
    """Run a function in a child process, and kill it before the n-th line of a file.

    Returns:
        Whether it was killed; otherwise it has succeeded, in fewer lines.
    """

    def traced() -> None:
        seen = 0

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal seen
            if frame.f_code.co_filename != file:
                return None
            if event == "line":
                if seen == point:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1
            return trace

        sys.settrace(trace)
        work()

    status = in_child(traced)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system in memory at a folder; skips if mounting is not possible."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a mounted file system: `ro`, `rw`, `size=64m`."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
