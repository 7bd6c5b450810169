"""Adaptive micro-batching: requests that come while the engine is busy share its next run.

There is no timer that gathers requests: one that finds a worker free runs at once and pays nothing.
Only what arrives while all workers are busy waits, and is answered together, up to a largest batch.
Batches are taken from the lanes (one a model) in turn, so a flooded model cannot starve another,
and a large request gives way after each batch, so it cannot starve a small one.
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

_SMOOTHING = 0.1  # the newest batch's weight in the running time a row

Key = TypeVar("Key")
Row = TypeVar("Row")
Answer = TypeVar("Answer")


class QueueFullError(Exception):
    """The request cannot be answered in time, so it is not taken.

    Attributes:
        retry_after: whole seconds, at least 1, after which there should be room.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full: try again in {retry_after} s")
        self.retry_after = retry_after


class DeadlineError(Exception):
    """The request's deadline passed before it was answered; what had not begun is not run."""


@dataclass(eq=False, slots=True)
class _Job(Generic[Key, Row, Answer]):
    key: Key
    rows: Sequence[Row]
    future: "asyncio.Future[list[Answer]]"
    entered: float
    taken: int = 0  # rows that are in a batch already
    answers: dict[int, list[Answer]] = field(default_factory=dict)  # by their first row
    answered: int = 0  # rows


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """What a batch took.

    Attributes:
        rows: its size.
        waits: seconds that each request begun in it has waited.
        seconds: of the run itself.
        failed: whether the run raised.
    """

    rows: int
    waits: list[float]
    seconds: float
    failed: bool


class Lane(Generic[Key, Row, Answer]):
    """One model's queue; made by `Batcher.lane`."""

    def __init__(
        self,
        batcher: "Batcher",
        run: Callable[[Key, list[Row]], list[Answer]],
        observe: Callable[[BatchTimes], None],
    ) -> None:
        self.run = run
        self.observe = observe
        self.waiting = 0  # rows
        self.row_seconds = 0.0
        self.jobs: deque[_Job[Key, Row, Answer]] = deque()
        self._batcher = batcher

    async def submit(self, key: Key, rows: Sequence[Row], deadline: float) -> list[Answer]:
        """Answer rows, in their order.

        Args:
            key: what is to answer them; only rows of one key share a batch.
            rows: at most the queue's length.
            deadline: in the time of `time.perf_counter`.

        Raises:
            QueueFullError: there is no room for the rows, or no time left to come to them.
            DeadlineError: the deadline has passed.
            Exception: what the run raised for these rows.
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
            self._drop(job)  # its client may have gone

    def fail(self, job: _Job[Key, Row, Answer], error: Exception) -> None:
        """End a job that has not ended; what of it waits is not run."""
        if not job.future.done():
            job.future.set_exception(error)
        self._drop(job)

    def _drop(self, job: _Job[Key, Row, Answer]) -> None:
        left = len(job.rows) - job.taken
        if left:
            self.jobs.remove(job)
            self.waiting -= left
            job.taken = len(job.rows)

    def take(self, limit: int) -> list[tuple[_Job[Key, Row, Answer], int, int]]:
        """The next batch, oldest first: jobs and which of their rows; empty when none waits."""
        batch: list[tuple[_Job[Key, Row, Answer], int, int]] = []
        unfinished = []
        while self.jobs and limit and (not batch or self.jobs[0].key == batch[0][0].key):
            job = self.jobs.popleft()
            first, job.taken = job.taken, min(job.taken + limit, len(job.rows))
            batch.append((job, first, job.taken))
            self.waiting -= job.taken - first
            limit -= job.taken - first
            if job.taken < len(job.rows):
                unfinished.append(job)
        self.jobs.extend(unfinished)
        return batch


AnyLane: TypeAlias = Lane[Any, Any, Any]
AnyBatch: TypeAlias = list[tuple[_Job[Any, Any, Any], int, int]]


class Batcher:
    """Runs the lanes' batches on an executor. All but the runs happens on one event loop.

    Args:
        executor: where batches run.
        workers: how many of them at once.
        max_batch: most rows of a batch.
        max_queue: most rows that may wait in a lane.
    """

    def __init__(self, executor: Executor, workers: int, max_batch: int, max_queue: int) -> None:
        self._executor = executor
        self._free = workers
        self._workers = workers
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._lanes: deque[AnyLane] = deque()  # those with work, the next to be served first
        self._filling = False  # soon: what arrives in one round of the loop shares a batch

    def lane(
        self,
        run: Callable[[Key, list[Row]], list[Answer]],
        observe: Callable[[BatchTimes], None] = lambda times: None,
    ) -> Lane[Key, Row, Answer]:
        """Make a queue of its own.

        Args:
            run: answers rows in their order; called on the executor with a key and its rows.
            observe: told of each batch when it has ended.
        """
        return Lane(self, run, observe)

    def check_room(self, lane: AnyLane, rows: int, seconds: float) -> None:
        """Refuse rows that do not fit or would wait longer than `seconds`.

        Raises:
            QueueFullError: the lane has no room for them, or those before them take too long.
        """
        if not self._lanes and self._free:
            return
        queues = {id(other): other for other in (lane, *self._lanes)}.values()
        wait = sum(other.waiting * other.row_seconds for other in queues) / self._workers
        if lane.waiting + rows > self._max_queue or wait > seconds:
            raise QueueFullError(max(1, math.ceil(wait)))

    def enter(self, lane: AnyLane) -> None:
        """Serve a lane that has got work."""
        if lane not in self._lanes:
            self._lanes.append(lane)
        if not self._filling:
            self._filling = True
            asyncio.get_running_loop().call_soon(self._fill)

    def _fill(self) -> None:
        self._filling = False
        while self._free and self._lanes:
            lane = self._lanes.popleft()
            batch = lane.take(self._max_batch)
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
        except BaseException:  # or the worker would be lost: a library of Rust's may panic
            # One request must not fail its neighbours: each on its own.
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
