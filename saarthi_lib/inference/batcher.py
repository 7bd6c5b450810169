"""Adaptive micro-batching: requests that arrive while the engine is busy share its next run.

No timer delays requests: a request runs at once if a worker is free. Requests wait only while all
workers are busy, and then share batches up to the largest size. Lanes (one per model) take turns,
so a flooded model cannot starve another. A large request yields after each batch, so it cannot
starve a small one. A batch has a largest size in characters too, because the run time of long texts
grows with their length.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Generic, TypeAlias, TypeVar

_SMOOTHING = 0.1  # weight of the newest batch in the moving average of seconds per row

Key = TypeVar("Key")
Row = TypeVar("Row")
Answer = TypeVar("Answer")


class QueueFullError(Exception):
    """The queue is full, or the request would wait beyond its deadline.

    Attributes:
        retry_after: whole seconds, at least 1, until the queue should have room.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full: try again in {retry_after} s")
        self.retry_after = retry_after


class DeadlineError(Exception):
    """The request's deadline passed before it was answered; its waiting rows are not run."""


@dataclass(eq=False, slots=True)
class _Job(Generic[Key, Row, Answer]):
    key: Key
    rows: Sequence[Row]
    future: "asyncio.Future[list[Answer]]"
    entered: float
    taken: int = 0  # number of rows in batches
    answers: dict[int, list[Answer]] = field(default_factory=dict)  # by index of their first row
    answered: int = 0  # number of rows


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """Times of one batch.

    Attributes:
        rows: number of rows.
        waits: waiting time of each request that starts in this batch, in seconds.
        seconds: duration of the run.
        failed: whether the run raised.
    """

    rows: int
    waits: list[float]
    seconds: float
    failed: bool


class Lane(Generic[Key, Row, Answer]):
    """Queue of one model, created by `Batcher.lane`."""

    def __init__(
        self,
        batcher: "Batcher",
        run: Callable[[Key, list[Row]], list[Answer]],
        observe: Callable[[BatchTimes], None],
        characters: Callable[[Row], int],
    ) -> None:
        self.run = run
        self.characters = characters
        self.observe = observe
        self.waiting = 0  # rows
        self.row_seconds = 0.0
        self.jobs: deque[_Job[Key, Row, Answer]] = deque()
        self._batcher = batcher

    async def submit(self, key: Key, rows: Sequence[Row], deadline: float) -> list[Answer]:
        """Answer rows, in their order.

        Args:
            key: argument of the run, such as a model version; a batch has rows of one key.
            rows: rows to answer, at most the queue's length.
            deadline: deadline on the clock of `time.perf_counter`.

        Raises:
            QueueFullError: the queue is full, or the rows would wait beyond the deadline.
            DeadlineError: the deadline has passed.
            Exception: the run's own error for these rows.
        """
        if not rows:
            return []
        loop = asyncio.get_running_loop()
        now = time.perf_counter()
        if now >= deadline:
            raise DeadlineError
        self._batcher.check_room(self, len(rows), deadline - now)
        job: _Job[Key, Row, Answer] = _Job(key, rows, loop.create_future(), now)
        timer = loop.call_later(deadline - now, self.fail, job, DeadlineError())
        self.waiting += len(rows)
        self.jobs.append(job)
        self._batcher.enter(self)
        try:
            return await job.future
        finally:
            timer.cancel()
            self._drop(job)  # the client may have disconnected

    def fail(self, job: _Job[Key, Row, Answer], error: Exception) -> None:
        """Fail an unfinished job; its waiting rows are not run."""
        if not job.future.done():
            job.future.set_exception(error)
        self._drop(job)

    def _drop(self, job: _Job[Key, Row, Answer]) -> None:
        left = len(job.rows) - job.taken
        if left:
            self.jobs.remove(job)
            self.waiting -= left
            job.taken = len(job.rows)

    def take(self, limit: int, room: int) -> list[tuple[_Job[Key, Row, Answer], int, int]]:
        """Take the next batch, oldest first: jobs with the range of their rows; may be empty.

        Args:
            limit: maximum rows.
            room: maximum characters of all rows; the first row may have more.
        """
        batch: list[tuple[_Job[Key, Row, Answer], int, int]] = []
        unfinished = []
        while self.jobs and limit and (not batch or self.jobs[0].key == batch[0][0].key):
            job = self.jobs[0]
            first = job.taken
            for row in job.rows[first : first + limit]:
                room -= self.characters(row)
                if room < 0 and (batch or job.taken > first):
                    limit = 0  # the batch is full
                    break
                job.taken += 1
            if job.taken == first:
                break
            self.jobs.popleft()
            batch.append((job, first, job.taken))
            self.waiting -= job.taken - first
            limit = max(0, limit - (job.taken - first))
            if job.taken < len(job.rows):
                unfinished.append(job)
        self.jobs.extend(unfinished)
        return batch


