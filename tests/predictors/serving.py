"""A real model server in its own process, for the tests of this folder."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from saarthi_lib import Predictor

HOST = "127.0.0.1"


@dataclass
class Server:
    """A running server and the library's own predictors for its bundles."""

    process: subprocess.Popen[str]
    http_port: int
    grpc_port: int
    predictors: dict[str, Predictor]
    log: Path

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.http_port}"

    def expected(self, name: str, texts: list[str], langs: Any = None, top_k: int = 1) -> list:
        """What the library answers, in the server's form."""
        source = {"model": name, "version": self.predictors[name].manifest.version}
        predictions = self.predictors[name].predict(texts, langs, top_k)
        return [prediction.to_dict() | source for prediction in predictions]

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """Send JSON, or bytes as they are; `_` in a header's name stands for `-`."""
        content = body if isinstance(body, bytes | str) else json.dumps(body)
        names = {"content-type": "application/json"}
        names |= {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(self.url + path, content=content, headers=names, timeout=30)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith((f"{name}{{", f"{name} ")) and all(w in line for w in wanted)
        )

    def log_lines(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; returns the exit code."""
        os.kill(self.process.pid, number)
        return self.process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def bytes_tensor(name: str, values: list[str]) -> dict[str, Any]:
    return {"name": name, "shape": [len(values)], "datatype": "BYTES", "data": values}


def start(
    log: Path, *arguments: object, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "predictors", *map(str, arguments)]
    with log.open("w") as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        )


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until something is true; returns it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise TimeoutError(f"{condition} did not come true within {seconds} s")


@contextmanager
def serving(
    *bundles: object, environment: Mapping[str, str] | None = None, **options: object
) -> Iterator[Server]:
    """A server of bundles, ready; a true option is a flag."""
    with tempfile.TemporaryDirectory() as folder:
        http_port, grpc_port = free_port(), free_port()
        given = {"drain_seconds": 0, "http_port": http_port, "grpc_port": grpc_port, **options}
        arguments = list(bundles)
        for name, value in given.items():
            flag = f"--{name.replace('_', '-')}"
            arguments += [flag] if value is True else [flag, value]
        log = Path(folder) / "log"
        process = start(log, *arguments, environment=environment)
        folders = [bundle for bundle in bundles if (Path(str(bundle)) / "bundle.json").exists()]
        loaded = [Predictor.load(str(bundle)) for bundle in folders]
        predictors = {predictor.manifest.name: predictor for predictor in loaded}
        server = Server(process, http_port, grpc_port, predictors, log)

        def ready() -> bool:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            try:
                return httpx.get(f"{server.url}/v2/health/ready").status_code == 200
            except httpx.TransportError:
                return False

        try:
            wait_for(ready)
            yield server
        finally:
            process.kill()
            process.wait(30)
