"""Quality of the recipes: sets x recipes x seeds, each trained with a configuration of two lines.

python benchmarks/quality.py [--data FOLDER] [--sets …] [--recipes auto best] [--seeds N]
    [--work FOLDER] [--peers FOLDER]

Sets are the folders of `--data`. Each run calls `train()` with `input_path` and `root_output_path`,
and with recipe and seed. A validation file becomes the test of a set without a test file; then
validation is cut from train. All tables come from the runs' `metrics.json`; the last one compares
with the best simple model of benchmarks/peers.py, if that script has run.

Finished runs are reused, and an interrupted run resumes.
"""

import argparse
import os
import shutil
import statistics
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from common import add_data_options, begin, parser_of, points, print_line, print_table, sets_in

from saarthi_lib import logs
from saarthi_lib.data.read import find_splits
from saarthi_lib.errors import SaarthiError
from saarthi_lib.runs.train import train
from saarthi_lib.storage import read_json

RECIPES = ("auto", "best")
# Seeds of a set by its training rows, unless --seeds is given: a run takes minutes or an hour.
SEEDS, SEEDS_OF_MANY, MANY_ROWS = 3, 1, 5_000
# Sets whose files do not say what belongs together: sentences of PUD are translations.
GROUPS = {"ud_pud": {"group_column": "sent_id"}}
PEERS = "peers.json"  # main metric of each simple model, written by benchmarks/peers.py
SCOPE = ("in_scope_accuracy", "oos_recall", "mcc")
Metrics = dict[str, Any]


def main() -> None:
    """Train missing runs, and print the tables."""
    parser = parser_of(__doc__)
    add_data_options(parser)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    parser.add_argument("--seeds", type=int, help="default: 3, and 1 above 5,000 training rows")
    parser.add_argument("--work", type=Path, default=Path("runs/quality"))
    parser.add_argument("--peers", type=Path, default=Path("runs/peers"))
    arguments = begin(parser)
    if arguments.seeds is not None and arguments.seeds < 1:
        parser.error("--seeds must be at least 1")
    failed: list[str] = []
    summary: list[list[str]] = []
    for name, folder in sets_in(arguments.data, arguments.sets).items():
        results: dict[str, list[Metrics]] = {}
        for recipe in arguments.recipes:
            try:
                results[recipe] = list(runs_of(name, folder, recipe, arguments))
            except SaarthiError as error:
                print_line(f"{name}, {recipe}: {error}")
                failed.append(f"{name} ({recipe})")
        results = {recipe: runs for recipe, runs in results.items() if runs}
        if results:
            print_set(name, results)
            summary += summary_rows(name, results, arguments.peers / name / PEERS)
    header = ["set", "recipe", "seeds", "main", "unseen", "baseline", "best simple", "gain"]
    print_table("Summary", [*header, "of teacher", "minutes"], summary)
    if failed:
        sys.exit(f"failed, see the errors above: {', '.join(failed)}")


def with_test_split(folder: Path, work: Path) -> Path:
    """The folder, or a copy whose validation files are the test if test files are missing."""
    splits = find_splits(folder)
    if "test" in splits or "validation" not in splits:
        return folder
    splits["test"] = splits.pop("validation")
    renamed = work / "input" / folder.name
    renamed.mkdir(parents=True, exist_ok=True)
    for split, files in splits.items():
        for number, file in enumerate(files):
            parts = [split, file.language, str(number) if number else ""]
            shutil.copyfile(
                file.path, renamed / f"{'-'.join(filter(None, parts))}{file.path.suffix}"
            )
    return renamed


def fields_of(name: str, folder: Path, work: Path, seed: int, quick: bool) -> dict[str, Any]:
    """The configuration of a set, without recipe and output folder."""
    fields = {"input_path": str(with_test_split(folder, work)), "seed": 42 + seed}
    return fields | GROUPS.get(name, {}) | ({"fast_dev_run": True} if quick else {})


