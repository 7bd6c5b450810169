"""Trial of a bundle in a process of its own, before a server loads it.

A network or a tokenizer can run for ever, use all memory or crash its process. The trial loads the
bundle, runs batches of all kinds and warms up as the server does, with a deadline and a limit on
memory. The kernel ends the process with the thread that started it, so a trial never delays the end
of a server.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from saarthi_lib.bundle import BundleManifest, verify_bundle
from saarthi_lib.bundle.manifest import HOW_TO_FIX
from saarthi_lib.errors import BundleError, NetworkError
from saarthi_lib.inference.engine import model_of
from saarthi_lib.inference.predictor import Predictor

# The child has the module path of its parent. `-P`: never code of the working directory.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from saarthi_lib.inference.trial import main; main()"
)
_PACKAGES = {"onnxruntime": "onnxruntime", "torchscript": "torch"}
# Memory of a trial besides its libraries. PyTorch reserves 10 MB for each shape of a batch.
_SPARE_BYTES = {"onnxruntime": 512 << 20, "torchscript": 4 << 30}
_COPIES = 16  # further memory, in sizes of the bundle: float16 and int8 weights are widened
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux
_MEMORY_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Trial:
    """A trial of bundles in new processes, with one thread.

    Attributes:
        seconds: maximum time of a trial.
        meanwhile: work for this process during the trial.
    """

    seconds: float = 30.0
    meanwhile: Callable[[], object] | None = None

    def run(self, folder: Path, manifest: BundleManifest, runtime: str | None) -> None:
        """Try a bundle.

        Args:
            folder: the bundle.
            manifest: the verified manifest.
            runtime: see `load_engine`.

        Raises:
            NetworkError: the network or another file fails, crashes, needs too much memory or does
                not end in time.
            BundleError: the runtime is unknown or not installed, or the bundle lacks its file, or
                it was changed.
        """
        runtime, name = model_of(manifest, runtime, folder)
        job = {
            "folder": str(folder),
            "model": name,
            "size": sum(record.size_bytes for record in manifest.files.values()),
            "runtime": runtime,
            "seconds": self.seconds,
            "parent": os.getpid(),
        }
        answer, code = self._answer([json.dumps(job), json.dumps(sys.path)], runtime)
        if code is None:
            raise NetworkError(
                f"{folder / name}: the network has not answered within {self.seconds:g} s, so it "
                f"may never answer; {HOW_TO_FIX}, or allow more time (SAARTHI_TRIAL_SECONDS)"
            )
        if not answer:
            reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise NetworkError(
                f"{folder / name}: the network ended its process ({reason}), or needed more memory "
                f"than there is; {HOW_TO_FIX}"
            )
        result = json.loads(answer)
        if result["error"]:
            raise (NetworkError if result["whole"] else BundleError)(result["error"])

    def _answer(self, arguments: list[str], runtime: str) -> tuple[bytes, int | None]:
        """Output and exit code of a trial; the code is None if it did not end in time."""
        quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **quiet},
            start_new_session=True,  # signals of the terminal are for the server
        )
        with process:
            try:
                with suppress(ImportError):  # `load_engine` names the package
                    import_module(_PACKAGES[runtime])  # this process needs it next
                if self.meanwhile:
                    self.meanwhile()
                output, _ = process.communicate(timeout=self.seconds)
            except subprocess.TimeoutExpired:
                return b"", None
            finally:
                process.kill()
        return output, process.returncode


def main() -> None:
    """Run a trial: the job is the first argument, and the answer goes to standard output."""
    job = json.loads(sys.argv[1])
    _limit_time(job["seconds"], job["parent"])
    answers = os.dup(sys.stdout.fileno())
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # networks can print
    folder, whole, error = Path(job["folder"]), True, ""
    try:
        with suppress(ImportError):  # `load_engine` names the package
            import_module(_PACKAGES[job["runtime"]])
        _limit_memory(job["runtime"], job["size"])
        Predictor.load(folder, runtime=job["runtime"]).rehearse()
    except BundleError as refused:
        error, whole = str(refused), _is_whole(folder)
    except MemoryError:
        error = f"{folder / job['model']}: the network needs too much memory; {HOW_TO_FIX}"
    except Exception as failed:
        error = f"{folder / job['model']}: the trial of the network failed ({failed!r:.300})"
    os.write(answers, json.dumps({"error": error[:3000], "whole": whole}).encode())
    os._exit(0)  # skips the libraries' own ends


def _is_whole(folder: Path) -> bool:
    """Whether a bundle is still whole, so that loading it again would fail again."""
    try:
        verify_bundle(folder)
    except BundleError:
        return False
    return True


def _limit_time(seconds: float, parent: int) -> None:
    """End this process at the deadline, or with its parent."""
    import ctypes

    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        os._exit(1)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + 1)


def _limit_memory(runtime: str, size: int) -> None:
    """Limit the private memory of this process, beyond that of the loaded libraries.

    `size` is that of the bundle.

    The address space is not limited: libraries reserve much of it that they never use.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # if memory ends anyway, the kernel ends this process, not the server
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    used = next(int(line.split()[1]) << 10 for line in status.splitlines() if "VmData" in line)
    most = _SPARE_BYTES[runtime] + _COPIES * size
    if runtime == "onnxruntime":
        most = min(most, max(_free_bytes(), _COPIES // 4 * size))
    resource.setrlimit(resource.RLIMIT_DATA, (used + most, used + most))


def _free_bytes() -> int:
    """Memory that the container has left; files in the cache count as free."""
    try:
        most = int((_MEMORY_GROUP / "memory.max").read_text(encoding="ascii"))
        rows = (_MEMORY_GROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        return most - next(int(row.split()[1]) for row in rows if row.startswith("anon "))
    except (OSError, ValueError, StopIteration):  # no limit, or another system
        return 1 << 62
