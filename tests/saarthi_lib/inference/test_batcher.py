"""The batcher on a real loop and real threads: who waits, who shares, who is refused."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saarthi_lib.inference.batcher import Batcher, BatchTimes, DeadlineError, QueueFullError


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class Engine:
    """Doubles numbers; a batch waits while `gate` is closed."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.gate = threading.Event()
        self.gate.set()

    def run(self, key: str, rows: list[int]) -> list[int]:
        self.batches.append((key, rows))
        self.gate.wait(10)
        if -1 in rows:
            raise ValueError("a bad row")
        return [2 * row for row in rows]


def later(seconds: float = 10.0) -> float:
    return time.perf_counter() + seconds


def play(scene: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(scene(), 20))


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_request_to_idle_engine_runs_at_once(executor: ThreadPoolExecutor) -> None:
    engine = Engine()
    times: list[BatchTimes] = []

    async def scene() -> None:
        lane = Batcher(executor, 1, max_batch=8, max_queue=8).lane(engine.run, times.append)
        for row in range(3):
            assert await lane.submit("a", [row], later()) == [2 * row]

    play(scene)
    assert [rows for _, rows in engine.batches] == [[0], [1], [2]]
    assert max(seconds for batch in times for seconds in batch.waits) < 1


def test_requests_during_a_run_share_the_next_batch(
    executor: ThreadPoolExecutor,
) -> None:
    engine = Engine()
    engine.gate.clear()

    async def scene() -> list[list[int]]:
        lane = Batcher(executor, 1, max_batch=4, max_queue=100).lane(engine.run)
        first = asyncio.create_task(lane.submit("a", [0], later()))
        await until(lambda: engine.batches)
        others = [asyncio.create_task(lane.submit("a", [row], later())) for row in range(1, 7)]
        await until(lambda: lane.waiting == 6)
        engine.gate.set()
        return await asyncio.gather(first, *others)

    assert play(scene) == [[2 * row] for row in range(7)]
    assert [rows for _, rows in engine.batches] == [[0], [1, 2, 3, 4], [5, 6]]


def test_rows_of_different_keys_share_no_batch(executor: ThreadPoolExecutor) -> None:
    engine = Engine()

    async def scene() -> None:
        lane = Batcher(executor, 1, max_batch=9, max_queue=9).lane(engine.run)
        await asyncio.gather(*(lane.submit(key, [1], later()) for key in "aabb"))

    play(scene)
    assert engine.batches == [("a", [1, 1]), ("b", [1, 1])]


def test_large_request_yields_to_small_one(executor: ThreadPoolExecutor) -> None:
    engine = Engine()
    engine.gate.clear()

    async def scene() -> Sequence[list[int]]:
        lane = Batcher(executor, 1, max_batch=2, max_queue=100).lane(engine.run)
        large = asyncio.create_task(lane.submit("a", list(range(8)), later()))
        await until(lambda: engine.batches)
        small = asyncio.create_task(lane.submit("a", [100], later()))
        await until(lambda: lane.waiting == 7)
        engine.gate.set()
        return await asyncio.gather(large, small)

    assert play(scene) == [[2 * row for row in range(8)], [200]]
    order = [rows for _, rows in engine.batches]
    assert any(100 in rows for rows in order[:3])  # after one more batch of the large request


def test_flooded_model_does_not_starve_another(executor: ThreadPoolExecutor) -> None:
    flooded, calm = Engine(), Engine()
    flooded.gate.clear()

    async def scene() -> int:
        batcher = Batcher(executor, 1, max_batch=1, max_queue=100)
        busy, quiet = batcher.lane(flooded.run), batcher.lane(calm.run)
        tasks = [asyncio.create_task(busy.submit("a", [row], later())) for row in range(50)]
        await until(lambda: flooded.batches)
        answer = asyncio.create_task(quiet.submit("b", [1], later()))
        await until(lambda: quiet.waiting)
        flooded.gate.set()
        await answer
        served = len(flooded.batches)
        await asyncio.gather(*tasks)
        return served

    assert play(scene) < 10


