"""Learning from noisy labels: real intents, a part of the training labels shuffled.

python benchmarks/noisy_labels.py [--data FOLDER] [--rows N] [--epochs N] [--seeds N] [--student]

Some training rows, as many of each label as their share, are taken out and keep their labels: the
clean rows. Of all others a share is drawn, and their labels are shuffled among them. Validation
and test stay as they are; the epoch is chosen on validation, and each run reads test once.

The arms: `noise` trains on the noisy rows as they are, `noise, clean rows added` on them and the
clean rows alike (what one would do without reweighting), `last_layer` and `full` on the noisy rows
weighed by the clean ones, and `true labels` on the noisy rows with the labels they had.
"""

import argparse
import json
import random
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import figure, machine, median_and_spread, print_line, print_table

from saarthi_lib import logs, steps, train
from saarthi_lib.config import TrainConfig
from saarthi_lib.storage import read_json

DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "snips_en"
SPLITS = ("train", "validation", "test")
Row = dict[str, Any]


@dataclass(frozen=True)
class Splits:
    """The training rows with noise and without, and the rows that were taken out before."""

    noisy: list[Row]
    true: list[Row]
    clean: list[Row]
    validation: list[Row]
    test: list[Row]

    @property
    def wrong(self) -> float:
        """Share of the noisy rows whose label is wrong."""
        pairs = zip(self.noisy, self.true, strict=True)
        return sum(a["label"] != b["label"] for a, b in pairs) / len(self.noisy)


# Each arm: its training rows, and how they are weighed.
ARMS: Mapping[str, tuple[Sequence[str], str]] = {
    "true labels": (["true"], "none"),
    "noise": (["noisy"], "none"),
    "noise, clean rows added": (["noisy", "clean"], "none"),
    "last_layer": (["noisy"], "last_layer"),
    "full": (["noisy"], "full"),
}


def read(path: Path) -> list[Row]:
    """Texts and intents of a file."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [{"text": row["text"], "label": row["intent"], "lang": row["lang"]} for row in rows]


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write JSON lines."""
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def stratified(rows: Sequence[Row], count: int, random_: random.Random) -> set[int]:
    """Positions of about as many rows as asked, of each label by its share."""
    by_label: dict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        by_label[row["label"]].append(position)
    return {
        position
        for _, positions in sorted(by_label.items())
        for position in random_.sample(positions, round(count * len(positions) / len(rows)))
    }


def make_splits(options: argparse.Namespace, seed: int) -> Splits:
    """Draw the rows, take the clean ones out, and shuffle a share of the labels."""
    random_ = random.Random(seed)
    rows, validation, test = (read(options.data / f"{split}.jsonl") for split in SPLITS)
    random_.shuffle(rows)
    rows = rows[: options.rows]
    taken = stratified(rows, options.clean_rows, random_)
    true = [row for position, row in enumerate(rows) if position not in taken]
    chosen = random_.sample(range(len(true)), round(options.noise * len(true)))
    labels = dict(zip(chosen, random_.sample(chosen, len(chosen)), strict=True))
    noisy = [
        {**row, "label": true[labels.get(position, position)]["label"]}
        for position, row in enumerate(true)
    ]
    clean = [rows[position] for position in sorted(taken)]
    return Splits(noisy, true, clean, validation, test)


def measure(
    arm: str, splits: Splits, options: argparse.Namespace, seed: int, folder: Path
) -> dict[str, float]:
    """Run an arm; accuracies, seconds of the teacher's fine-tuning, and what its weights were."""
    parts, reweighting = ARMS[arm]
    source = folder / "input"
    source.mkdir(parents=True)
    write(source / "train.jsonl", (row for part in parts for row in getattr(splits, part)))
    for split in SPLITS[1:]:
        write(source / f"{split}.jsonl", getattr(splits, split))
    if reweighting != "none":
        write(source / "clean.jsonl", splits.clean)
    config = TrainConfig.from_mapping(
        {
            "input_path": str(source),
            "root_output_path": str(folder / "run"),
            "precision": 32,
            "seed": seed,
            "reweighting": reweighting,
            "teacher_name": options.teacher,
            "teacher_epochs": options.epochs,
            "teacher_learning_rate": 2e-5,  # base-sized encoders'; others were not tried
            "student_word_emb_dim": 100,
            "student_lstm_dim": 128,
            "student_epochs": options.student_epochs,
            "augmentation_size": options.augmentation_size if options.student else 0,
        }
    )
    found: dict[str, float] = {}
    if options.student:
        root = train(config)
        metrics = read_json(root / "metrics.json")
        teacher = root / config.teacher_output_folder
        found |= {"teacher": metrics["teacher"]["main"]}
        found |= {"student": metrics["student"]["final"]["main"]}
    else:
        data, teacher = folder / "data", folder / "teacher"
        steps.preprocess(config, data)
        steps.train_teacher(config, data, teacher)
        found["teacher"] = steps.test_teacher(config, data, teacher, folder / "test")["main"]
    last = read_json(teacher / "history.json")[-1]
    found |= {key: last[f"sequence_{key}"] for key in WEIGHTS if f"sequence_{key}" in last}
    return found | {"seconds": read_json(teacher / "step.json")["seconds"]}


WEIGHTS = ("zero_weights", "effective_sample")
COLUMNS = {
    "teacher": ("teacher, test accuracy %", 100),
    "student": ("student, test accuracy %", 100),
    "zero_weights": ("weights of 0, %", 100),
    "effective_sample": ("effective sample, % of rows", 100),
    "seconds": ("fine-tuning, s", 1),
}


def print_results(found: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """A row an arm: the median of the seeds, the least and the greatest."""
    columns = [key for key in COLUMNS if any(key in run for runs in found.values() for run in runs)]
    table = []
    for arm, runs in found.items():
        row = [arm]
        for key in columns:
            values = [run[key] * COLUMNS[key][1] for run in runs if key in run]
            row.append(
                median_and_spread(values) if len(values) > 1 else "".join(map(figure, values))
            )
        table.append(row)
    print_table("Noisy labels", ["arm", *(COLUMNS[key][0] for key in columns)], table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="train, validation, test.jsonl")
    parser.add_argument("--rows", type=int, default=None, help="training rows (all)")
    parser.add_argument("--noise", type=float, default=0.3, help="share shuffled (%(default)s)")
    parser.add_argument("--clean-rows", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="of the teacher (%(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each arm (%(default)s)")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--teacher", default="minilm", help="(%(default)s)")
    parser.add_argument("--student", action="store_true", help="distil a student too")
    parser.add_argument("--student-epochs", type=int, default=15, help="a phase (%(default)s)")
    parser.add_argument("--augmentation-size", type=int, default=10_000, help="(%(default)s)")
    options = parser.parse_args()
    logs.configure()
    print_line(machine())
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in options.arms}
    wrong = []
    for seed in range(options.seeds):
        splits = make_splits(options, seed)
        wrong.append(splits.wrong)
        for arm, runs in found.items():
            with tempfile.TemporaryDirectory() as folder:
                runs.append(measure(arm, splits, options, seed, Path(folder)))
    print_line(
        f"{options.data.name}: {len(splits.noisy)} training rows, "
        f"{100 * statistics.mean(wrong):.1f}% of their labels wrong; {len(splits.clean)} clean "
        f"rows, {len(splits.validation)} validation, {len(splits.test)} test; "
        f"{options.teacher}, {options.epochs} epochs; {options.seeds} seeds"
    )
    print_results(found)


if __name__ == "__main__":
    main()
