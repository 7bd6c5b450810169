"""Measure learning from noisy labels: real intents, a share of the training labels shuffled.

python benchmarks/noisy_labels.py [--data FOLDER] [--rows N] [--noise SHARE] [--seeds N]

Some training rows keep their labels and become the clean rows; the labels of a share of the others
are shuffled. Validation and test stay unchanged. The epoch is chosen on validation.

`noise` trains on the noisy rows; `clean rows added` on the noisy and the clean rows; `last_layer`
and `full` reweight the noisy rows by the clean rows; `true labels` trains on the noisy rows with
their true labels.
"""

import argparse
import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import begin, parser_of, points, print_line, print_table

from saarthi_lib import steps
from saarthi_lib.config import TrainConfig

SPLITS = ("train", "validation", "test")
Row = dict[str, Any]
# Training rows and reweighting of each arm.
ARMS: Mapping[str, tuple[Sequence[str], str]] = {
    "true labels": (["true"], "none"),
    "noise": (["noisy"], "none"),
    "clean rows added": (["noisy", "clean"], "none"),
    "last_layer": (["noisy"], "last_layer"),
    "full": (["noisy"], "full"),
}


def main() -> None:
    """Measure, and print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/snips_en"))
    parser.add_argument("--rows", type=int, default=None, help="training rows (all)")
    parser.add_argument("--noise", type=float, default=0.3, help="share (%(default)s)")
    parser.add_argument("--clean-rows", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each arm (%(default)s)")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    options = begin(parser)
    found: dict[str, list[float]] = {arm: [] for arm in options.arms}
    for seed in range(options.seeds):
        rows = draw(options, seed)
        print_line(", ".join(f"{len(part)} {name} rows" for name, part in rows.items()))
        for arm, scores in found.items():
            with tempfile.TemporaryDirectory() as folder:
                scores.append(accuracy(arm, rows, options, seed, Path(folder)))
    title = f"Noisy labels: {options.noise:.0%} of {options.data.name} shuffled"
    header = ["arm", "test accuracy of the teacher"]
    print_table(title, header, [[arm, points(scores)] for arm, scores in found.items()])


def draw(options: argparse.Namespace, seed: int) -> dict[str, list[Row]]:
    """Draw the clean rows, and shuffle a share of the other labels."""
    generator = random.Random(seed)
    rows, validation, test = (read(options.data / f"{split}.jsonl") for split in SPLITS)
    generator.shuffle(rows)
    rows = rows[: options.rows]
    clean = stratified(rows, options.clean_rows, generator)
    true = [row for position, row in enumerate(rows) if position not in clean]
    chosen = generator.sample(range(len(true)), round(options.noise * len(true)))
    source = dict(zip(chosen, generator.sample(chosen, len(chosen)), strict=True))
    noisy = [
        {**row, "label": true[source.get(position, position)]["label"]}
        for position, row in enumerate(true)
    ]
    return {
        "noisy": noisy,
        "true": true,
        "clean": [rows[position] for position in sorted(clean)],
        "validation": validation,
        "test": test,
    }


def stratified(rows: Sequence[Row], count: int, generator: random.Random) -> set[int]:
    """Positions of about `count` rows, from each label by its share."""
    by_label: dict[str, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        by_label[row["label"]].append(position)
    return {
        position
        for _, positions in sorted(by_label.items())
        for position in generator.sample(positions, round(count * len(positions) / len(rows)))
    }


def accuracy(
    arm: str, rows: Mapping[str, list[Row]], options: argparse.Namespace, seed: int, folder: Path
) -> float:
    """Test accuracy of an arm's teacher."""
    parts, reweighting = ARMS[arm]
    source, data, teacher = (folder / name for name in ("input", "data", "teacher"))
    source.mkdir()
    write(source / "train.jsonl", (row for part in parts for row in rows[part]))
    for split in (*SPLITS[1:], *(["clean"] if reweighting != "none" else [])):
        write(source / f"{split}.jsonl", rows[split])
    config = TrainConfig.from_mapping(
        {
            "task": "intent_classification",
            "input_path": str(source),
            "root_output_path": str(folder / "run"),
            "precision": 32,
            "seed": seed,
            "reweighting": reweighting,
            "augmentation_size": 0,
            "teacher_name": "minilm",
            "teacher_ensemble": 1,
            "teacher_epochs": options.epochs,
            "teacher_learning_rate": 2e-5,
        }
    )
    steps.preprocess(config, data)
    steps.train_teacher(config, data, teacher)
    return float(steps.test_teacher(config, data, teacher, folder / "test")["main"])


def read(path: Path) -> list[Row]:
    """Texts and intents of a file."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [{"text": row["text"], "label": row["intent"], "lang": row["lang"]} for row in rows]


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write JSON lines."""
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
