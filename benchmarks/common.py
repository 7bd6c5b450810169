"""What the benchmarks share: the machine's description, medians with their spread, tables."""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console

PACKAGES = ("torch", "onnxruntime", "tokenizers")


def median_and_spread(values: Sequence[float]) -> str:
    """The median of repeated measurements and, in brackets, the least and the greatest.

    Three significant digits: `0.212 (0.208-0.240)`.
    """
    least, middle, most = (figure(f(values)) for f in (min, statistics.median, max))
    return f"{middle} ({least}-{most})"


def figure(value: float) -> str:
    """A number with three significant digits and no exponent."""
    if not value:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table; the first column is aligned left, the others right."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    print_line(f"\n### {title}\n")
    for line in lines:
        print_line(f"| {' | '.join(line)} |")


def print_line(text: str) -> None:
    """Print a line as it is, however long."""
    Console(width=10_000, highlight=False, markup=False, soft_wrap=True).print(text)


def timed_in_turn(
    calls: Mapping[str, Callable[[int], object]], rounds: int, budget: float, least: int = 3
) -> dict[str, list[list[float]]]:
    """Time many calls round-robin, so that what else the machine does falls on all of them alike.

    Args:
        calls: by name; each is given a running number, to choose its input by.
        rounds: how often each has its turn.
        budget: of one turn, in seconds.
        least: calls of a turn, however long they take.

    Returns:
        For each name and round the seconds of its calls. The first call of a turn is left out:
        it fetches what the others have put out of the cache.
    """
    seconds: dict[str, list[list[float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call(0)
            turn: list[float] = []
            end = time.perf_counter() + budget
            while len(turn) < least or time.perf_counter() < end:
                start = time.perf_counter()
                call(len(turn))
                turn.append(time.perf_counter() - start)
            seconds[name].append(turn)
    return seconds


def machine() -> str:
    """The machine in one line: processor, cores, caches, versions of what computes."""
    parts = [_processor(), f"{os.cpu_count()} cores", *_caches()]
    parts.append(f"Python {platform.python_version()}")
    for package in PACKAGES:
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _caches() -> list[str]:
    folders = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
    return [
        f"L{(folder / 'level').read_text().strip()} {(folder / 'size').read_text().strip()}"
        for folder in folders
        if (folder / "type").read_text().strip() != "Instruction"
    ]
