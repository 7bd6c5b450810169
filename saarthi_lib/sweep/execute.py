"""Execute the runs of a sweep in parallel processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from saarthi_lib.errors import SaarthiError
from saarthi_lib.storage import read_json
from saarthi_lib.sweep.plan import SweepRun
from saarthi_lib.sweep.trial import RESULT, TrialResult

STORE, RUNS = "steps", "runs"
CONFIG, LOG = "config.yaml", "log.txt"
_REPORT_SECONDS = 30.0

# Called with an event (`started`, `finished`, `failed` or `running`), the run and a text.
Progress = Callable[[str, SweepRun, str], None]


def execute(runs: Sequence[SweepRun], output: Path, jobs: int, progress: Progress) -> list[str]:
    """Train the runs; a failed run does not stop the others.

    Each run reuses its finished steps (see `train`). Runs with the same teacher share its steps
    through a folder of finished steps: the first run that needs a step runs it, and the others wait
    for it.

    Args:
        runs: runs of `plan_sweep`.
        output: folder of the sweep.
        jobs: number of concurrent processes, which share the processors.
        progress: function called with each event, by one thread at a time.

    Returns:
        Names of the failed runs.
    """
    # Start one run of each teacher first, so that processes do not wait for shared steps.
    first = {run.teaching: run.name for run in reversed(runs)}
    ordered = sorted(runs, key=lambda run: first[run.teaching] != run.name)
    processes: list[subprocess.Popen[bytes]] = []
    lock = Lock()

    def report(event: str, run: SweepRun, text: str) -> None:
        with lock:
            progress(event, run, text)

    def train(run: SweepRun) -> bool:
        return _train(run, output / STORE, threads_of(jobs), processes, report)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            succeeded = list(pool.map(train, ordered))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            raise
    return [run.name for run, good in zip(ordered, succeeded, strict=True) if not good]


def result_of(run: SweepRun) -> TrialResult:
    """Result that `trial` wrote."""
    content: TrialResult = read_json(_folder(run) / RESULT)
    return content


def threads_of(jobs: int) -> int:
    """Threads of each process."""
    return max(1, len(os.sched_getaffinity(0)) // jobs)


def _folder(run: SweepRun) -> Path:
    return Path(run.config.root_output_path)


def _train(
    run: SweepRun,
    store: Path,
    threads: int,
    processes: "list[subprocess.Popen[bytes]]",
    progress: Progress,
) -> bool:
    """Train a run in a process, which is added to `processes`; returns whether it succeeded."""
    folder, started = _folder(run), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    run.config.to_yaml(folder / CONFIG)
    command = [sys.executable, "-m", "saarthi_lib.sweep.trial", str(folder / CONFIG)]
    progress("started", run, "")
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            [*command, "--store", str(store)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"OMP_NUM_THREADS": str(threads), **os.environ},
        )
        processes.append(process)
        while process.poll() is None:
            try:
                process.wait(_REPORT_SECONDS)
            except subprocess.TimeoutExpired:
                progress("running", run, _last_line(folder / LOG))
    if process.returncode:
        progress("failed", run, f"{_last_line(folder / LOG)} (all of it: {folder / LOG})")
        return False
    score, seconds = result_of(run)["validation_main"], time.monotonic() - started
    progress("finished", run, f"validation {100 * score:.2f}, {seconds:.0f} s")
    return True


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise SaarthiError(f"{log}: cannot be read: {error}") from error
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")
