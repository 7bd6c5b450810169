"""Write docs/capacity.md: capacity of a core and of pods, and pods and cost for a day's requests.

python benchmarks/serving.py --json runs/serving.json
python benchmarks/capacity.py runs/serving.json [--output docs/capacity.md] [--price DOLLARS]
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
PAGE = """\
# Capacity

Written by `benchmarks/capacity.py` from a run of `benchmarks/serving.py`; do not edit it.

## Measured

{trial}{machine}. Load average before the run: {load_average:.2f}. One server, `POST /predict`, \
one text per request, the client on the same machine.

{measured}

{even_times}

## Capacity of a pod

At its best, one server answers {rate} requests a second with {used} CPUs.

{carried}

## Pods and cost

{plans}

The last line: {requests:,} / {day:,} = {mean} a second; × {peak:g} = {busiest} at the peak; \
/ ({pod} × {utilization:g}) = {pods_needed:,} pods; × {cpus:g} CPU × 24 h × ${price:g} = \
${cost:,.2f} a day.

## Assumptions

- The busiest second has {peak:g} times the mean of the day (`--peak`).
- A pod is planned to reach {utilization:.0%} of its capacity at the peak (`--utilization`). The \
rest is for bursts, and for a pod that is being replaced.
- A pod has {cpus:g} CPU (`--cpus`). Its capacity grows with its CPUs, up to the CPUs that one \
server can use. Pods share nothing, so ten pods have ten times the capacity.
- At least {pods} pods run (`--pods`). All pods for the peak run all day; autoscaling would only \
save.
- A CPU with its memory costs ${price:g} an hour (`--price`). This is an example, not an offer; \
use your own price. A month has {month} days. Traffic, load balancers, logs and the cluster itself \
are not counted.
- The CPUs of the cluster are as fast as the CPU above, and texts are as long as the texts of the \
benchmark. The client used CPU time of the same machine, so the real capacity is higher.
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
            rounded(self.mean),
            rounded(self.peak),
            f"{self.pods:,}",
            f"{self.pods * self.given.cpus:,g}",
            f"{self.cost:,.2f}",
            f"{DAYS_A_MONTH * self.cost:,.2f}",
            rounded(self.cost / self.requests * 10**6),
        ]


def page(seen: dict[str, Any], given: Assumptions) -> str:
    """The page, in Markdown."""
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
    carried = {"one core": core, f"one pod ({given.cpus:g} CPU)": pod, "ten pods": 10 * pod}
    plans = [Plan(requests, pod, given) for requests in REQUESTS_A_DAY]
    header = ["requests a day", "mean a second", "peak a second", "pods", "CPUs"]
    header += ["$ a day", "$ a month", "$ a million requests"]
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
        "carried": (
            ["", "requests a second, at most", f"planned, at {given.utilization:.0%}"],
            [[n, rounded(r), rounded(r * given.utilization)] for n, r in carried.items()],
        ),
        "plans": (header, [plan.row() for plan in plans]),
    }
    return PAGE.format(
        **{name: "\n".join(table_lines(*table)) for name, table in tables.items()},
        **asdict(given),
        trial="Trial run: the numbers mean nothing.\n\n" if seen["quick"] else "",
        machine=seen["machine"],
        load_average=seen["load_average"],
        rate=rounded(rate),
        used=rounded(used),
        requests=plans[-1].requests,
        day=SECONDS_A_DAY,
        month=DAYS_A_MONTH,
        mean=rounded(plans[-1].mean),
        busiest=rounded(plans[-1].peak),
        pod=rounded(pod),
        pods_needed=plans[-1].pods,
        cost=plans[-1].cost,
    )


def main() -> None:
    """Read the measurements, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, help="written by serving.py --json")
    parser.add_argument("--output", type=Path, help="default: the page is printed")
    for name, value in vars(Assumptions()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help="(%(default)s)")
    options = parser.parse_args()
    given = Assumptions(**{name: getattr(options, name) for name in vars(Assumptions())})
    text = page(json.loads(options.file.read_text(encoding="utf-8")), given)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print_line(text)


if __name__ == "__main__":
    main()
