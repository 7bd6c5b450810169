"""Measure the time from process start to the first answer, and the memory of the process.

python benchmarks/cold_start.py [BUNDLE] [--rounds N] [--quick]

Each measurement is a new process with a warm disk cache; the cases take turns. The cases are the
library on each engine, and the whole KServe predictor.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
from common import ROOT, begin, median_and_range, parser_of, print_table
from networks import add_bundle_option, bundle_of
from servers import our_server

TEXT = "turn on the lights in the kitchen"
ANSWERS = 100
# Linux's monotonic clock is the same in all processes. The child waits until its memory is read.
CHILD = """
import sys, time
from saarthi_lib import Predictor
predictor = Predictor.load(sys.argv[1], runtime=sys.argv[2])
predictor.predict([sys.argv[3]])
first = time.monotonic()
for _ in range(int(sys.argv[4]) - 1):
    predictor.predict([sys.argv[3]])
print(first, flush=True)
sys.stdin.readline()
"""


class Measured(NamedTuple):
    """Seconds to the first answer, and resident megabytes after all answers."""

    seconds: float
    megabytes: float


def library(bundle: Path, runtime: str) -> Measured:
    """Start Python, and answer with the library."""
    command = [sys.executable, "-c", CHILD, str(bundle), runtime, TEXT, str(ANSWERS)]
    start = time.monotonic()
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        if not first:
            sys.exit(f"{runtime}: the process ended early")
        return Measured(float(first) - start, _megabytes(process.pid))


def predictor(bundle: Path) -> Measured:
    """Start the server, and answer `POST /predict`."""
    start = time.monotonic()
    with our_server(bundle) as server:
        route = server.route("predictor", "/predict", [json.dumps({"text": TEXT})])
        route.wait()
        seconds = time.monotonic() - start
        for _ in range(ANSWERS - 1):
            route.wait()
        return Measured(seconds, _megabytes(server.process))


def _megabytes(process: int) -> float:
    return float(psutil.Process(process).memory_info().rss) / 1e6


def main() -> None:
    """Measure, and print the table."""
    parser = parser_of(__doc__)
    add_bundle_option(parser)
    parser.add_argument("--rounds", type=int, default=7, help="processes a case (%(default)s)")
    options = begin(parser)
    rounds = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as folder:
        bundle = bundle_of(options, Path(folder))
        cases: dict[str, Callable[[], Measured]] = {
            "library, ONNX Runtime": partial(library, bundle, "onnxruntime"),
            "library, TorchScript": partial(library, bundle, "torchscript"),
            "KServe predictor, POST /predict": partial(predictor, bundle),
        }
        for measure in cases.values():
            measure()  # warms the disk cache
        found: dict[str, list[Measured]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, measure in cases.items():
                found[name].append(measure())
    rows = [
        [name, *(median_and_range(values) for values in zip(*measured, strict=True))]
        for name, measured in found.items()
    ]
    header = ["case", "seconds to the first answer", f"resident MB after {ANSWERS} answers"]
    print_table(f"Cold start, {rounds} new processes a case", header, rows)


if __name__ == "__main__":
    main()
