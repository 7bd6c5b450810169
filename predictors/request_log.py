"""Log of requests, with the identifiers of request and trace."""

import re
from itertools import count
from secrets import token_hex
from typing import Any

from predictors.exchange import Exchange
from saarthi_lib import logs

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_PREFIX = token_hex(6)
_NUMBERS = count(1)

logger = logs.get_logger("requests")


def request_id(given: str | None) -> str:
    """The client's identifier, or a new one."""
    if given and _REQUEST_ID.fullmatch(given):
        return given
    return f"{_PREFIX}-{next(_NUMBERS)}"


def traceparent(given: str | None) -> str | None:
    """The client's W3C trace context, if it is valid."""
    return given if given and _TRACEPARENT.fullmatch(given) else None


class RequestLog:
    """Log of requests: one line for each request.

    Args:
        enabled: whether requests are logged.
        texts: whether the lines include the requests' texts.
    """

    def __init__(self, enabled: bool, texts: bool) -> None:
        self._enabled = enabled
        self._texts = texts

    def write(self, exchange: Exchange, outcome: str, seconds: float) -> None:
        """Log a request."""
        if not self._enabled:
            return
        model, rows = exchange.model and exchange.model.name, exchange.rows
        fields: dict[str, Any] = {
            "request_id": exchange.id,
            "protocol": exchange.protocol,
            "model": model,
            "outcome": outcome,
            "milliseconds": round(seconds * 1000, 3),
            "texts": len(rows),
            **trace_fields(exchange.trace),
        }
        if self._texts:
            fields["text"] = [row.text for row in rows]
        shown = (exchange.protocol, model, outcome, len(rows), seconds * 1000, exchange.id)
        logger.info("%s %s %s: %d texts, %.1f ms, %s", *shown, extra={"fields": fields})


def trace_fields(trace: str | None) -> dict[str, str]:
    """Identifiers of a trace context under the names that log collectors use."""
    if trace is None:
        return {}
    _, trace_id, span_id, _ = trace.split("-")
    return {"trace_id": trace_id, "span_id": span_id}


def internal_error(error: Exception, request: str, trace: str | None) -> None:
    """Log an internal error with its traceback."""
    fields = {"request_id": request, **trace_fields(trace)}
    logger.error("a request failed", exc_info=error, extra={"fields": fields})
