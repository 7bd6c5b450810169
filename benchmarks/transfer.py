"""Measure the gain from the transfer set: students of few labelled rows, with and without it.

python benchmarks/transfer.py [--data FOLDER] [--sets …] [--teacher minilm] [--seeds N]

Students learn from the labels alone, by distillation on the training text alone, or by distillation
with augmented sentences. A seed decides the draw of the few rows, augmentation and training.
"""

import tempfile
from pathlib import Path
from typing import Any

from common import add_data_options, begin, parser_of, points, print_line, print_table, sets_in

from saarthi_lib import train
from saarthi_lib.storage import read_json

# Folder and fields of a set.
SETS: dict[str, tuple[str, dict[str, Any]]] = {
    "hint3_sofmattress": ("hint3_sofmattress", {"unknown_labels": "keep"}),
    "snips_en, 10 per class": ("snips_en", {"few_shot": 10}),
    "snips_en, 50 per class": ("snips_en", {"few_shot": 50}),
}
COMMON = {
    "task": "intent_classification",
    "precision": 32,
    "language": "english",
    "teacher_ensemble": 1,
    "teacher_epochs": 20,
    "teacher_early_stopping_patience": 5,
    "student_preset": "small",
    "explained_errors": 0,
}
# Without transfer text, an epoch has few steps: many epochs with small batches.
SMALL = {
    "augmentation_size": 0,
    "student_epochs": 150,
    "student_batch_size": 16,
    "student_early_stopping_patience": 20,
}
LARGE = {
    "augmentation_size": 8000,
    "student_epochs": 15,
    "student_batch_size": 128,
    "student_early_stopping_patience": 3,
}
ARMS: dict[str, dict[str, Any]] = {
    "labels alone": {**SMALL, "distillation_stages": [4, 5]},
    "distilled, training text": SMALL,
    "distilled, augmented": LARGE,
}


def main() -> None:
    """Train the models of each set and seed, and print a table for each set."""
    parser = parser_of(__doc__)
    add_data_options(parser, SETS)
    parser.add_argument("--teacher", default="minilm", help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="(%(default)s)")
    options = begin(parser)
    for name in options.sets or SETS:
        folder, fields = SETS[name]
        if not sets_in(options.data, [folder]):
            continue
        given = COMMON | fields | {"input_path": str(options.data / folder)}
        given |= {"teacher_name": options.teacher, "fast_dev_run": options.quick}
        scores: dict[str, list[float]] = {"teacher": [], **{arm: [] for arm in ARMS}}
        for seed in range(1 if options.quick else options.seeds):
            for arm, settings in ARMS.items():
                with tempfile.TemporaryDirectory() as root:
                    places = {"root_output_path": str(Path(root) / "run"), "seed": 42 + seed}
                    metrics = read_json(train(given | settings | places) / "metrics.json")
                scores[arm].append(metrics["student"]["final"]["main"])
                print_line(f"{name}, seed {42 + seed}, {arm}: {points(scores[arm][-1:])}")
            scores["teacher"].append(metrics["teacher"]["main"])  # of the last arm
        rows = [[model, points(values)] for model, values in scores.items()]
        title = f"{name}: in-scope test accuracy, {options.teacher}"
        print_table(title, ["model", "mean (range)"], rows)


if __name__ == "__main__":
    main()
