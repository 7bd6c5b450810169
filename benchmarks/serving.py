"""Requests a second and latency of our server, of what is written by hand, and of the floor.

python benchmarks/serving.py [BUNDLE] [--rounds N] [--seconds S] [--json FILE] [--quick]

All servers run at once and are asked in turn, by one client in a process of its own, each at
several numbers of connections; the goals are ratios within one run. Then ours alone is asked at
even times, less and more often than it was found to carry, while its health is asked too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from cold_start import _free_port, make_bundle
from common import figure, machine, median_and_spread, print_line, print_table

# What was seen in each turn, by connections and route.
Turns = dict[tuple[int, str], list[dict[str, Any]]]

ROOT = Path(__file__).parent.parent
CONNECTIONS = (1, 8, 32, 128)
PLAIN, KSERVE_CONSTANT, CONSTANT = "plain", "kserve-constant", "uvicorn-constant"
OURS = "ours, /predict"
TEXTS = [
    "turn on the kitchen lights",
    "what is the weather in Mumbai tomorrow",
    "set the bedroom to 21 degrees",
    "रसोई की बत्ती जलाओ",
    "शयनकक्ष का पंखा बंद करो",
]


@dataclass(frozen=True)
class Route:
    """A way to ask a server, which is a process."""

    name: str
    port: int
    path: str
    bodies: list[str]
    process: int
    grpc_model: str | None = None

    def ask(
        self,
        connections: int,
        seconds: float,
        rate: float | None = None,
        patience: float | None = None,
    ) -> dict[str, Any]:
        """Put a load on it; see `load_client.Run.summary`.

        Added is `cpu_ms`, the server's CPU time for each answer.
        """
        before = self._cpu_seconds()
        seen = finish(self.start(connections, seconds, rate, patience))
        answers = max(1, sum(seen["statuses"].values()))
        return seen | {"cpu_ms": 1000 * (self._cpu_seconds() - before) / answers}

    def _cpu_seconds(self) -> float:
        times = psutil.Process(self.process).cpu_times()
        return float(times.user + times.system)

    def start(
        self,
        connections: int,
        seconds: float,
        rate: float | None = None,
        patience: float | None = None,
    ) -> "subprocess.Popen[str]":
        """Start a client."""
        load = {
            "port": self.port,
            "path": self.path,
            "connections": connections,
            "seconds": seconds,
            "bodies": self.bodies,
            "rate": rate,
            "patience": patience,
            "grpc_model": self.grpc_model,
        }
        command = [sys.executable, str(ROOT / "benchmarks" / "load_client.py"), json.dumps(load)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(client: "subprocess.Popen[str]") -> dict[str, Any]:
    """Wait for a client; what it saw."""
    output, _ = client.communicate(timeout=300)
    seen: dict[str, Any] = json.loads(output)
    return seen


@contextmanager
def running(*command: object) -> Iterator[int]:
    """A server in a process of its own, whose number is given."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def wait_until_answered(route: Route) -> None:
    """Ask once a tenth of a second until there is an answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{route.port}{route.path}",
        route.bodies[0].encode(),
        {"Content-Type": "application/json"},
    )
    for _ in range(600):
        try:
            with urllib.request.urlopen(request):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    sys.exit(f"{route.name} does not answer")


def write_classic(bundle: Path, file: Path) -> None:
    """The classic student, E 300 H 600, with random weights, for the bundle's pieces and labels."""
    import torch

    from saarthi_lib.bundle import LABELS, VOCABULARY
    from saarthi_lib.export import torchscript
    from saarthi_lib.models.student import Student, StudentShape
    from saarthi_lib.storage import read_json
    from saarthi_lib.tasks import Labels

    torch.manual_seed(0)
    shape = StudentShape(
        vocabulary=len(read_json(bundle / VOCABULARY)),
        embedding=300,
        hidden=600,
        layers=1,
        projection=384,
        sequence_labels=len(Labels.load(bundle / LABELS).sequence),
        token_labels=0,
    )
    torchscript.export_student(Student(shape).eval(), file, "float32")


