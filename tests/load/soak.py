"""Check that an hour of mixed load leaves memory, latency, open files and threads unchanged.

python -m tests.load.soak [BUNDLE] [--minutes 60]

Clients send good requests of many sizes, and the malformed requests of `tests/fuzz/servers.py` over
every protocol. Others open connections and send nothing or half a request, or leave before the
answer. The bundle gets 20 new versions. The second half of the time is compared with the first,
without its beginning. The exit code is 1 if the server grew, or a request had a wrong status.
"""

import argparse
import contextlib
import http.client
import json
import random
import shutil
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil

from saarthi_lib.bundle import MANIFEST
from saarthi_lib.storage import read_json, write_json
from tests.fuzz.servers import over_grpc, over_http, over_raw_http
from tests.predictors.serving import HOST, Server, bytes_tensor, serving
from tests.tiny_bundle import SENTENCES, write_tiny_bundle

CLIENTS = 8
PAUSE = 0.02  # mean seconds between the requests of a client
PERIODS = 10  # rows of the table
RELOADS = 20
KEEP_ALIVE = 5  # seconds; short, so that silent connections end many times
# Largest growth from the first half to the second.
MOST_MB, MOST_FILES, MOST_THREADS, MOST_SLOWER = 25.0, 10, 2, 2.0
SHORT = 300  # seconds; in shorter runs, other load of the machine decides the latency
# Weight, path and body of good requests.
GOOD: dict[str, tuple[int, str, Callable[[], Any]]] = {
    "predict": (8, "/predict", lambda: {"text": random.choice(SENTENCES)}),
    "V1": (4, "/v1/models/intents:predict", lambda: {"instances": SENTENCES * 2}),
    "V2": (4, "/v2/models/intents/infer", lambda: {"inputs": [bytes_tensor("text", SENTENCES)]}),
    "large": (1, "/v1/models/intents:predict", lambda: {"instances": SENTENCES * 30}),
}
HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\n\r\n"
FRAGMENTS = (b"", b"GET /", HEAD + b"{", HEAD + b'{"text": "a"}', b"\x16\x03\x01garbage\r\n\r\n")


@dataclass(frozen=True)
class Sample:
    """State of the server at a moment."""

    at: float
    megabytes: float
    files: int
    threads: int