AnyLane: TypeAlias = Lane[Any, Any, Any]
AnyBatch: TypeAlias = list[tuple[_Job[Any, Any, Any], int, int]]


class Batcher:
    """Runs the lanes' batches on an executor; everything else runs on one event loop.

    Args:
        executor: executor of the batches.
        workers: number of batches that run at once.
        max_batch: maximum rows in a batch.
        max_queue: maximum rows that wait in a lane.
        max_characters: maximum characters of a batch's rows; a row that has more runs alone.
    """

    def __init__(
        self,
        executor: Executor,
        workers: int,
        max_batch: int,
        max_queue: int,
        max_characters: int = 10_000,
    ) -> None:
        self._executor = executor
        self._free = workers
        self._workers = workers
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._max_characters = max_characters
        self._lanes: deque[AnyLane] = deque()  # lanes with waiting rows, in turn
        self._filling = False  # scheduled: arrivals of one loop iteration share a batch

    def lane(
        self,
        run: Callable[[Key, list[Row]], list[Answer]],
        observe: Callable[[BatchTimes], None] = lambda times: None,
        characters: Callable[[Row], int] = lambda row: 0,
    ) -> Lane[Key, Row, Answer]:
        """Create a queue.

        Args:
            run: answers rows in their order; called on the executor with a key and its rows.
            observe: called with the times of each batch.
            characters: number of characters of a row.
        """
        return Lane(self, run, observe, characters)

    def check_room(self, lane: AnyLane, rows: int, seconds: float) -> None:
        """Check that rows fit into the queue and would not wait longer than `seconds`.

        Raises:
            QueueFullError: they do not fit, or would wait longer.
        """
        if not self._lanes and self._free:
            return
        queues = {id(other): other for other in (lane, *self._lanes)}.values()
        wait = sum(other.waiting * other.row_seconds for other in queues) / self._workers
        if lane.waiting + rows > self._max_queue or wait > seconds:
            raise QueueFullError(max(1, math.ceil(wait)))

    def enter(self, lane: AnyLane) -> None:
        """Schedule a lane with new rows."""
        if lane not in self._lanes:
            self._lanes.append(lane)
        if not self._filling:
            self._filling = True
            asyncio.get_running_loop().call_soon(self._fill)

    def _fill(self) -> None:
        self._filling = False
        while self._free and self._lanes:
            lane = self._lanes.popleft()
            batch = lane.take(self._max_batch, self._max_characters)
            if lane.jobs:
                self._lanes.append(lane)
            if batch:
                self._free -= 1
                loop = asyncio.get_running_loop()
                self._executor.submit(self._work, loop, lane, batch, time.perf_counter())

    def _work(
        self,
        loop: asyncio.AbstractEventLoop,
        lane: AnyLane,
        batch: AnyBatch,
        taken: float,
    ) -> None:
        """Run a batch, on the executor."""
        key = batch[0][0].key
        started = time.perf_counter()
        outcomes: list[list[Any] | Exception]
        failed = False
        try:
            answers = lane.run(key, [row for job, a, b in batch for row in job.rows[a:b]])
            outcomes, first = [], 0
            for _, a, b in batch:
                outcomes.append(answers[first : first + b - a])
                first += b - a
        except BaseException:  # a panic in a Rust library would end the worker
            # One request must not fail its neighbours: run each alone.
            failed = True
            outcomes = [_attempt(lane, key, list(job.rows[a:b])) for job, a, b in batch]
        times = BatchTimes(
            sum(b - a for _, a, b in batch),
            [taken - job.entered for job, a, _ in batch if a == 0],
            time.perf_counter() - started,
            failed,
        )
        loop.call_soon_threadsafe(self._finish, lane, batch, outcomes, times)

    def _finish(
        self,
        lane: AnyLane,
        batch: AnyBatch,
        outcomes: list[list[Any] | Exception],
        times: BatchTimes,
    ) -> None:
        self._free += 1
        row_seconds = times.seconds / times.rows
        lane.row_seconds += _SMOOTHING * (row_seconds - lane.row_seconds)
        for (job, first, _), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                lane.fail(job, outcome)
                continue
            job.answers[first] = outcome
            job.answered += len(outcome)
            if job.answered == len(job.rows) and not job.future.done():
                parts = (job.answers[row] for row in sorted(job.answers))
                job.future.set_result(list(chain.from_iterable(parts)))
        self._fill()
        lane.observe(times)


def _attempt(lane: AnyLane, key: object, rows: list[Any]) -> list[Any] | Exception:
    try:
        return lane.run(key, rows)
    except Exception as error:
        return error
    except BaseException as error:
        return RuntimeError(f"{type(error).__name__}: {error}")
