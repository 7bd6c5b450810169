"""Print capacity, pods and cost for a day's requests: a section of docs/benchmarks.md.

python benchmarks/serving.py --json runs/serving.json
python benchmarks/capacity.py runs/serving.json [--price DOLLARS] [--cpus N]
"""

import argparse
import json
import math
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common import print_line, rounded, table_lines

SECONDS_A_DAY = 86_400
DAYS_A_MONTH = 30
REQUESTS_A_DAY = (10**3, 10**6, 10**9)
SECTION = """\
{trial}{machine}. Load average before the run: {load_average:.2f}. One server, `POST /predict`, \
one text per request, the client on the same machine.

{measured}

{even_times}

At its best, the server answers {rate} requests a second with {used} CPUs: {core} for each CPU.

{plans}

The last line: {requests:,} / {day:,} = {mean} a second; × {peak:g} = {busiest} at the peak; \
/ ({pod} × {utilization:g}) = {pods_needed:,} pods; × {cpus:g} CPU × 24 h × {month} days × \
${price:g} = ${cost:,.2f} a month.

Assumptions, each an option of the script: the busiest second has {peak:g} times the mean of the \
day (`--peak`). A pod has {cpus:g} CPU (`--cpus`) and reaches {utilization:.0%} of its capacity at \
the peak (`--utilization`). At least {pods} pods run, and all pods run all day (`--pods`). A CPU \
with its memory costs ${price:g} an hour (`--price`); this is an example, so use your own price. \
Traffic, load balancers, logs and the cluster itself are not counted. The client used CPU time of \
the same machine, so the real capacity is higher.
"""


@dataclass(frozen=True)
class Assumptions:
    """Numbers that are not measured.

    Attributes:
        peak: requests in the busiest second, relative to the mean of the day.
        utilization: planned share of a pod's capacity at the peak.
        cpus: CPU limit of a pod.
        pods: least number of pods.
        price: dollars for a CPU and its memory for an hour.
    """

    peak: float = 3.0
    utilization: float = 0.7
    cpus: float = 1.0
    pods: int = 2
    price: float = 0.04


@dataclass(frozen=True)
class Plan:
    """Pods and cost of a day's requests."""

    requests: int
    pod: float  # capacity of a pod, requests a second
    given: Assumptions

    @property
    def mean(self) -> float:
        return self.requests / SECONDS_A_DAY

    @property
    def peak(self) -> float:
        return self.mean * self.given.peak

    @property
    def pods(self) -> int:
        needed = math.ceil(self.peak / (self.pod * self.given.utilization))
        return max(self.given.pods, needed)

    @property
    def cost(self) -> float:
        return self.pods * self.given.cpus * 24 * self.given.price

    def row(self) -> list[str]:
        """Row of the table."""
        return [
            f"{self.requests:,}",
            rounded(self.peak),
            f"{self.pods:,}",
            f"{self.pods * self.given.cpus:,g}",
            f"{DAYS_A_MONTH * self.cost:,.2f}",
            rounded(self.cost / self.requests * 10**6),
        ]


def section(seen: dict[str, Any], given: Assumptions) -> str:
    """The section, in Markdown."""
    medians = {
        connections: {
            key: statistics.median(turn[key] for turn in turns)
            for key in ("good", "cpu_ms", "p50", "p99")
        }
        for connections, turns in seen["ours"].items()
    }
    best = max(medians.values(), key=lambda found: found["good"])
    rate, used = best["good"], best["good"] * best["cpu_ms"] / 1000
    core, pod = (rate / used * min(cpus, used) for cpus in (1.0, given.cpus))
    plans = [Plan(requests, pod, given) for requests in REQUESTS_A_DAY]
    header = ["requests a day", "peak a second", "pods", "CPUs", "$ a month"]
    header.append("$ a million requests")
    tables = {
        "measured": (
            ["connections", "requests a second", "CPU ms a request", "p50 ms", "p99 ms"],
            [[name, *map(rounded, found.values())] for name, found in medians.items()],
        ),
        "even_times": (
            ["requests at even times", "answered a second", "p50 ms", "p99 ms"],
            [
                [f"{float(share):.0%} of {rounded(rate)} a second"]
                + [rounded(turn[key]) for key in ("good", "p50", "p99")]
                for share, turn in seen["even_times"].items()
            ],
        ),
        "plans": (header, [plan.row() for plan in plans]),
    }
    return SECTION.format(
        **{name: "\n".join(table_lines(*table)) for name, table in tables.items()},
        **asdict(given),
        trial="Trial run: the numbers mean nothing.\n\n" if seen["quick"] else "",
        machine=seen["machine"],
        load_average=seen["load_average"],
        rate=rounded(rate),
        used=rounded(used),
        core=rounded(core),
        requests=plans[-1].requests,
        day=SECONDS_A_DAY,
        month=DAYS_A_MONTH,
        mean=rounded(plans[-1].mean),
        busiest=rounded(plans[-1].peak),
        pod=rounded(pod),
        pods_needed=plans[-1].pods,
        cost=DAYS_A_MONTH * plans[-1].cost,
    )


def main() -> None:
    """Read the measurements, and print the section."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, help="written by serving.py --json")
    for name, value in vars(Assumptions()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help="(%(default)s)")
    options = parser.parse_args()
    given = Assumptions(**{name: getattr(options, name) for name in vars(Assumptions())})
    print_line(section(json.loads(options.file.read_text(encoding="utf-8")), given))


if __name__ == "__main__":
    main()
