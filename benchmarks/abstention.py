"""Measure how well each rule of abstention refuses out-of-scope texts.

python benchmarks/abstention.py [--data FOLDER] [--work FOLDER] [--sets …] [--seeds N]

The test of HINT3's sofmattress has out-of-scope questions from users. In SNIPS and Hinglish TOP,
all rare intents and two frequent ones, chosen by the seed, occur in the test only. Models see no
out-of-scope text before the test. Each threshold answers `--coverage` of the validation texts;
peers use their best threshold on the test. AUROC needs no threshold.

Rerun after an interruption: the work folder keeps finished steps.
"""

import argparse
import csv
import json
import random
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import machine, print_line, print_table
from sklearn.metrics import roc_auc_score

from saarthi_lib import logs, steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.evaluation.abstention import calibrate, familiarity_of
from saarthi_lib.evaluation.evaluate import predict_table
from saarthi_lib.evaluation.selective import (
    fit_temperature,
    out_of_scope_metrics,
    threshold_at_coverage,
)
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.runs.train import train

Floats = npt.NDArray[np.floating]

COMMON = {
    "task": "intent_classification",
    "unknown_labels": "keep",
    "teacher_ensemble": 1,  # the teacher is measured as a bundle
    "data_check": "nothing",  # few rows: findings are reported, not refused
}
HINT3 = "hint3_sofmattress"
WITH_INTENTS = (HINT3, "snips_en", "hinglish_top")
LEFT_OUT, ROWS_AN_INTENT, FREQUENT, VALIDATION_ROWS = 2, 40, 60, 120
FIGURES = ("mcc", "in_scope_accuracy", "oos_recall", "accuracy", "best_in_scope_accuracy", "auroc")


def main() -> None:
    """Train, measure every rule on every model, and print one table per set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("runs/abstention"))
    parser.add_argument("--sets", nargs="+", choices=WITH_INTENTS, default=WITH_INTENTS)
    parser.add_argument("--teacher", help="teacher of all sets; default: by the recipe")
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--size", type=int, default=4000, help="augmented sentences")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed; the metrics mean nothing")
    arguments = parser.parse_args()
    logs.configure()
    print_line(machine())
    for name in arguments.sets:
        if not (arguments.data / name).is_dir():
            print_line(f"{name}: skipped, there is no {arguments.data / name}")
            continue
        teacher = {"teacher_name": arguments.teacher} if arguments.teacher else {}
        found: dict[tuple[str, str], list[dict[str, float]]] = {}
        for seed in range(1 if arguments.quick else arguments.seeds):
            source = arguments.data / name
            folder = arguments.work / f"{name}-{arguments.teacher or 'auto'}-{seed}"
            if name != HINT3:
                source = leave_intents_out(source, folder / "input", seed)
            config = TrainConfig.from_mapping(
                COMMON
                | teacher
                | {
                    "input_path": str(source),
                    "root_output_path": str(folder / "run"),
                    "augmentation_size": arguments.size,
                    "seed": 42 + seed,
                    "fast_dev_run": arguments.quick,
                    "abstention_coverage": arguments.coverage,
                }
            )
            for model, bundle in bundles(config, folder).items():
                for rule, figures in measure(config, bundle).items():
                    found.setdefault((model, rule), []).append(figures)
        report(name, found, arguments)


def leave_intents_out(source: Path, target: Path, seed: int) -> Path:
    """Write a set with few rows of its frequent intents, and with two of them in the test only.

    Without a test file, the validation file becomes the test, and validation is cut from train.
    """
    splits = {
        file.stem: [json.loads(line) for line in file.open(encoding="utf-8")]
        for file in source.glob("*.jsonl")
    }
    count = Counter(row["intent"] for row in splits["train"])
    intents = sorted(intent for intent, rows in count.items() if rows >= FREQUENT)
    out = {intents[(LEFT_OUT * seed + place) % len(intents)] for place in range(LEFT_OUT)}
    draw = random.Random(seed)
    draw.shuffle(splits["train"])
    of_intent = {
        intent: [row for row in splits["train"] if row["intent"] == intent]
        for intent in intents
        if intent not in out
    }
    if "test" not in splits:
        splits["test"] = splits["validation"]
        splits["validation"] = [row for rows in of_intent.values() for row in rows[ROWS_AN_INTENT:]]
    validation = [row for row in splits["validation"] if row["intent"] in of_intent]
    draw.shuffle(validation)
    kept = {
        "train": [row for rows in of_intent.values() for row in rows[:ROWS_AN_INTENT]],
        "validation": validation[:VALIDATION_ROWS],
        "test": splits["test"],
    }
    target.mkdir(parents=True, exist_ok=True)
    for split, rows in kept.items():
        lines = [json.dumps({key: row[key] for key in ("text", "intent", "lang")}) for row in rows]
        (target / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def bundles(config: TrainConfig, folder: Path) -> dict[str, Path]:
    """Train, or reuse finished steps; returns the bundles of the teacher and the int8 student."""
    root = train(config)
    config = steps.resolved(config, root / "data")
    exported = folder / "teacher"
    if not (exported / "step.json").is_file():
        teacher = steps.TrainedNetwork("teacher", root / config.teacher_output_folder)
        steps.export(config, root / "data", teacher, exported)
    return {"teacher": exported / "bundle", "student, int8": root / "bundle-int8"}


def measure(config: TrainConfig, bundle: Path) -> dict[str, dict[str, float]]:
    """HINT3's metrics on the test, for each rule."""
    prepared = Prepared(Path(config.root_output_path) / "data")
    validation, test = prepared.table("validation"), prepared.table("test")
    names, predictor = list(prepared.labels.sequence), Predictor.load(bundle)
    inside = np.array([label in set(names) for label in test["label"]])
    found: dict[str, dict[str, float]] = {}

    def note(rule: str, predicted: list[str], confidence: Floats, threshold: float) -> None:
        silent = (confidence < threshold).tolist()
        found[rule] = out_of_scope_metrics(list(test["label"]), predicted, silent, names)
        found[rule]["auroc"] = float(roc_auc_score(inside, confidence))

    logits = [
        np.stack([row for row, _ in predictor.logits(list(table["text"])) if row is not None])
        for table in (validation, test)
    ]
    gold = np.array([names.index(label) for label in validation["label"]])
    temperature = fit_temperature(logits[0], gold)
    best = [names[index] for index in logits[1].argmax(axis=1)]
    for rule, confidence_of in SCORES.items():
        chosen, asked = (confidence_of(values / temperature) for values in logits)
        note(rule, best, asked, threshold_at_coverage(chosen, config.abstention_coverage))
    for rule in ("probability", "familiarity"):
        silent = calibrate(
            predictor,
            familiarity_of(prepared.encoded("train"), prepared.labels),
            validation,
            prepared.encoded("validation"),
            config.model_copy(update={"abstention": rule}),
        )
        answers, predictions = predict_table(silent, test)
        confidence = np.array([answer.confidence for answer in predictions])
        threshold = silent.manifest.threshold
        note(f"abstention: {rule}", list(answers.labels), confidence, threshold or 0.0)
    return found


