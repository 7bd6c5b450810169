"""Signals, closed streams, and logs whose reader is slow, gone or deceived."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.late_networks import bundle_with, endless_network
from tests.predictors.serving import HOST, ONE_THREAD, Server, free_port, serving, start, wait_for
from tests.tiny_bundle import write_tiny_bundle

FORGED = "x\n12:00:00 INFO    all is well\r\x1b[31m\x9b31m\u2028\u202e{}"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "bot"
    return write_tiny_bundle(folder, name="bot", runtime="onnxruntime")


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/ready", verify=False).status_code == 200
    except httpx.TransportError:
        return False


def test_hangup_drains_like_sigterm(bundle: Path) -> None:
    with serving(bundle, drain_seconds=60) as server:
        os.kill(server.process.pid, signal.SIGHUP)
        wait_for(lambda: server.get("/v2/health/ready").status_code == 503)
        for _ in range(5):
            assert server.post("/predict", {"text": "turn on"}).status_code == 200
        assert server.process.poll() is None
        os.kill(server.process.pid, signal.SIGTERM)  # the second signal skips the wait
        assert server.process.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_loading_ends_the_start(
    bundle: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Process 1 of a container would ignore a signal without a handler."""
    content = endless_network((bundle / "model.onnx").read_bytes())
    slow, log = bundle_with(bundle, tmp_path / "slow", content), tmp_path / "log"
    options = ("--trial-seconds", 600, "--grpc-port", 0, "--http-port", free_port())
    process = start(log, slow, *options)
    [trial] = wait_for(lambda: psutil.Process(process.pid).children())
    caught = re.search(r"SigCgt:\s+(\w+)", Path(f"/proc/{process.pid}/status").read_text())
    assert caught and int(caught[1], 16) >> (number - 1) & 1
    os.kill(process.pid, number)
    assert process.wait(20) == 128 + number
    wait_for(lambda: not trial.is_running() or trial.status() == psutil.STATUS_ZOMBIE, 10)
    assert "Traceback" not in log.read_text(encoding="utf-8")


def test_signal_in_a_destructor_ends_the_start() -> None:
    code = """
import os, signal, time
from predictors.server import _end_on_signals
class Loaded:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)
_end_on_signals()
Loaded()
time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=40, capture_output=True)
    assert done.returncode == 128 + signal.SIGTERM


def test_port_taken_while_loading_ends_the_start(bundle: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with socket.socket() as other:  # of a server that has bound its port, and then listens first
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((HOST, 0))
        port = other.getsockname()[1]
        process = start(log, bundle, "--grpc-port", 0, "--http-port", port)
        wait_for(lambda: log.exists() and "unsigned bundles" in log.read_text(encoding="utf-8"))
        wait_for(lambda: psutil.Process(process.pid).children())  # the trial: it has bound the port
        other.listen()
        assert process.wait(30) == 2
    text = log.read_text(encoding="utf-8")
    assert f"--http-port {port}: cannot listen" in text and "Traceback" not in text


def test_missing_key_is_named_before_bundles_are_read(bundle: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pem")
    for key in ("missing.pem", "pipe.pem"):
        log = tmp_path / "log"
        process = start(log, bundle, "--trusted-keys", tmp_path / key)
        assert process.wait(30) == 2
        assert f"{key}: cannot be read as a key" in log.read_text(encoding="utf-8")


def test_closed_streams_do_not_prevent_the_start(bundle: Path) -> None:
    port, closed = free_port(), "<&- >&- 2>&-"
    command = f'exec "$0" -m predictors --grpc-port 0 --http-port {port} "$1" {closed}'
    arguments = ["sh", "-c", command, sys.executable, str(bundle)]
    with subprocess.Popen(arguments, env={**os.environ, **ONE_THREAD}) as process:
        try:
            wait_for(lambda: process.poll() is not None or is_ready(f"http://{HOST}:{port}"))
            streams = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)]
            assert streams[2] == "/dev/null" and not any("socket" in name for name in streams)
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


@contextmanager
def logging_to_pipe(bundle: Path, folder: Path) -> Iterator[tuple[Server, int]]:
    """A server that logs texts to a pipe, and the pipe's end for reading."""
    pipe, port = folder / "pipe", free_port()
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    options = ["--access-log", "--log-texts", "--grpc-port", 0, "--http-port", port]
    process = start(pipe, bundle, *options, "--drain-seconds", 0)
    server = Server(process, port, 0, {}, pipe)
    try:
        wait_for(lambda: is_ready(server.url))
        yield server, reader
    finally:
        server.client.close()
        process.kill()


def test_full_log_pipe_does_not_freeze_the_server(bundle: Path, tmp_path: Path) -> None:
    with logging_to_pipe(bundle, tmp_path) as (server, reader):
        for _ in range(300):  # 3 MB of lines
            assert server.post("/predict", {"text": "on " * 3000}).status_code == 200
        dropped = server.metric("saarthi_dropped_log_lines_total")
        assert 100 < dropped < 300
        received = bytearray()

        def reported() -> bool:
            while True:
                try:
                    part = os.read(reader, 1 << 20)
                except BlockingIOError:
                    break
                received.extend(part)
                if not part:
                    break
            return b"lines were dropped" in received

        wait_for(reported, 20)
        server.post("/predict", {"text": "after that"})
        wait_for(lambda: reported() and b"after that" in received, 20)
        lines = [json.loads(line) for line in received.splitlines()]
        assert sum(line.get("dropped", 0) for line in lines) == dropped
        assert sum(line.get("protocol") == "predict" for line in lines) == 301 - dropped


def test_full_or_closed_log_pipe_does_not_block_the_end(bundle: Path, tmp_path: Path) -> None:
    with logging_to_pipe(bundle, tmp_path) as (server, reader):
        for _ in range(20):
            server.post("/predict", {"text": "on " * 3000})
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 20
        os.close(reader)
    (tmp_path / "closed").mkdir()
    with logging_to_pipe(bundle, tmp_path / "closed") as (server, reader):
        os.close(reader)
        for _ in range(20):
            assert server.post("/predict", {"text": "on " * 3000}).status_code == 200
        assert server.metric("saarthi_dropped_log_lines_total") >= 19
        assert server.stop() == 0


@pytest.mark.parametrize("form", ["text", "json"])
def test_requests_and_paths_cannot_forge_log_lines(tmp_path: Path, form: str) -> None:
    place = write_tiny_bundle(tmp_path / FORGED.replace("/", ""), name="bot", runtime="onnxruntime")
    options: dict[str, Any] = {
        "access_log": True,
        "log_texts": True,
        "log_format": form,
        "reload_seconds": 0.1,
    }
    with serving(place, **options) as server:
        server.post("/predict", {"text": FORGED})
        server.post("/predict", {"text": "a", "model": FORGED})
        quoted = "%0A12:00:00%20INFO%1B%5B31m"
        server.post(f"/v1/models/{quoted}:predict", {"instances": ["a"]})
        server.client.post(
            f"{server.url}/predict", content=b"{}", headers={b"x-request-id": b"a\x9b\xe2\x80\xa8b"}
        )
        (place / "bundle.json").write_text("{")
        wait_for(lambda: "stays at version" in server.log.read_text(encoding="utf-8"))
        content = server.log.read_text(encoding="utf-8")

    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", content)
    lines = content.rstrip("\n").split("\n")
    assert not [line for line in lines if line.startswith("12:00:00")]
    if form == "json":
        assert [FORGED] in [json.loads(line).get("text") for line in lines]
    else:
        assert all(re.match(r"\d\d:\d\d:\d\d (INFO|WARNING|ERROR) ", line) for line in lines)
