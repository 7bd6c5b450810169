"""HTTP and gRPC client with little overhead: raw sockets, and requests built before the clock runs.

python benchmarks/load_client.py LOAD

LOAD is a `Load` in JSON; the output is a `Summary` in JSON. Without a rate, each connection sends
its next request when it has an answer. With a rate, requests are due at even times, and the time of
a request counts from when it was due.
"""

import asyncio
import json
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import NotRequired, TypedDict, cast

import uvloop

HOST = "127.0.0.1"
PATIENCE = 15.0  # seconds to wait for the last answers


@dataclass(frozen=True)
class Load:
    """Requests to send.

    Attributes:
        port: port of the server.
        path: path of the requests; not used by gRPC.
        bodies: bodies in turn, texts for gRPC; without any, requests are GET.
        connections: number of connections.
        seconds: duration.
        rate: requests a second; None: as fast as they are answered.
        patience: deadline of a request in seconds, also sent as a header. Requests that exceed it
            count as `unsent` or `late`.
        grpc_model: model to ask over gRPC; None: HTTP.
    """

    port: int
    path: str
    bodies: list[str]
    connections: int = 1
    seconds: float = 1.0
    rate: float | None = None
    patience: float | None = None
    grpc_model: str | None = None

    def requests(self) -> list[bytes]:
        """Whole HTTP requests."""
        if not self.bodies:
            return [f"GET {self.path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()]
        patience = b""
        if self.patience is not None:
            patience = b"X-Request-Timeout-Ms: %d\r\n" % round(1000 * self.patience)
        return [
            b"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%s"
            b"Content-Length: %d\r\n\r\n%s"
            % (self.path.encode(), HOST.encode(), patience, len(body), body)
            for body in (text.encode() for text in self.bodies)
        ]


class Summary(TypedDict):
    """Measurements of a load; times are in milliseconds.

    `good` is the number of answers with status 200, within the deadline, a second; `good_p50` and
    `good_p99` are their times. The other times are those of all answers.
    """

    good: float
    good_p50: float
    good_p99: float
    p50: float
    p95: float
    p99: float
    max: float
    statuses: dict[str, int]
    cpu_ms: NotRequired[float]


class Run:
    """Measurements so far, and the requests that are due."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.requests = load.requests()
        self.sent = 0
        self.seconds: list[float] = []
        self.good_seconds: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.idle: list[Connection] = []
        self.due: deque[float] = deque()
        self.begin()

    def begin(self) -> None:
        """Start the clock."""
        self.start = time.perf_counter()
        self.end = self.start + self.load.seconds

    def next_request(self) -> bytes:
        """The next request, in turn."""
        self.sent += 1
        return self.requests[self.sent % len(self.requests)]

    def answered(self, since: float, status: str) -> None:
        """Count an answer."""
        seconds = time.perf_counter() - since
        self.seconds.append(seconds)
        if status == "200":
            if self.load.patience is not None and seconds > self.load.patience:
                status = "late"
            else:
                self.good_seconds.append(seconds)
        self.statuses[status] += 1

    def next_due(self) -> float | None:
        """When the oldest waiting request was due; requests past their deadline are dropped."""
        while self.due:
            since = self.due.popleft()
            patience = self.load.patience
            if patience is None or time.perf_counter() - since < patience:
                return since
            self.statuses["unsent"] += 1
        return None

    def summary(self) -> Summary:
        """Rates, percentiles and counts."""
        taken = time.perf_counter() - self.start
        return {
            "good": self.statuses["200"] / taken,
            "good_p50": percentile(self.good_seconds, 50),
            "good_p99": percentile(self.good_seconds, 99),
            "p50": percentile(self.seconds, 50),
            "p95": percentile(self.seconds, 95),
            "p99": percentile(self.seconds, 99),
            "max": percentile(self.seconds, 100),
            "statuses": self.statuses,
        }


def percentile(seconds: list[float], percent: int) -> float:
    """A percentile in milliseconds; 0 without values."""
    ordered = sorted(seconds) or [0.0]
    return 1000 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


class Connection(asyncio.Protocol):
    """A connection with at most one request on its way."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._buffer = b""
        self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request, or wait for one that is due."""
        self._transport = cast(asyncio.Transport, transport)
        if self._run.load.rate is None:
            self.ask(time.perf_counter())
        else:
            self._run.idle.append(self)

    def ask(self, since: float) -> None:
        """Send the next request; its time counts from `since`."""
        self._since = since
        self._transport.write(self._run.next_request())

    def data_received(self, data: bytes) -> None:
        """Count a complete answer, and send the next request."""
        self._buffer += data
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        after = head.lower().partition(b"content-length:")[2]
        if not after or len(rest) < int(after.partition(b"\r\n")[0]):
            return
        self._buffer = b""
        run = self._run
        run.answered(self._since, head[9:12].decode())
        if run.load.rate is None:
            if time.perf_counter() < run.end:
                self.ask(time.perf_counter())
        elif (due := run.next_due()) is not None:
            self.ask(due)
        else:
            run.idle.append(self)


async def over_http(run: Run) -> None:
    """Send HTTP requests until the time is up."""
    loop, load = asyncio.get_running_loop(), run.load
    connections = [
        await loop.create_connection(lambda: Connection(run), HOST, load.port)
        for _ in range(load.connections)
    ]
    if load.rate is None:
        await asyncio.sleep(load.seconds)
    else:
        await _at_even_times(run, load.rate)
    run.statuses["unsent"] += len(run.due)
    run.due.clear()
    while run.sent > len(run.seconds) and time.perf_counter() < run.end + PATIENCE:
        await asyncio.sleep(0.001)
    for transport, _ in connections:
        transport.abort()


async def _at_even_times(run: Run, rate: float) -> None:
    run.begin()
    number = 0
    while (now := time.perf_counter()) < run.end:
        while (due := run.start + number / rate) <= now:
            number += 1
            if run.idle:
                run.idle.pop().ask(due)
            else:
                run.due.append(due)
        await asyncio.sleep(0.001)  # resolution of uvloop


async def over_grpc(run: Run) -> None:
    """Send V2 messages over gRPC until the time is up."""
    from grpc import aio
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

    messages = [pb.ModelInferRequest(model_name=run.load.grpc_model) for _ in run.load.bodies]
    for message, text in zip(messages, run.load.bodies, strict=True):
        tensor = message.inputs.add(name="text", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(text.encode())

    async def ask(stub: GRPCInferenceServiceStub, first: int) -> None:
        number = first
        while (since := time.perf_counter()) < run.end:
            await stub.ModelInfer(messages[number % len(messages)])
            run.answered(since, "200")
            number += 1

    async with aio.insecure_channel(f"{HOST}:{run.load.port}") as channel:
        await channel.channel_ready()
        run.begin()
        stub = GRPCInferenceServiceStub(channel)
        await asyncio.gather(*(ask(stub, number) for number in range(run.load.connections)))


async def main() -> None:
    """Send the load, and print the summary."""
    run = Run(Load(**json.loads(sys.argv[1])))
    await (over_grpc(run) if run.load.grpc_model else over_http(run))
    sys.stdout.write(json.dumps(run.summary()) + "\n")


if __name__ == "__main__":
    uvloop.run(main())