def test_full_queue_refuses_with_retry_time(executor: ThreadPoolExecutor) -> None:
    engine = Engine()
    engine.gate.clear()

    async def scene() -> None:
        lane = Batcher(executor, 1, max_batch=1, max_queue=3).lane(engine.run)
        first = asyncio.create_task(lane.submit("a", [0], later()))
        await until(lambda: engine.batches)
        waiting = [asyncio.create_task(lane.submit("a", [row], later())) for row in (1, 2)]
        await until(lambda: lane.waiting == 2)
        with pytest.raises(QueueFullError) as caught:
            await lane.submit("a", [3, 4], later())
        assert caught.value.retry_after >= 1
        engine.gate.set()
        assert await asyncio.gather(first, *waiting) == [[0], [2], [4]]
        assert await lane.submit("a", [3, 4], later()) == [6, 8]  # the queue has room again

    play(scene)


def test_rows_that_would_miss_the_deadline_are_refused(
    executor: ThreadPoolExecutor,
) -> None:
    def slow(key: str, rows: list[int]) -> list[int]:
        time.sleep(0.05 * len(rows))
        return rows

    async def scene() -> None:
        lane = Batcher(executor, 1, max_batch=1, max_queue=1000).lane(slow)
        for _ in range(12):  # measures seconds per row
            await lane.submit("a", [0], later())
        large = asyncio.create_task(lane.submit("a", [0] * 20, later()))
        await asyncio.sleep(0.02)
        with pytest.raises(QueueFullError):
            await lane.submit("a", [0], later(0.1))
        large.cancel()

    play(scene)


def test_rows_after_their_deadline_are_not_run(executor: ThreadPoolExecutor) -> None:
    engine = Engine()
    engine.gate.clear()

    async def scene() -> None:
        lane = Batcher(executor, 1, max_batch=1, max_queue=9).lane(engine.run)
        first = asyncio.create_task(lane.submit("a", [0], later()))
        await until(lambda: engine.batches)
        with pytest.raises(DeadlineError):
            await lane.submit("a", [1], later(0.02))
        with pytest.raises(DeadlineError):
            await lane.submit("a", [1], later(-1))
        assert lane.waiting == 0
        engine.gate.set()
        await first
        assert await lane.submit("a", [2], later()) == [4]

    play(scene)
    assert [rows for _, rows in engine.batches] == [[0], [2]]


def test_rows_of_disconnected_client_are_not_run(executor: ThreadPoolExecutor) -> None:
    engine = Engine()
    engine.gate.clear()

    async def scene() -> None:
        lane = Batcher(executor, 1, max_batch=1, max_queue=9).lane(engine.run)
        first = asyncio.create_task(lane.submit("a", [0], later()))
        gone = asyncio.create_task(lane.submit("a", [1], later()))
        await until(lambda: lane.waiting == 1)
        gone.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert lane.waiting == 0
        engine.gate.set()
        await first

    play(scene)
    assert [rows for _, rows in engine.batches] == [[0]]


def test_bad_request_does_not_fail_its_neighbours(executor: ThreadPoolExecutor) -> None:
    engine = Engine()

    async def scene() -> list[Any]:
        lane = Batcher(executor, 1, max_batch=9, max_queue=9).lane(engine.run)
        requests = (lane.submit("a", rows, later()) for rows in ([1, 2], [3, -1], [4]))
        return await asyncio.gather(*requests, return_exceptions=True)

    good, bad, also_good = play(scene)
    assert (good, also_good) == ([2, 4], [8])
    assert isinstance(bad, ValueError)


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(0, 20), max_size=12),
    max_batch=st.integers(1, 7),
    workers=st.integers(1, 3),
    room=st.integers(1, 40),
)
def test_every_request_gets_its_own_answers_in_order(
    sizes: list[int], max_batch: int, workers: int, room: int
) -> None:
    largest: list[int] = []
    longest: list[int] = []

    def run(key: str, rows: list[tuple[int, int]]) -> list[tuple[int, int]]:
        largest.append(len(rows))
        longest.append(sum(map(characters, rows)) if len(rows) > 1 else 0)
        time.sleep(0.0005 * (len(rows) % 3))
        return rows

    def characters(row: tuple[int, int]) -> int:
        return 7 * row[1] % 19  # a row can be longer than the limit

    async def scene() -> list[Any]:
        batcher = Batcher(pool, workers, max_batch, max_queue=1000, max_characters=room)
        lane = batcher.lane(run, characters=characters)
        requests = [[(number, row) for row in range(size)] for number, size in enumerate(sizes)]
        answers = await asyncio.gather(*(lane.submit("a", rows, later()) for rows in requests))
        assert answers == requests
        assert lane.waiting == 0
        return answers

    with ThreadPoolExecutor(workers) as pool:
        play(scene)
    assert max(largest, default=0) <= max_batch
    assert max(longest, default=0) <= room
