"""What it costs to run the steps as a pipeline: KFP's local runner against one process.

    python benchmarks/pipeline_overhead.py --config configs/intents.yaml

Both are command lines from start to end, in turn, each into a fresh folder, with the same
configuration. Beside the wall time stands the processor time of all processes, which other work on
the machine distorts less. What is on top is mostly each task's own import of the training
libraries, some seconds a task, so that it weighs less the longer the steps are.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import figure, machine, print_line, print_table

ROOT = Path(__file__).parent.parent
COMMANDS = {"one process": ["train"], "pipeline": ["pipeline", "run", "--config"]}


def main() -> None:
    """Run both in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "intents.yaml")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(given.rounds):
        for name in taken:
            taken[name].append(_run(name, given.config, given.settings))
    medians = {
        name: [statistics.median(values) for values in zip(*runs, strict=True)]
        for name, runs in taken.items()
    }
    one, pipeline = medians["one process"], medians["pipeline"]
    rows = [[name, *map(figure, values)] for name, values in medians.items()]
    rows.append(["on top", *(figure(b - a) for a, b in zip(one, pipeline, strict=True))])
    rows.append(
        ["on top, %", *(figure(100 * (b / a - 1)) for a, b in zip(one, pipeline, strict=True))]
    )
    title = f"{given.config.name} {' '.join(given.settings)}".strip()
    print_table(title, ["", "wall s", "processor s"], rows)
    print_line(f"\n{given.rounds} run(s) each; load {os.getloadavg()[2]:.1f}; {machine()}")


def _run(name: str, config: Path, settings: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of a command line."""
    with tempfile.TemporaryDirectory(prefix="saarthi-overhead-") as folder:
        options = [f"root_output_path={folder}/run", *settings]
        command = [sys.executable, "-c", "from saarthi_lib.cli import main; main()"]
        command += [*COMMANDS[name], str(config)]
        command += [part for option in options for part in ("--set", option)]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, busy


if __name__ == "__main__":
    main()
