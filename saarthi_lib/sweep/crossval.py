"""Cross-validation: every row is answered once, by a model that has not seen it.

Each fold is a run of `saarthi_lib.sweep.execute` on its own input folder: its test split is the
fold, and its other splits are the remaining rows.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.config import SECTIONS, TrainConfig
from saarthi_lib.data.check.findings import plural
from saarthi_lib.data.detect import with_columns
from saarthi_lib.data.folds import ALWAYS_TRAINED, IntArray, columns_of, folds_of, write_fold
from saarthi_lib.data.gather import gather, input_folder, labels_of
from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.data.read import find_splits
from saarthi_lib.data.split import units_of
from saarthi_lib.errors import ConfigError
from saarthi_lib.evaluation.breakdown import answers_of, share_of, trials_of
from saarthi_lib.evaluation.details import Share
from saarthi_lib.evaluation.fixes.answered import (
    Answered,
    count_names,
    refused_rows,
    unseen_words,
)
from saarthi_lib.evaluation.fixes.find import find_fixes
from saarthi_lib.evaluation.fixes.types import ErrorList
from saarthi_lib.evaluation.metrics import MAIN_METRIC, Answers, in_scope
from saarthi_lib.evaluation.stored import read_stored
from saarthi_lib.layout import PREDICTIONS, RunLayout, read_mapping
from saarthi_lib.reports.runs import read_runs
from saarthi_lib.storage import whole_file, write_json
from saarthi_lib.sweep.plan import SweepRun
from saarthi_lib.tasks import OUT_OF_SCOPE, has_sequence_head, has_token_head

PLAN, RESULTS, PAGE = "folds.json", "crossval.json", "crossval.html"
_LEAST, _MOST = 2, 50  # folds

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CrossValidation:
    """A planned cross-validation.

    Attributes:
        config: configuration of the whole data.
        table: all labelled rows, in the order of the input.
        place: fold of each row, or `ALWAYS_TRAINED`.
        runs: run of each fold that has rows, by its number.
        notes: rows of the input that are not tested, as text.
    """

    config: TrainConfig
    table: pd.DataFrame
    place: IntArray
    runs: dict[int, SweepRun]
    notes: list[str]


class FoldRow(TypedDict):
    """A fold: its number, from 1, its tested rows, and the main metric on them."""

    fold: int
    examples: int
    main: Share


class LanguageRow(TypedDict):
    """A language: its tested rows, and the main metric on them."""

    name: str
    examples: int
    main: Share


class CrossvalResults(TypedDict):
    """Content of `crossval.json`.

    `main` and `teacher` are the main metric of the delivered models and of the teachers on all
    tested rows, with intervals that allow for rows of one group. `untested` is the number of rows
    without an answer.
    """

    task: str
    metric: str
    trial: bool
    examples: int
    untested: int
    notes: list[str]
    main: Share
    teacher: Share
    languages: list[LanguageRow]
    folds: list[FoldRow]
    errors: ErrorList


def plan_crossval(config: TrainConfig, folds: int, output: Path) -> CrossValidation:
    """Deal the rows of train and validation to folds, and write the input folder of each fold.

    A test file of the user stays unused, so that it remains a test. Without one, no test split is
    cut: all rows are dealt.

    Args:
        config: configuration of a run on all data.
        folds: number of folds.
        output: folder of the cross-validation.

    Raises:
        ConfigError: the number of folds, or the folder, cannot be used.
        DataError: the data cannot be read, or are too few.
    """
    if not _LEAST <= folds <= _MOST:
        raise ConfigError(f"--folds {folds}: must be from {_LEAST} to {_MOST}")
    _require_own(output, config.input_path)
    with (
        TemporaryDirectory(prefix="saarthi-crossval-") as scratch,
        input_folder(config, Path(scratch)) as source,
    ):
        config = with_columns(config, source)
        given = find_splits(source, config.data_format, log=False)
        gathered = gather(source, config)
        pooled = ["train", "validation", *(() if "test" in given else ("test",))]
        table = pd.concat([gathered.tables[name] for name in pooled], ignore_index=True)
        table = table.sort_values(["file", "row"], kind="stable", ignore_index=True)
        place = folds_of(table, folds, config.task, config.seed)
        write_json(output / PLAN, {"input_path": config.input_path, "folds": folds})
        runs = {}
        for fold in range(folds):
            if (tested := place == fold).any():
                data = output / "data" / f"fold_{fold + 1}"
                write_fold(data, table, tested, gathered, config)
                runs[fold] = _run_of(config, table, data, output, fold)
    notes = []
    if alone := int((place == ALWAYS_TRAINED).sum()):
        notes.append(
            f"{plural(alone, 'row')} not tested: a label or tag of a single text or group is "
            "always in train"
        )
    if "test" in given:
        notes.append(f"{plural(len(gathered.tables['test']), 'row')} of test not used")
    if held := len(gathered.out_of_scope):
        notes.append(f"{plural(held, 'row')} of validation out of scope not used")
    return CrossValidation(config, table, place, runs, notes)


def _require_own(output: Path, input_path: str) -> None:
    """Check that a folder is new, empty, or an earlier cross-validation of the same data."""
    if not output.exists():
        return
    if not output.is_dir():
        raise ConfigError(f"--output {output}: is a file; give a folder")
    earlier = read_mapping(output / PLAN).get("input_path")
    others = {each.name for each in output.iterdir()} - {RunLayout(output).lock.name}
    if earlier is None and others:
        raise ConfigError(f"--output {output}: holds other files; give a new folder")
    if earlier not in (None, input_path):
        raise ConfigError(
            f"--output {output}: holds the cross-validation of other data ({earlier}); give "
            "another folder"
        )


def _run_of(
    config: TrainConfig, table: pd.DataFrame, data: Path, output: Path, fold: int
) -> SweepRun:
    name = f"fold_{fold + 1}"
    columns = columns_of(config)
    changes: dict[str, Any] = {
        "input_path": str(data.absolute()),
        "root_output_path": str(output / "runs" / name),
        "data_format": "auto",
        "text_column": columns["text"],
        "language_column": columns["lang"],
        "production": False,
        "few_shot": None,  # `gather` has drawn the rows
        "data_check": "nothing",  # `saarthi check` and `saarthi train` check all data
    }
    if has_sequence_head(config.task):
        changes["label_column"] = columns["label"]
        if (table["label"] == OUT_OF_SCOPE).any():
            changes["out_of_scope_label"] = OUT_OF_SCOPE
    if has_token_head(config.task):
        changes["tags_column"] = columns["tags"]
    made = TrainConfig.from_mapping({**config.given(*SECTIONS), **changes})
    return SweepRun(name, {"fold": fold + 1}, made, name)


def collect_crossval(planned: CrossValidation, output: Path) -> CrossvalResults:
    """Join the answers of all folds; write `predictions.parquet`, `crossval.json` and the page."""
    from saarthi_lib.reports.crossval import write_crossval

    config, table = planned.config, planned.table
    rows, unseen = _answers(planned)
    rows["unit"] = units_of(table)[rows.index]
    model = "quantized" if "quantized_right" in rows else "final"
    labels = list(rows["gold_label"]) if "gold_label" in rows else ()
    known = labels_of(table, config.task).answers
    within = in_scope(Answers(labels, ()), known, len(rows))
    scored = rows.iloc[within]
    tested = Answered(
        config.task,
        scored.reset_index(drop=True),
        model,
        count_names(answers_of(table), config.task),
        Counter(table["lang"]),
        [unseen[row] for row in within],
        refused=refused_rows(rows.drop(index=scored.index), model),
    )
    found: CrossvalResults = {
        "task": config.task,
        "metric": MAIN_METRIC[config.task],
        "trial": config.fast_dev_run,
        "examples": len(scored),
        "untested": len(table) - len(rows),
        "notes": [*planned.notes, *_lost(planned, rows)],
        "main": _share(config.task, scored, model),
        "teacher": _share(config.task, scored, "teacher"),
        "languages": [
            {"name": str(name), "examples": len(part), "main": _share(config.task, part, model)}
            for name, part in scored.groupby("lang", sort=True)
        ],
        "folds": [
            {"fold": fold, "examples": len(part), "main": _share(config.task, part, model)}
            for fold in sorted(set(scored["fold"]))
            for part in [scored[scored["fold"] == fold]]
        ],
        "errors": find_fixes(tested),
    }
    with whole_file(output / PREDICTIONS) as aside:
        rows.drop(columns="unit").to_parquet(aside, index=False)
    write_json(output / RESULTS, found)
    write_crossval(output / PAGE, found)
    return found


def read_results(output: Path) -> CrossvalResults:
    """Read `crossval.json`.

    Raises:
        ArtifactError: the file is damaged.
    """
    results: CrossvalResults = read_stored(output / RESULTS, CrossvalResults)
    return results


def _answers(planned: CrossValidation) -> tuple[pd.DataFrame, list[list[str]]]:
    """Answers of all folds by the place of the row in the table, and their unseen words."""
    parts: list[pd.DataFrame] = []
    unseen: dict[int, list[str]] = {}
    for fold, run in planned.runs.items():
        root = Path(run.config.root_output_path)
        [finished] = read_runs([root])
        answers, data = finished.predictions, Prepared(RunLayout.of(root).data)
        if answers is None:
            raise ConfigError(f"{root}: keeps no {PREDICTIONS}; remove it, and run again")
        test = data.table("test")
        # The row number in the fold's file gives the place in the table.
        places = np.flatnonzero(planned.place == fold)[test["row"].to_numpy(np.int64) - 1]
        source = planned.table.iloc[places]
        answers = answers.assign(
            fold=fold + 1,
            file=list(source["file"]),
            row=list(source["row"]),
            lang=list(source["lang"]),
        ).set_index(places)
        unseen |= dict(
            zip(
                places.tolist(),
                unseen_words(test["text"], data.table("train")["text"]),
                strict=True,
            )
        )
        parts.append(answers)
    joined = pd.concat(parts).sort_index()
    return joined, [unseen[place] for place in joined.index]


def _lost(planned: CrossValidation, rows: pd.DataFrame) -> list[str]:
    """A note on rows of folds without an answer; a trial answers few rows by design."""
    missing = int((planned.place != ALWAYS_TRAINED).sum()) - len(rows)
    if not missing:
        return []
    reason = "a trial tests few rows" if planned.config.fast_dev_run else "see the logs of the runs"
    return [f"{plural(missing, 'row')} of the folds without an answer: {reason}"]


def _share(task: str, rows: pd.DataFrame, model: str) -> Share:
    """The main metric of a model on some rows, with its interval.

    Rows of one unit (text or group) are not independent. The variance between units gives the
    number of independent trials (Kish's design effect), for which Wilson's interval holds.
    """
    kinds = [kind for kind in ("label", "tags") if f"gold_{kind}" in rows]
    gold, given = (
        answers_of(rows[[f"{source}_{kind}" for kind in kinds]].set_axis(kinds, axis=1))
        for source in ("gold", model)
    )
    by_row = trials_of(task, gold, given)
    hits = np.array([sum(hit for _, hit, _ in row) for row in by_row], np.float64)
    trials = np.array([len(row) for row in by_row], np.float64)
    effect = _design_effect(hits, trials, rows["unit"].to_numpy(np.int64))
    return share_of(hits.sum() / effect, trials.sum() / effect, task == "ner")


def _design_effect(hits: Floats, trials: Floats, units: IntArray) -> float:
    """Variance of a share by units, divided by that of independent trials; at least 1."""
    total = trials.sum()
    if not total:
        return 1.0
    known, places = np.unique(units, return_inverse=True)
    share = hits.sum() / total
    if share in (0, 1) or len(known) < 2:
        return float(max(1.0, total / len(known)))
    apart = np.bincount(places, hits - share * trials)
    variance = len(known) / (len(known) - 1) * (apart**2).sum() / total**2
    return float(max(1.0, variance / (share * (1 - share) / (total - 1))))
