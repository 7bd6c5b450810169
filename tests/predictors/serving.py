"""A real model server in its own process, for the tests of this folder.

Importing KServe takes more than a second, so servers are forked from one process that has imported
it already. `fresh=True` starts `python -m predictors` instead, as a user does.
"""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import httpx

from saarthi_lib import Predictor

HOST = "127.0.0.1"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
FORKS = multiprocessing.get_context("forkserver")


def new_client() -> httpx.Client:
    """Make a client that closes each connection, and loads no certificates (20 ms)."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(limits=limits, timeout=30, verify=False, trust_env=False)


class Forked:
    """A forked server process, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, log: Path, arguments: Sequence[str], environment: dict[str, str]) -> None:
        _prepare_forks()
        self._process = FORKS.Process(target=_main, args=(str(log), arguments, environment))
        self._process.daemon = True  # ends with the tests
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")  # the child must not run the tests' own
        try:
            self._process.start()
        finally:
            sys.modules["__main__"] = main

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError(f"process {self.pid} did not end within {timeout} s")
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()


@dataclass
class Server:
    """A running server and the library's own predictors for its bundles."""

    process: subprocess.Popen[str] | Forked
    http_port: int
    grpc_port: int
    predictors: dict[str, Predictor]
    log: Path
    client: httpx.Client = field(default_factory=new_client)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.http_port}"

    def expected(
        self, name: str, texts: list[str], langs: Any = None, top_k: int = 1, threshold: Any = None
    ) -> list:
        """Predict with the library, and return the server's form of the answers."""
        source = {"model": name, "version": self.predictors[name].manifest.version}
        predictions = self.predictors[name].predict(texts, langs, top_k, threshold)
        return [prediction.to_dict() | source for prediction in predictions]

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """Send JSON or raw bytes; `_` in a header's name becomes `-`."""
        content = body if isinstance(body, bytes | str) else json.dumps(body)
        names = {"content-type": "application/json"}
        names |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(self.url + path, content=content, headers=names)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Send a GET request with options of `httpx`."""
        return self.client.get(self.url + path, **options)

    def metric(self, name: str, **labels: str) -> float:
        """Sum a metric's samples that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = self.get("/metrics").text.splitlines()
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
    log: Path,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    fresh: bool = False,
) -> subprocess.Popen[str] | Forked:
    """Start a server process, which writes its output to a log file."""
    given = list(map(str, arguments))
    variables = {**os.environ, **ONE_THREAD, **(environment or {})}
    if not fresh:
        return Forked(log, given, variables)
    command = [sys.executable, "-m", "predictors", *given]
    with log.open("w") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, text=True, env=variables
        )


@cache
def _prepare_forks() -> None:
    """Start the process that servers are forked from."""
    FORKS.set_forkserver_preload(["predictors.application"])
    with patch.dict(os.environ, ONE_THREAD):  # read when numpy is imported
        forkserver.ensure_running()


def _main(log: str, arguments: Sequence[str], environment: dict[str, str]) -> None:
    """Run `python -m predictors` in a forked process."""
    from predictors.__main__ import main

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(output, stream)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup or a build system may run the tests
    sys.argv = ["python -m predictors", *arguments]
    main()


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until a condition is true, and return its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise TimeoutError(f"{condition} did not come true within {seconds} s")


@contextmanager
def serving(
    *bundles: object,
    environment: Mapping[str, str] | None = None,
    fresh: bool = False,
    **options: object,
) -> Iterator[Server]:
    """Serve bundles until the block ends; an option that is True becomes a flag."""
    with tempfile.TemporaryDirectory() as folder:
        http_port, grpc_port = free_port(), free_port()
        given = {"drain_seconds": 0, "http_port": http_port, "grpc_port": grpc_port, **options}
        arguments = list(bundles)
        for name, value in given.items():
            flag = f"--{name.replace('_', '-')}"
            arguments += [flag] if value is True else [flag, value]
        log = Path(folder) / "log"
        process = start(log, *arguments, environment=environment, fresh=fresh)
        folders = [bundle for bundle in bundles if (Path(str(bundle)) / "bundle.json").exists()]
        loaded = [Predictor.load(str(bundle)) for bundle in folders]
        predictors = {predictor.manifest.name: predictor for predictor in loaded}
        server = Server(process, http_port, grpc_port, predictors, log)

        def ready() -> bool:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            try:
                return server.get("/v2/health/ready").status_code == 200
            except httpx.TransportError:
                return False

        try:
            wait_for(ready)
            yield server
        finally:
            server.client.close()
            process.kill()
            process.wait(30)
