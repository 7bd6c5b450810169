"""Limits of HTTP connections: their number, their time and their memory.

uvicorn waits without limit for the head of a request and for a client that reads its response, and
it buffers headers of any size. Slow, half-open and endless clients would exhaust the server.
"""

import asyncio
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from predictors.settings import Settings

_MAX_PIPELINED = 64  # waiting requests of one connection
_HEAD_BYTES = 1 << 16  # limit for request line, headers and trailers
_UPGRADE_HEADERS = (b"upgrade", b"http2-settings")


class Connection(HttpToolsProtocol):
    """uvicorn's connection with limits.

    Args:
        settings: the server's settings.
        options: uvicorn's options.
    """

    def __init__(self, *, settings: Settings, **options: Any) -> None:
        super().__init__(**options)
        self._max_connections = settings.max_connections
        self._head_seconds = settings.deadline_seconds
        self._idle_seconds = settings.keep_alive_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._in_message = False
        self._ignored_head = b""  # of a request for another protocol, without this wish
        self._answering: Any = None  # uvicorn's state of the request that is being answered
        self._unparsed = 0  # bytes since the last complete header or part of a body

    @property
    def is_idle(self) -> bool:
        """Whether the connection is open and no request is being answered."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a client; if all connections are taken, close an idle one."""
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            others = [other for other in self.connections if other is not self]
            idle = [each for each in others if isinstance(each, Connection) and each.is_idle]
            if not idle:
                self._refuse(503, "Service Unavailable", "too many connections: try again in 1 s")
                return
            # Prefer connections that have never sent a request.
            min(idle, key=lambda each: each.cycle is not None)._abort()
        self._allow(self._idle_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop()
        self._drop_answer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read data, within the limits of size and time."""
        self._unparsed += len(data)
        self._unset_keepalive_if_required()
        self._parse(memoryview(data))
        if self.transport.is_closing():
            return
        if self._unparsed > _HEAD_BYTES:
            text = f"the request's line and headers may have {_HEAD_BYTES} bytes"
            self._refuse(431, "Request Header Fields Too Large", text)
        elif self._timer is None and (self._in_head or (self.is_idle and not self._in_message)):
            self._allow(self._head_seconds)

    def _parse(self, data: memoryview) -> None:
        """Parse data; a wish for another protocol (`Upgrade: h2c`) is ignored.

        The parser stops after the head of such a request, and leaves out its body. So the head is
        parsed again, without the wish.
        """
        try:
            while True:
                try:
                    self.parser.feed_data(data)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    data = data[upgrade.args[0] :]
                    head, self._ignored_head = self._ignored_head, b""
                    # A new parser: the old one reads nothing after "Connection: close".
                    self.parser = httptools.HttpRequestParser(self)
                    self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                    self.parser.feed_data(head)
        except httptools.HttpParserError as error:
            if "PRI" in str(error):
                text = "this port serves HTTP/1.1, not HTTP/2; gRPC has a port of its own"
                self._refuse(505, "HTTP Version Not Supported", text)
            else:
                self._refuse(400, "Bad Request", "the request is not valid HTTP/1.1")

    def on_message_begin(self) -> None:
        """Start a request."""
        self._in_head = self._in_message = True
        self._stop()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Read a header; trailers after the body are ignored."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the body, which has its own deadline."""
        if self.parser.should_upgrade():
            self._ignored_head = self._head_without_upgrade()
            return
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise ValueError("too many requests without an answer")  # uvicorn closes
        self._in_head, self._unparsed = False, 0
        self._stop()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Read a part of the body."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if self._ignored_head:
            return
        self._in_message, self._unparsed = False, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """End a response; the rest of a refused body is read for a limited time."""
        super().on_response_complete()
        if self.pipeline:  # uvicorn would read more requests while some wait
            self.flow.pause_reading()
        if self._in_message and not self._in_head:
            self._allow(self._head_seconds)

    def pause_writing(self) -> None:
        """Wait for a client that does not read, for a limited time."""
        super().pause_writing()
        self._allow(self._idle_seconds)

    def resume_writing(self) -> None:
        """Stop the timer: the client reads again."""
        super().resume_writing()
        self._stop()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, and abort one whose client does not read."""
        if self.transport.get_write_buffer_size():
            self._abort()
        super().timeout_keep_alive_handler()

    def _head_without_upgrade(self) -> bytes:
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise ValueError("this server is not a proxy")
        lines = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [b"%s: %s" % each for each in self.headers if each[0] not in _UPGRADE_HEADERS]
        return b"\r\n".join([*lines, b"", b""])

    def _allow(self, seconds: float) -> None:
        self._stop()
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if self._in_head and self.is_idle:
            self._refuse(408, "Request Timeout", "the request's headers did not come in time")
        else:
            self._abort()

    def _abort(self) -> None:
        """Close the connection; answers in progress are dropped, without an error in the log."""
        self._drop_answer()
        self.transport.abort()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Answer a request; `self.cycle` may already be a later one."""
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _drop_answer(self) -> None:
        if self._answering is not None:
            self._answering.disconnected = True

    def _refuse(self, status: int, reason: str, text: str) -> None:
        """Refuse a request that is incomplete or not valid."""
        waits_for_body = self._in_message and not (self._in_head or self.pipeline)
        if not self.is_idle and (not waits_for_body or self.cycle.response_started):
            self._abort()  # another response is being sent
            return
        body = orjson.dumps({"error": text})
        head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()