def start_all(bundle: Path, folder: Path, stack: ExitStack) -> list[Route]:
    """Start all servers; the ways to ask them."""
    from saarthi_lib.bundle import read_manifest

    model = read_manifest(bundle).name
    write_classic(bundle, folder / "classic.pt")
    predict = [json.dumps({"text": text}) for text in TEXTS]
    v1 = [json.dumps({"instances": [text]}) for text in TEXTS]
    tensors = [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [t]} for t in TEXTS]
    v2 = [json.dumps({"inputs": [tensor]}) for tensor in tensors]
    routes = []
    for kind in (PLAIN, "kserve", KSERVE_CONSTANT, "fastapi-constant", CONSTANT):
        port = _free_port()
        service = ROOT / "benchmarks" / "other_services.py"
        arguments = (service, kind, port, bundle, folder / "classic.pt")
        process = stack.enter_context(running(*arguments))
        path = "/v1/models/model:predict" if "kserve" in kind else "/predict"
        routes.append(Route(kind, port, path, v1 if "kserve" in kind else predict, process))
    port, grpc_port = _free_port(), _free_port()
    ports = ("--http-port", port, "--grpc-port", grpc_port)
    ours = stack.enter_context(running("-m", "predictors", bundle, *ports))
    routes += [
        Route(OURS, port, "/predict", predict, ours),
        Route("ours, V1", port, f"/v1/models/{model}:predict", v1, ours),
        Route("ours, V2", port, f"/v2/models/{model}/infer", v2, ours),
    ]
    for route in routes:
        wait_until_answered(route)
    return [*routes, Route("ours, gRPC", grpc_port, "", TEXTS, ours, model)]


def compare(routes: list[Route], rounds: int, seconds: float) -> Turns:
    """All in turn, and a table for each number of connections; what was seen in each turn."""
    seen: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for _ in range(rounds):
        for connections in CONNECTIONS:
            for route in routes:
                seen[connections, route.name].append(route.ask(connections, seconds))
    header = ["server", "requests a second", "times plain"]
    header += ["times KServe's constant", "times uvicorn's constant"]
    header += [f"{name} ms" for name in ("p50", "p95", "p99")]
    for connections in CONNECTIONS:
        rows = []
        for route in routes:
            mine = seen[connections, route.name]
            row = [route.name, median_and_spread([each["good"] for each in mine])]
            for reference in (PLAIN, KSERVE_CONSTANT, CONSTANT):
                pairs = zip(mine, seen[connections, reference], strict=True)
                row.append(median_and_spread([a["good"] / b["good"] for a, b in pairs]))
            row += [figure(statistics.median(e[p] for e in mine)) for p in ("p50", "p95", "p99")]
            rows.append(row)
        print_table(f"{connections} connections", header, rows)
    return seen


def most_carried(seen: Turns) -> float:
    """The requests a second that ours answered, at the best number of connections."""
    return max(
        statistics.median(each["good"] for each in seen[connections, OURS])
        for connections in CONNECTIONS
    )


def at_even_times(ours: Route, capacity: float, seconds: float) -> list[dict[str, Any]]:
    """At 70%, 100% and 200% of what it carries, while its health is asked; what was seen."""
    health = Route("health", ours.port, "/v2/health/ready", [], ours.process)
    rows, all_seen = [], []
    for share in (0.7, 1.0, 2.0):
        asked = health.start(1, seconds, 20)
        seen = ours.ask(CONNECTIONS[-1], seconds, share * capacity)
        checks = finish(asked)
        all_seen.append({"share": share, **seen})
        rows.append(
            [
                f"{share:.0%} of {figure(capacity)} a second",
                figure(seen["good"]),
                f"{seen['good'] / capacity:.0%}",
                *(figure(seen[percentile]) for percentile in ("p50", "p99")),
                figure(checks["p99"]),
                figure(checks["max"]),
            ]
        )
    header = ["ours, /predict", "answered a second", "of capacity", "p50 ms", "p99 ms"]
    print_table("At even times", [*header, "health p99 ms", "health most ms"], rows)
    return all_seen


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=Path, help="by default a new one is made")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn (%(default)s)")
    parser.add_argument("--json", type=Path, help="write what was seen of ours to this file")
    parser.add_argument("--quick", action="store_true", help="one short turn, a smaller tokenizer")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    load_average = os.getloadavg()[0]
    print_line(machine())
    if options.quick:
        print_line("QUICK: one turn, and too short; the figures mean nothing.")
        options.rounds, options.seconds = 1, 0.5
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        teacher = "minilm" if options.quick else "multilingual-e5-small"
        bundle = options.bundle or make_bundle(folder, teacher)
        routes = start_all(bundle.resolve(), folder, stack)
        turns = compare(routes, options.rounds, options.seconds)
        [ours] = [route for route in routes if route.name == OURS]
        even = at_even_times(ours, most_carried(turns), 5 * options.seconds)
    if options.json:
        content = {
            "machine": machine(),
            "load_average": load_average,
            "quick": options.quick,
            "ours": {connections: turns[connections, OURS] for connections in CONNECTIONS},
            "even_times": even,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
