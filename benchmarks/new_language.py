"""Measure a language without labels: English labels, and unlabelled Hindi sentences.

python benchmarks/new_language.py [--sentences 0 100 345 10000] [--seeds N]

The demonstration data, with `recipe: auto` and `languages: [english, hindi]`. Train and validation
keep their English rows only. `transfer.txt` gets Hindi training sentences without labels; a seed
decides their draw, and the training. The test has the rows of both languages whose intent English
rows teach.
"""

import json
import random
import tempfile
from pathlib import Path
from typing import Any

from common import begin, parser_of, points, print_line, print_table

from saarthi_lib import train
from saarthi_lib.demo.home_assistant import write_home_assistant
from saarthi_lib.storage import read_json

Row = dict[str, Any]
LABELLED, NEW = "english", "hindi"
FIELDS = {"task": "intent_classification", "languages": [LABELLED, NEW], "explained_errors": 0}


def read_rows(file: Path) -> list[Row]:
    """Rows of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_rows(file: Path, rows: list[Row]) -> None:
    """Write rows as JSON lines."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_text("".join(lines), encoding="utf-8")


def write_input(source: Path, folder: Path, sentences: int, seed: int) -> tuple[int, int]:
    """Write the input folder of a run.

    Args:
        source: folder with the demonstration data.
        folder: folder to write.
        sentences: most Hindi sentences in `transfer.txt`; 0: no such file.
        seed: seed of their draw.

    Returns:
        Number of Hindi sentences in transfer.txt, and of Hindi test rows.
    """
    splits = {name: read_rows(source / f"{name}.jsonl") for name in ("train", "validation", "test")}
    folder.mkdir(parents=True)
    for name in ("train", "validation"):
        write_rows(folder / f"{name}.jsonl", [r for r in splits[name] if r["lang"] == LABELLED])
    known = {row["intent"] for row in splits["train"] if row["lang"] == LABELLED}
    test = [row for row in splits["test"] if row["intent"] in known]
    write_rows(folder / "test.jsonl", test)
    texts = [row["text"] for row in splits["train"] if row["lang"] == NEW]
    drawn = random.Random(seed).sample(texts, min(sentences, len(texts)))
    if drawn:
        (folder / "transfer.txt").write_text("\n".join(drawn) + "\n", encoding="utf-8")
    return len(drawn), sum(row["lang"] == NEW for row in test)


def main() -> None:
    """Train a model for each number of sentences and each seed, and print a table."""
    parser = parser_of(__doc__)
    help_ = "numbers of unlabelled sentences; more than there are: all (%(default)s)"
    default = [0, 100, 345, 10_000]
    parser.add_argument("--sentences", nargs="+", type=int, default=default, help=help_)
    parser.add_argument("--seeds", type=int, default=2, help="(%(default)s)")
    options = begin(parser)
    scores: dict[int, list[list[float]]] = {sentences: [] for sentences in options.sentences}
    names = {}
    with tempfile.TemporaryDirectory() as scratch:
        write_home_assistant(Path(scratch) / "demo", seed=42)
        for seed in range(1 if options.quick else options.seeds):
            for sentences, runs in scores.items():
                run = Path(scratch) / f"{sentences}-{seed}"
                drawn, tested = write_input(Path(scratch) / "demo", run / "input", sentences, seed)
                places = {"input_path": str(run / "input"), "root_output_path": str(run / "run")}
                given = FIELDS | places | {"seed": 42 + seed, "fast_dev_run": options.quick}
                metrics = read_json(train(given) / "metrics.json")
                teacher, int8 = (metrics[name]["by_language"] for name in ("teacher", "quantized"))
                runs.append([each["main"] for each in (teacher[NEW], int8[NEW], int8[LABELLED])])
                names[sentences] = str(drawn)
                shown = ", ".join(points([value]) for value in runs[-1])
                print_line(f"seed {42 + seed}, {drawn} Hindi sentences: {shown}")
    rows = [[names[key], *map(points, zip(*runs, strict=True))] for key, runs in scores.items()]
    title = f"Hindi without labels: test accuracy, {tested} Hindi test rows"
    header = ["unlabelled Hindi sentences", "teacher, Hindi", "int8, Hindi", "int8, English"]
    print_table(title, header, rows)


if __name__ == "__main__":
    main()
