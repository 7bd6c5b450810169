"""Execute the runs of a sweep in parallel processes; finished runs are kept."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from saarthi_lib.config import SECTIONS, TrainConfig
from saarthi_lib.errors import SaarthiError
from saarthi_lib.lineage import source_digest
from saarthi_lib.recipe import settled
from saarthi_lib.storage import digest_json, read_json, write_json
from saarthi_lib.sweep.plan import SweepRun
from saarthi_lib.sweep.trial import RESULT

STORE, RUNS = "steps", "runs"
CONFIG, LOG, KEY = "config.yaml", "log.txt", "key.json"
_POLL_SECONDS = 0.2
_TELL_SECONDS = 30.0

# Called with an event (`started`, `finished`, `failed`, `kept` or `running`), the run and a text.
Progress = Callable[[str, SweepRun, str], None]


@dataclass
class _Process:
    run: SweepRun
    process: "subprocess.Popen[bytes]"
    log: IO[bytes]
    started: float
    told: float


def execute(
    runs: Sequence[SweepRun],
    output: Path,
    jobs: int,
    data_digest: Callable[[TrainConfig], str],
    progress: Progress,
) -> list[str]:
    """Train the unfinished runs; a failed run does not stop the others.

    Runs with the same teacher share its steps through a folder of finished steps: the first run
    that needs a step makes it, and the others wait for it.

    Args:
        runs: runs of `plan_sweep`.
        output: the sweep's folder.
        jobs: concurrent processes, which divide the processors among them.
        data_digest: digest of a configuration's input; runs with changed data are rerun.
        progress: called with each event.

    Returns:
        Names of the failed runs.
    """
    keys = {run.name: _key(run, data_digest) for run in runs}
    waiting = []
    for run in runs:
        if is_finished(run, keys[run.name]):
            progress("kept", run, "")
        else:
            waiting.append(run)
    # Start one run of each teacher first, so that processes do not wait for shared steps.
    before: Counter[str] = Counter()
    ranked = []
    for run in waiting:
        ranked.append((before[run.teaching], run))
        before[run.teaching] += 1
    waiting = [run for _, run in sorted(ranked, key=lambda pair: pair[0])]
    failed: list[str] = []
    running: list[_Process] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(waiting.pop(0), output, jobs))
                progress("started", running[-1].run, "")
            time.sleep(_POLL_SECONDS)
            for each in list(running):
                if each.process.poll() is not None:
                    running.remove(each)
                    each.log.close()
                    failed += _ended(each, keys[each.run.name], progress)
                elif time.monotonic() - each.told > _TELL_SECONDS:
                    each.told = time.monotonic()
                    progress("running", each.run, _last_line(_folder(each.run) / LOG))
    finally:
        for each in running:
            each.process.terminate()
            each.process.wait()
            each.log.close()
    return failed


def is_finished(run: SweepRun, key: str) -> bool:
    """Whether the run succeeded with the configuration, data and code of this key."""
    folder = _folder(run)
    if not ((folder / RESULT).is_file() and (folder / KEY).is_file()):
        return False
    return bool(read_json(folder / KEY) == key)


def result_of(run: SweepRun) -> dict[str, Any]:
    """Result that `trial` wrote."""
    content: dict[str, Any] = read_json(_folder(run) / RESULT)
    return content


def threads_of(jobs: int) -> int:
    """Threads of each process."""
    return max(1, len(os.sched_getaffinity(0)) // jobs)


def _key(run: SweepRun, data_digest: Callable[[TrainConfig], str]) -> str:
    return digest_json([settled(run.config, *SECTIONS), data_digest(run.config), source_digest()])


def _folder(run: SweepRun) -> Path:
    return Path(run.config.root_output_path)


def _start(run: SweepRun, output: Path, jobs: int) -> _Process:
    folder = _folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (RESULT, KEY):
        (folder / name).unlink(missing_ok=True)
    run.config.to_yaml(folder / CONFIG)
    command = [sys.executable, "-m", "saarthi_lib.sweep.trial", str(folder / CONFIG)]
    log = (folder / LOG).open("wb")
    environment = {**os.environ}
    environment.setdefault("OMP_NUM_THREADS", str(threads_of(jobs)))
    process = subprocess.Popen(
        [*command, "--store", str(output / STORE)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    now = time.monotonic()
    return _Process(run, process, log, now, now)


def _ended(each: _Process, key: str, progress: Progress) -> list[str]:
    folder = _folder(each.run)
    if each.process.returncode == 0 and (folder / RESULT).is_file():
        write_json(folder / KEY, key)
        score = result_of(each.run)["validation_main"]
        seconds = time.monotonic() - each.started
        progress("finished", each.run, f"validation {100 * score:.2f}, {seconds:.0f} s")
        return []
    progress("failed", each.run, f"{_last_line(folder / LOG)} (all of it: {folder / LOG})")
    return [each.run.name]


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise SaarthiError(f"{log}: cannot be read: {error}") from error
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")
