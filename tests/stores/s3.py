"""A real S3 server (moto's) in a process of its own, and a proxy that fails on demand."""

import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config

from tests.predictors.serving import free_port

# Environment of clients that must use nothing of this machine's settings.
SETTINGS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}

_OF_CONNECTION = ("connection", "content-length", "date", "server", "transfer-encoding")

# Method and path of a request → a status to answer with, or a change of the body that is sent, with
# the content length of the whole one; None: as the server answers.
Fault = Callable[[str, str], int | Callable[[bytes], bytes] | None]


@contextmanager
def s3_server(*options: str) -> Iterator[str]:
    """Run moto's server until the block ends; yields its address."""
    port = free_port()
    scheme = "https" if "--ssl" in options or "-c" in options else "http"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": ""},
    )
    try:
        _wait(port, process)
        yield f"{scheme}://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    import socket

    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("moto's server does not start")


def use_server(monkeypatch: pytest.MonkeyPatch, url: str, **settings: str) -> None:
    """Let clients of this test use a server."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in {**SETTINGS, "AWS_ENDPOINT_URL": url, **settings}.items():
        monkeypatch.setenv(name, value)


class S3Bucket:
    """A new bucket of a server, as another program sees it."""

    def __init__(self, url: str, name: str = "") -> None:
        self.client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(max_pool_connections=16),
        )
        self.name = name or f"bucket-{uuid4().hex}"
        if not name:
            self.client.create_bucket(Bucket=self.name)

    def put(self, key: str, content: bytes | str) -> None:
        body = content.encode() if isinstance(content, str) else content
        self.client.put_object(Bucket=self.name, Key=key, Body=body)

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def names(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def put_folder(self, folder: Path, prefix: str) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())


@contextmanager
def proxy(behind: str, fault: Fault) -> Iterator[str]:
    """Forward all requests to a server, except those that `fault` answers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            sent = self._sent()
            wrong = fault(self.command, self.path)
            if isinstance(wrong, int):
                self.send_response(wrong)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            status, headers, body = self._forward(sent)
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in _OF_CONNECTION:
                    self.send_header(name, value)
            length = headers.get("Content-Length", "0") if self.command == "HEAD" else len(body)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if wrong is not None:
                body = wrong(body)
                self.close_connection = True
            if self.command != "HEAD":
                self.wfile.write(body)

        def _sent(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def _forward(self, sent: bytes) -> tuple[int, dict[str, str], bytes]:
            request = urllib.request.Request(behind + self.path, sent or None, method=self.command)
            request.add_header("Content-Type", "application/octet-stream")  # else urllib adds one
            for name, value in self.headers.items():
                if name.lower() not in ("host", "expect", *_OF_CONNECTION):
                    request.add_header(name, value)
            try:
                with urllib.request.urlopen(request) as answer:
                    return answer.status, dict(answer.headers), answer.read()
            except urllib.error.HTTPError as error:
                return error.code, dict(error.headers), error.read()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as front:
        threading.Thread(target=front.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{front.server_port}"
        finally:
            front.shutdown()