def _margin(logits: Floats) -> Floats:
    ranked = np.sort(_softmax(logits), axis=1)
    margin: Floats = ranked[:, -1] - ranked[:, -2]
    return margin


def _energy(logits: Floats) -> Floats:
    top = logits.max(axis=1)
    energy: Floats = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return energy


def _negative_entropy(logits: Floats) -> Floats:
    weights = _softmax(logits)
    entropy: Floats = (weights * np.log(weights + 1e-12)).sum(axis=1)
    return entropy


def _softmax(logits: Floats) -> Floats:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = weights / weights.sum(axis=1, keepdims=True)
    return probabilities


# Candidate scores that bundles do not offer, from logits divided by the temperature.
SCORES: dict[str, Callable[[Floats], Floats]] = {
    "margin": _margin,
    "entropy": _negative_entropy,
    "energy": _energy,
}


def report(
    name: str,
    found: dict[tuple[str, str], list[dict[str, float]]],
    arguments: argparse.Namespace,
) -> None:
    """Print means over the seeds, the range of the MCC, and the peers, if the data name some."""
    if arguments.quick:
        print_line("one seed, a trial run: the metrics mean nothing")
    rows = [[*key, *_cells(figures)] for key, figures in found.items()]
    peers = arguments.data / "hint3_peers.csv"
    if name == HINT3 and peers.is_file():
        with peers.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                cells = [f"{float(row[figure]):.3f}" for figure in FIGURES[:-1]]
                rows.append([row["system"], "its best on the test", cells[0], "", *cells[1:], ""])
    seeds = len(next(iter(found.values())))
    print_table(
        f"{name}: {seeds} seeds, at {arguments.coverage:.0%} of validation",
        ["model", "abstains by", "MCC", "range", *[each.replace("_", " ") for each in FIGURES[1:]]],
        rows,
    )


def _cells(figures: Sequence[dict[str, Any]]) -> list[str]:
    means = [f"{statistics.mean(each[name] for each in figures):.3f}" for name in FIGURES]
    scores = [each["mcc"] for each in figures]
    return [means[0], f"{min(scores):.3f}-{max(scores):.3f}", *means[1:]]


if __name__ == "__main__":
    main()
