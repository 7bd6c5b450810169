"""What a core, a pod and ten pods carry, and the pods and cost of a number of requests a day.

python benchmarks/capacity.py [FILE] [--output docs/capacity.md] [--price DOLLARS] [--quick]

FILE is what `serving.py --json` has written; without one that benchmark is run. Without --output
the page is printed.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import figure, print_line

SECONDS_A_DAY = 86_400
DAYS_A_MONTH = 30
REQUESTS_A_DAY = (10**3, 10**6, 10**9)


@dataclass(frozen=True)
class Assumptions:
    """What is not measured.

    Attributes:
        peak: requests in the busiest second over the day's mean.
        utilization: share of its capacity that a pod is planned to carry at the peak.
        cpus: of a pod, its limit.
        pods: that run at least, so that one may go.
        price: dollars for a CPU and its memory for an hour.
    """

    peak: float = 3.0
    utilization: float = 0.7
    cpus: float = 1.0
    pods: int = 2
    price: float = 0.04


@dataclass(frozen=True)
class Carried:
    """The requests a second that one process answers at the most, and the CPUs it takes for it."""

    rate: float
    cpus: float

    def by(self, cpus: float) -> float:
        """What a process carries on so many CPUs; more than it can use do not help it."""
        return self.rate / self.cpus * min(cpus, self.cpus)


@dataclass(frozen=True)
class Plan:
    """What a number of requests a day takes."""

    requests: int
    mean: float
    peak: float
    pods: int
    cost: float  # of a day

    @classmethod
    def of(cls, requests: int, pod: float, given: Assumptions) -> "Plan":
        """Plan for so many a day, with pods that carry so many a second each."""
        mean = requests / SECONDS_A_DAY
        peak = mean * given.peak
        pods = max(given.pods, math.ceil(peak / (pod * given.utilization)))
        return cls(requests, mean, peak, pods, pods * given.cpus * 24 * given.price)


def most_carried(seen: dict[str, Any]) -> Carried:
    """From the turns at the best number of connections."""
    turns = max(seen["ours"].values(), key=lambda turns: _median(turns, "good"))
    rate = _median(turns, "good")
    return Carried(rate, rate * _median(turns, "cpu_ms") / 1000)


def page(seen: dict[str, Any], given: Assumptions) -> str:
    """The page, in Markdown."""
    carried = most_carried(seen)
    pod = carried.by(given.cpus)
    plans = [Plan.of(requests, pod, given) for requests in REQUESTS_A_DAY]
    lines = [
        "# Capacity",
        "",
        "Written by `benchmarks/capacity.py` from a run of `benchmarks/serving.py`; not by hand.",
        "",
    ]
    if seen["quick"]:
        lines += ["QUICK: the run was too short; the figures mean nothing.", ""]
    lines += [
        "## Measured",
        "",
        f"{seen['machine']}. Load average before the run: {seen['load_average']:.2f}. "
        "One server, `POST /predict`, one text a request, the client on the same machine.",
        "",
        *_measured(seen),
        "",
        *_even_times(seen, carried.rate),
        "",
        "## What is carried",
        "",
        f"At its best one server answers {figure(carried.rate)} requests a second and takes "
        f"{figure(carried.cpus)} CPUs for it.",
        "",
        *_carried(carried, given),
        "",
        "## Pods and cost",
        "",
        *_plans(plans, given),
        "",
        *_sum(plans[-1], pod, given),
        "",
        "## Assumptions",
        "",
        *_assumptions(given),
    ]
    return "\n".join(lines) + "\n"


def _measured(seen: dict[str, Any]) -> list[str]:
    header = ["connections", "requests a second", "CPU ms a request", "p50 ms", "p99 ms"]
    names = ("good", "cpu_ms", "p50", "p99")
    return _table(
        header,
        (
            [connections, *(figure(_median(turns, name)) for name in names)]
            for connections, turns in seen["ours"].items()
        ),
    )


def _even_times(seen: dict[str, Any], capacity: float) -> list[str]:
    header = ["asked at even times", "answered a second", "p50 ms", "p99 ms"]
    return _table(
        header,
        (
            [
                f"{turn['share']:.0%} of {figure(capacity)} a second",
                *(figure(turn[name]) for name in ("good", "p50", "p99")),
            ]
            for turn in seen["even_times"]
        ),
    )


def _carried(carried: Carried, given: Assumptions) -> list[str]:
    pod = carried.by(given.cpus)
    rates = {
        "one core": carried.by(1),
        f"one pod ({given.cpus:g} CPU)": pod,
        "ten pods": 10 * pod,
    }
    header = ["", "requests a second, at most", f"planned, at {given.utilization:.0%}"]
    return _table(
        header,
        ([name, figure(rate), figure(rate * given.utilization)] for name, rate in rates.items()),
    )


def _plans(plans: Iterable[Plan], given: Assumptions) -> list[str]:
    header = ["requests a day", "mean a second", "peak a second", "pods", "CPUs"]
    header += ["$ a day", "$ a month", "$ a million requests"]
    return _table(
        header,
        (
            [
                f"{plan.requests:,}",
                figure(plan.mean),
                figure(plan.peak),
                f"{plan.pods:,}",
                f"{plan.pods * given.cpus:,g}",
                f"{plan.cost:,.2f}",
                f"{DAYS_A_MONTH * plan.cost:,.2f}",
                figure(plan.cost / plan.requests * 10**6),
            ]
            for plan in plans
        ),
    )


def _sum(plan: Plan, pod: float, given: Assumptions) -> list[str]:
    return [
        f"The last line: {plan.requests:,} / {SECONDS_A_DAY:,} = {figure(plan.mean)} a second; "
        f"× {given.peak:g} = {figure(plan.peak)} at the peak; "
        f"/ ({figure(pod)} × {given.utilization:g}) = {plan.pods:,} pods; "
        f"× {given.cpus:g} CPU × 24 h × ${given.price:g} = ${plan.cost:,.2f} a day."
    ]


def _assumptions(given: Assumptions) -> list[str]:
    return [
        f"- The busiest second has {given.peak:g} times the day's mean (`--peak`).",
        f"- A pod is planned to carry {given.utilization:.0%} of what it can, at the peak "
        "(`--utilization`); the rest is for bursts and for a pod that is being replaced.",
        f"- A pod has {given.cpus:g} CPU (`--cpus`), and what it carries grows with its CPUs up to "
        "what one server can use; pods share nothing, so ten carry ten times as much.",
        f"- At least {given.pods} pods run (`--pods`), and all that the peak needs run all day: "
        "autoscaling would only save.",
        f"- A CPU with its memory costs ${given.price:g} an hour (`--price`): an example, not an "
        "offer; put in your own. A month has 30 days. Traffic, load balancers, logs and the "
        "cluster itself are not counted.",
        "- The cluster's CPUs are as fast as the one above, and texts as long as the benchmark's. "
        "The client took CPU time from the server on the same machine, which errs on the low side.",
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _median(turns: Iterable[dict[str, Any]], name: str) -> float:
    return statistics.median(turn[name] for turn in turns)


def _measure(quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "serving.json"
        script = Path(__file__).with_name("serving.py")
        command = [sys.executable, str(script), "--json", str(file)]
        subprocess.run([*command, *(["--quick"] if quick else [])], check=True)
        return _read(file)


def _read(file: Path) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return seen


def main() -> None:
    """Read or measure, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, help="by default serving.py is run")
    parser.add_argument("--output", type=Path, help="the page's file; by default it is printed")
    for name, value in vars(Assumptions()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help="(%(default)s)")
    parser.add_argument("--quick", action="store_true", help="run serving.py so")
    options = parser.parse_args()
    seen = _read(options.file) if options.file else _measure(options.quick)
    given = Assumptions(**{name: getattr(options, name) for name in vars(Assumptions())})
    text = page(seen, given)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print_line(text)


if __name__ == "__main__":
    main()
