"""HTTP front: answers predictions itself and delegates other requests to KServe's application.

FastAPI's routing would cost more than the prediction.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import orjson

from predictors import codecs, v2
from predictors.encodings import decoded
from predictors.errors import (
    ClientGoneError,
    MediaTypeError,
    MethodError,
    ReadingTooMuchError,
    RequestError,
    SlowBodyError,
    TooMuchBodyError,
)
from predictors.exchange import Exchange
from predictors.request_log import request_id, traceparent
from predictors.service import Service

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Mapping[bytes, bytes]
HeaderList = list[tuple[bytes, bytes]]

_WHOLE = re.compile(rb"\d{1,15}")
# Milliseconds that a client, or Envoy for it, waits.
_TIMEOUTS = (b"x-request-timeout-ms", b"x-envoy-expected-rq-timeout-ms")
_JSON_SIZE = b"inference-header-content-length"
_PATHS = re.compile(
    r"/(?P<predict>predict)(?:/(?P<predict_name>[^/]+))?"
    r"|/(?P<v1>v1)/models/(?P<v1_name>[^/]+):predict"
    r"|/(?P<v2>v2)/models/(?P<v2_name>[^/]+)(?:/versions/(?P<version>[^/]+))?/infer"
)
# curl -d sends x-www-form-urlencoded; KServe accepts octet-stream as JSON.
_MEDIA_TYPES = re.compile(
    rb"(application/(json|[\w.-]+\+json|x-www-form-urlencoded|octet-stream)|text/json)?\s*"
    rb"(;(?!\s*charset)[^;]*|;\s*charset=\"?utf-?8\"?\s*)*",
    re.IGNORECASE,
)


class HttpFront:
    """The ASGI application in front of KServe's.

    Args:
        application: KServe's application.
        service: shared parts of the server.
    """

    def __init__(self, application: Callable[..., Awaitable[None]], service: Service) -> None:
        self._application = application
        self._service = service
        self._settings = service.settings
        self._reading = 0  # bytes of bodies that are being read

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        headers: Headers = dict(scope["headers"])
        identifier = request_id(_text(headers, b"x-request-id"))
        trace = traceparent(_text(headers, b"traceparent"))
        path = _PATHS.fullmatch(scope["path"])
        # CloudEvents are supported on V1 only.
        if path is None or (path["v1"] and _is_cloudevent(headers)):
            await self._delegate(scope, headers, receive, send, _own_headers(identifier, trace))
            return
        protocol = path["predict"] or path["v1"] or path["v2"]
        exchange = Exchange(protocol, identifier, trace)
        own = _own_headers(identifier, trace)
        try:
            if scope["method"] != "POST":
                raise MethodError("use POST", ((b"allow", b"POST"),))
            reply, size = await self._answer(exchange, path, headers, receive)
            status, outcome = 200, "ok"
            if size is None:
                own.append((b"content-type", b"application/json"))
            else:
                own.append((b"content-type", b"application/octet-stream"))
                own.append((_JSON_SIZE, str(size).encode()))
        except Exception as error:
            refusal = self._service.refusal(exchange, error)
            status, outcome = refusal.status, refusal.outcome
            reply = orjson.dumps({"error": str(refusal)})
            own += [*refusal.headers, (b"content-type", b"application/json")]
        await self._send(send, status, own, reply)
        self._service.note(exchange, outcome)

    async def _answer(
        self, exchange: Exchange, path: re.Match[str], headers: Headers, receive: Receive
    ) -> tuple[bytes, int | None]:
        """Answer a prediction; returns the body, and the size of a JSON part before binary data."""
        models, limits = self._service.models, self._service.limits
        name = path["predict_name"] or path["v1_name"] or path["v2_name"]
        if name:
            exchange.model = models.find(name, path["version"] or "")
        deadline = exchange.started + self._seconds(headers)
        body = await self._body(headers, receive, deadline)
        if not _MEDIA_TYPES.fullmatch(headers.get(b"content-type", b"")):
            raise MediaTypeError("the body must be JSON in UTF-8: send it as application/json")
        if exchange.protocol == "v2":
            assert exchange.model is not None  # the path names it
            request = v2.read_v2(body, _json_size(headers, len(body)), limits)
            exchange.rows = request.rows
            answers, manifest = await exchange.model.answer(request.rows, deadline)
            return v2.write_v2(request, answers, manifest, exchange.id)
        content = codecs.read_json(body)
        if exchange.protocol == "v1":
            assert exchange.model is not None
            exchange.rows = codecs.read_v1(content, limits)
            answers, _ = await exchange.model.answer(exchange.rows, deadline)
            return codecs.write_v1(answers), None
        if exchange.model is None:
            named = content.get("model")
            exchange.model = models.first if named is None else models.find(str(named))
        exchange.rows = codecs.read_predict(content, limits)
        [answer], _ = await exchange.model.answer(exchange.rows, deadline)
        return orjson.dumps(answer), None

    def _seconds(self, headers: Headers) -> float:
        """Time limit of the request."""
        seconds = self._settings.deadline_seconds
        for name in _TIMEOUTS:
            if name in headers:
                if not _WHOLE.fullmatch(headers[name]):
                    raise RequestError(f"{name.decode()} must be whole milliseconds")
                seconds = min(seconds, int(headers[name]) / 1000)
        return seconds

    async def _body(self, headers: Headers, receive: Receive, deadline: float) -> bytes:
        """Read a body within the limits of size and time, and decompress it."""
        most = self._settings.max_body_bytes
        if int(headers.get(b"content-length", b"0")) > most:
            raise TooMuchBodyError(most)
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(max(0, deadline - time.perf_counter())):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError("the client has closed the connection")
                    part = message.get("body", b"")
                    body += part
                    self._reading += len(part)
                    more = message.get("more_body", False)
                    if len(body) > most:
                        raise TooMuchBodyError(most)
                    if self._reading > self._settings.max_reading_bytes:
                        raise ReadingTooMuchError
        except TimeoutError as error:
            raise SlowBodyError from error
        finally:
            self._reading -= len(body)
        encoding = headers.get(b"content-encoding")
        return decoded(bytes(body), encoding, most) if encoding and body else bytes(body)

    async def _send(self, send: Send, status: int, headers: HeaderList, body: bytes) -> None:
        headers.append((b"content-length", str(len(body)).encode()))
        if self._service.models.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _delegate(
        self, scope: Message, headers: Headers, receive: Receive, send: Send, own: HeaderList
    ) -> None:
        """Answer with KServe's application; HEAD like GET, without the body (uvicorn drops it)."""
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        if scope["method"] in ("POST", "PUT", "PATCH"):
            try:
                deadline = time.perf_counter() + self._settings.deadline_seconds
                body = await self._body(headers, receive, deadline)
                if not body and _is_cloudevent(headers):
                    raise RequestError("a CloudEvent needs a body")
            except RequestError as error:
                own += [*error.headers, (b"content-type", b"application/json")]
                await self._send(send, error.status, own, orjson.dumps({"error": str(error)}))
                return
            receive = _replay(body, receive)

        async def send_with_own(message: Message) -> None:
            if message["type"] == "http.response.start":
                closing = [(b"connection", b"close")] if self._service.models.draining else []
                message["headers"] = [*message.get("headers", ()), *own, *closing]
            await send(message)

        await self._application(scope, receive, send_with_own)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns a body which was already read."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


def _is_cloudevent(headers: Headers) -> bool:
    """Whether the request is a CloudEvent, which KServe unwraps."""
    return b"ce-specversion" in headers or headers.get(b"content-type", b"").startswith(
        b"application/cloudevents"
    )


def _json_size(headers: Headers, whole: int) -> int | None:
    given = headers.get(_JSON_SIZE)
    if given is None:
        return None
    if not _WHOLE.fullmatch(given) or int(given) > whole:
        raise RequestError(
            f"{_JSON_SIZE.decode()} must be a whole number, not above the body's {whole} bytes"
        )
    return int(given)


def _own_headers(identifier: str, trace: str | None) -> HeaderList:
    own = [(b"x-request-id", identifier.encode())]
    if trace is not None:
        own.append((b"traceparent", trace.encode()))
    return own


def _text(headers: Headers, name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")
