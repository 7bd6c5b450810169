"""Measure how well each rule of abstention detects out-of-scope texts.

python benchmarks/abstention.py [--data FOLDER] [--work FOLDER] [--sets …] [--seeds N]

The test of HINT3's sofmattress has out-of-scope questions from users. In SNIPS and Hinglish TOP,
all rare intents and two frequent ones, chosen by the seed, occur in the test only. Models see no
out-of-scope text before the test. Each threshold answers `--coverage` of the validation texts.
AUROC needs no threshold.

Rerun after an interruption: the work folder keeps finished steps.
"""

import argparse
import json
import random
from collections import Counter
from pathlib import Path
from statistics import mean

import numpy as np
import numpy.typing as npt
from common import add_data_options, begin, parser_of, print_table, sets_in
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.metrics import roc_auc_score

from saarthi_lib import steps
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
Metrics = dict[str, float]

COMMON = {
    "task": "intent_classification",
    "unknown_labels": "keep",
    "teacher_ensemble": 1,  # the teacher is measured as a bundle
    "data_check": "nothing",
}
HINT3 = "hint3_sofmattress"
SETS = (HINT3, "snips_en", "hinglish_top")
LEFT_OUT, ROWS_AN_INTENT, FREQUENT, VALIDATION_ROWS = 2, 40, 60, 120
METRICS = ("mcc", "in_scope_accuracy", "oos_recall", "accuracy", "best_in_scope_accuracy", "auroc")


def main() -> None:
    """Train, measure every rule on every model, and print one table per set."""
    parser = parser_of(__doc__)
    add_data_options(parser, SETS)
    parser.add_argument("--work", type=Path, default=Path("runs/abstention"))
    parser.add_argument("--teacher", help="teacher of all sets; default: by the recipe")
    parser.add_argument("--coverage", type=float, default=0.9, help="(%(default)s)")
    parser.add_argument("--size", type=int, default=4000, help="augmented sentences (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="(%(default)s)")
    arguments = begin(parser)
    seeds = 1 if arguments.quick else arguments.seeds
    for name, source in sets_in(arguments.data, arguments.sets or SETS).items():
        found: dict[tuple[str, str], list[Metrics]] = {}
        for seed in range(seeds):
            folder = arguments.work / f"{name}-{arguments.teacher or 'auto'}-{seed}"
            given = source if name == HINT3 else leave_intents_out(source, folder / "input", seed)
            config = config_of(given, folder / "run", 42 + seed, arguments)
            for model, bundle in bundles(config, folder).items():
                for rule, metrics in measure(config, bundle).items():
                    found.setdefault((model, rule), []).append(metrics)
        rows = [
            [
                *key,
                f"{min(m['mcc'] for m in runs):.3f}-{max(m['mcc'] for m in runs):.3f}",
                *(f"{mean(m[metric] for m in runs):.3f}" for metric in METRICS),
            ]
            for key, runs in found.items()
        ]
        header = ["model", "abstains by", "MCC, range", *(m.replace("_", " ") for m in METRICS)]
        title = f"{name}: {seeds} seeds, at {arguments.coverage:.0%} of validation"
        print_table(title, header, rows)


def config_of(source: Path, root: Path, seed: int, arguments: argparse.Namespace) -> TrainConfig:
    """The configuration of a run."""
    fields = {
        "input_path": str(source),
        "root_output_path": str(root),
        "augmentation_size": arguments.size,
        "seed": seed,
        "fast_dev_run": arguments.quick,
        "abstention_coverage": arguments.coverage,
    }
    teacher = {"teacher_name": arguments.teacher} if arguments.teacher else {}
    return TrainConfig.from_mapping(COMMON | teacher | fields)


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


def measure(config: TrainConfig, bundle: Path) -> dict[str, Metrics]:
    """HINT3's metrics on the test, for each rule."""
    prepared = Prepared(Path(config.root_output_path) / "data")
    validation, test = prepared.table("validation"), prepared.table("test")
    names, predictor = list(prepared.labels.sequence), Predictor.load(bundle)
    inside = np.array([label in set(names) for label in test["label"]])
    found: dict[str, Metrics] = {}

    def add(rule: str, predicted: list[str], confidence: Floats, threshold: float) -> None:
        abstained = (confidence < threshold).tolist()
        found[rule] = out_of_scope_metrics(list(test["label"]), predicted, abstained, names)
        found[rule]["auroc"] = float(roc_auc_score(inside, confidence))

    logits = [
        np.stack([row for row, _ in predictor.logits(list(table["text"])) if row is not None])
        for table in (validation, test)
    ]
    gold = np.array([names.index(label) for label in validation["label"]])
    temperature = fit_temperature(logits[0], gold)
    best = [names[index] for index in logits[1].argmax(axis=1)]
    scores = [candidate_scores(values / temperature) for values in logits]
    for rule, chosen in scores[0].items():
        threshold = threshold_at_coverage(chosen, config.abstention_coverage)
        add(rule, best, scores[1][rule], threshold)
    for rule in ("probability", "familiarity"):
        calibrated = calibrate(
            predictor,
            familiarity_of(prepared.encoded("train"), prepared.labels),
            validation,
            prepared.encoded("validation"),
            config.model_copy(update={"abstention": rule}),
        )
        answers, predictions = predict_table(calibrated, test)
        confidence = np.array([answer.confidence for answer in predictions])
        threshold = calibrated.manifest.threshold or 0.0
        add(f"abstention: {rule}", list(answers.labels), confidence, threshold)
    return found


def candidate_scores(logits: Floats) -> dict[str, Floats]:
    """Scores that bundles do not offer, from logits divided by the temperature, [texts, labels]."""
    probabilities = softmax(logits, axis=1)
    ranked = np.sort(probabilities, axis=1)
    return {
        "margin": ranked[:, -1] - ranked[:, -2],
        "entropy": (probabilities * log_softmax(logits, axis=1)).sum(axis=1),
        "energy": logsumexp(logits, axis=1),
    }


if __name__ == "__main__":
    main()
