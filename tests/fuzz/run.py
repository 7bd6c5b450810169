"""Fuzz the readers, the bundle loader, the tokenizer, decoding and the server; print a table.

python -m tests.fuzz.run [--scale 1.0] [--seed N] [--only PART] [--json FILE]

`--scale 1` is the long run with more than a million inputs. Each finding names its seed; reproduce
it with `--only PART --seed N --scale 0`, where a scale of 0 is one input. The exit code is 1 if
there are findings.
"""

import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz import servers
from tests.fuzz.targets import IN_PROCESS

ROOT = Path(__file__).parent.parent.parent
SECONDS_AN_INPUT = 20
MOST_FINDINGS = 5  # printed findings of a target

OVER_THE_WIRE: dict[str, tuple[Callable[..., Any], int]] = {
    "server: HTTP, broken bodies and headers": (servers.over_http, 40_000),
    "server: HTTP, broken bytes": (servers.over_raw_http, 10_000),
    "server: gRPC, broken messages": (servers.over_grpc, 20_000),
}
SCHEMATHESIS, SCHEMATHESIS_EXAMPLES = "server: its own OpenAPI, by schemathesis", 100
ATHERIS, ATHERIS_RUNS = "readers, led by coverage, by atheris", 200_000


@dataclass
class Result:
    """Result of a target.

    Attributes:
        target: name of the target.
        inputs: number of inputs.
        findings: errors with their seeds.
        seconds: duration.
        note: further information.
    """

    target: str
    inputs: int = 0
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    note: str = ""


def try_inputs(name: str, seed: int, count: int, progress: Path | None = None) -> Result:
    """Run a target in this process on `count` seeds; a file shows the current seed."""
    target, _ = IN_PROCESS[name]
    found = Result(name)
    file = os.open(progress or os.devnull, os.O_WRONLY | os.O_CREAT)

    def give_up(*_: Any) -> None:
        raise TimeoutError(f"an input took more than {SECONDS_AN_INPUT} s")

    signal.signal(signal.SIGALRM, give_up)
    for number in range(seed, seed + count):
        os.pwrite(file, b"%20d" % number, 0)
        signal.alarm(SECONDS_AN_INPUT)
        try:
            target(Random(number))
        except KeyboardInterrupt:
            raise
        except BaseException:  # a panic of Rust is a BaseException
            last = traceback.format_exc().strip().splitlines()[-3:]
            found.findings.append(f"seed {number}: {' | '.join(last)}"[:400])
        signal.alarm(0)
        found.inputs += 1
    os.close(file)
    return found


def in_its_process(name: str, seed: int, count: int) -> Result:
    """`try_inputs` in another process; after a crash, it continues with the next seed."""
    total = Result(name)
    end = seed + count
    while seed < end:
        with tempfile.TemporaryDirectory() as folder:
            progress, output = Path(folder) / "progress", Path(folder) / "result"
            script = "import sys; from tests.fuzz.run import worker; worker(sys.argv[1:])"
            command = [sys.executable, "-c", script, name, str(seed), str(end - seed)]
            process = subprocess.run(
                [*command, str(progress), str(output)], cwd=ROOT, stderr=subprocess.DEVNULL
            )
            if process.returncode == 0:
                seen = json.loads(output.read_text(encoding="utf-8"))
                total.inputs += seen["inputs"]
                total.findings += seen["findings"]
                return total
            at = int(progress.read_text(encoding="ascii")) if progress.exists() else seed
            total.inputs += at - seed + 1
            total.findings.append(f"seed {at}: the process ended with {process.returncode}")
            seed = at + 1
    return total


def worker(arguments: list[str]) -> None:
    """Main function of the process of `in_its_process`."""
    name, seed, count, progress, output = arguments
    found = try_inputs(name, int(seed), int(count), Path(progress))
    Path(output).write_text(json.dumps(asdict(found)), encoding="utf-8")


