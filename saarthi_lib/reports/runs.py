"""Comparison of runs: changes in the configuration, the metrics and the answers."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd

import saarthi_lib
from saarthi_lib.data.expansion import ParquetReader
from saarthi_lib.errors import ArtifactError, ConfigError, DataError
from saarthi_lib.evaluation.breakdown import answer_text, answers_of, effect
from saarthi_lib.evaluation.metrics import MAIN_METRIC
from saarthi_lib.evaluation.scores import Metrics, Scores, delivered, read_metrics
from saarthi_lib.evaluation.stored import finished_record
from saarthi_lib.evaluation.summary import TASKS
from saarthi_lib.layout import PREDICTIONS, RunRecord
from saarthi_lib.reports.page import count, milliseconds, times, write_page
from saarthi_lib.reports.ranking import differing
from saarthi_lib.tasks import HEADS, has_token_head

FLIPS_SHOWN = 200
LOWER_IS_BETTER = ("size", "p50", "p99", "parameters", "ECE", "AURC")
FORMATS: dict[str, Callable[[Any], str]] = {
    "share": lambda value: f"{100 * value:.2f}%",
    "parameters": count,
    "bytes": lambda value: f"{value / 1e6:,.3f} MB",
    "ms": milliseconds,
    "times": times,
    "error": "{:.4f}".format,
}
# Output places do not distinguish runs.
PLACES = ("root_output_path",)
_PYARROW = (ValueError, TypeError, NotImplementedError)  # bases of its errors
_DIGEST_SHOWN = 12  # characters
_BEFORE = {"tags_column": "", "start_from": ""}  # fields that earlier versions lacked


@dataclass(frozen=True)
class Run:
    """Results of a finished run, under a short name.

    `predictions` has the test rows with the answers of the run's models, or is None if the run did
    not keep them.
    """

    name: str
    record: RunRecord
    metrics: Metrics
    predictions: pd.DataFrame | None


class SettingRow(TypedDict):
    """A setting, version or digest that differs, with one value per run."""

    name: str
    values: list[Any]


class MetricRow(TypedDict):
    """A metric of each run, and whether it is better than in the first run.

    `name` is a key for programs, `title` the name that people read, and `unit` one of `FORMATS`.
    `better` is None if the value is equal or missing.
    """

    name: str
    title: str
    unit: str
    values: list[float | None]
    better: list[bool | None]


class ChangedAnswers(TypedDict):
    """Answers of a run that differ from those of the first run.

    `common` is the number of test rows of both runs; `same` is whether these are all of them.
    `chance` is the p-value of McNemar's exact test: the probability of so uneven a number of wins
    and losses if neither run is better.
    """

    run: str
    common: int
    same: bool
    changed: int
    won: int
    lost: int
    chance: float
    rows: list[dict[str, str]]


class ComparedRuns(TypedDict):
    """Runs compared with the first one; `flips` lacks runs that did not keep their answers.

    `trials` has the names of the trial runs.
    """

    runs: list[str]
    trials: list[str]
    task: str
    settings: list[SettingRow]
    figures: list[MetricRow]
    flips: list[ChangedAnswers]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read finished runs, named by their folders, or by full paths if folder names repeat.

    Raises:
        ConfigError: a folder is not a finished run, or the tasks of two runs differ.
    """
    short = [folder.resolve().name for folder in folders]
    names = short if len(set(short)) == len(short) else [str(folder) for folder in folders]
    runs = []
    for name, folder in zip(names, folders, strict=True):
        record = finished_record(folder)
        metrics, kept = read_metrics(folder), folder / PREDICTIONS
        predictions = _read_predictions(kept, metrics) if os.path.lexists(kept) else None
        runs.append(Run(name, record, metrics, predictions))
    tasks = {run.metrics["task"] for run in runs}
    if len(tasks) > 1:
        raise ConfigError(f"the runs are of different tasks: {', '.join(sorted(tasks))}")
    return runs


