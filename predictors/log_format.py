"""Format of the server's logs: text, or one JSON object per line."""

import logging
import sys
import warnings
from datetime import UTC, datetime
from typing import Any

import orjson

from saarthi_lib import logs
from saarthi_lib.errors import redacted


def configure(form: str) -> None:
    """Set up logs: our own lines, and warnings of KServe and uvicorn.

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
            "message": redacted(record.getMessage()),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = redacted(self.formatException(record.exc_info))
        return orjson.dumps(line, default=str).decode()
