"""A client that is faster than what it measures: raw sockets, requests made before the clock runs.

python benchmarks/load_client.py SPECIFICATION

It is told what to do in JSON, and prints what it saw as JSON: see `Load`. Without a rate each
connection asks again as soon as it is answered. With a rate requests are due at even times, however
long the answers take, and a request's time counts from when it was due.
"""

import asyncio
import json
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import cast

import uvloop

HOST = "127.0.0.1"
PATIENCE = 15.0  # seconds for the last answers


@dataclass(frozen=True)
class Load:
    """What to send: `bodies` in turn (none: GET) to `path`, or to a model over gRPC.

    With `patience` each request says how many seconds it has, and what could not be sent or was not
    answered within them counts as `unsent` or `late`.
    """

    port: int
    path: str
    connections: int
    seconds: float
    bodies: list[str]
    rate: float | None = None
    grpc_model: str | None = None
    patience: float | None = None

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


class Run:
    """What has been seen so far, and the requests that are due."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.requests = load.requests()
        self.sent = 0
        self.seconds: list[float] = []
        self.good_seconds: list[float] = []  # of what was answered well and in time
        self.statuses: Counter[str] = Counter()
        self.idle: list[Connection] = []
        self.due: deque[float] = deque()
        self.start = time.perf_counter()
        self.end = self.start + load.seconds

    def next_request(self) -> bytes:
        """The next of the requests, in turn."""
        self.sent += 1
        return self.requests[self.sent % len(self.requests)]

    def answered(self, since: float, status: str) -> None:
        """Note an answer."""
        seconds = time.perf_counter() - since
        self.seconds.append(seconds)
        if status == "200":
            if self.load.patience is not None and seconds > self.load.patience:
                status = "late"
            else:
                self.good_seconds.append(seconds)
        self.statuses[status] += 1

    def next_due(self) -> float | None:
        """When the oldest request that waits was due; those that nobody waits for are dropped."""
        while self.due:
            since = self.due.popleft()
            patience = self.load.patience
            if patience is None or time.perf_counter() - since < patience:
                return since
            self.statuses["unsent"] += 1
        return None

    def summary(self) -> dict[str, object]:
        """Requests a second, milliseconds at percentiles, answers by status."""
        taken = time.perf_counter() - self.start
        ordered = sorted(self.seconds) or [0.0]
        percentiles = {
            f"p{percent}": 1000 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
            for percent in (50, 95, 99)
        }
        good = self.statuses["200"] / taken
        well = sorted(self.good_seconds) or [0.0]
        for percent in (50, 99):
            at = min(len(well) - 1, len(well) * percent // 100)
            percentiles[f"good_p{percent}"] = 1000 * well[at]
        return {"good": good, "max": 1000 * ordered[-1], **percentiles, "statuses": self.statuses}


class Connection(asyncio.Protocol):
    """Keeps one request on its way."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._buffer = b""
        self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask, or wait to be asked."""
        self._transport = cast(asyncio.Transport, transport)
        if self._run.load.rate is None:
            self.ask(time.perf_counter())
        else:
            self._run.idle.append(self)

    def ask(self, since: float) -> None:
        """Send the next request, whose time counts from `since`."""
        self._since = since
        self._transport.write(self._run.next_request())

    def data_received(self, data: bytes) -> None:
        """Take an answer, and go on."""
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
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(run.load.connections):
        made.append(await loop.create_connection(lambda: Connection(run), HOST, run.load.port))
    if run.load.rate is not None:
        run.start = time.perf_counter()
        run.end = run.start + run.load.seconds
        number = 0
        while (now := time.perf_counter()) < run.end:
            while (due := run.start + number / run.load.rate) <= now:
                number += 1
                if run.idle:
                    run.idle.pop().ask(due)
                else:
                    run.due.append(due)
            await asyncio.sleep(0.001)  # what uvloop can tell apart
    else:
        await asyncio.sleep(run.load.seconds)
    run.statuses["unsent"] += len(run.due)
    run.due.clear()
    while run.sent > len(run.seconds) and time.perf_counter() < run.end + PATIENCE:
        await asyncio.sleep(0.001)
    for transport, _ in made:
        transport.abort()


async def over_grpc(run: Run) -> None:
    """Send V2 messages over gRPC until the time is up; each text is a body."""
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
        run.start = time.perf_counter()
        run.end = run.start + run.load.seconds
        stub = GRPCInferenceServiceStub(channel)
        await asyncio.gather(*(ask(stub, number) for number in range(run.load.connections)))


async def main() -> None:
    """Run the load and print what was seen."""
    run = Run(Load(**json.loads(sys.argv[1])))
    await (over_grpc(run) if run.load.grpc_model else over_http(run))
    sys.stdout.write(json.dumps(run.summary()) + "\n")


if __name__ == "__main__":
    uvloop.run(main())
