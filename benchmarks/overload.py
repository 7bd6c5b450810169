"""Measure a server above its capacity: answers in time, latency, refusals, memory.

python benchmarks/overload.py [BUNDLE] [--seconds S] [--quick]

Requests have 32 texts and a deadline of a second. The capacity is measured first. Then requests
arrive at even times at multiples of it, while the server's health is asked.
"""

import json
import tempfile
from pathlib import Path

from common import begin, parser_of, print_line, print_table, rounded
from load_client import Summary
from networks import add_bundle_option, bundle_of
from servers import TEXTS, our_server, under_load

from saarthi_lib.bundle import read_manifest

TEXTS_A_REQUEST = 32
CONNECTIONS = 400
MULTIPLES = (0.5, 1.0, 2.0, 5.0, 10.0)
DEADLINE = 1.0  # seconds
HEADER = (
    *("requests", "requests a second", "answered in time a second", "of capacity", "p50 ms"),
    *("p99 ms", "not answered", "health p99 ms", "most MB"),
)


def main() -> None:
    """Measure, and print the table."""
    parser = parser_of(__doc__)
    add_bundle_option(parser)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each (%(default)s)")
    options = begin(parser)
    seconds = 1.0 if options.quick else options.seconds
    with tempfile.TemporaryDirectory() as folder:
        bundle = bundle_of(options, Path(folder))
        texts = (TEXTS * TEXTS_A_REQUEST)[:TEXTS_A_REQUEST]
        bodies = [json.dumps({"instances": texts[n:] + texts[:n]}) for n in range(len(TEXTS))]
        path = f"/v1/models/{read_manifest(bundle).name}:predict"
        with our_server(bundle, "--max-connections", CONNECTIONS + 50) as server:
            route = server.route("ours", path, bodies)
            route.ask(32, seconds / 2)  # warm-up
            capacity = route.ask(32, seconds)["good"]
            rows = []
            for multiple in MULTIPLES:
                rate = multiple * capacity
                load = {"rate": rate, "patience": DEADLINE}
                measured = under_load(server, route, CONNECTIONS, seconds, **load)
                rows.append(row(f"{multiple:g} ×", rate, capacity, *measured))
            measured = under_load(server, route, 8, seconds / 2)
            rows.append(row("afterwards", measured[0]["good"], capacity, *measured))
    title = f"Capacity: {rounded(capacity)} requests of {TEXTS_A_REQUEST} texts a second"
    print_table(title, HEADER, rows)
    print_line(
        "\n503 and 504: refused by the server; unsent: all connections of the client were waiting. "
        "p50 and p99 are those of answers in time."
    )


def row(
    name: str, rate: float, capacity: float, seen: Summary, checks: Summary, megabytes: float
) -> list[str]:
    """A row of the table."""
    others = {status: count for status, count in seen["statuses"].items() if status != "200"}
    missing = ", ".join(f"{status}: {count}" for status, count in sorted(others.items()) if count)
    return [
        name,
        rounded(rate),
        rounded(seen["good"]),
        f"{seen['good'] / capacity:.0%}",
        rounded(seen["good_p50"]),
        rounded(seen["good_p99"]),
        missing or "–",
        rounded(checks["p99"]),
        rounded(megabytes),
    ]


if __name__ == "__main__":
    main()
