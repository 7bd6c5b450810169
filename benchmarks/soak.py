"""Whether a server stays as it is under an hour of mixed load: memory, latency, files, threads.

python benchmarks/soak.py [BUNDLE] [--minutes 60] [--quick] [--json FILE]

Clients ask over every protocol, with good and bad requests of every size, one text or hundreds;
others open connections and say nothing, or half of something, or leave before the answer; the
bundle gets a new version every twentieth of the time. What the server holds is looked at all the
while, and the second half compared with the first, without its beginning. Exit code 1 when it grew.
"""

import argparse
import contextlib
import http.client
import json
import os
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
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from cold_start import _free_port, make_bundle
from common import figure, machine, print_line, print_table
from serving import TEXTS, Route, running, wait_until_answered

from saarthi_lib.bundle import MANIFEST
from saarthi_lib.storage import read_json, write_json

HOST = "127.0.0.1"
CLIENTS = 8
PAUSE = 0.02  # seconds, on average, between a client's requests
PERIODS = 10  # lines of the table
RELOADS = 20
KEEP_ALIVE = 5  # seconds, so that what is silent comes and goes many times
MOST_MB = 25.0  # that the second half may hold more than the first
MOST_FILES, MOST_THREADS = 10, 2
MOST_SLOWER = 2.0  # times, at the median

# Each kind of request: how often, its path, and a body.
GOOD: dict[str, tuple[int, str, Callable[[], Any]]] = {
    "predict": (8, "/predict", lambda: {"text": random.choice(TEXTS)}),
    "V1": (4, "/v1/models/soak:predict", lambda: {"instances": TEXTS * random.randint(1, 5)}),
    "V2": (4, "/v2/models/soak/infer", lambda: {"inputs": [_tensor(random.randint(1, 20))]}),
    "large": (1, "/v1/models/soak:predict", lambda: {"instances": TEXTS * 60}),
}
BAD: dict[str, tuple[str, bytes]] = {
    "no JSON": ("/predict", b"{"),
    "empty": ("/predict", b'{"text": " "}'),
    "long": ("/predict", json.dumps({"text": "word " * 5000}).encode()),
    "invisible": ("/predict", json.dumps({"text": "\u200b"}).encode()),
    "no model": ("/v1/models/nobody:predict", b'{"instances": ["a"]}'),
    "shape": ("/v2/models/soak/infer", b'{"inputs": [{"name": "text", "shape": [-1]}]}'),
    "too large": ("/predict", b"a" * (5 << 20)),
}


def _tensor(texts: int) -> dict[str, Any]:
    data = random.choices(TEXTS, k=texts)
    return {"name": "text", "datatype": "BYTES", "shape": [texts], "data": data}


@dataclass
class Look:
    """What the server holds at a moment."""

    at: float
    megabytes: float
    files: int
    threads: int


