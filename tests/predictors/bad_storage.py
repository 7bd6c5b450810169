"""A proxy before a real storage server that fails on demand."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class BadStorage:
    """Forwards GET requests to a storage server; `mode` selects the fault.

    Modes: `well` (none), `fails` (status 500), `hangs`, `half` (half of each file).

    Args:
        behind: address of the real server.
    """

    def __init__(self, behind: str) -> None:
        self.mode = "well"
        self.behind = behind
        self.asked = 0
        self.over = threading.Event()
        storage = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                storage.answer(self)

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked += 1
        if self.mode == "hangs":
            self.over.wait()
            return
        try:
            with urllib.request.urlopen(self.behind + request.path) as answer:
                status, headers, body = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            status, headers, body = error.code, error.headers, error.read()
        if self.mode == "fails":
            status, body = 500, b"broken"
        body = body.replace(self.behind.encode(), self.url.encode())
        request.send_response(status)
        request.send_header("content-type", headers.get("content-type", "application/json"))
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        is_file = "alt=media" in request.path or "/download/" in request.path
        request.wfile.write(body[: len(body) // 2] if self.mode == "half" and is_file else body)
        request.close_connection = True


@contextmanager
def bad_storage(behind: str) -> Iterator[BadStorage]:
    """Run a `BadStorage` until the block ends."""
    storage = BadStorage(behind)
    serve = storage.server.serve_forever
    thread = threading.Thread(target=serve, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield storage
    finally:
        storage.over.set()
        storage.server.shutdown()
        storage.server.server_close()
