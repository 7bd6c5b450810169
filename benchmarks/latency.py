"""Latency at batch 1 on one thread, text in to answer out: ours, the classic student, transformers.

.venv/bin/python benchmarks/latency.py [--quick]

All have random weights (time does not depend on them), the same trimmed tokenizer and the library's
own predictor around them, and take turns in one run. `--quick` only shows that the script works.
"""

import sys
import tempfile
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median

import floor
import numpy as np
from common import (
    figure,
    machine,
    median_and_spread,
    print_line,
    print_table,
    timed_in_turn,
)
from contenders import CLASSIC, MAX_SEQ_LEN, XLMR, Contender, Demo, line_up, name_of

LENGTHS = (8, 26)
ROUNDS = 9
BUDGET = 0.12  # seconds of a turn
DEFAULT = f"{name_of('lstm', 'small')}, onnxruntime, int8"
REFERENCES = {"classic student": CLASSIC, "XLM-R-base": f"{XLMR}, eager float32"}
GOALS = {"classic student": 30.0, "XLM-R-base": 300.0}
FLOOR_GOAL = 3.0
HEADER = (
    "network",
    "p50 ms",
    "p99 ms",
    "MB",
    *(f"times faster than {name}" for name in REFERENCES),
    "floor ms",
    "floor reached",
)


def main() -> None:
    """Measure and print."""
    quick = "--quick" in sys.argv[1:]
    rounds, budget = (2, 0.005) if quick else (ROUNDS, BUDGET)
    print_line(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo = Demo(folder)
        contenders = line_up(demo, folder, quick)
    if quick:
        print_line("QUICK: transformers of one layer and too few calls; the figures mean nothing.")
    goals = [
        goal for pieces in LENGTHS for goal in _compare(demo, contenders, pieces, rounds, budget)
    ]
    _print_speeds(contenders)
    print_line(f"\nGoals, for {DEFAULT}:\n")
    for goal in goals:
        print_line(f"- {goal}")


def _compare(
    demo: Demo, contenders: list[Contender], pieces: int, rounds: int, budget: float
) -> list[str]:
    """Time all on texts of one length and print the table; returns how the goals stand."""
    texts = demo.texts(pieces)

    def predict(contender: Contender, number: int) -> object:
        return contender.predictor.predict([texts[number % len(texts)]])

    def tokenize(number: int) -> object:
        return demo.tokenizer.encode_text(texts[number % len(texts)], MAX_SEQ_LEN)

    calls = {c.name: partial(predict, c) for c in contenders} | {"tokenization": tokenize}
    seconds = timed_in_turn(calls, rounds, budget)
    p50 = {name: [1000 * median(turn) for turn in turns] for name, turns in seconds.items()}
    tokenization = min(p50["tokenization"])
    rows, goals = [], []
    for contender in contenders:
        mine = p50[contender.name]
        p99 = 1000 * np.percentile(list(chain(*seconds[contender.name])), 99)
        ratios = {
            name: [theirs / own for theirs, own in zip(p50[reference], mine, strict=True)]
            for name, reference in REFERENCES.items()
        }
        row = [contender.name, median_and_spread(mine), figure(float(p99))]
        row.append(figure(contender.size / 1e6) if contender.size else "")
        row += [median_and_spread(ratio) for ratio in ratios.values()]
        if contender.shape is None:
            row += ["", ""]
        else:
            network = floor.seconds(contender.shape, contender.precision, [pieces])
            least = tokenization + 1000 * network
            row += [figure(least), f"{100 * least / min(mine):.0f}%"]
            if contender.name == DEFAULT:
                goals = _goals(pieces, ratios, min(mine) / least)
        rows.append(row)
    print_table(f"Texts of {pieces} pieces, batch 1, one thread", HEADER, rows)
    print_line(
        f"\nMedian (least-greatest) of {rounds} turns. Tokenization, a part of each floor: "
        f"{median_and_spread(p50['tokenization'])} ms. The floor is of least times: it is "
        "held against the least p50."
    )
    return goals


def _goals(pieces: int, ratios: dict[str, list[float]], times_floor: float) -> list[str]:
    lines = [
        f"{pieces} pieces: {figure(median(ratios[name]))} times faster than the {name}, "
        f"goal {goal:.0f}: {_verdict(median(ratios[name]) >= goal)}"
        for name, goal in GOALS.items()
    ]
    return [
        *lines,
        f"{pieces} pieces: {figure(times_floor)} times its floor, goal {FLOOR_GOAL:.0f}: "
        f"{_verdict(times_floor <= FLOOR_GOAL)}",
    ]


def _verdict(reached: bool) -> str:
    return "reached" if reached else "NOT reached"


def _print_speeds(contenders: list[Contender]) -> None:
    """Print what the floors were computed from."""
    peaks = ", ".join(
        f"{floor.peak_operations(precision) / 1e9:.0f} billion operations a second in {precision}"
        for precision in ("float32", "int8")
    )
    print_line(f"\nFloor: tokenization + weights' bytes / bandwidth or operations / peak. {peaks}.")
    blocks = {
        c.name.partition(", onnx")[0] + f", {c.precision}": floor.recurrent_bytes(
            c.shape, c.precision
        )
        for c in contenders
        if c.shape is not None
        and c.precision != "float16"
        and "onnxruntime" in c.name
        and floor.recurrent_bytes(c.shape, c.precision)
    }
    rows = [
        [name, f"{block / 1e3:.0f}", f"{floor.bandwidth(block) / 1e9:.0f}"]
        for name, block in blocks.items()
    ]
    print_table("What each step reads", ("network", "kB, one direction", "bandwidth, GB/s"), rows)


if __name__ == "__main__":
    main()
