"""Cold start and memory: from a new process to its first answer, and what it then holds.

python benchmarks/cold_start.py [BUNDLE] [--rounds N] [--quick]

Each measurement is a fresh process with a warm disk cache; the cases take turns. Without a bundle a
real int8 one is made, with random weights (E 100, H 128, a trimmed tokenizer). The floor of a case
is the same interpreter importing only what the case cannot do without.
"""

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from common import figure, machine, median_and_spread, print_line, print_table

ROOT = Path(__file__).parent.parent
TEXT = "turn on the lights in the kitchen"
ANSWERS = 100
# A child writes the time of its first answer and, after all of them, waits to be looked at.
# Linux's monotonic clock is the same in all processes.
CHILD = """
import sys, time
{work}
sys.stdout.write(f"{{first}}\\n")
sys.stdout.flush()
sys.stdin.readline()
"""
LIBRARY = """
from saarthi_lib import Predictor
predictor = Predictor.load(sys.argv[1], runtime="{runtime}")
predictor.predict([sys.argv[2]])
first = time.monotonic()
for _ in range(int(sys.argv[3]) - 1):
    predictor.predict([sys.argv[2]])
"""
IMPORTS = """
{imports}
first = time.monotonic()
"""


@dataclass
class Case:
    """What is started, and what was measured: seconds and MB, a value a round."""

    name: str
    measure: Callable[["Case"], None]
    goal_seconds: float | None = None
    goal_mb: float | None = None
    floor: str | None = None
    seconds: list[float] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)
    proportional: list[float] = field(default_factory=list)

    def look_at(self, process: int) -> None:
        """Note the memory of a process, in MB."""
        status = _fields(Path(f"/proc/{process}/status"))
        self.resident.append(status["VmRSS"] / 1e3)
        self.peak.append(status["VmHWM"] / 1e3)
        self.proportional.append(_fields(Path(f"/proc/{process}/smaps_rollup"))["Pss"] / 1e3)