def _read_predictions(file: Path, metrics: Metrics) -> pd.DataFrame:
    """Read the answers of a run on its test rows.

    Raises:
        ArtifactError: the file cannot be read, or lacks a column.
    """
    from pyarrow import ArrowException

    remedy = "remove the file to compare the other results, or train the run again"
    model = "quantized" if metrics.get("quantized") else "final"
    heads = HEADS[metrics["task"]]
    kinds = {"label": _is_text} if "sequence" in heads else {}
    kinds |= {"tags": _is_texts} if "token" in heads else {}
    checks = {f"{source}_{kind}": kinds[kind] for source in ("gold", model) for kind in kinds}
    checks |= {"text": _is_text, "lang": _is_text, f"{model}_right": _is_bool}
    checks |= {"words": _is_texts} if "token" in heads else {}
    try:
        if not file.is_file():
            raise OSError("not a file")
        with ParquetReader(file) as content:
            # Without metadata of pandas, which can be damaged.
            table = content.table().replace_schema_metadata(None).to_pandas()
    except DataError as error:  # names the file
        raise ArtifactError(f"{str(error).removesuffix('; write it again')}; {remedy}") from None
    except (ArrowException, LookupError, MemoryError, OSError, *_PYARROW) as error:
        raise ArtifactError(f"{file}: cannot be read as Parquet ({error}); {remedy}") from None
    for name, check in checks.items():
        if list(table.columns).count(name) != 1:
            raise ArtifactError(f"{file}: must have one column {name}; {remedy}")
        for row, value in enumerate(table[name], 1):
            if not check(value):
                message = f"row {row}: the column {name} has {str(value)[:50]!r}"
                raise ArtifactError(f"{file}: {message}; {remedy}")
    return table


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | np.ndarray) and all(isinstance(each, str) for each in value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def compare_runs(runs: Sequence[Run]) -> ComparedRuns:
    """Compare runs with the first one."""
    settings = differing([_settings_of(run) for run in runs])
    task, answers = runs[0].metrics["task"], [_answers(run) for run in runs]
    pairs = zip(runs[1:], answers[1:], strict=True)
    flips = [
        _changed_answers(run.name, answers[0], other)
        for run, other in pairs
        if answers[0] is not None and other is not None
    ]
    figures, others = _metric_rows(runs), {flip["run"] for flip in flips if not flip["same"]}
    for row in figures:
        if row["unit"] in ("share", "error"):  # not comparable on other texts
            known = zip(runs, row["better"], strict=True)
            row["better"] = [None if run.name in others else better for run, better in known]
    return {
        "runs": [run.name for run in runs],
        "trials": [run.name for run in runs if run.metrics.get("trial")],
        "task": task,
        "settings": [{"name": name, "values": values} for name, values in settings.items()],
        "figures": figures,
        "flips": flips,
    }


def write_comparison_of_runs(path: Path, compared: ComparedRuns) -> None:
    """Write the result of `compare_runs` as one self-contained HTML page."""
    version = saarthi_lib.__version__
    write_page(
        path,
        "runs.html.j2",
        version=version,
        headline=conclusion(compared),
        task_name=TASKS[compared["task"]],
        shown=FLIPS_SHOWN,
        metric_text=metric_text,
        **compared,
    )


def conclusion(compared: ComparedRuns) -> str:
    """Name the run whose delivered model is best by the main metric, or say why none is."""
    flips, trials = compared["flips"], compared["trials"]
    said = []
    if any(not flip["common"] for flip in flips):
        said.append("Different test texts: the runs cannot be compared.")
    elif any(not flip["same"] for flip in flips):
        said.append("The test texts differ in part: compare only the answers to common texts.")
    if trials:
        runs = "is a trial run" if len(trials) == 1 else "are trial runs"
        said.append(f"{', '.join(trials)} {runs}: no run can be called the best.")
    return " ".join(said) or _best_run(compared)


def delivered_mains(compared: ComparedRuns) -> list[float]:
    """Main metric of each run's delivered model."""
    rows = {row["name"]: row for row in compared["figures"]}
    return [
        next(value for value in (*found, 0.0) if value is not None)
        for found in zip(
            *(rows[name]["values"] for name in ("quantized main", "student main") if name in rows),
            strict=True,
        )
    ]


def _best_run(compared: ComparedRuns) -> str:
    values, metric = delivered_mains(compared), MAIN_METRIC[compared["task"]]
    shown = [FORMATS["share"](value) for value in values]
    if len(set(shown)) == 1:
        return f"All runs have the same result: {metric} {shown[0]}."
    best = values.index(max(values))
    others = [f"{run} {text}" for run, text in zip(compared["runs"], shown, strict=True)]
    del others[best]
    return f"{compared['runs'][best]} has the best {metric}: {shown[best]} ({', '.join(others)})."


def metric_text(row: MetricRow, value: float | None) -> str:
    """A metric of a run for readers; a dash if it is missing."""
    return "–" if value is None else FORMATS[row["unit"]](value)


def _settings_of(run: Run) -> dict[str, Any]:
    record = run.record
    config = {**_BEFORE, **record["config"]}
    return {
        **{name: value for name, value in config.items() if name not in PLACES},
        "code": record.get("source_revision"),
        "data digest": (record.get("data_digest") or "")[:_DIGEST_SHOWN] or None,
        **{f"{name} version": value for name, value in record.get("versions", {}).items()},
    }


def _metric_rows(runs: Sequence[Run]) -> list[MetricRow]:
    columns = [{name: (unit, value) for name, unit, value in _metrics_of(run)} for run in runs]
    given = {str(run.record["config"].get("quantization")) for run in runs} - {"None"}
    precision = given.pop() if len(given) == 1 else "quantized"
    metric = MAIN_METRIC[runs[0].metrics["task"]]
    units = {name: unit for column in columns for name, (unit, _) in column.items()}
    rows: list[MetricRow] = []
    for name, unit in units.items():
        if name == "baseline main" and not all(name in column for column in columns):
            continue
        values = [column[name][1] if name in column else None for column in columns]
        sign = -1 if name.endswith(LOWER_IS_BETTER) else 1
        better = [
            None
            if value is None or values[0] is None or value == values[0]
            else sign * (value - values[0]) > 0
            for value in values
        ]
        title = name.removeprefix("delivered ")
        for key, word in (("student main", f"float32 {metric}"), ("quantized", precision)):
            title = title.replace(key, word, 1)
        title = title.replace(" main", f" {metric}", 1)
        rows.append(
            {"name": name, "title": title, "unit": unit, "values": values, "better": better}
        )
    return rows


def _metrics_of(run: Run) -> Iterator[tuple[str, str, float]]:
    """Name, unit and value of each compared metric of a run."""
    metrics = run.metrics
    if baseline := metrics.get("baseline"):
        yield "baseline main", "share", baseline["main"]
    models: dict[str, Scores | None] = {
        "teacher": metrics["teacher"],
        "student": metrics["student"].get("final"),
        "quantized": metrics.get("quantized"),
    }
    for model, scores in models.items():
        if scores:
            yield f"{model} main", "share", scores["main"]
            for language, part in scores["by_language"].items():
                yield f"{model} main, {language}", "share", part["main"]
    yield "retention", "share", metrics["retention"]
    yield "compression", "times", metrics["compression"]
    yield "speedup", "times", metrics["speedup"]
    if not (models["student"] or models["quantized"]):
        return
    served = delivered(metrics)
    if "parameters" in served:
        yield "delivered parameters", "parameters", served["parameters"]
    if "size_bytes" in served:
        yield "delivered size", "bytes", served["size_bytes"]
    if latency := served.get("latency_ms"):
        yield "delivered p50", "ms", latency["p50"]
        yield "delivered p99", "ms", latency["p99"]
    calibration = served.get("calibration")
    if calibration and "ece" in calibration:
        yield "delivered ECE", "error", calibration["ece"]
    if calibration and "aurc" in calibration:
        yield "delivered AURC", "error", calibration["aurc"]


def _answers(run: Run) -> pd.DataFrame | None:
    """Text, gold, the delivered model's answer, and whether it is right, by text and language.

    Rows with the same text are distinguished by their order.
    """
    table, task = run.predictions, run.metrics["task"]
    if table is None:
        return None
    model = "quantized" if run.metrics.get("quantized") else "final"
    words = table[["words"]] if has_token_head(task) else table[["text"]]

    def said(source: str) -> list[str]:
        kinds = [kind for kind in ("label", "tags") if f"gold_{kind}" in table]
        columns = table[[f"{source}_{kind}" for kind in kinds]].set_axis(kinds, axis=1)
        answers = answers_of(columns)
        return [answer_text(task, words, answers, row) for row in range(len(table))]

    frame = pd.DataFrame({"text": table["text"], "lang": table["lang"], "gold": said("gold")})
    frame["said"], frame["right"] = said(model), table[f"{model}_right"]
    turn = frame.groupby(["text", "lang"], dropna=False).cumcount()
    return frame.set_index(pd.Index(list(zip(frame["text"], frame["lang"], turn, strict=True))))


def _changed_answers(name: str, first: pd.DataFrame, other: pd.DataFrame) -> ChangedAnswers:
    from scipy.stats import binomtest

    common = first.join(other, how="inner", lsuffix="_before", rsuffix="_after")
    was, now = common["right_before"].astype(bool), common["right_after"].astype(bool)
    won, lost = int((~was & now).sum()), int((was & ~now).sum())
    flipped = common[common["said_before"] != common["said_after"]]
    return {
        "run": name,
        "common": len(common),
        "same": len(common) == len(first) == len(other),
        "changed": len(flipped),
        "won": won,
        "lost": lost,
        "chance": float(binomtest(won, won + lost).pvalue) if won + lost else 1.0,
        "rows": [
            {
                "text": row["text_before"],
                "lang": row["lang_before"],
                "gold": row["gold_before"],
                "before": row["said_before"],
                "after": row["said_after"],
                "effect": effect(row["right_before"], row["right_after"]),
            }
            for row in flipped.to_dict("records")
        ],
    }