class Soak:
    """Load on a server, and its measurements."""

    def __init__(self, server: Server, minutes: float) -> None:
        self.server = server
        self.process = psutil.Process(server.process.pid)
        self.start = time.monotonic()
        self.seconds = 60 * minutes
        self.seen: Counter[str] = Counter()
        self.faults: list[str] = []
        self.waits: list[tuple[float, float]] = []  # time and latency of /predict
        self.samples: list[Sample] = []

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def good_requests(self) -> None:
        """Send good requests until the time is up."""
        connection = http.client.HTTPConnection(HOST, self.server.http_port, timeout=30)
        while self.elapsed < self.seconds:
            time.sleep(random.expovariate(1 / PAUSE))
            if random.random() < 0.02:
                connection.close()  # the next request opens it again
            [name] = random.choices(list(GOOD), [weight for weight, *_ in GOOD.values()])
            _, path, body = GOOD[name]
            began = time.perf_counter()
            try:
                headers = {"content-type": "application/json"}
                connection.request("POST", path, json.dumps(body()), headers)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if self.elapsed < self.seconds and not isinstance(error, ConnectionError):
                    self.faults.append(f"{name}: {type(error).__name__}: {error}")
                continue
            if name == "predict":
                self.waits.append((self.elapsed, time.perf_counter() - began))
            if response.status not in (200, 503):
                self.faults.append(f"{name}: {response.status}")
            self.seen[name if response.status == 200 else "shed"] += 1

    def malformed_requests(self, send: Callable[..., tuple[Counter[Any], list[str]]]) -> None:
        """Send malformed requests until the time is up."""
        while self.elapsed < self.seconds:
            statuses, found = send(self.server, 50, random.getrandbits(32))
            self.seen[send.__name__] += sum(statuses.values())
            self.faults += found
            time.sleep(1)

    def broken_connections(self) -> None:
        """Open connections that send nothing or a fragment, or close before the answer."""
        held: list[socket.socket] = []
        while self.elapsed < self.seconds:
            with contextlib.suppress(OSError):
                client = socket.create_connection((HOST, self.server.http_port), timeout=5)
                client.sendall(random.choice(FRAGMENTS))
                self.seen["broken connections"] += 1
                if random.random() < 0.5:
                    client.close()
                else:
                    held.append(client)
            while len(held) > 50:
                held.pop(0).close()
            time.sleep(0.05)
        for client in held:
            client.close()

    def reload(self, bundle: Path) -> None:
        """Write new versions of the bundle."""
        for number in range(1, RELOADS + 1):
            time.sleep(max(0.0, self.seconds * number / (RELOADS + 1) - self.elapsed))
            version = {"version": str(number + 1), "digest": None}
            write_json(bundle / MANIFEST, {**read_json(bundle / MANIFEST), **version})
            self.seen["new versions"] += 1

    def sample(self) -> None:
        """Sample the state of the server."""
        while self.elapsed < self.seconds:
            memory, threads = self.process.memory_info().rss / 1e6, self.process.num_threads()
            self.samples.append(Sample(self.elapsed, memory, self.process.num_fds(), threads))
            time.sleep(min(1.0, self.seconds / 100))

    def run(self, bundle: Path) -> None:
        """Do all of it at the same time."""
        work: list[Callable[[], None]] = [self.good_requests] * CLIENTS
        work += [partial(self.malformed_requests, f) for f in (over_http, over_raw_http, over_grpc)]
        work += [self.broken_connections, self.sample, partial(self.reload, bundle)]
        with ThreadPoolExecutor(len(work)) as pool:
            for each in [pool.submit(one) for one in work]:
                each.result()

    def between(self, start: float, end: float) -> dict[str, float]:
        """Measurements of a part of the time; both arguments are shares of it."""
        low, high = start * self.seconds, end * self.seconds
        samples = [each for each in self.samples if low <= each.at < high]
        waits = [1000 * wait for at, wait in self.waits if low <= at < high] or [0.0, 0.0]
        return {
            "MB": median(each.megabytes for each in samples),
            "open files": median(each.files for each in samples),
            "threads": max(each.threads for each in samples),
            "/predict p50 ms": median(waits),
            "p99 ms": quantiles([*waits, waits[0]], n=100)[-1],
        }

    def growth(self) -> list[str]:
        """Measurements that grew from the first half to the second, without the first fifth."""
        first, second = self.between(0.2, 0.6), self.between(0.6, 1.0)
        most = {
            "MB": first["MB"] + MOST_MB,
            "open files": first["open files"] + MOST_FILES,
            "threads": first["threads"] + MOST_THREADS,
            "/predict p50 ms": MOST_SLOWER * first["/predict p50 ms"] + 5,
        }
        if self.seconds < SHORT:
            del most["/predict p50 ms"]
        return [name for name, limit in most.items() if second[name] > limit]


def main() -> int:
    """Run the load, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", nargs="?", type=Path, help="default: a tiny bundle")
    parser.add_argument("--minutes", type=float, default=60.0, help="(%(default)s)")
    options = parser.parse_args()
    show = sys.stdout.write
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "served"
        if options.bundle:
            shutil.copytree(options.bundle, bundle)
        else:
            write_tiny_bundle(bundle, "joint", runtime="onnxruntime")
        changes = {"name": "intents", "digest": None}
        write_json(bundle / MANIFEST, {**read_json(bundle / MANIFEST), **changes})
        with serving(
            bundle, fresh=True, reload_seconds=0.5, keep_alive_seconds=KEEP_ALIVE
        ) as server:
            soak = Soak(server, options.minutes)
            soak.run(bundle)
    show("| minutes | MB | open files | threads | /predict p50 ms | p99 ms |\n")
    show("|---|--:|--:|--:|--:|--:|\n")
    for number in range(PERIODS):
        part = soak.between(number / PERIODS, (number + 1) / PERIODS)
        start, end = (n * options.minutes / PERIODS for n in (number, number + 1))
        cells = [f"{start:.3g} to {end:.3g}", *(f"{value:.3g}" for value in part.values())]
        show(f"| {' | '.join(cells)} |\n")
    counted = ", ".join(f"{name} {count:,}" for name, count in soak.seen.most_common())
    show(f"\nRequests: {counted}. Faults: {len(soak.faults)}.\n")
    for fault, count in Counter(soak.faults).most_common(5):
        show(f"{count} × {fault}\n")
    grown = soak.growth()
    show(f"Grown: {', '.join(grown)}.\n" if grown else "Flat.\n")
    return 1 if grown or soak.faults else 0


if __name__ == "__main__":
    sys.exit(main())
