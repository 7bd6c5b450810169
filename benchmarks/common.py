"""Shared parts of the benchmarks: command line, timing, medians with their range, tables."""

import argparse
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console

from saarthi_lib import logs

ROOT = Path(__file__).parent.parent
PACKAGES = ("torch", "onnxruntime", "tokenizers")


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser with `--quick`; its description is the first line of a script's docstring."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="trial: the numbers mean nothing")
    return parser


def add_data_options(parser: argparse.ArgumentParser, choices: Iterable[str] | None = None) -> None:
    """Add the options that choose the data sets: folders of `--data`, or these choices."""
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", choices=choices, help="default: all")


def begin(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line, and print the machine and its load."""
    arguments = parser.parse_args()
    logs.configure()
    print_line(f"{machine()}. Load average before the run: {os.getloadavg()[0]:.2f}.")
    if arguments.quick:
        print_line("trial run: the numbers mean nothing")
    return arguments


def sets_in(data: Path, names: Sequence[str] | None) -> dict[str, Path]:
    """Folders of the sets, all or those of these names; missing ones are reported."""
    if names is None and data.is_dir():
        names = sorted(folder.name for folder in data.glob("*/"))
    folders = [data] if names is None else [data / name for name in names]
    for folder in folders:
        if not folder.is_dir():
            print_line(f"{folder.name}: skipped, {folder} is missing")
    return {folder.name: folder for folder in folders if folder.is_dir()}


def rounded(value: float) -> str:
    """An integer, or a number with three significant digits and no exponent."""
    if isinstance(value, int) or not value:
        return f"{value:.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def median_and_range(values: Sequence[float]) -> str:
    """Median, and minimum and maximum in brackets: `0.212 (0.208-0.240)`."""
    least, middle, most = (rounded(f(values)) for f in (min, statistics.median, max))
    return f"{middle} ({least}-{most})" if len(values) > 1 else middle


def median_ratio(values: Sequence[float], others: Sequence[float]) -> str:
    """Median and range of the ratios of measurements that took turns."""
    return median_and_range([a / b for a, b in zip(values, others, strict=True)])


def points(values: Sequence[float | None]) -> str:
    """Mean in percentage points, and the range of several seeds; None is left out."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    spread = f" ({100 * min(known):.1f}-{100 * max(known):.1f})"
    return f"{100 * statistics.mean(known):.1f}" + (spread if len(known) > 1 else "")


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table under a heading."""
    print_line(f"\n### {title}\n\n" + "\n".join(table_lines(header, rows)))


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; the first column is aligned left, the others right."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def print_line(text: str) -> None:
    """Print a line without wrapping it."""
    Console(width=10_000, highlight=False, markup=False, soft_wrap=True).print(text)


def timed_in_turn(
    calls: Mapping[str, Callable[[int], object]], rounds: int, budget: float
) -> dict[str, list[list[float]]]:
    """Time calls round-robin, so that other load of the machine affects all of them alike.

    Args:
        calls: function by name; its argument counts the calls of a turn, to choose the input.
        rounds: number of turns of each function.
        budget: length of a turn in seconds; a turn has at least three calls.

    Returns:
        Seconds of the calls by name and turn, without the first call of each turn, which warms the
        caches.
    """
    seconds: dict[str, list[list[float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call(0)
            turn: list[float] = []
            end = time.perf_counter() + budget
            while len(turn) < 3 or time.perf_counter() < end:
                start = time.perf_counter()
                call(len(turn))
                turn.append(time.perf_counter() - start)
            seconds[name].append(turn)
    return seconds


def machine() -> str:
    """Processor, number of cores, and versions of Python and the computing libraries."""
    parts = [_processor(), f"{os.cpu_count()} cores", f"Python {platform.python_version()}"]
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
