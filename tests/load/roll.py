"""Check that reloads of a model and the replacement of a server lose no request.

python tests/load/roll.py [--bundle FOLDER] [--minutes 10] [options of locust …]

A small proxy replaces Kubernetes' service: new connections go to the ready server, and open
connections stay. In the middle of the test, the server is replaced like in a roll-out with
`maxUnavailable: 0`: the new server is ready and gets the new connections, then the old server
receives SIGTERM, drains and ends. Before and after, the bundle gets two new versions. The exit code
is locust's: 0 if no request failed.
"""

import argparse
import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx

from saarthi_lib.bundle import MANIFEST
from saarthi_lib.logs import configure, get_logger
from saarthi_lib.storage import read_json, write_json

ROOT = Path(__file__).parent.parent.parent
HOST = "127.0.0.1"
DRAIN_SECONDS = 5.0
PATIENCE = 60.0  # seconds for a server to load or to end
RELOADS = (1, 2, 4, 5)  # sixths of the time; at ROLL, the server is replaced
ROLL = 3
# Users do not pause, so requests are open at any moment. None may be lost.
LOCUST = "--headless --only-summary -u 8 -r 8 --pace 0"
LOCUST += " --slo-failures 0 --slo-shed 0 --slo-p95 250 --slo-p99 500"

logger = get_logger("roll")


class Front:
    """Forwards TCP connections to the current port, and counts them."""

    def __init__(self) -> None:
        self.port = 0
        self.accepted: Counter[int] = Counter()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until either side closes it."""
        self.accepted[self.port] += 1
        try:
            there, back = await asyncio.open_connection(HOST, self.port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the writer is closed below
    finally:
        writer.close()


class Versions:
    """Versions of one bundle, with different numbers; a link points to the current one."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.current = folder / "current"
        self._bundle = bundle
        self._folder = folder
        self._number = 0

    def next(self) -> str:
        """Let the link point to a new version; returns its name."""
        self._number += 1
        version = f"roll-{self._number}"
        new = self._folder / version
        shutil.copytree(self._bundle, new)
        changes = {"version": version, "digest": None}
        write_json(new / MANIFEST, {**read_json(new / MANIFEST), **changes})
        link = self._folder / "next"
        link.symlink_to(new)
        link.rename(self.current)
        return version


class Server:
    """A predictor in its own process."""

    def __init__(self, process: Process, port: int) -> None:
        self._process = process
        self.port = port
        self.url = f"http://{HOST}:{port}"

    @classmethod
    async def start(cls, bundle: Path) -> "Server":
        """Start a predictor and wait until it is ready."""
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        arguments = f"--http-port {port} --grpc-port 0 --reload-seconds 0.5".split()
        arguments += f"--drain-seconds {DRAIN_SECONDS}".split()
        process = await _python("-m", "predictors", str(bundle), *arguments, quiet=True)
        server = cls(process, port)
        async with httpx.AsyncClient() as client:
            while process.returncode is None:
                try:
                    if (await client.get(f"{server.url}/v2/health/ready")).is_success:
                        return server
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
        raise RuntimeError(f"the server ended with {process.returncode} before it was ready")

    async def loaded(self) -> int:
        """Number of loaded versions."""
        async with httpx.AsyncClient() as client:
            lines = (await client.get(f"{self.url}/metrics")).text.splitlines()
        wanted = [
            line
            for line in lines
            if line.startswith("saarthi_loads_total{") and 'outcome="loaded"' in line
        ]
        return int(sum(float(line.rpartition(" ")[2]) for line in wanted))

    async def stop(self) -> int:
        """Send SIGTERM and wait for the end; returns the exit code."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self._process.wait(), PATIENCE)


async def _python(*arguments: str, quiet: bool = False) -> Process:
    output = DEVNULL if quiet else None
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=ROOT, stdout=output, stderr=output, env=environment
    )


async def roll(bundle: Path, seconds: float, options: Sequence[str]) -> int:
    """Run the test; returns the exit code.

    Args:
        bundle: bundle to serve.
        seconds: least duration of the load.
        options: further options of locust.

    Raises:
        RuntimeError: a server ended unexpectedly.
        TimeoutError: a version was not loaded, or a process did not end.
    """
    with tempfile.TemporaryDirectory(prefix="saarthi-roll-") as folder:
        versions = Versions(bundle, Path(folder))
        versions.next()
        front = Front()
        servers = [await Server.start(versions.current)]
        front.port = servers[0].port
        listening = await asyncio.start_server(front.handle, HOST, 0)
        port = listening.sockets[0].getsockname()[1]
        load = await _python(
            *("-m", "locust", "--host", f"http://{HOST}:{port}", *LOCUST.split(), *options)
        )
        try:
            await _disturb(front, versions, servers, seconds)
            load.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(load.wait(), PATIENCE)
        finally:
            if load.returncode is None:
                load.kill()
            for server in servers:
                await server.stop()
            listening.close()
        for server in servers:
            logger.info("port %d: %d connections", server.port, front.accepted[server.port])
        return code


async def _disturb(front: Front, versions: Versions, servers: list[Server], seconds: float) -> None:
    """Reload the bundle and replace the server under load.

    Raises:
        RuntimeError: a server ended unexpectedly.
        TimeoutError: a version was not loaded, or a process did not end.
    """
    clock = asyncio.get_running_loop().time
    start = clock()
    for sixth in sorted((*RELOADS, ROLL)):
        await asyncio.sleep(start + seconds * sixth / 6 - clock())
        if sixth == ROLL:
            await _replace(front, versions, servers)
            continue
        before = await servers[-1].loaded()
        version = versions.next()
        async with asyncio.timeout(PATIENCE):
            while await servers[-1].loaded() == before:
                await asyncio.sleep(0.1)
        logger.info("port %d has loaded %s", servers[-1].port, version)
    await asyncio.sleep(start + seconds - clock())


async def _replace(front: Front, versions: Versions, servers: list[Server]) -> None:
    [old] = servers
    new = await Server.start(versions.current)
    servers.append(new)
    front.port = new.port
    logger.info("port %d is ready; port %d gets SIGTERM", new.port, old.port)
    code = await old.stop()
    if code:
        raise RuntimeError(f"the old server ended with {code}")
    logger.info("port %d has ended", old.port)


def main() -> int:
    """Parse the arguments, and run the test."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--bundle", type=Path, help="default: a tiny bundle")
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="least duration of the load (%(default)s)"
    )
    arguments, options = parser.parse_known_args()
    configure()
    with tempfile.TemporaryDirectory() as folder:
        bundle = arguments.bundle or _tiny_bundle(Path(folder) / "tiny")
        return asyncio.run(roll(bundle, 60 * arguments.minutes, options))


def _tiny_bundle(folder: Path) -> Path:
    sys.path.insert(0, str(ROOT))
    from tests.tiny_bundle import write_tiny_bundle

    return write_tiny_bundle(folder, "joint", runtime="onnxruntime")


if __name__ == "__main__":
    sys.exit(main())
