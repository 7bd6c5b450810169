"""Check that an hour of mixed load leaves memory, latency, open files and threads unchanged.

python benchmarks/soak.py [BUNDLE] [--minutes 60] [--quick]

Clients send good and bad requests of many sizes over every protocol. Others open connections and
send nothing or half a request, or leave before the answer. The bundle gets 20 new versions. The
second half of the time is compared with the first, without its beginning; the exit code is 1 if
the server grew.
"""

import contextlib
import http.client
import json
import random
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from common import begin, parser_of, print_line, print_table, rounded
from load_client import HOST, percentile
from networks import add_bundle_option, bundle_of
from servers import MEGABYTE, TEXTS, Server, our_server

from saarthi_lib.bundle import MANIFEST
from saarthi_lib.storage import read_json, write_json

CLIENTS = 8
PAUSE = 0.02  # mean seconds between the requests of a client
PERIODS = 10  # rows of the table
RELOADS = 20
KEEP_ALIVE = 5  # seconds; short, so that silent connections end many times
# Largest growth from the first half to the second.
MOST_MB, MOST_FILES, MOST_THREADS, MOST_SLOWER = 25.0, 10, 2, 2.0


def _tensor(texts: int) -> dict[str, Any]:
    data = random.choices(TEXTS, k=texts)
    return {"name": "text", "datatype": "BYTES", "shape": [texts], "data": data}


# Good requests: weight, path and body. Bad requests: path and body.
GOOD: dict[str, tuple[int, str, Callable[[], Any]]] = {
    "predict": (8, "/predict", lambda: {"text": random.choice(TEXTS)}),
    "V1": (4, "/v1/models/soak:predict", lambda: {"instances": TEXTS * random.randint(1, 5)}),
    "V2": (4, "/v2/models/soak/infer", lambda: {"inputs": [_tensor(random.randint(1, 20))]}),
    "large": (1, "/v1/models/soak:predict", lambda: {"instances": TEXTS * 60}),
}
BAD: dict[str, tuple[str, bytes]] = {
    "not JSON": ("/predict", b"{"),
    "empty": ("/predict", b'{"text": " "}'),
    "long": ("/predict", json.dumps({"text": "word " * 5000}).encode()),
    "invisible": ("/predict", json.dumps({"text": "\u200b"}).encode()),
    "unknown model": ("/v1/models/unknown:predict", b'{"instances": ["a"]}'),
    "shape": ("/v2/models/soak/infer", b'{"inputs": [{"name": "text", "shape": [-1]}]}'),
    "too large": ("/predict", b"a" * (5 << 20)),
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
        self.process = psutil.Process(server.process)
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

    def client(self, number: int) -> None:
        """Send requests until the time is up."""
        connection = http.client.HTTPConnection(HOST, self.server.port, timeout=30)
        while self.elapsed < self.seconds:
            time.sleep(random.expovariate(1 / PAUSE))
            if random.random() < 0.02:
                connection.close()  # the next request opens it again
            try:
                self._request(connection)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if self.elapsed < self.seconds and not isinstance(error, ConnectionError):
                    self.faults.append(f"client {number}: {type(error).__name__}: {error}")
                self.seen["closed"] += 1

    def _request(self, connection: http.client.HTTPConnection) -> None:
        if random.random() < 0.1:
            name = random.choice(list(BAD))
            path, body = BAD[name]
            status = _status(connection, path, body)
            allowed = 400 <= status < 500
            self.seen["refused"] += 1
        else:
            [name] = random.choices(list(GOOD), [weight for weight, *_ in GOOD.values()])
            _, path, make = GOOD[name]
            began = time.perf_counter()
            status = _status(connection, path, json.dumps(make()).encode())
            if name == "predict":
                self.waits.append((self.elapsed, time.perf_counter() - began))
            allowed = status in (200, 503)
            self.seen[name if status == 200 else "shed"] += 1
        if not allowed:
            self.faults.append(f"{name}: {status}")

    def over_grpc(self) -> None:
        """Send gRPC calls, one in ten with invalid text, on a new channel every 200 calls."""
        import grpc
        from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
        from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

        while self.elapsed < self.seconds:
            with grpc.insecure_channel(f"{HOST}:{self.server.grpc_port}") as channel:
                stub = GRPCInferenceServiceStub(channel)
                for _ in range(200):
                    if self.elapsed >= self.seconds:
                        break
                    time.sleep(random.expovariate(1 / PAUSE))
                    request = pb.ModelInferRequest(model_name="soak")
                    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[1])
                    invalid = random.random() < 0.1
                    text = b"\xff" if invalid else random.choice(TEXTS).encode()
                    tensor.contents.bytes_contents.append(text)
                    try:
                        stub.ModelInfer(request, timeout=30)
                        self.seen["gRPC"] += 1
                    except grpc.RpcError as error:
                        if error.code().name not in ("INVALID_ARGUMENT", "UNAVAILABLE"):
                            self.faults.append(f"gRPC: {error.code()}")
                        self.seen["refused" if invalid else "closed"] += 1

    def broken_connections(self) -> None:
        """Open connections that send nothing or a fragment, or close before the answer."""
        held: list[socket.socket] = []
        while self.elapsed < self.seconds:
            with contextlib.suppress(OSError):
                client = socket.create_connection((HOST, self.server.port), timeout=5)
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
        number = 1
        while self.elapsed < self.seconds:
            time.sleep(min(1.0, self.seconds / RELOADS))
            if self.elapsed > number * self.seconds / RELOADS:
                number += 1
                manifest = read_json(bundle / MANIFEST)
                write_json(bundle / MANIFEST, {**manifest, "version": str(number)})
                self.seen["new versions"] += 1

    def sample(self) -> None:
        """Sample the state of the server."""
        while self.elapsed < self.seconds:
            with self.process.oneshot():
                memory = self.process.memory_info().rss / MEGABYTE
                threads = self.process.num_threads()
            self.samples.append(Sample(self.elapsed, memory, self.process.num_fds(), threads))
            time.sleep(min(1.0, self.seconds / 100))

    def run(self, bundle: Path) -> None:
        """Do all of it at the same time."""
        work: list[Callable[[], None]] = [partial(self.client, n) for n in range(CLIENTS)]
        work += [self.over_grpc, self.broken_connections, self.sample, partial(self.reload, bundle)]
        with ThreadPoolExecutor(len(work)) as pool:
            for each in [pool.submit(one) for one in work]:
                each.result()

    def between(self, start: float, end: float) -> dict[str, float]:
        """Measurements of a part of the time; both arguments are shares of it."""
        low, high = start * self.seconds, end * self.seconds
        samples = [each for each in self.samples if low <= each.at < high]
        waits = [wait for at, wait in self.waits if low <= at < high]
        return {
            "megabytes": statistics.median(each.megabytes for each in samples),
            "files": statistics.median(each.files for each in samples),
            "threads": max(each.threads for each in samples),
            "p50": percentile(waits, 50),
            "p99": percentile(waits, 99),
        }

    def growth(self) -> list[str]:
        """Measurements that grew from the first half to the second, without the first fifth."""
        first, second = self.between(0.2, 0.6), self.between(0.6, 1.0)
        kept = {
            "memory": second["megabytes"] - first["megabytes"] <= MOST_MB,
            "files": second["files"] - first["files"] <= MOST_FILES,
            "threads": second["threads"] - first["threads"] <= MOST_THREADS,
            "latency": second["p50"] <= MOST_SLOWER * first["p50"] + 5,
        }
        return [name for name, within in kept.items() if not within]


