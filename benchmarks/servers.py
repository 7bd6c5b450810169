"""Start servers, wait for their first answer, and put load on them."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from common import ROOT
from load_client import HOST, Load, Summary

TEXTS = [
    "turn on the kitchen lights",
    "what is the weather in Mumbai tomorrow",
    "set the bedroom to 21 degrees",
    "रसोई की बत्ती जलाओ",
    "शयनकक्ष का पंखा बंद करो",
]
MEGABYTE = 1 << 20


def free_port() -> int:
    """A port of this machine that is free now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(*command: object) -> Iterator[int]:
    """Run Python with these arguments, and end it; yields its process id."""
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


@dataclass(frozen=True)
class Server:
    """A running server of this project."""

    process: int
    port: int
    grpc_port: int

    def route(self, name: str, path: str, bodies: list[str]) -> "Route":
        """A way to ask it over HTTP."""
        return Route(name, self.process, Load(self.port, path, bodies))

    @property
    def health(self) -> "Route":
        """Its readiness."""
        return self.route("health", "/v2/health/ready", [])


@contextmanager
def our_server(bundle: Path, *options: object) -> Iterator[Server]:
    """Serve a bundle; yields when the server is ready."""
    port, grpc_port = free_port(), free_port()
    ports = ("--http-port", port, "--grpc-port", grpc_port)
    with running("-m", "predictors", bundle.resolve(), *ports, *options) as process:
        server = Server(process, port, grpc_port)
        server.health.wait()
        yield server


@dataclass(frozen=True)
class Route:
    """A way to ask a server."""

    name: str
    process: int
    load: Load

    def wait(self) -> None:
        """Ask until the status is 200, at most for a minute."""
        method = "POST" if self.load.bodies else "GET"
        body = self.load.bodies[0].encode() if self.load.bodies else None
        headers = {"Content-Type": "application/json"}
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            connection = http.client.HTTPConnection(HOST, self.load.port, timeout=10)
            try:
                connection.request(method, self.load.path, body, headers)
                if connection.getresponse().status == 200:
                    return
            except (ConnectionError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            time.sleep(0.002)
        sys.exit(f"{self.name} does not answer")

    def ask(self, connections: int, seconds: float, **settings: Any) -> Summary:
        """Send requests, and return the measurements; settings are those of `Load`.

        `cpu_ms` is the server's CPU time for each answer.
        """
        before = self._cpu_seconds()
        seen = finish(self.start(connections, seconds, **settings))
        answers = max(1, sum(seen["statuses"].values()))
        seen["cpu_ms"] = 1000 * (self._cpu_seconds() - before) / answers
        return seen

    def start(self, connections: int, seconds: float, **settings: Any) -> "subprocess.Popen[str]":
        """Start a client in its own process."""
        load = replace(self.load, connections=connections, seconds=seconds, **settings)
        script = ROOT / "benchmarks" / "load_client.py"
        command = [sys.executable, str(script), json.dumps(asdict(load))]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def _cpu_seconds(self) -> float:
        times = psutil.Process(self.process).cpu_times()
        return float(times.user + times.system)


def finish(client: "subprocess.Popen[str]") -> Summary:
    """Wait for a client; returns its measurements."""
    output, _ = client.communicate(timeout=300)
    seen: Summary = json.loads(output)
    return seen


def under_load(
    server: Server, route: Route, connections: int, seconds: float, **settings: Any
) -> tuple[Summary, Summary, float]:
    """Ask a route while the server's health is asked 20 times a second.

    Returns:
        Measurements of the route and of the health check, and the peak memory in MB.
    """
    checks = server.health.start(1, seconds, rate=20)
    with peak_memory(server.process) as peak:
        seen = route.ask(connections, seconds, **settings)
    return seen, finish(checks), peak[0]


@contextmanager
def peak_memory(process: int) -> Iterator[list[float]]:
    """Sample a process's resident memory during the block; yields a list with the peak in MB."""
    peak, over, watched = [0.0], threading.Event(), psutil.Process(process)

    def watch() -> None:
        while not over.wait(0.05):
            peak[0] = max(peak[0], watched.memory_info().rss / MEGABYTE)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
