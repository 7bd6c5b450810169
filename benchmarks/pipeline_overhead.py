"""Measure the overhead of KFP's local runner over one process, for the same configuration.

python benchmarks/pipeline_overhead.py [--config configs/intents.yaml] [--set …] [--rounds N]

Both are complete command lines and take turns, each in a new folder. CPU time depends less on other
load than wall time. Most of the overhead is the import of the training libraries in each task.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from common import ROOT, begin, parser_of, print_table, rounded

COMMANDS = {"one process": ["train"], "pipeline": ["pipeline", "run", "--config"]}


def main() -> None:
    """Run both in turn, and print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "intents.yaml")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--rounds", type=int, default=1, help="(%(default)s)")
    options = begin(parser)
    settings = [*options.settings, *(["fast_dev_run=true"] if options.quick else [])]
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(options.rounds):
        for name, runs in taken.items():
            runs.append(run(name, options.config, settings))
    medians = {name: [median(v) for v in zip(*runs, strict=True)] for name, runs in taken.items()}
    rows = [[name, *map(rounded, values)] for name, values in medians.items()]
    pairs = list(zip(*medians.values(), strict=True))
    rows.append(["overhead", *(rounded(pipeline - one) for one, pipeline in pairs)])
    rows.append(["overhead, %", *(rounded(100 * (pipeline / one - 1)) for one, pipeline in pairs)])
    title = f"{options.config.name} {' '.join(settings)}, {options.rounds} runs each"
    print_table(title, ["", "wall s", "CPU s"], rows)


def run(name: str, config: Path, settings: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command line."""
    with tempfile.TemporaryDirectory(prefix="saarthi-overhead-") as folder:
        command = [sys.executable, "-c", "from saarthi_lib.cli import main; main()"]
        command += [*COMMANDS[name], str(config)]
        for setting in (f"root_output_path={folder}/run", *settings):
            command += ["--set", setting]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
