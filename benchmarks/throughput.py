"""Sentences a second on one thread: batches of 32, and many texts of mixed lengths.

.venv/bin/python benchmarks/throughput.py [--quick]

Ours against the classic student, which pads all texts, and the teacher; random weights, the
library's own predictor, all in turn in one run. `--quick` only shows that the script works.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import floor
from common import machine, median_and_spread, print_line, print_table, timed_in_turn
from contenders import CLASSIC, MAX_SEQ_LEN, TEACHER, Contender, Demo, line_up

BATCH = 32  # also that of the predictor, when it is given more
STREAM = 4 * BATCH
ROUNDS = 5
BUDGET = 0.2  # seconds of a turn
REFERENCES = {"classic student": CLASSIC, "teacher": f"{TEACHER}, eager float32"}
HEADER = (
    "network",
    "sentences a second",
    *(f"times faster than {name}" for name in REFERENCES),
    "floor's",
    "floor reached",
)


def main() -> None:
    """Measure and print."""
    quick = "--quick" in sys.argv[1:]
    rounds, budget = (2, 0.0) if quick else (ROUNDS, BUDGET)
    print_line(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo = Demo(folder)
        contenders = line_up(demo, folder, quick, (TEACHER,))
    if quick:
        print_line("QUICK: a teacher of one layer and too few calls; the figures mean nothing.")
    full = [MAX_SEQ_LEN] * BATCH
    mixed = [1 + number % MAX_SEQ_LEN for number in range(STREAM)]
    _compare(
        f"A batch of {BATCH} texts of {MAX_SEQ_LEN} pieces", demo, contenders, full, rounds, budget
    )
    _compare(
        f"{STREAM} texts of 1 to {MAX_SEQ_LEN} pieces at once",
        demo,
        contenders,
        mixed,
        rounds,
        budget,
    )


def _compare(
    title: str,
    demo: Demo,
    contenders: list[Contender],
    lengths: list[int],
    rounds: int,
    budget: float,
) -> None:
    """Time all on texts of these lengths and print the table."""
    drawn = {pieces: demo.texts(pieces, BATCH) for pieces in set(lengths)}
    texts = [drawn[pieces][number % BATCH] for number, pieces in enumerate(lengths)]

    def predict(contender: Contender, _: int) -> object:
        return contender.predictor.predict(texts)

    def tokenize(_: int) -> object:
        return demo.tokenizer.encode_texts(texts, MAX_SEQ_LEN)

    calls = {c.name: partial(predict, c) for c in contenders} | {"tokenization": tokenize}
    seconds = {
        name: [median(turn) for turn in turns]
        for name, turns in timed_in_turn(calls, rounds, budget, least=1).items()
    }
    rows = []
    for contender in contenders:
        mine = seconds[contender.name]
        row = [contender.name, median_and_spread([len(texts) / taken for taken in mine])]
        row += [
            median_and_spread([a / b for a, b in zip(seconds[reference], mine, strict=True)])
            for reference in REFERENCES.values()
        ]
        if contender.shape is None:
            row += ["", ""]
        else:
            ordered = sorted(lengths)
            batches = [ordered[first : first + BATCH] for first in range(0, len(ordered), BATCH)]
            least = min(seconds["tokenization"]) + sum(
                floor.seconds(contender.shape, contender.precision, batch) for batch in batches
            )
            row += [f"{len(texts) / least:.0f}", f"{100 * least / min(mine):.0f}%"]
        rows.append(row)
    print_table(f"{title}, one thread", HEADER, rows)
    tokenized = [len(texts) / taken for taken in seconds["tokenization"]]
    print_line(
        f"\nMedian (least-greatest) of {rounds} turns. Tokenization, a part of each floor: "
        f"{median_and_spread(tokenized)} sentences a second. The floor is of least times: it "
        "is held against the best turn."
    )


if __name__ == "__main__":
    main()