def runs_of(
    name: str, folder: Path, recipe: str, arguments: argparse.Namespace
) -> Iterable[Metrics]:
    """Metrics of a set's runs with a recipe, one for each seed; `minutes` is the training time."""
    seeds = arguments.seeds or SEEDS
    seed = 0
    while seed < seeds:
        root = arguments.work / name / f"{recipe}-{seed}"
        fields = fields_of(name, folder, arguments.work, seed, arguments.quick)
        print_line(f"{name}, {recipe}, seed {seed}")
        in_own_process({**fields, "recipe": recipe, "root_output_path": str(root)})
        steps = read_json(root / "run.json")["steps"]
        seconds = sum(step["seconds"] for step in steps.values())
        yield {**read_json(root / "metrics.json"), "minutes": seconds / 60}
        rows = read_json(root / "data" / "data.json")["rows"]["train"]
        if arguments.seeds is None and rows > MANY_ROWS:
            seeds = SEEDS_OF_MANY
        seed += 1


def in_own_process(fields: dict[str, Any]) -> None:
    """Train in a new process, so that a run does not depend on the one before it."""
    # OpenMP reads this when torch is loaded: threads that spin for long are slow on shared cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(train_quietly, fields).result()


def train_quietly(fields: dict[str, Any]) -> None:
    """Train with a log."""
    logs.configure()
    train(fields)


def print_set(name: str, results: dict[str, list[Metrics]]) -> None:
    """The table of a set: baseline, and teacher and delivered student of each recipe."""
    first = next(iter(results.values()))
    rows = [("baseline", [run["baseline"] for run in first])]
    for recipe, runs in results.items():
        rows += [(f"teacher, {recipe}", [run["teacher"] for run in runs])]
        rows += [(f"student, {recipe}", [delivered(run) for run in runs])]
    sample = delivered(first[0])
    metrics = [m for m in ("main", "accuracy", "span_f1", "macro_f1") if m in sample]
    scope = [key for key in SCOPE if key in of_scope(sample)]
    silence = [key for key in ("coverage", "lost") if key in of_abstention(sample)]
    table = []
    for title, scores in rows:
        table.append(
            [
                title,
                *(points([each.get(key) for each in scores]) for key in metrics),
                *(points([of_scope(each).get(key) for each in scores]) for key in scope),
                *(points([of_abstention(each).get(key) for each in scores]) for key in silence),
                f"{statistics.mean(each['parameters'] for each in scores) / 1e6:.2f} M",
                f"{statistics.mean(each['size_bytes'] for each in scores) / 1e6:.2f}",
                f"{statistics.median(each['latency_ms']['p50'] for each in scores):.3f}",
            ]
        )
    columns = [key.replace("_", " ") for key in (*metrics, *scope, *silence)]
    header = ["model", *columns, "parameters", "MB", "p50 ms"]
    count = sample["examples"]
    print_table(f"{name}: {count} test examples, seeds: {len(first)}", header, table)


def delivered(run: Metrics) -> Metrics:
    """Metrics of the model that a run delivers."""
    scores: Metrics = run["quantized"] or run["student"]["final"]
    return scores


def of_abstention(scores: Metrics) -> Metrics:
    """Metrics at the model's own threshold; empty for a teacher."""
    found: Metrics = scores.get("calibration", {})
    return found


def of_scope(scores: Metrics) -> Metrics:
    """Metrics with out-of-scope texts, at the model's own threshold."""
    found: Metrics = of_abstention(scores).get("out_of_scope", {})
    return found


def summary_rows(name: str, results: dict[str, list[Metrics]], peers: Path) -> list[list[str]]:
    """Rows of the summary: the delivered student, and the best simple model."""
    simple = read_json(peers) if peers.is_file() else {}
    rows = []
    for recipe, runs in results.items():
        main = statistics.mean(delivered(run)["main"] for run in runs)
        baseline = statistics.mean(run["baseline"]["main"] for run in runs)
        best = max(baseline, *simple.values()) if simple else baseline
        unseen = [unseen_of(run) for run in runs]
        rows.append(
            [
                name,
                recipe,
                str(len(runs)),
                points([delivered(run)["main"] for run in runs]),
                points(unseen),
                f"{100 * baseline:.1f}",
                f"{100 * best:.1f}",
                f"{100 * (main - best):+.1f}",
                f"{statistics.mean(run['retention'] for run in runs):.1%}",
                f"{statistics.mean(run['minutes'] for run in runs):.1f}",
            ]
        )
    return rows


def unseen_of(run: Metrics) -> float | None:
    """Main metric on test texts that repeat no training text."""
    unseen = delivered(run).get("unseen") or delivered(run)
    value: float | None = unseen.get("main")
    return value


if __name__ == "__main__":
    main()
