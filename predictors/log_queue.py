"""A log that never blocks the server: a thread writes lines, and too many waiting ones are dropped.

The reader of standard error may be slow, stuck or gone, for example a collector behind a full pipe.
"""

import logging
import os
import select
import sys
from collections import deque
from threading import Condition, Thread

_STANDARD_ERROR = 2
_WAITING_BYTES = 1 << 20
_FLUSH_SECONDS = 2.0


class LogQueue(logging.Handler):
    """Writes lines to standard error from a thread of its own.

    Attributes:
        dropped: number of lines that were not written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dropped = 0
        self._reported = 0  # of the dropped lines
        self._lines: deque[bytes] = deque()  # the first one is being written
        self._bytes = 0
        self._is_stuck = False
        self._changed = Condition()
        Thread(target=self._write_lines, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Add a line, or drop it if too many are waiting."""
        try:
            line = self._line(record)
        except Exception:  # a record that cannot be formatted
            line = b""
        with self._changed:
            if not line or (self._lines and self._bytes + len(line) > _WAITING_BYTES):
                self.dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all lines are written, for a limited time."""
        with self._changed:
            if not self._is_stuck:
                wait = self._changed.wait_for(lambda: not self._lines, _FLUSH_SECONDS)
                self._is_stuck = not wait

    def _line(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + "\n").encode("utf-8", "backslashreplace")

    def _write_lines(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                line, missing = self._lines[0], self.dropped - self._reported
            if missing and _write(self._report(missing)):
                self._reported += missing
            written = _write(line)
            with self._changed:
                self._lines.popleft()
                self._bytes -= len(line)
                self.dropped += not written
                self._is_stuck = False
                self._changed.notify_all()

    def _report(self, missing: int) -> bytes:
        text = "%d log lines were dropped: the reader of standard error was too slow, or gone"
        record = logging.LogRecord(
            "saarthi.predictors", logging.WARNING, __file__, 0, text, (missing,), None
        )
        record.fields = {"dropped": missing}
        return self._line(record)


def dropped_lines() -> int:
    """Number of lines that the log has dropped."""
    handlers = logging.getLogger("saarthi").handlers
    return sum(each.dropped for each in handlers if isinstance(each, LogQueue))


def open_standard_streams() -> None:
    """Open closed standard streams on the null device.

    Otherwise the next sockets would get their numbers, and libraries would write errors to clients.
    """
    for number in range(_STANDARD_ERROR + 1):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _write(line: bytes) -> bool:
    """Write a line to standard error; returns whether it is written."""
    rest = memoryview(line)
    while rest:
        try:
            rest = rest[os.write(_STANDARD_ERROR, rest) :]
        except BlockingIOError:  # the stream was made non-blocking by another process
            select.select([], [_STANDARD_ERROR], [])
        except OSError:  # the reader is gone, or the disk is full
            return False
    return True
