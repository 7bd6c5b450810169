"""HTTP connections that nobody can hold for nothing: how many, how long, and how much is kept.

uvicorn waits for ever for a request's first lines and for a client to read its answer, and keeps
whatever is sent as a header: slow, half-open and endless clients would pile up.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_WAITING_REQUESTS = 64  # of one connection, sent before the answer to the one before
_HEAD_BYTES = 1 << 16  # of a request's line and headers, and of what else is not its body


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What clients are allowed.

    Attributes:
        connections: most that are open at once.
        head_seconds: most that a request's line and headers may take.
        idle_seconds: most that a connection may wait for a request, or an answer for its reader.
    """

    connections: int
    head_seconds: float
    idle_seconds: float


class Connection(HttpToolsProtocol):
    """uvicorn's connection, within limits.

    Args:
        limits: what it is allowed.
        options: uvicorn's.
    """

    def __init__(self, *, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._in_message = False
        self._unparsed = 0  # bytes since the last that meant something

    @property
    def is_idle(self) -> bool:
        """Whether it is open and has no request that is being answered."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let a client in, where there is room, or else an idle one goes."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            others = [other for other in self.connections if other is not self]
            idle = [each for each in others if isinstance(each, Connection) and each.is_idle]
            if not idle:
                self._refuse(503, "Service Unavailable", "too many connections: come again in 1 s")
                return
            # One that has never asked before one that may be about to ask again.
            min(idle, key=lambda each: each.cycle is not None).transport.abort()
        self._allow(self._limits.idle_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._unparsed += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._unparsed > _HEAD_BYTES:
            text = f"the request's line and headers may have {_HEAD_BYTES} bytes"
            self._refuse(431, "Request Header Fields Too Large", text)
        elif self._timer is None and (self._in_head or (self.is_idle and not self._in_message)):
            self._allow(self._limits.head_seconds)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_head = self._in_message = True
        self._stop()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what comes as one after the body is nobody's."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The body begins, which has a deadline of its own."""
        if len(self.pipeline) >= _WAITING_REQUESTS:
            raise ValueError("too many requests without an answer")  # uvicorn closes
        self._in_head, self._unparsed = False, 0
        self._stop()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request ends."""
        self._in_message, self._unparsed = False, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is given; what still comes of a body that was refused is not read for ever."""
        super().on_response_complete()
        if self.pipeline:  # uvicorn would read more while what it has read waits
            self.flow.pause_reading()
        if self._in_message and not self._in_head:
            self._allow(self._limits.head_seconds)

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._allow(self._limits.idle_seconds)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._stop()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked for long; an answer that was not read by now never will be."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

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
            self.transport.abort()

    def _refuse(self, status: int, reason: str, text: str) -> None:
        """Say no before there is a request that could be answered."""
        if not self.is_idle:  # an answer is under way, which this would stand in
            self.transport.abort()
            return
        body = orjson.dumps({"error": text})
        head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()
