"""Measure latency and throughput on one thread, from text to answer.

python benchmarks/latency.py [--quick]

Students of every family, size, engine and precision, the classic student (which pads all texts) and
two transformers take turns. All have random weights, one tokenizer and the library's predictor.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median

import numpy as np
from common import (
    begin,
    median_and_range,
    median_ratio,
    parser_of,
    print_table,
    rounded,
    timed_in_turn,
)
from networks import CLASSIC, MAX_SEQ_LEN, TEACHER, XLMR, Demo, Network, Texts

LENGTHS = (8, 26)  # tokens of a text at batch size 1
STREAM = 128  # texts of mixed length in one call
ROUNDS, BUDGET = 9, 0.12  # turns of a network, and seconds of a turn
REFERENCES = {"classic student": CLASSIC, "XLM-R base": XLMR, "teacher": TEACHER}


def main() -> None:
    """Measure, and print a table for each workload."""
    arguments = begin(parser_of(__doc__))
    rounds, budget = (2, 0.005) if arguments.quick else (ROUNDS, BUDGET)
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(Path(folder), arguments.quick)
        texts, networks = Texts(demo.data), list(demo.networks())
    for tokens in LENGTHS:
        single = [[text] for text in texts.of(tokens, 20)]
        compare(f"Texts of {tokens} tokens, batch size 1", networks, single, rounds, budget)
    mixed = [texts.of(1 + number % MAX_SEQ_LEN, 1)[0] for number in range(STREAM)]
    title = f"{STREAM} texts of 1 to {MAX_SEQ_LEN} tokens in one call"
    compare(title, networks, [mixed], rounds, budget)


def compare(
    title: str, networks: Sequence[Network], inputs: list[list[str]], rounds: int, budget: float
) -> None:
    """Time all networks on the same inputs, and print the table."""

    def predict(network: Network, number: int) -> object:
        return network.predictor.predict(inputs[number % len(inputs)])

    calls: dict[str, Callable[[int], object]] = {
        network.name: partial(predict, network) for network in networks
    }
    seconds = timed_in_turn(calls, rounds, budget)
    p50 = {name: [1000 * median(turn) for turn in turns] for name, turns in seconds.items()}
    rows = []
    for network in networks:
        own = p50[network.name]
        p99 = 1000 * np.percentile(list(chain(*seconds[network.name])), 99)
        rows.append(
            [
                network.name,
                median_and_range(own),
                rounded(float(p99)),
                f"{1000 * len(inputs[0]) / median(own):,.0f}",
                rounded(network.bytes / 1e6) if network.bytes else "",
                *(median_ratio(p50[reference], own) for reference in REFERENCES.values()),
            ]
        )
    header = ["network", "p50 ms", "p99 ms", "sentences a second", "MB"]
    header += [f"times faster than {name}" for name in REFERENCES]
    print_table(f"{title}, one thread, {rounds} rounds", header, rows)


if __name__ == "__main__":
    main()
