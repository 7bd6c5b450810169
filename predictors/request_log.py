"""Structured logs: a line of JSON for each record, with the request's and the trace's ids."""

import logging
import re
import sys
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import orjson

from saarthi_lib import logs

if TYPE_CHECKING:
    from predictors.codecs import Row

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_PREFIX = token_hex(6)
_NUMBERS = count(1)

logger = logs.get_logger("requests")


def configure(form: str) -> None:
    """Our own lines in full; of KServe's and uvicorn's only warnings, in the same form.

    Args:
        form: `text`, `json`, or `auto`: text on a terminal and JSON elsewhere.
    """
    logs.configure()
    handlers = list(logging.getLogger(logs.ROOT).handlers)
    if form == "json" or (form == "auto" and not sys.stderr.isatty()):
        for handler in handlers:
            handler.setFormatter(_JsonFormatter())
    for name in ("kserve", "kserve_storage", "uvicorn", "grpc", "asyncio"):
        library = logging.getLogger(name)
        library.handlers = handlers
        library.setLevel(logging.WARNING)
        library.propagate = False
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")  # KServe's V1 uses it


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def request_id(given: str | None) -> str:
    """The id that a client has given, or a new one."""
    if given and _REQUEST_ID.fullmatch(given):
        return given
    return f"{_PREFIX}-{next(_NUMBERS)}"


def traceparent(given: str | None) -> str | None:
    """A W3C trace context that a client has given, if it is a valid one."""
    return given if given and _TRACEPARENT.fullmatch(given) else None


class RequestLog:
    """Writes a line for each request, where that is wanted.

    Args:
        enabled: whether it is.
        texts: whether the requests' texts are written too.
    """

    def __init__(self, enabled: bool, texts: bool) -> None:
        self._enabled = enabled
        self._texts = texts

    def write(
        self,
        *,
        request: str,
        trace: str | None,
        protocol: str,
        model: str | None,
        outcome: str,
        seconds: float,
        rows: "Sequence[Row]",
    ) -> None:
        """Write a request's line."""
        if not self._enabled:
            return
        fields: dict[str, Any] = {
            "request_id": request,
            "protocol": protocol,
            "model": model,
            "outcome": outcome,
            "milliseconds": round(seconds * 1000, 3),
            "texts": len(rows),
            **trace_fields(trace),
        }
        if self._texts:
            fields["text"] = [row.text for row in rows]
        shown = (protocol, model, outcome, len(rows), seconds * 1000, request)
        logger.info("%s %s %s: %d texts, %.1f ms, %s", *shown, extra={"fields": fields})


def trace_fields(trace: str | None) -> dict[str, str]:
    """The ids of a trace context, by the names that log collectors know."""
    if trace is None:
        return {}
    _, trace_id, span_id, _ = trace.split("-")
    return {"trace_id": trace_id, "span_id": span_id}


def internal_error(error: Exception, request: str, trace: str | None) -> None:
    """Write a fault of ours with its traceback."""
    fields = {"request_id": request, **trace_fields(trace)}
    logger.error("a request failed", exc_info=error, extra={"fields": fields})
