"""Format of the server's logs: text, or one JSON object per line."""

import json
import logging
import re
import sys
import warnings
from datetime import UTC, datetime
from typing import Any

import orjson

from predictors.log_queue import LogQueue
from saarthi_lib import logs
from saarthi_lib.errors import redacted

# Control characters, line ends of Unicode, and marks that change the direction of a line.
_HARMFUL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def configure(form: str) -> None:
    """Set up logs: our own lines, and warnings of KServe and uvicorn.

    Args:
        form: `text`, `json`, or `auto`: text on a terminal and JSON elsewhere.
    """
    logs.configure()
    root = logging.getLogger(logs.ROOT)
    queue = LogQueue()
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    text = _TextFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    queue.setFormatter(_JsonFormatter() if as_json else text)
    handlers: list[logging.Handler] = [queue]
    root.handlers = handlers
    for name in ("kserve", "kserve_storage", "uvicorn", "grpc", "asyncio"):
        library = logging.getLogger(name)
        library.handlers = handlers
        library.setLevel(logging.WARNING)
        library.propagate = False
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")  # KServe's V1 uses it


class _TextFormatter(logging.Formatter):
    """Lines for a terminal, without secrets and control characters.

    Only the lines of tracebacks are of their own, and indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return _escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        lines = super().formatException(ei).splitlines()
        return "\n".join(f"    {_escaped(line)}" for line in lines)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redacted(record.getMessage()),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = redacted(self.formatException(record.exc_info))
        try:
            shown = orjson.dumps(line, default=str).decode()
        except TypeError:  # half a surrogate pair, for example from a file's name
            shown = json.dumps(line, default=str)
        return _HARMFUL.sub(lambda found: f"\\u{ord(found[0]):04x}", shown)


def _escaped(text: str) -> str:
    return _HARMFUL.sub(lambda found: repr(found[0])[1:-1], text)
