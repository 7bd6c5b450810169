"""What a server answers when it is asked for more than it can: goodput, p99, memory.

python benchmarks/overload.py [BUNDLE] [--seconds S] [--quick]

A request is of 32 texts and has a second: so it says, and after it nobody waits for the answer.
First as many are sent as are answered, which is the capacity; then a multiple of it at even times,
however long the answers take, while the server's health is asked too.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from cold_start import _free_port, make_bundle
from common import figure, machine, print_line, print_table
from serving import TEXTS, Route, finish, running, wait_until_answered

from saarthi_lib.bundle import read_manifest

TEXTS_A_REQUEST = 32
CONNECTIONS = 400
MULTIPLES = (0.5, 1.0, 2.0, 5.0, 10.0)
PATIENCE = 1.0  # seconds
MEGABYTE = 1 << 20


class Memory:
    """The most memory that a process has while in the block, in MB."""

    def __init__(self, process: int) -> None:
        self._process = psutil.Process(process)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most = 0.0

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            self.most = max(self.most, self._process.memory_info().rss / MEGABYTE)
            time.sleep(0.05)


def row(
    name: str, asked: float, capacity: float, seen: dict[str, Any], health: Any, memory: Memory
) -> list[str]:
    """A line of the table."""
    good = seen["good"]
    statuses = {name: count for name, count in seen["statuses"].items() if count and name != "200"}
    told = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())) or "–"
    return [
        name,
        figure(asked),
        figure(good),
        f"{good / capacity:.0%}",
        figure(seen["good_p50"]),
        figure(seen["good_p99"]),
        told,
        figure(health["p99"]),
        figure(memory.most),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=Path, help="by default a new one is made")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="short turns, a smaller tokenizer")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print_line(f"{machine()}. Load average before the run: {os.getloadavg()[0]:.2f}.")
    if options.quick:
        print_line("QUICK: too short; the figures mean nothing.")
        options.seconds = 1.0
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        teacher = "minilm" if options.quick else "multilingual-e5-small"
        bundle = (options.bundle or make_bundle(Path(name), teacher)).resolve()
        port = _free_port()
        limits = ("--max-connections", CONNECTIONS + 50)
        ports = ("--http-port", port, "--grpc-port", 0)
        process = stack.enter_context(running("-m", "predictors", bundle, *ports, *limits))
        texts = (TEXTS * TEXTS_A_REQUEST)[:TEXTS_A_REQUEST]
        bodies = [json.dumps({"instances": texts[n:] + texts[:n]}) for n in range(len(TEXTS))]
        path = f"/v1/models/{read_manifest(bundle).name}:predict"
        ours = Route("ours", port, path, bodies, process)
        health = Route("health", port, "/v2/health/ready", [], process)
        wait_until_answered(ours)
        ours.ask(32, options.seconds / 2)
        capacity = ours.ask(32, options.seconds)["good"]
        rows = []
        for multiple in MULTIPLES:
            with Memory(process) as memory:
                checks = health.start(1, options.seconds, 20)
                asked = multiple * capacity
                seen = ours.ask(CONNECTIONS, options.seconds, asked, PATIENCE)
                rows.append(row(f"{multiple:g} ×", asked, capacity, seen, finish(checks), memory))
        with Memory(process) as memory:
            checks = health.start(1, options.seconds / 2, 20)
            seen = ours.ask(8, options.seconds / 2)
            rows.append(row("after it", seen["good"], capacity, seen, finish(checks), memory))
    header = ["of capacity", "asked a second", "answered in time a second", "of capacity"]
    header += ["p50 ms", "p99 ms", "not answered", "health p99 ms", "most MB"]
    title = f"{figure(capacity)} requests of {TEXTS_A_REQUEST} texts a second are the capacity"
    print_table(title, header, rows)
    print_line(
        f"\n503 and 504: the server says no; unsent: the client's {CONNECTIONS} connections were "
        f"all waiting; p50 and p99 are of what was answered."
    )


if __name__ == "__main__":
    main()
