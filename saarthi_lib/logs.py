"""Logging, set up in one place.

The library only asks for loggers; programs (the command line, the predictors, a pipeline's task)
call `configure` once.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from saarthi_lib.errors import SaarthiError

ROOT = "saarthi"
USER_ERROR = 2  # exit code for what the user can mend
# Where a task of a local pipeline leaves the message of such an error for the process above it.
ERROR_FILE_VARIABLE = "SAARTHI_ERROR_FILE"


def get_logger(name: str) -> logging.Logger:
    """Return the logger `saarthi.<name>`, for example `saarthi.data`."""
    return logging.getLogger(f"{ROOT}.{name}")


def configure(level: int | str = logging.INFO) -> None:
    """Send the library's log records to standard error, one plain line each.

    Calling it again replaces the earlier handler, so that tests and long-lived processes do not
    print every line twice.
    """
    logger = logging.getLogger(ROOT)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


@contextmanager
def task() -> Iterator[None]:
    """Run a pipeline's task: logs set up, and an error that the user can mend told in one line.

    Such an error ends the process with exit code 2 and without a traceback. When the process that
    started the task is killed, the task ends too.
    """
    configure()
    Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        yield
    except SaarthiError as error:
        get_logger("task").error("%s", error)
        if os.environ.get(ERROR_FILE_VARIABLE):
            Path(os.environ[ERROR_FILE_VARIABLE]).write_text(str(error), encoding="utf-8")
        sys.exit(USER_ERROR)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