def _fields(path: Path) -> dict[str, float]:
    """The lines `Name: N kB` of a file in /proc, in kB (of 1000 bytes)."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {row[0].rstrip(":"): float(row[1]) * 1.024 for row in lines if row[-1] == "kB"}


def script(work: str, *arguments: str) -> Callable[[Case], None]:
    """A measurement: run a script in a fresh interpreter."""
    command = [sys.executable, "-c", CHILD.format(work=work), *arguments]

    def measure(case: Case) -> None:
        start = time.monotonic()
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            if not first:
                sys.exit(f"{case.name}: the process ended early")
            case.seconds.append(float(first) - start)
            case.look_at(process.pid)

    return measure


def imports(*names: str) -> Callable[[Case], None]:
    """A measurement: only import."""
    return script(IMPORTS.format(imports="\n".join(f"import {name}" for name in names)))


def predictor(bundle: Path, ready: Case) -> Callable[[Case], None]:
    """A measurement: the whole predictor, to its first answered `POST /predict`.

    The time until `/v2/health/ready` says yes goes to `ready`.
    """

    def measure(case: Case) -> None:
        start = time.monotonic()
        with _served(bundle) as (process, port):
            _ask(port, "GET", "/v2/health/ready", process)
            ready.seconds.append(time.monotonic() - start)
            _ask(port, "POST", "/predict", process)
            case.seconds.append(time.monotonic() - start)
            for _ in range(ANSWERS - 1):
                _ask(port, "POST", "/predict", process)
            case.look_at(process.pid)

    return measure


@contextmanager
def _served(bundle: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port, grpc_port = _free_port(), _free_port()
    ports = ["--http-port", str(port), "--grpc-port", str(grpc_port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "predictors", str(bundle), *ports],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


def _ask(port: int, method: str, path: str, process: subprocess.Popen[bytes]) -> None:
    """Ask until it is answered with 200."""
    body = json.dumps({"text": TEXT}) if method == "POST" else None
    while process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            if connection.getresponse().status == 200:
                return
        except ConnectionError:
            time.sleep(0.002)
        finally:
            connection.close()
    sys.exit(f"the predictor ended with exit code {process.returncode}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def make_bundle(folder: Path, teacher: str) -> Path:
    """A real int8 bundle of the default size, but for its random weights."""
    import torch

    from saarthi_lib import steps
    from saarthi_lib.config import TrainConfig
    from saarthi_lib.data.preprocess import Prepared
    from saarthi_lib.models.student import Student, StudentShape, save_student

    config = TrainConfig.from_yaml(
        ROOT / "configs" / "intents.yaml", {"teacher_name": teacher, "fast_dev_run": True}
    )
    steps.preprocess(config, folder / "data")
    prepared = Prepared(folder / "data")
    torch.manual_seed(0)
    shape = StudentShape(
        vocabulary=len(prepared.vocabulary["kept_ids"]),
        embedding=config.student_word_emb_dim,
        hidden=config.student_lstm_dim,
        layers=config.student_lstm_layers,
        projection=384,
        sequence_labels=len(prepared.labels.sequence),
        token_labels=0,
        family=config.student_family,
    )
    (folder / "student").mkdir()
    save_student(Student(shape), folder / "student")
    student = steps.TrainedNetwork("student", folder / "student")
    steps.quantize(config, folder / "data", student, folder / "int8")
    return folder / "int8" / "bundle"


def cases(bundle: Path) -> list[Case]:
    """What is measured; the predictor's time to ready is filled by the predictor's case."""

    def library(runtime: str) -> Callable[[Case], None]:
        return script(LIBRARY.format(runtime=runtime), str(bundle), TEXT, str(ANSWERS))

    def nothing(case: Case) -> None:
        """Measured by another case."""

    light = ("numpy", "tokenizers", "onnxruntime")
    ready = Case("predictor: ready", nothing, 2.5, floor="import kserve, onnxruntime, tokenizers")
    return [
        Case("bare interpreter", imports("sys")),
        Case("import onnxruntime", imports("onnxruntime")),
        Case("import numpy, tokenizers, onnxruntime", imports(*light)),
        Case("import torch", imports("torch")),
        Case("import torch, tokenizers", imports("torch", "tokenizers")),
        Case("import kserve", imports("kserve")),
        Case(
            "import kserve, onnxruntime, tokenizers",
            imports("kserve", "onnxruntime", "tokenizers"),
        ),
        Case(
            "library, ONNX Runtime: first answer",
            library("onnxruntime"),
            1.0,
            120,
            "import numpy, tokenizers, onnxruntime",
        ),
        Case(
            "library, TorchScript: first answer",
            library("torchscript"),
            floor="import torch, tokenizers",
        ),
        ready,
        Case(
            "predictor: first POST /predict",
            predictor(bundle, ready),
            2.5,
            floor="import kserve, onnxruntime, tokenizers",
        ),
    ]


def report(measured: list[Case]) -> None:
    """Print the tables."""
    least = {case.name: min(case.seconds) for case in measured}
    rows = []
    for case in measured:
        rows.append(
            [
                case.name,
                median_and_spread(case.seconds),
                _verdict(statistics.median(case.seconds), case.goal_seconds, "s"),
                case.floor or "",
                f"{100 * least[case.floor] / least[case.name]:.0f}%" if case.floor else "",
            ]
        )
    header = ["from process start", "seconds", "goal", "floor", "share of it reached (fastest)"]
    print_table("Cold start, warm disk cache", header, rows)
    rows = [
        [
            case.name,
            *map(median_and_spread, (case.resident, case.peak, case.proportional)),
            _verdict(statistics.median(case.resident), case.goal_mb, "MB"),
        ]
        for case in measured
        if case.resident
    ]
    header = ["process", "resident MB", "peak MB", "proportional (PSS) MB", "goal"]
    print_table(f"Memory after {ANSWERS} answers (or the import)", header, rows)


def _verdict(value: float, goal: float | None, unit: str) -> str:
    if goal is None:
        return ""
    return f"at most {figure(goal)} {unit}: {'reached' if value <= goal else 'MISSED'}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=Path, help="by default a new one is made")
    parser.add_argument("--rounds", type=int, default=7, help="processes a case (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round, a smaller tokenizer")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print_line(machine())
    with tempfile.TemporaryDirectory() as folder:
        teacher = "minilm" if options.quick else "multilingual-e5-small"
        bundle = options.bundle or make_bundle(Path(folder), teacher)
        size = sum(path.stat().st_size for path in bundle.iterdir()) / 1e6
        rounds = 1 if options.quick else options.rounds
        print_line(f"bundle of {figure(size)} MB; {rounds} fresh processes a case")
        measured = cases(bundle.resolve())
        for case in measured:
            case.measure(case)
        if not options.quick:  # that round only warmed the disk cache
            measured = cases(bundle.resolve())
            for _ in range(rounds):
                for case in measured:
                    case.measure(case)
    report(measured)


if __name__ == "__main__":
    main()
