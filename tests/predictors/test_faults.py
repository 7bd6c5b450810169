"""Slow, silent, endless or greedy clients and unusual text do not harm other requests."""

import json
import random
import socket
import sys
import time
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import grpc
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.predictors.serving import HOST, Server, bytes_tensor, serving, wait_for
from tests.tiny_bundle import SENTENCES, write_tiny_bundle

CONNECTIONS = 40
V2 = "/v2/models/bot/infer"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with short timeouts and low limits."""
    folder = tmp_path_factory.mktemp("strict")
    bot = write_tiny_bundle(folder / "bot", "joint", name="bot", runtime="onnxruntime")
    limits: dict[str, Any] = {
        "max_connections": CONNECTIONS,
        "max_calls": 20,
        "keep_alive_seconds": 1,
    }
    sizes: dict[str, Any] = {
        "max_body_bytes": 200_000,
        "max_reading_bytes": 500_000,
        "deadline_seconds": 2,
    }
    with serving(bot, **limits, **sizes, reload_seconds=0) as running:
        yield running


def connect(server: Server) -> socket.socket:
    return socket.create_connection((HOST, server.http_port), timeout=15)


def rest_of(client: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    try:
        return b"".join(iter(lambda: client.recv(100_000), b""))
    except ConnectionResetError:
        return b""


def answer_of(client: socket.socket) -> tuple[HTTPResponse, bytes]:
    """Read one response and its body."""
    response = HTTPResponse(client)
    response.begin()
    return response, response.read()


def is_well(server: Server) -> bool:
    started = time.perf_counter()
    response = server.post("/predict", {"text": SENTENCES[0]})
    return response.status_code == 200 and time.perf_counter() - started < 2


def resident_mb(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def open_files(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def test_slow_request_heads_end_with_408(strict: Server) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(strict)) for _ in range(CONNECTIONS - 5)]
        for client in slow:
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        end = time.monotonic() + 1.5
        while time.monotonic() < end:  # single bytes do not extend the deadline
            for client in slow:
                client.send(b"a")
            assert is_well(strict)
            time.sleep(0.2)
        assert {rest_of(client)[:12] for client in slow} == {b"HTTP/1.1 408"}
    assert is_well(strict)


def test_endless_head_or_trailer_is_cut_off(strict: Server) -> None:
    before = resident_mb(strict)
    for start in (
        b"GET / HTTP/1.1\r\nX: ",
        b"GET /",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    ):
        with connect(strict) as client, pytest.raises(OSError):
            client.sendall(start)
            for _ in range(1000):
                client.sendall(b"a" * 100_000)
    with connect(strict) as client, pytest.raises(OSError):
        for _ in range(1000):
            client.sendall(b"GET / HTTP/1.1\r\nX: " + b"a: b\r\n" * 20_000)
    assert resident_mb(strict) - before < 20
    assert is_well(strict)


def test_silent_http_connections_are_closed(strict: Server) -> None:
    with connect(strict) as never_asked, connect(strict) as asked, connect(strict) as empty:
        asked.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        empty.sendall(b"\r\n\r\n")
        for client in (never_asked, asked, empty):
            started = time.monotonic()
            rest_of(client)
            assert time.monotonic() - started < 6


def test_client_that_reads_no_answers_is_disconnected(strict: Server) -> None:
    before = resident_mb(strict)
    request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 100
    with connect(strict) as client:
        client.settimeout(10)
        with pytest.raises((ConnectionError, TimeoutError)) as caught:
            for _ in range(100_000):
                client.sendall(request)
        assert not isinstance(caught.value, TimeoutError)
    assert resident_mb(strict) - before < 50
    assert is_well(strict)


def test_refused_endless_body_is_not_read_forever(strict: Server) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (50_000, b"a" * 50_000)
    started = time.monotonic()
    with connect(strict) as client, pytest.raises(OSError):
        client.sendall(head)
        while time.monotonic() - started < 20:
            client.sendall(chunk)
    assert time.monotonic() - started < 6


def test_connections_beyond_the_limit_are_refused(strict: Server) -> None:
    """Idle connections are closed for new ones; if all are busy, a new one gets 503."""
    before = open_files(strict)
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nX-Request-Timeout-Ms: 1000\r\n"
    head += b"Content-Length: 20\r\n\r\n{"
    with ExitStack() as stack:
        for _ in range(3 * CONNECTIONS):
            stack.enter_context(connect(strict))
        assert open_files(strict) - before <= CONNECTIONS + 2
        assert is_well(strict)
    wait_for(lambda: open_files(strict) <= before, 10)
    with ExitStack() as stack:
        busy = [stack.enter_context(connect(strict)) for _ in range(CONNECTIONS)]
        for client in busy:
            client.sendall(head)
        time.sleep(0.3)
        with connect(strict) as refused:
            answer = rest_of(refused)
        assert answer.startswith(b"HTTP/1.1 503") and b"too many connections" in answer
        assert {rest_of(client)[:12] for client in busy} == {b"HTTP/1.1 408"}
    wait_for(lambda: open_files(strict) <= before + 2, 10)
    assert is_well(strict)


def test_bodies_read_at_once_beyond_the_limit_get_503(strict: Server) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nX-Request-Timeout-Ms: 500\r\n"
    head += b"Content-Length: 190000\r\n\r\n"
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(strict)) for _ in range(6)]
        for client in clients:
            client.sendall(head + b'{"text": "' + b"a" * 150_000)
        answers = [answer_of(client) for client in clients]
    assert {answer.status for answer, _ in answers} == {503, 408}
    [(busy, body), *_] = [each for each in answers if each[0].status == 503]
    assert busy.headers["retry-after"] == "1" and b"the server is busy" in body
    assert is_well(strict)


@pytest.mark.parametrize(
    ("path", "body", "headers", "message"),
    [
        ("/predict", {"text": "a"}, {"x_request_timeout_ms": "9" * 400}, "whole milliseconds"),
        ("/predict", {"text": "a"}, {"x_request_timeout_ms": "-1"}, "whole milliseconds"),
        (V2, {"inputs": []}, {"inference_header_content_length": "9" * 5000}, "whole number"),
        (V2, {"inputs": []}, {"inference_header_content_length": "99"}, "the body's 14 bytes"),
        # Multiplying this many numbers would take hours.
        (V2, {"inputs": [{"shape": [9] * 60_000}]}, {}, "at most 8 whole numbers"),
        (V2, {"inputs": [{"shape": [-1, -1]}]}, {}, "whole numbers"),
        (V2, {"inputs": [{"shape": [2**63]}]}, {}, "do not fit its shape"),
        (V2, {"inputs": [{"shape": [1e300]}]}, {}, "whole numbers"),
        (V2, '{"inputs": [{"name": "text", "shape": [1e999]}]}', {}, "not valid JSON"),
        (V2, {"inputs": [{}], "outputs": [{"name": "x" * 9000}]}, {}, "xxx' is unknown"),
        ("/predict", {"text": "a", "top_k": -(2**63)}, {}, "top_k"),
        ("/predict", '{"text": "a", "top_k": 1e400}', {}, "not valid JSON"),
        (
            V2,
            {"inputs": []},
            {"ce_specversion": "", "inference_header_content_length": "9" * 99},
            "",
        ),
        ("/v1/models/bot:predict", b"", {"ce_specversion": "1.0"}, "CloudEvent needs a body"),
        (
            "/v1/models/bot:predict",
            "[" * 9000,
            {"content_type": "application/cloudevents+json"},
            "",
        ),
    ],
)
def test_huge_number_or_shape_is_refused_at_once(
    strict: Server, path: str, body: Any, headers: dict[str, str], message: str
) -> None:
    if isinstance(body, dict) and body.get("inputs"):
        body["inputs"] = [bytes_tensor("text", ["a"]) | body["inputs"][0]]
    started = time.perf_counter()
    response = strict.post(path, body, **headers)

    assert response.status_code == 400, response.text
    assert message in response.json()["error"] and len(response.content) < 1000
    assert time.perf_counter() - started < 1


def test_megabyte_text_is_refused_and_long_text_answered(strict: Server) -> None:
    assert strict.post("/predict", {"text": "word " * 200_000}).status_code == 413
    for letter in ("a", "क", "\u0316\u0301", "\U0001f3f4\U000e0067", "( ", "\u200d"):
        text = ("x" + letter * 10_000)[:10_000]
        started = time.perf_counter()
        response = strict.post("/predict", {"text": text})
        assert response.status_code == 200, (letter, response.text)
        assert time.perf_counter() - started < 2, letter


def every_kind_of_text() -> list[str]:
    """Sentences with characters of every block, category and direction."""
    draw = random.Random(5)
    points = [
        point
        for point in range(sys.maxunicode + 1)
        if unicodedata.category(chr(point)) not in ("Cs", "Cn", "Co") or point % 4096 == 0
    ]
    points = [point for point in points if not 0xD800 <= point <= 0xDFFF]
    chosen = points[::31]
    draw.shuffle(chosen)
    texts = ["".join(map(chr, chosen[at : at + 12])) for at in range(0, len(chosen), 12)]
    return [
        *texts,
        *(
            "turn on שלום عليكم the \u202elights\u202c",
            "\u200fمصباح\u200e 7",
            "a\u200bb\u200cc\u200dd",
        ),
        *(
            "e" + "\u0301" * 200,
            "👩‍👩‍👧‍👦 🏴\U000e0067\U000e0062\U000e007f",
            "\ufeffturn\u2028on\u0085",
            "\x00a\x1b[31m",
        ),
    ]


def test_text_of_every_block_has_valid_offsets(strict: Server) -> None:
    texts = every_kind_of_text()
    for start in range(0, len(texts), 500):
        part = texts[start : start + 500]
        response = strict.post("/v1/models/bot:predict", {"instances": part})
        if response.status_code == 400:  # invisible text is refused with its number
            error = response.json()["error"]
            assert "invisible" in error or "is empty" in error
            del part[int(error.partition("[")[2].partition("]")[0])]
            response = strict.post("/v1/models/bot:predict", {"instances": part})
        for text, answer in zip(part, response.json()["predictions"], strict=True):
            for entity in answer["entities"]:
                assert text[entity["start"] : entity["end"]] == entity["text"] != ""


def test_grpc_with_wrong_shape_or_type_is_refused(strict: Server) -> None:
    def message(**fields: Any) -> pb.ModelInferRequest:
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1]} | fields.pop("tensor", {})
        contents = fields.pop("contents", {"bytes_contents": [b"a"]})
        request = pb.ModelInferRequest(model_name="bot", **fields)
        request.inputs.add(**tensor, contents=pb.InferTensorContents(**contents))
        return request

    choice = pb.InferParameter
    cases = [
        (message(tensor={"shape": [2]}), "do not fit its shape"),
        (message(tensor={"shape": [-1, -1]}), "whole numbers"),
        (message(tensor={"shape": [2**62] * 15_000}), "at most 8"),
        (message(tensor={"datatype": "FP32"}), "datatype BYTES"),
        (message(tensor={"name": "txt"}), "did you mean 'text'?"),
        (message(contents={"fp32_contents": [1.0]}), "do not fit its shape"),
        (message(raw_input_contents=[b"\xff\xff\xff\xff"]), "cut off"),
        (message(raw_input_contents=[b"", b""]), "2 raw contents for 1 inputs"),
        (message(raw_input_contents=[b"\0" * 150_000]), "1001 texts"),
        (
            message(contents={"bytes_contents": [b""] * 1001}, tensor={"shape": [1001]}),
            "1001 texts",
        ),
        (message(parameters={"top_k": choice(string_param="x" * 9000)}), "top_k"),
        (message(parameters={"top_k": choice(int64_param=-5)}), "top_k"),
        (message(outputs=[{"name": "é" * 9000}]), "is unknown"),
    ]
    with grpc.insecure_channel(f"{HOST}:{strict.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        for request, text in cases:
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(request, timeout=10)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, text
            assert text in caught.value.details(), (text, caught.value.details())
        raw = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for garbage in (b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f"):
            with pytest.raises(grpc.RpcError) as caught:
                raw(garbage, timeout=10)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "not a V2 message" in caught.value.details()
        with pytest.raises(grpc.RpcError) as caught:
            raw(b"\0" * 400_000, timeout=10)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert stub.ModelInfer(message(), timeout=10).model_name == "bot"


def test_grpc_calls_beyond_the_limit_are_refused(strict: Server) -> None:
    before = resident_mb(strict)
    request = pb.ModelInferRequest(model_name="bot")
    request.inputs.add(name="text", datatype="BYTES", shape=[900]).contents.bytes_contents.extend(
        [b"turn on the lights"] * 900
    )

    def ask(_: int) -> Any:
        with grpc.insecure_channel(f"{HOST}:{strict.grpc_port}") as channel:
            try:
                GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)
            except grpc.RpcError as error:
                return error.code()
        return None

    with ThreadPoolExecutor(60) as pool:
        found = set(pool.map(ask, range(120)))
    assert None in found and len(found) > 1
    busy = {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
    assert {code.name for code in found if code} <= busy
    assert resident_mb(strict) - before < 100
    assert is_well(strict)


@pytest.mark.slow  # waits four keep-alive periods
def test_silent_grpc_connections_are_closed(strict: Server) -> None:
    """Connections that send nothing, only the preface, or half a message."""
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
    # HEADERS of a call, uncompressed, and a DATA frame that promises more than comes.
    path = b"/inference.GRPCInferenceService/ModelInfer"
    names = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"a")]
    names += [(b"te", b"trailers"), (b"content-type", b"application/grpc")]
    block = b"".join(b"\0%c%s%c%s" % (len(n), n, len(v), v) for n, v in names)
    headers = len(block).to_bytes(3, "big") + b"\x01\x04" + b"\0\0\0\x01" + block
    data = b"\0\0\x0a\0\0" + b"\0\0\0\x01" + b"\0\0\0\x10\0hello"
    before = open_files(strict)
    with ExitStack() as stack:
        for said in (b"", hello, hello + headers + data) * 10:
            client = socket.create_connection((HOST, strict.grpc_port))
            stack.enter_context(client).sendall(said)
        wait_for(lambda: open_files(strict) >= before + 25, 10)
        wait_for(lambda: open_files(strict) <= before + 2, 30)
    with grpc.insecure_channel(f"{HOST}:{strict.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(pb.ServerReadyRequest(), timeout=10).ready


def test_server_logged_no_internal_error(strict: Server) -> None:
    """Must run last in this file."""
    assert strict.process.poll() is None
    lines = [json.loads(line) for line in strict.log_lines()]
    assert [line["exception"] for line in lines if line["logger"] == "saarthi.requests"] == []
    assert strict.metric("saarthi_requests_total", outcome="error") == 0