def by_schemathesis(url: str, examples: int, seed: int) -> Result:
    """Requests from the server's OpenAPI; it answers 501 for operations that it lacks."""
    found = Result(SCHEMATHESIS)
    if importlib.util.find_spec("schemathesis") is None:
        found.note = "not run: schemathesis is not installed"
        return found
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.ndjson"
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"]
        command += ["--checks", "not_a_server_error", "--max-examples", str(examples)]
        command += ["--seed", str(seed), "--exclude-path-regex", ":explain|unload", "--no-color"]
        command += ["--phases", "examples,coverage,fuzzing", "--generation-database", "none"]
        command += ["--report", "ndjson", "--report-ndjson-path", str(report)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=3600)
    counted = re.search(r"([\d,]+) generated", done.stdout)
    found.inputs = int(counted[1].replace(",", "")) if counted else 0
    found.findings = re.findall(r"Server error.*", done.stdout)
    if done.returncode not in (0, 1) or not found.inputs:
        found.findings.append((done.stdout + done.stderr)[-400:])
    return found


def by_atheris(runs: int, seed: int) -> Result:
    """Inputs that increase the coverage."""
    found = Result(ATHERIS)
    if importlib.util.find_spec("atheris") is None:
        found.note = "not run: atheris is not installed"
        return found
    command = [sys.executable, "-m", "tests.fuzz.coverage", str(runs), str(seed or 1)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=7200)
    counted = re.findall(r"^(?:#|Done )(\d+)", done.stderr, re.MULTILINE)
    found.inputs = max(map(int, counted), default=0)
    if done.returncode:
        found.findings.append(done.stderr[-400:])
    return found


def results(scale: float, seed: int, only: str) -> Iterator[Result]:
    """Run all targets whose name contains `only`."""

    def wanted(name: str) -> bool:
        return only in name

    def share(count: int) -> int:
        return max(1, round(count * scale))

    for name, (_, count) in IN_PROCESS.items():
        if wanted(name):
            yield timed(partial(in_its_process, name, seed, share(count)))
    if wanted(ATHERIS):
        yield timed(lambda: by_atheris(share(ATHERIS_RUNS), seed))
    wire = {name: each for name, each in OVER_THE_WIRE.items() if wanted(name)}
    if not wire and not wanted(SCHEMATHESIS):
        return
    with servers.a_server() as server:
        for name, (ask, count) in wire.items():

            def tried(
                name: str = name, ask: Callable[..., Any] = ask, count: int = count
            ) -> Result:
                statuses, findings = ask(server, share(count), seed)
                note = ", ".join(f"{status}: {n}" for status, n in statuses.most_common())
                return Result(name, sum(statuses.values()), findings, note=note)

            yield timed(tried)
        if wanted(SCHEMATHESIS):
            examples = share(SCHEMATHESIS_EXAMPLES)
            yield timed(lambda: by_schemathesis(server.url, examples, seed))


def timed(run: Callable[[], Result]) -> Result:
    """A result with its duration."""
    started = time.perf_counter()
    result = run()
    result.seconds = time.perf_counter() - started
    return result


def main() -> int:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the long run (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="first seed (%(default)s)")
    parser.add_argument("--only", default="", help="targets whose name contains this")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    seen = []
    show = sys.stdout.write
    show("| target | inputs | findings | seconds |\n| --- | --: | --: | --: |\n")
    for result in results(options.scale, options.seed, options.only):
        seen.append(result)
        row = (result.target, f"{result.inputs:,}", len(result.findings), round(result.seconds))
        show(f"| {' | '.join(map(str, row))} |\n")
        sys.stdout.flush()
    total = (sum(each.inputs for each in seen), sum(len(each.findings) for each in seen))
    show(f"| all | {total[0]:,} | {total[1]} | {round(sum(each.seconds for each in seen))} |\n")
    for each in seen:
        for line in (*each.findings[:MOST_FINDINGS], *([each.note] if each.note else [])):
            show(f"\n{each.target}: {line}\n")
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in seen], indent=1) + "\n")
    return 1 if total[1] else 0


if __name__ == "__main__":
    sys.exit(main())
