"""Measure requests a second and latency of our server, a plain service and KServe with a constant.

python benchmarks/serving.py [BUNDLE] [--rounds N] [--seconds S] [--json FILE] [--quick]

All servers run at the same time and take turns; the client is a process of its own. Then our server
gets requests at even times, below and above its capacity, while its health is asked.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from common import (
    ROOT,
    begin,
    machine,
    median_and_range,
    median_ratio,
    parser_of,
    print_table,
    rounded,
)
from load_client import Load, Summary
from networks import Demo, add_bundle_option
from servers import TEXTS, Route, Server, free_port, our_server, running, under_load

from saarthi_lib.bundle import read_manifest
from saarthi_lib.export import torchscript

CONNECTIONS = (1, 8, 32, 128)
SHARES = (0.7, 1.0, 2.0)  # of the capacity
PLAIN, CONSTANT, OURS = "plain", "kserve-constant", "ours, /predict"
Turns = dict[tuple[int, str], list[Summary]]


def main() -> None:
    """Measure, and print the tables."""
    parser = parser_of(__doc__)
    add_bundle_option(parser)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn (%(default)s)")
    parser.add_argument("--json", type=Path, help="write results to this file, for capacity.py")
    options = begin(parser)
    if options.quick:
        options.rounds, options.seconds = 1, 0.5
    load_average = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        server, routes = start_all(options, Path(folder), stack)
        turns = compare(routes, options.rounds, options.seconds)
        ours = {connections: turns[connections, OURS] for connections in CONNECTIONS}
        capacity = max(statistics.median(each["good"] for each in seen) for seen in ours.values())
        route = next(route for route in routes if route.name == OURS)
        even = at_even_times(server, route, capacity, 5 * options.seconds)
    if options.json:
        content = {
            "machine": machine(),
            "load_average": load_average,
            "quick": options.quick,
            "ours": ours,
            "even_times": even,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def start_all(
    options: argparse.Namespace, folder: Path, stack: ExitStack
) -> tuple[Server, list[Route]]:
    """Start all servers; returns ours, and the ways to ask each."""
    demo = Demo(folder, options.quick)
    reference = demo.bundle()
    bundle = (options.bundle or reference).resolve()
    classic = folder / "classic.pt"
    torchscript.export_student(demo.student("lstm", "base"), classic, "float32")
    predict = [json.dumps({"text": text}) for text in TEXTS]
    v1 = [json.dumps({"instances": [text]}) for text in TEXTS]
    tensors = [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [t]} for t in TEXTS]
    v2 = [json.dumps({"inputs": [tensor]}) for tensor in tensors]
    routes = []
    for kind, path, bodies in (
        (PLAIN, "/predict", predict),
        (CONSTANT, "/v1/models/model:predict", v1),
    ):
        port, script = free_port(), ROOT / "benchmarks" / "other_services.py"
        process = stack.enter_context(running(script, kind, port, reference, classic))
        routes.append(Route(kind, process, Load(port, path, bodies)))
    model, ours = read_manifest(bundle).name, stack.enter_context(our_server(bundle))
    over_grpc = Load(ours.grpc_port, "", TEXTS, grpc_model=model)
    routes += [
        ours.route(OURS, "/predict", predict),
        ours.route("ours, V1", f"/v1/models/{model}:predict", v1),
        ours.route("ours, V2", f"/v2/models/{model}/infer", v2),
    ]
    for route in routes:
        route.wait()
    return ours, [*routes, Route("ours, gRPC", ours.process, over_grpc)]


def compare(routes: list[Route], rounds: int, seconds: float) -> Turns:
    """Ask all routes in turn, and print a table for each number of connections."""
    turns: Turns = defaultdict(list)
    for _ in range(rounds):
        for connections in CONNECTIONS:
            for route in routes:
                turns[connections, route.name].append(route.ask(connections, seconds))
    header = ["server", "requests a second", "times plain", "times KServe's constant"]
    header += ["p50 ms", "p95 ms", "p99 ms"]
    for connections in CONNECTIONS:
        good = {
            route.name: [each["good"] for each in turns[connections, route.name]]
            for route in routes
        }
        rows = []
        for name, rates in good.items():
            seen = turns[connections, name]
            row = [name, median_and_range(rates)]
            row += [median_ratio(rates, good[reference]) for reference in (PLAIN, CONSTANT)]
            row += [
                rounded(statistics.median(values))
                for values in zip(*((e["p50"], e["p95"], e["p99"]) for e in seen), strict=True)
            ]
            rows.append(row)
        print_table(f"{connections} connections", header, rows)
    return turns


def at_even_times(
    server: Server, route: Route, capacity: float, seconds: float
) -> dict[float, Summary]:
    """Ask at shares of the capacity, and print the table."""
    rows, measured = [], {}
    for share in SHARES:
        rate = share * capacity
        seen, checks, _ = under_load(server, route, CONNECTIONS[-1], seconds, rate=rate)
        measured[share] = seen
        cells = [seen["good"], seen["p50"], seen["p99"], checks["p99"], checks["max"]]
        name = f"{share:.0%} of {rounded(capacity)} a second"
        rows.append([name, f"{seen['good'] / capacity:.0%}", *map(rounded, cells)])
    header = ["ours, /predict", "answered, of capacity", "answered a second", "p50 ms", "p99 ms"]
    print_table("At even times", [*header, "health p99 ms", "health maximum ms"], rows)
    return measured


if __name__ == "__main__":
    main()
