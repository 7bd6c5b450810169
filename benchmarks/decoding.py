"""Effect of counted tag transitions, on finished runs of benchmarks/quality.py.

python benchmarks/decoding.py [--work FOLDER] [--split validation]

Each teacher and its int8 student of five stages answer a split twice: by the best tags of all that
are legal, and with what the transitions cost (`saarthi_lib.tasks.Labels.transitions`).
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from common import figure, machine, print_line, print_table
from quality import FIVE, INT8, TEACHER, points

from saarthi_lib import logs, steps
from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.evaluation.evaluate import evaluate_table, one_thread
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.tasks import uses_bio

ROUNDS = 5


def main() -> None:
    """Print a row for each set and model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="of quality.py")
    parser.add_argument("--split", default="validation", choices=["train", "validation", "test"])
    arguments = parser.parse_args()
    logs.configure()
    print_line(machine())
    rows = [
        row
        for folder in sorted(path for path in arguments.work.glob("*") if path.is_dir())
        for row in of_set(folder, arguments.split)
    ]
    header = ["set", "model", "seeds", "rows", "span F1, legal", "span F1, with costs"]
    header += ["main, legal", "main, with costs", "answer takes, times"]
    print_table(f"Which tags follow which, {arguments.split}", header, rows)


def of_set(folder: Path, split: str) -> list[list[str]]:
    """The rows of a set: its models' means over the seeds that have finished."""
    found: dict[str, list[tuple[list[dict[str, Any]], float]]] = {}
    examples: list[int] = []
    for run in sorted(folder.glob("seed-*")):
        for model, predictor in predictors_of(run):
            table = Prepared(run / "data").table(split)
            examples.append(len(table))
            found.setdefault(model, []).append(compared(predictor, table))
    return [
        [
            folder.name,
            model,
            str(len(results)),
            f"{statistics.mean(examples):.0f}",
            *(points([both[i]["span_f1"] for both, _ in results]) for i in (0, 1)),
            *(points([both[i]["main"] for both, _ in results]) for i in (0, 1)),
            figure(statistics.median(ratio for _, ratio in results)),
        ]
        for model, results in found.items()
    ]


def predictors_of(run: Path) -> Iterator[tuple[str, Predictor]]:
    """The models of a seed that has come to its end, where its tags are BIO."""
    bundle = run / FIVE.replace(" ", "-") / "quantised" / "bundle"
    if not bundle.is_dir():
        return
    student = Predictor.load(bundle)
    if not uses_bio(student.task):
        return
    yield TEACHER, steps.network_predictor(run / "data", run / "teacher", "teacher")
    yield INT8, student


def compared(predictor: Predictor, table: pd.DataFrame) -> tuple[list[dict[str, Any]], float]:
    """Metrics by legal tags and with costs, and how much longer an answer takes by the latter."""
    with_costs = predictor.labels
    both = (replace(with_costs, following={}), with_costs)
    metrics = []
    for predictor.labels in both:
        metrics.append(evaluate_table(predictor, table)[0])
    texts, spent = list(table["text"])[:100], [[0.0] * ROUNDS for _ in both]
    with one_thread():
        for turn in range(ROUNDS):
            for seconds, predictor.labels in zip(spent, both, strict=True):
                start = time.perf_counter()
                for text in texts:
                    predictor.predict([text])
                seconds[turn] = time.perf_counter() - start
    ratio = statistics.median(b / a for a, b in zip(*spent, strict=True))
    return metrics, ratio


if __name__ == "__main__":
    main()
