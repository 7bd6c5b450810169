"""Comparison of runs: changes in the configuration, the metrics and the answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import saarthi_lib
from saarthi_lib.errors import ConfigError
from saarthi_lib.evaluation.breakdown import answers_of, told
from saarthi_lib.layout import PREDICTIONS
from saarthi_lib.reports.page import write_page
from saarthi_lib.storage import read_json
from saarthi_lib.tasks import has_token_head

FLIPS_SHOWN = 200
LOWER_IS_BETTER = ("size", "p50", "p99", "parameters", "ECE", "AURC")
# Output places do not distinguish runs.
PLACES = ("root_output_path",)


@dataclass(frozen=True)
class Run:
    """Results of a finished run, under a short name.

    `predictions` has the test rows with the answers of the run's models, or is None if the run did
    not keep them.
    """

    name: str
    record: dict[str, Any]
    metrics: dict[str, Any]
    predictions: pd.DataFrame | None

    @property
    def delivered(self) -> str:
        """The model that is served."""
        return "quantized" if self.metrics.get("quantized") else "final"


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read finished runs, named by their folders, or by full paths if folder names repeat.

    Raises:
        ConfigError: a folder is not a finished run, or the tasks of two runs differ.
    """
    short = [folder.resolve().name for folder in folders]
    names = short if len(set(short)) == len(short) else [str(folder) for folder in folders]
    runs = []
    for name, folder in zip(names, folders, strict=True):
        try:
            record, metrics = read_json(folder / "run.json"), read_json(folder / "metrics.json")
        except (OSError, ValueError):
            raise ConfigError(f"{folder}: is not a finished run; train one first") from None
        kept = folder / PREDICTIONS
        predictions = pd.read_parquet(kept) if kept.is_file() else None
        runs.append(Run(name, record, metrics, predictions))
    tasks = {run.metrics["task"] for run in runs}
    if len(tasks) > 1:
        raise ConfigError(f"the runs are of different tasks: {', '.join(sorted(tasks))}")
    return runs


def compare_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Compare runs with the first one.

    Returns:
        `runs` (their names), `task`, `settings` (rows of `name` and one value per run: fields of
        the configuration, versions and data that differ between runs), `figures` (rows of `name`,
        `values`, and `better`: per run, whether it is better than the first, None if equal or
        missing), and
        `flips`: for each further run that kept its answers `run`, `common` (test rows of both
        runs), `changed`, `won`, `lost`, `chance` (p-value of McNemar's exact test: probability of
        so uneven a number of wins and losses if neither run is better), and `rows` with different
        answers.
    """
    return {
        "runs": [run.name for run in runs],
        "task": runs[0].metrics["task"],
        "settings": _settings(runs),
        "figures": _figures(runs),
        "flips": [_flips(runs[0], run) for run in runs[1:] if _has_answers(runs[0], run)],
    }


def write_comparison_of_runs(path: Path, compared: dict[str, Any]) -> None:
    """Write the result of `compare_runs` as one self-contained HTML page."""
    write_page(
        path,
        "runs.html.j2",
        version=saarthi_lib.__version__,
        shown=FLIPS_SHOWN,
        **compared,
    )


def _settings(runs: Sequence[Run]) -> list[dict[str, Any]]:
    found = []
    for run in runs:
        record = run.record
        rows = {k: v for k, v in record["config"].items() if k not in PLACES}
        rows["code"] = record.get("source_revision")
        rows["data digest"] = record.get("data_digest")
        rows |= {f"{k} version": v for k, v in record.get("versions", {}).items()}
        found.append(rows)
    names = dict.fromkeys(name for rows in found for name in rows)
    every = [{"name": name, "values": [rows.get(name) for rows in found]} for name in names]
    return [row for row in every if any(value != row["values"][0] for value in row["values"])]


def _figures(runs: Sequence[Run]) -> list[dict[str, Any]]:
    columns = [dict(_figures_of(run.metrics)) for run in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = []
    for name in names:
        values = [column.get(name) for column in columns]
        first = values[0]
        sign = -1 if name.endswith(LOWER_IS_BETTER) else 1
        better = [
            None if value is None or first is None or value == first else sign * (value - first) > 0
            for value in values
        ]
        rows.append({"name": name, "values": values, "better": better})
    return rows


def _figures_of(metrics: dict[str, Any]) -> list[tuple[str, float]]:
    models = {
        "teacher": metrics["teacher"],
        "student": metrics["student"].get("final"),
        "quantized": metrics.get("quantized"),
    }
    rows: list[tuple[str, float]] = []
    for model, scores in models.items():
        if not scores:
            continue
        rows.append((f"{model} main", scores["main"]))
        by_language = scores["by_language"]
        rows += [(f"{model} main, {name}", part["main"]) for name, part in by_language.items()]
    rows += [(name, metrics[name]) for name in ("retention", "compression", "speedup")]
    delivered = models["quantized"] or models["student"] or {}
    named = (("delivered parameters", "parameters"), ("delivered size", "size_bytes"))
    rows += [(name, delivered[key]) for name, key in named if key in delivered]
    rows += [(f"delivered {k}", v) for k, v in delivered.get("latency_ms", {}).items()]
    calibration = delivered.get("calibration", {})
    rows += [
        (f"delivered {k.upper()}", calibration[k]) for k in ("ece", "aurc") if k in calibration
    ]
    return rows


def _has_answers(*runs: Run) -> bool:
    return all(run.predictions is not None for run in runs)


def _flips(first: Run, other: Run) -> dict[str, Any]:
    from scipy.stats import binomtest

    task = first.metrics["task"]
    one, two = _keyed(first, task), _keyed(other, task)
    common = one.join(two, how="inner", lsuffix="_before", rsuffix="_after")
    before, after = common["said_before"], common["said_after"]
    was, now = common["right_before"].astype(bool), common["right_after"].astype(bool)
    won, lost = int((~was & now).sum()), int((was & ~now).sum())
    flipped = common[before != after]
    effects = {(False, True): "won", (True, False): "lost"}
    return {
        "run": other.name,
        "common": len(common),
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
                "effect": effects.get((row["right_before"], row["right_after"]), "neither"),
            }
            for row in flipped.to_dict("records")
        ],
    }


def _keyed(run: Run, task: str) -> pd.DataFrame:
    """Text, gold, the delivered model's answer, and whether it is right, by text and language.

    Rows with the same text are distinguished by their order.
    """
    table = run.predictions
    assert table is not None
    model = run.delivered
    kinds = [kind for kind in ("label", "tags") if f"gold_{kind}" in table]
    gold = answers_of(table[[f"gold_{kind}" for kind in kinds]].set_axis(kinds, axis=1))
    said = answers_of(table[[f"{model}_{kind}" for kind in kinds]].set_axis(kinds, axis=1))
    words = table[["words"]] if has_token_head(task) else table[["text"]]
    rows = range(len(table))
    frame = pd.DataFrame(
        {
            "text": table["text"],
            "lang": table["lang"],
            "gold": [told(task, words, gold, row) for row in rows],
            "said": [told(task, words, said, row) for row in rows],
            "right": table[f"{model}_right"],
        }
    )
    frame["turn"] = frame.groupby(["text", "lang"], dropna=False).cumcount()
    frame["key"] = list(zip(frame["text"], frame["lang"], frame["turn"], strict=True))
    return frame.set_index("key")[["text", "lang", "gold", "said", "right"]]