def _status(connection: http.client.HTTPConnection, path: str, body: bytes) -> int:
    connection.request("POST", path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    response.read()
    return response.status


def main() -> int:
    """Run the load, and print the table."""
    parser = parser_of(__doc__)
    add_bundle_option(parser)
    parser.add_argument("--minutes", type=float, default=60.0, help="(%(default)s)")
    options = begin(parser)
    minutes = 0.5 if options.quick else options.minutes
    with tempfile.TemporaryDirectory() as folder:
        made = bundle_of(options, Path(folder))
        bundle = Path(folder) / "served"
        shutil.copytree(made, bundle)
        write_json(bundle / MANIFEST, {**read_json(bundle / MANIFEST), "name": "soak"})
        settings = ("--reload-seconds", "0.5", "--keep-alive-seconds", KEEP_ALIVE)
        with our_server(bundle, *settings) as server:
            soak = Soak(server, minutes)
            soak.run(bundle)
            alive = psutil.pid_exists(server.process)
    rows = []
    for number in range(PERIODS):
        part = soak.between(number / PERIODS, (number + 1) / PERIODS)
        start, end = (rounded(n * minutes / PERIODS) for n in (number, number + 1))
        rows.append([f"{start} to {end}", *map(rounded, part.values())])
    header = ["minutes", "MB", "open files", "threads", "/predict p50 ms", "p99 ms"]
    print_table(f"{rounded(minutes)} minutes of mixed load", header, rows)
    counted = ", ".join(f"{name} {count:,}" for name, count in soak.seen.most_common())
    print_line(f"\nRequests: {counted}. Faults: {len(soak.faults)}.")
    for fault, count in Counter(soak.faults).most_common(5):
        print_line(f"{count} × {fault}")
    grown = soak.growth()
    if options.quick and "latency" in grown:  # within seconds, other load of the machine decides
        grown.remove("latency")
    print_line(f"Grown: {', '.join(grown)}." if grown else "Flat.")
    return 1 if grown or soak.faults or not alive else 0


if __name__ == "__main__":
    sys.exit(main())
