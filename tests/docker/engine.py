"""A Docker engine for the tests: it runs in a temporary folder and leaves nothing behind.

It sets up neither iptables nor a bridge: containers use the machine's network.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

DOCKER = "/usr/bin/docker"
NEEDED = ("dockerd", "debootstrap", "setpriv")
PATIENCE = 60.0  # seconds for the engine to start or to end


def why_not() -> str:
    """Reason why an engine cannot be started here; empty if it may start."""
    if os.geteuid() != 0:
        return "a Docker engine is started by root"
    missing = [each for each in NEEDED if shutil.which(each) is None]
    if missing or not Path(DOCKER).is_file():
        return (
            f"not installed: {', '.join(missing) or DOCKER} (apt-get install docker.io debootstrap)"
        )
    return ""


class NoEngineError(RuntimeError):
    """The engine cannot run on this machine, or cannot get its images."""


class Engine:
    """A running engine; the end of the block ends it, with all its containers and images.

    Attributes:
        url: value for DOCKER_HOST.
    """

    def __enter__(self) -> "Engine":
        self.folder = Path(tempfile.mkdtemp(prefix="saarthi-docker-"))
        self.url = f"unix://{self.folder}/socket"
        self._environment = {**os.environ, "DOCKER_HOST": self.url, "DOCKER_BUILDKIT": "0"}
        self._environment["DOCKER_CONFIG"] = str(self.folder / "config")
        command = ["setpriv", "--pdeathsig", "TERM", "dockerd", "--host", self.url]
        command += ["--iptables=false", "--ip6tables=false", "--bridge=none"]
        for option, name in (("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid")):
            command += [f"--{option}", str(self.folder / name)]
        self._log = self.folder / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + PATIENCE
        while subprocess.run(
            [DOCKER, "version"], env=self._environment, capture_output=True
        ).returncode:
            if self._process.poll() is not None or time.monotonic() > end:
                raise NoEngineError(f"dockerd does not run: {self._log.read_text()[-2000:]}")
            time.sleep(0.2)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        children = self.processes()
        if self._process.poll() is None:
            self._process.terminate()  # ends its containers and containerd too
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
        for number in {self._process.pid, *children} & set(self.processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self._process.wait(PATIENCE)
        for place in reversed(self.mounts()):
            subprocess.run(["umount", "--lazy", place], check=False)
        shutil.rmtree(self.folder)

    def processes(self) -> list[int]:
        """Ids of the engine's processes: those with its folder in their command lines."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(self.folder).encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def mounts(self) -> list[str]:
        """Mounts below the engine's folder, in the order of mounting."""
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        return [place for line in lines if (place := line.split()[4]).startswith(f"{self.folder}/")]

    def docker(self, *arguments: object, **options: Any) -> str:
        """Run the client; returns its output.

        Raises:
            AssertionError: the client failed; the message has the end of its output.
        """
        done = subprocess.run(
            [DOCKER, *map(str, arguments)],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )
        assert done.returncode == 0, f"docker {arguments}: {done.stdout[-4000:]}"
        return done.stdout.strip()

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for clients of the engine."""
        return dict(self._environment)

    @contextlib.contextmanager
    def container(self, *arguments: object) -> Iterator[str]:
        """Run a container in the background, and remove it at the end; yields its identifier."""
        identifier = self.docker("run", "--detach", *arguments)
        try:
            yield identifier
        finally:
            self.docker("rm", "--force", identifier)
