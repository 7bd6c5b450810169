"""Set up logging.

The library only requests loggers. Programs (the command line, the predictors, a pipeline's task)
call `configure` once.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

from saarthi_lib.errors import SaarthiError, printable, printable_lines, redacted

ROOT = "saarthi"
USER_ERROR = 2  # exit code for errors that the user can fix
# File where a failed task of a local pipeline writes its error, for the report and the runner.
ERROR_FILE_VARIABLE = "SAARTHI_ERROR_FILE"
# Process ID of a pipeline on this machine; its tasks end with it.
RUNNER_VARIABLE = "SAARTHI_RUNNER_PID"
# Kubernetes copies this file into the status of the pod, and KFP shows it with the run.
TERMINATION_LOG = Path("/dev/termination-log")


def get_logger(name: str) -> logging.Logger:
    """Return the logger `saarthi.<name>`, for example `saarthi.data`."""
    return logging.getLogger(f"{ROOT}.{name}")


def configure(level: int | str = logging.INFO, *, of: str = "") -> None:
    """Send the library's log records to standard error, one plain line each.

    A second call replaces the handler, so no line is printed twice.

    Args:
        level: lowest level to print.
        of: prefix of each message, for several processes that write to one stream.
    """
    logger = logging.getLogger(ROOT)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    what = f"{of.replace('%', '%%')}: %(message)s" if of else "%(message)s"
    handler.setFormatter(_Formatter(f"%(asctime)s %(levelname)-7s {what}", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


class _Formatter(logging.Formatter):
    """A line without the secrets of addresses; other lines of a record are indented."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return printable_lines(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {printable(line)}" for line in lines)


@contextmanager
def task() -> Iterator[None]:
    """Run a pipeline's task with logging; print errors that the user can fix in one line.

    Such an error ends the process with exit code 2 and without a traceback. The task ends when the
    process that started it is killed.
    """
    configure()
    Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        yield
    except SaarthiError as error:
        get_logger("task").error("%s", error)
        _leave(str(error), fixable=True)
        sys.exit(USER_ERROR)
    except Exception as error:
        _leave(redacted(f"{type(error).__name__}: {error}"), fixable=False)
        raise


def last_error() -> str:
    """Error of the last failed task of this local pipeline; empty if none wrote its error."""
    path = Path(os.environ.get(ERROR_FILE_VARIABLE, ""))
    return str(json.loads(path.read_text(encoding="utf-8"))["message"]) if path.is_file() else ""


def _leave(message: str, *, fixable: bool) -> None:
    if os.environ.get(ERROR_FILE_VARIABLE):
        content = json.dumps({"message": message, "fixable": fixable})
        Path(os.environ[ERROR_FILE_VARIABLE]).write_text(content, encoding="utf-8")
    if TERMINATION_LOG.is_file():
        with suppress(OSError):  # the message is in the log as well
            TERMINATION_LOG.write_text(message, encoding="utf-8", errors="backslashreplace")


def _end_with_parent(parent: int) -> None:
    # If the runner was killed before this line, the task has another parent from the start.
    runner = int(os.environ.get(RUNNER_VARIABLE, 0))
    while os.getppid() == parent and (not runner or _runs(runner)):
        time.sleep(1)
    os._exit(1)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, PermissionError):  # or the ID belongs to another user's process now
        return False
    return True
