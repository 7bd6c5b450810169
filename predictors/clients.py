"""Fetch files with KServe's storage clients, in a process of its own.

The clients know no limits and cannot be cancelled. The kernel limits the size of each file that the
process writes, and the process ends at the deadline, or with the thread that started it.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from saarthi_lib.errors import BundleError
from saarthi_lib.layout import SIGNATURE

# The child has the module path of its parent. `-P`: never code of the working directory.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from predictors.clients import main; main()"
)
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux
_LOOK_SECONDS = 0.1
_SPARE_BYTES = 1 << 20  # of files that a client writes for itself
_MEMORY_BYTES = 4 << 30


def fetch(uri: str, folder: Path, sizes: Mapping[str, int], seconds: float) -> None:
    """Fetch files of a bundle.

    Args:
        uri: address of the bundle's folder.
        folder: output folder.
        sizes: maximum bytes of each file, by name.
        seconds: time limit.

    Raises:
        BundleError: a file is missing or too large, the client fails, or the time is over.
    """
    job = {"uri": uri, "folder": str(folder), "sizes": dict(sizes), "parent": os.getpid()}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _START, json.dumps(job), json.dumps(sys.path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # signals of the terminal are for the server
    )
    with process:
        try:
            answer = _answer(process, uri, folder, sum(sizes.values()) + _SPARE_BYTES, seconds)
        finally:
            process.kill()
    if answer is None:
        raise BundleError(
            f"{uri}: storage has not answered within {seconds:g} s; try again, or allow more time "
            "(SAARTHI_FETCH_SECONDS)"
        )
    error = json.loads(answer)["error"] if answer else "the client was ended"
    if error:
        raise BundleError(
            f"{uri}: cannot be fetched ({error}); check the address and the service account's "
            "rights"
        )
    for name, most in sizes.items():
        path = folder / name
        if not path.is_file():
            if name != SIGNATURE:
                raise BundleError(f"{uri}: lacks {name}, so it is not a whole bundle")
        elif path.stat().st_size > most:
            raise _too_large(f"{uri}/{name}", most)


def _answer(
    process: "subprocess.Popen[bytes]", uri: str, folder: Path, most: int, seconds: float
) -> bytes | None:
    """Output of the process; None if it does not end in time."""
    end = time.monotonic() + seconds
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=min(_LOOK_SECONDS, seconds))[0]
        if _written(folder) > most:
            raise _too_large(uri, most)
        if time.monotonic() > end:
            return None


def _written(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # moved meanwhile
            total += path.lstat().st_size
    return total


def _too_large(place: str, most: int) -> BundleError:
    return BundleError(f"{place}: has more than {most} bytes; publish the bundle again")


def main() -> None:
    """Fetch files: the job is the first argument, and the answer goes to standard output."""
    import ctypes

    job = json.loads(sys.argv[1])
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != job["parent"]:  # it ended before
        os._exit(1)
    os.nice(10)  # requests come first
    answers = os.dup(sys.stdout.fileno())
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # clients print
    most = max(job["sizes"].values())
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    error = ""
    try:
        from kserve_storage import Storage

        Storage.download(job["uri"], job["folder"], allow_patterns=list(job["sizes"]))
    except Exception as failed:  # each kind of storage has its own errors
        error = f"{type(failed).__name__}: {failed}"
        if "File too large" in error:
            error = f"a file has more than {most} bytes"
    os.write(answers, json.dumps({"error": error[:3000]}).encode())
    os._exit(0)  # skips the clients' own ends
