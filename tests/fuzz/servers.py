"""Fuzz a real server over HTTP and gRPC with malformed requests."""

import http.client
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import grpc

from tests.fuzz.inputs import broken, text
from tests.fuzz.targets import grpc_message, http_body
from tests.predictors.serving import HOST, Server, serving
from tests.tiny_bundle import write_tiny_bundle

PATHS = {
    "predict": ("/predict", "/predict/intents"),
    "v1": ("/v1/models/intents:predict", "/v1/models/entities:predict"),
    "v2": ("/v2/models/intents/infer", "/v2/models/entities/versions/1/infer"),
}
HEADERS = {
    "content-type": ("application/json", "text/xml", "application/cloudevents+json", "é", ";" * 99),
    "content-encoding": ("gzip", "deflate", "br", "identity", "é"),
    "x-request-timeout-ms": ("5000", "-1", "9" * 300, "soon", ""),
    "inference-header-content-length": ("5", "-5", "9" * 5000, "é"),
    "x-request-id": ("a", "é" * 90, "a b", "x" * 4000),
    "traceparent": ("00-0-0-0", "ff" * 50),
    "ce-specversion": ("1.0", "9", ""),
    "ce-id": ("1", ""),
    "ce-type": ("a",),
    "ce-source": ("/a",),
    "ce-time": ("yesterday",),
    "expect": ("100-continue",),
}
METHODS = ("POST",) * 12 + ("GET", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD")


@contextmanager
def a_server(fresh: bool = True) -> Iterator[Server]:
    """Run a server of two models; `fresh` starts it as a user does."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        intents = write_tiny_bundle(
            folder / "a", "joint", name="intents", runtime="onnxruntime", normalization="standard"
        )
        entities = write_tiny_bundle(folder / "b", "ner", name="entities", runtime="onnxruntime")
        options: dict[str, Any] = {"max_body_bytes": 200_000, "repository_api": True}
        with serving(intents, entities, fresh=fresh, reload_seconds=0, **options) as server:
            yield server


def faults_of(server: Server) -> list[str]:
    """Log lines of the server's internal errors."""
    assert server.process.poll() is None, "the server has ended"
    lines = server.log_lines()
    return [line for line in lines if '"saarthi.requests"' in line or "ASGI application" in line]


def over_http(server: Server, count: int, seed: int) -> tuple[Counter[int], list[str]]:
    """Send broken bodies, headers, methods and paths; returns statuses and findings."""
    found: list[str] = []
    statuses: Counter[int] = Counter()
    client = http.client.HTTPConnection(HOST, server.http_port, timeout=30)
    for number in range(count):
        draw = Random(seed + number)
        protocol, body, size = http_body(draw)
        path = draw.choice(PATHS[protocol])
        if draw.random() < 0.05:
            path = "/" + "".join(f"%{byte:02x}" for byte in broken(draw, path.encode())[:200])
        headers = {"content-type": "application/json"}
        if size is not None:
            headers["inference-header-content-length"] = str(size)
        for name in draw.sample(list(HEADERS), draw.choice((0, 0, 0, 1, 2, 5))):
            headers[name] = draw.choice(HEADERS[name])
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        try:
            client.request(draw.choice(METHODS), path, body, encoded)
            response = client.getresponse()
            response.read()
            statuses[response.status] += 1
            if response.status >= 500 and response.status not in (501, 503, 504):
                found.append(f"seed {seed + number}: {response.status}")
        except (http.client.HTTPException, OSError) as error:
            client.close()
            statuses[0] += 1
            if isinstance(error, TimeoutError):
                found.append(f"seed {seed + number}: no answer")
    client.close()
    return statuses, found + faults_of(server)[:5]


def over_raw_http(server: Server, count: int, seed: int) -> tuple[Counter[int], list[str]]:
    """Send requests with broken bytes; returns statuses and findings."""
    found: list[str] = []
    statuses: Counter[int] = Counter()
    for number in range(count):
        draw = Random(seed + number)
        _, body, _ = http_body(draw)
        head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
        head += draw.choice(("", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n"))
        request = broken(draw, head.encode() + b"\r\n" + body)
        with socket.create_connection((HOST, server.http_port), timeout=30) as client:
            try:
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                answer = client.recv(65536)
            except ConnectionError:
                answer = b""
            except TimeoutError:
                found.append(f"seed {seed + number}: no answer")
                answer = b""
        status = int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
        statuses[status] += 1
        if status >= 500 and status not in (501, 503, 504):
            found.append(f"seed {seed + number}: {status}")
    return statuses, found + faults_of(server)[:5]


def over_grpc(server: Server, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Send broken messages; returns codes and findings."""
    found: list[str] = []
    codes: Counter[str] = Counter()
    with grpc.insecure_channel(f"{HOST}:{server.grpc_port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        others = ("ModelMetadata", "ModelReady", "ServerReady", "RepositoryModelLoad", "Nothing")
        for number in range(count):
            draw = Random(seed + number)
            message = grpc_message(draw)
            ask = call
            if draw.random() < 0.1:
                name = draw.choice(others)
                ask = channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
            metadata = []
            if draw.random() < 0.2:
                metadata = [("x-request-id", text(draw, 3).encode("ascii", "ignore").decode())]
                metadata = [(k, "".join(c for c in v if " " <= c <= "~")) for k, v in metadata]
            try:
                ask(message, timeout=30, metadata=metadata)
                codes["OK"] += 1
            except grpc.RpcError as error:
                name = error.code().name
                codes[name] += 1
                if name in ("UNKNOWN", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"):
                    found.append(f"seed {seed + number}: {name} {error.details()}"[:300])
    return codes, found + faults_of(server)[:5]