class Soak:
    """The load on a server, and what was seen."""

    def __init__(self, port: int, grpc_port: int, process: int, minutes: float) -> None:
        self.port, self.grpc_port = port, grpc_port
        self.process = psutil.Process(process)
        self.start = time.monotonic()
        self.seconds = 60 * minutes
        self.seen: Counter[str] = Counter()
        self.faults: list[str] = []
        self.waits: list[tuple[float, float]] = []  # when, and how long, of /predict
        self.looks: list[Look] = []

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def client(self, number: int) -> None:
        """Ask until the time is up."""
        kinds = [name for name, (often, *_) in GOOD.items() for _ in range(often)]
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        while self.elapsed < self.seconds:
            time.sleep(random.expovariate(1 / PAUSE))
            if random.random() < 0.02:
                connection.close()  # and so opened anew
            try:
                if random.random() < 0.1:
                    name = random.choice(list(BAD))
                    path, body = BAD[name]
                    status, _ = self._ask(connection, path, body)
                    if not 400 <= status < 500:
                        self.faults.append(f"{name}: {status}")
                    self.seen["refused"] += 1
                    continue
                name = random.choice(kinds)
                _, path, make = GOOD[name]
                began = time.perf_counter()
                status, _ = self._ask(connection, path, json.dumps(make()).encode())
                if name == "predict":
                    self.waits.append((self.elapsed, time.perf_counter() - began))
                if status not in (200, 503):
                    self.faults.append(f"{name}: {status}")
                self.seen[name if status == 200 else "shed"] += 1
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if self.elapsed < self.seconds and not isinstance(error, ConnectionError):
                    self.faults.append(f"client {number}: {type(error).__name__}: {error}")
                self.seen["closed"] += 1

    def _ask(
        self, connection: http.client.HTTPConnection, path: str, body: bytes
    ) -> tuple[int, bytes]:
        connection.request("POST", path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        return response.status, content

    def over_grpc(self) -> None:
        """Ask over gRPC, on a channel that is made anew now and then; one call in ten is wrong."""
        import grpc
        from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
        from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

        while self.elapsed < self.seconds:
            with grpc.insecure_channel(f"{HOST}:{self.grpc_port}") as channel:
                stub = GRPCInferenceServiceStub(channel)
                for _ in range(200):
                    if self.elapsed >= self.seconds:
                        break
                    time.sleep(random.expovariate(1 / PAUSE))
                    request = pb.ModelInferRequest(model_name="soak")
                    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[1])
                    wrong = random.random() < 0.1
                    text = b"\xff" if wrong else random.choice(TEXTS).encode()
                    tensor.contents.bytes_contents.append(text)
                    try:
                        stub.ModelInfer(request, timeout=30)
                        self.seen["gRPC"] += 1
                    except grpc.RpcError as error:
                        if error.code().name not in ("INVALID_ARGUMENT", "UNAVAILABLE"):
                            self.faults.append(f"gRPC: {error.code()}")
                        self.seen["refused" if wrong else "closed"] += 1

    def bad_company(self) -> None:
        """Connections that say nothing, half of something, or leave before they are answered."""
        begun = (b"", b"GET /", b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        whole = (
            b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\n\r\n" + b'{"text": "a"}'
        )
        held: list[socket.socket] = []
        while self.elapsed < self.seconds:
            with contextlib.suppress(OSError):
                client = socket.create_connection((HOST, self.port), timeout=5)
                client.sendall(random.choice((*begun, whole, b"\x16\x03\x01garbage\r\n\r\n")))
                self.seen["bad company"] += 1
                if random.random() < 0.5:
                    client.close()
                else:
                    held.append(client)
            while len(held) > 50:
                held.pop(0).close()
            time.sleep(0.05)
        for client in held:
            client.close()

    def reload(self, place: Path) -> None:
        """Give the bundle a new version, again and again."""
        number = 1
        while self.elapsed < self.seconds:
            time.sleep(min(1.0, self.seconds / RELOADS))
            if self.elapsed > number * self.seconds / RELOADS:
                number += 1
                manifest = read_json(place / MANIFEST)
                write_json(place / MANIFEST, {**manifest, "version": str(number)})
                self.seen["new versions"] += 1

    def watch(self) -> None:
        """Look at the server."""
        while self.elapsed < self.seconds:
            with self.process.oneshot():
                memory = self.process.memory_info().rss / (1 << 20)
                threads = self.process.num_threads()
            self.looks.append(Look(self.elapsed, memory, self.process.num_fds(), threads))
            time.sleep(min(1.0, self.seconds / 100))

    def run(self, place: Path) -> None:
        """Do all of it at once."""
        work: list[Callable[[], None]] = [partial(self.client, n) for n in range(CLIENTS)]
        work += [self.over_grpc, self.bad_company, self.watch, partial(self.reload, place)]
        with ThreadPoolExecutor(len(work)) as pool:
            for each in [pool.submit(one) for one in work]:
                each.result()

    def between(self, start: float, end: float) -> dict[str, float]:
        """What was seen in a part of the time; both are shares of it."""
        low, high = start * self.seconds, end * self.seconds
        looks = [look for look in self.looks if low <= look.at < high]
        waits = sorted(wait for at, wait in self.waits if low <= at < high) or [0.0]
        return {
            "megabytes": statistics.median(look.megabytes for look in looks),
            "files": statistics.median(look.files for look in looks),
            "threads": max(look.threads for look in looks),
            "requests": len(waits),
            "p50": 1000 * waits[len(waits) // 2],
            "p99": 1000 * waits[len(waits) * 99 // 100],
        }

    def growth(self) -> list[str]:
        """In what the second half is worse than the first; the first fifth is not counted."""
        first, second = self.between(0.2, 0.6), self.between(0.6, 1.0)
        checks = {
            "memory": second["megabytes"] - first["megabytes"] <= MOST_MB,
            "files": second["files"] - first["files"] <= MOST_FILES,
            "threads": second["threads"] - first["threads"] <= MOST_THREADS,
            "latency": second["p50"] <= MOST_SLOWER * first["p50"] + 5,
        }
        return [name for name, kept in checks.items() if not kept]


def main() -> int:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=Path, help="by default a new one is made")
    parser.add_argument("--minutes", type=float, default=60.0, help="(%(default)s)")
    parser.add_argument("--json", type=Path, help="write what was seen to this file too")
    parser.add_argument("--quick", action="store_true", help="half a minute, a smaller tokenizer")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print_line(f"{machine()}. Load average before the run: {os.getloadavg()[0]:.2f}.")
    minutes = 0.5 if options.quick else options.minutes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        teacher = "minilm" if options.quick else "multilingual-e5-small"
        made = options.bundle or make_bundle(folder, teacher)
        place = folder / "served"
        shutil.copytree(made, place)
        write_json(place / MANIFEST, {**read_json(place / MANIFEST), "name": "soak"})
        port, grpc_port = _free_port(), _free_port()
        arguments = ("--http-port", port, "--grpc-port", grpc_port, "--reload-seconds", "0.5")
        patience = ("--keep-alive-seconds", KEEP_ALIVE)
        with running("-m", "predictors", place, *arguments, *patience) as process:
            body = json.dumps({"text": TEXTS[0]})
            wait_until_answered(Route("ours", port, "/predict", [body], process))
            soak = Soak(port, grpc_port, process, minutes)
            soak.run(place)
            alive = psutil.pid_exists(process)
    rows = []
    for number in range(PERIODS):
        part = soak.between(number / PERIODS, (number + 1) / PERIODS)
        start, end = (figure(n * minutes / PERIODS) for n in (number, number + 1))
        names = ("megabytes", "files", "threads", "p50", "p99")
        rows.append([f"{start} to {end}", *(figure(part[each]) for each in names)])
    header = ["minutes", "MB", "open files", "threads", "/predict p50 ms", "p99 ms"]
    print_table(f"{figure(minutes)} minutes of mixed load", header, rows)
    counted = ", ".join(f"{name} {count:,}" for name, count in soak.seen.most_common())
    print_line(f"\nRequests: {counted}. Faults: {len(soak.faults)}.")
    for fault, count in Counter(soak.faults).most_common(5):
        print_line(f"{count} × {fault}")
    grown = soak.growth()
    if options.quick and "latency" in grown:  # which in seconds is that of what else is running
        grown.remove("latency")
    print_line("Flat." if not grown else f"Grown: {', '.join(grown)}.")
    if options.json:
        content = {
            "seen": soak.seen,
            "faults": soak.faults,
            "grown": grown,
            "looks": [asdict(look) for look in soak.looks],
        }
        options.json.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return 1 if grown or soak.faults or not alive else 0


if __name__ == "__main__":
    sys.exit(main())
