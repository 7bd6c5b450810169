"""Requests that also offer another protocol are answered over HTTP/1.1, with their bodies."""

import json
import shutil
import socket
import subprocess

import pytest

from tests.predictors.serving import HOST, Server

BODY = json.dumps({"text": "turn on the lights"}).encode()
WISHES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
    "unknown": b"upgrade: TLS/1.3, chat/9\r\nconnection: upgrade\r\n",
    "twice": b"Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


def ask(server: Server, *parts: bytes) -> bytes:
    """Send parts one after the other; returns everything until the server closes."""
    answer = b""
    with socket.create_connection((HOST, server.http_port), timeout=10) as client:
        for part in parts:
            client.sendall(part)
        while received := client.recv(1 << 16):
            answer += received
    return answer


def post(headers: bytes, body: bytes = BODY, path: bytes = b"/predict") -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n\r\n"
    return head % (path, headers, len(body)) + body


LAST = post(b"Connection: close\r\n")


@pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES.keys())
def test_offered_upgrade_is_ignored(server: Server, wish: bytes) -> None:
    asked = post(wish)
    halves = [asked[at : at + 7] for at in range(0, len(asked), 7)]
    for parts in ([asked, LAST], [*halves, LAST], [asked * 5 + LAST], [asked + LAST[:9], LAST[9:]]):
        answers = ask(server, *parts)
        count = b"".join(parts).count(b"POST")
        assert answers.count(b"HTTP/1.1 200 OK") == answers.count(b'"label"') == count
    chunked = b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" + wish
    chunked += b"\r\n%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    assert ask(server, chunked, LAST).count(b'"label"') == 2
    get = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n" + wish + b"\r\n"
    assert ask(server, get, LAST).count(b"HTTP/1.1 200 OK") == 2
    closing = wish.replace(b"onnection: ", b"onnection: close, ")
    assert ask(server, post(closing)).count(b'"label"') == 1


def test_body_after_an_upgrade_has_the_same_limits(server: Server) -> None:
    with socket.create_connection((HOST, server.http_port), timeout=10) as client:
        client.sendall(post(WISHES["h2c"], b" " * 200_001))
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 413")
    twice = WISHES["h2c"] + b"Content-Length: 3\r\n"
    assert b"HTTP/1.1 400" in ask(server, post(twice))


def test_dropped_answers_leave_no_error_in_the_log(server: Server) -> None:
    before = len(server.log_lines())
    for asked in (post(b"") * 200, post(WISHES["h2c"]) * 200, post(b"") + PREFACE):
        ask(server, asked)
    assert server.get("/v2/health/ready").status_code == 200
    assert not [line for line in server.log_lines()[before:] if "ERROR" in line]


def test_expected_100_continue_is_sent(server: Server) -> None:
    head, _, body = post(b"Expect: 100-Continue\r\nConnection: close\r\n").partition(b"{")
    with socket.create_connection((HOST, server.http_port), timeout=10) as client:
        client.sendall(head)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 100 Continue")
        client.sendall(b"{" + body)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        (PREFACE, b"505", "HTTP/1.1, not HTTP/2"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b"400", "not valid HTTP/1.1"),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", b"400", "not valid HTTP/1.1"),
        (post(b"Content-Encoding: br\r\n", b"\x1f\x8b\x08\0"), b"415", "uncompressed"),
    ],
)
def test_other_protocols_get_a_clear_error(
    server: Server, sent: bytes, status: bytes, message: str
) -> None:
    with socket.create_connection((HOST, server.http_port), timeout=10) as client:
        client.sendall(sent)
        head, _, body = client.recv(1 << 16).partition(b"\r\n\r\n")
        if not body:  # head and body may come apart
            body = client.recv(1 << 16)
    assert head.startswith(b"HTTP/1.1 " + status)
    assert message in json.loads(body)["error"]


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_curl_with_http2_gets_its_answer(server: Server) -> None:
    command = ["curl", "-sS", "--max-time", "10", "--http2", "-d", BODY.decode()]
    done = subprocess.run([*command, f"{server.url}/predict"], capture_output=True, text=True)
    if "does not support" in done.stderr:
        pytest.skip("this curl has no HTTP/2")
    assert "label" in json.loads(done.stdout)
