"""Write the report of a run as one self-contained HTML page.

Figures are inline SVG (Matplotlib) and take their colours from the page, so they follow its light
or dark scheme. Jinja2 escapes every text from data or models.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

import saarthi_lib
from saarthi_lib.config import TRIAL
from saarthi_lib.evaluation.breakdown import SPAN_OUTCOMES
from saarthi_lib.evaluation.metrics import MAIN_METRIC
from saarthi_lib.reports.page import write_page
from saarthi_lib.reports.report_figures import (
    curve_figure,
    groups_figure,
    journey_figure,
    latency_figure,
    reliability_figure,
    risk_figure,
)

TIMED = {"teacher": "teacher", "final": "student", "quantized": "quantized"}
GROUPS_SHOWN = 300
CELLS = 20_000  # most cells of the confusion matrix, largest counts first
FINDINGS_SHOWN = 50
WORST_LABELS = 15
TOP_CONFUSIONS = 12
EXAMPLES_A_PAIR = 2


def write_report(
    path: Path,
    metrics: dict[str, Any],
    *,
    config: dict[str, Any],
    histories: list[dict[str, Any]],
    breakdown: dict[str, Any],
    latency: dict[str, list[float]],
    samples: list[dict[str, Any]],
    check: dict[str, Any],
    provenance: dict[str, str],
    recipe: dict[str, str],
) -> None:
    """Write the report, atomically.

    Args:
        path: HTML file to write.
        metrics: content of `metrics.json`. Stages may lack parameters, size and latency;
            `quantized` may be None; `student` is empty without distillation; older runs lack
            `baseline`.
        config: training configuration, flat.
        histories: one row per epoch, in order: `stage`, `phase`, `epoch`, `loss` (train) and `main`
            (validation); missing values are None or absent.
        breakdown: result of `break_down`.
        latency: percentiles 0 to 100 of single predictions, in milliseconds, by model.
        samples: answers of the delivered bundle: `text`, `lang` and the fields of
            `Prediction.to_dict`.
        check: content of `check.json`.
        provenance: versions, code revision and data digest, by name.
        recipe: reason for each field that the recipe chose.

    Raises:
        OSError: the file cannot be written.
    """
    rows = _result_rows(metrics)
    confusion, calibration = breakdown["confusion"], breakdown["calibration"]
    metric = MAIN_METRIC.get(metrics["task"], "main metric")
    names = TIMED | {"quantized": config.get("quantization") or "quantized"}
    write_page(
        path,
        "report.html.j2",
        version=saarthi_lib.__version__,
        metrics=metrics,
        trial=TRIAL if metrics.get("trial") else "",
        main_metric=metric,
        languages=metrics["languages"],
        quantization=config.get("quantization") or "quantized",
        delivered=rows[-1][1],
        rows=rows,
        baseline=metrics.get("baseline"),
        journey=journey_figure(rows, metrics["languages"]) if len(rows) > 1 else "",
        curves=[
            (stage, list(dict.fromkeys(row["phase"] for row in part)), curve_figure(stage, part))
            for stage, part in _by_stage(histories)
        ],
        groups=_groups(breakdown["groups"], metric),
        calibration=calibration,
        reliability=reliability_figure(calibration),
        risk=risk_figure(calibration),
        latency=latency,
        latency_names=names,
        latency_figure=latency_figure(latency, names),
        spans=breakdown["spans"],
        outcomes=SPAN_OUTCOMES,
        flips=breakdown["flips"],
        confusion=_explorable(confusion) if confusion else None,
        worst=_worst_labels(confusion) if confusion else [],
        pairs=_top_confusions(confusion) if confusion else [],
        samples=[{**sample, "parts": _parts(sample)} for sample in samples],
        findings=[
            {key: finding[key] for key in ("severity", "split", "check", "message")}
            for finding in check["findings"][:FINDINGS_SHOWN]
        ],
        findings_left=max(0, len(check["findings"]) - FINDINGS_SHOWN),
        provenance=provenance,
        recipe=[(field, config[field], reason) for field, reason in recipe.items()],
        recipe_name=config.get("recipe"),
        config_yaml=yaml.safe_dump(config, allow_unicode=True, sort_keys=False),
    )


def _result_rows(metrics: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Models of the results table, in the order of training."""
    student = metrics["student"]
    stages = sorted(name for name in student if name != "final")
    rows = [("teacher", metrics["teacher"]), *((stage, student[stage]) for stage in stages)]
    rows += [("final", student.get("final")), ("quantized", metrics.get("quantized"))]
    return [(name, row) for name, row in rows if row]


# --- errors ---------------------------------------------------------------------------------------


def _worst_labels(confusion: dict[str, Any]) -> list[dict[str, Any]]:
    """Labels with errors, lowest F1 first, each with its most frequent wrong answer."""
    counts: dict[str, dict[str, int]] = confusion["counts"]
    rows = []
    for label in confusion["labels"]:
        answers = counts.get(label, {})
        support = sum(answers.values())
        predicted = sum(row.get(label, 0) for row in counts.values())
        right = answers.get(label, 0)
        if right == support == predicted:
            continue
        wrong = {other: n for other, n in answers.items() if other != label and n}
        rows.append(
            {
                "label": label,
                "support": support,
                "precision": right / predicted if predicted else None,
                "recall": right / support if support else None,
                "f1": 2 * right / (support + predicted),
                "taken_for": max(wrong, key=lambda other: wrong[other]) if wrong else "",
            }
        )
    return sorted(rows, key=lambda row: (not row["support"], row["f1"]))[:WORST_LABELS]


def _top_confusions(confusion: dict[str, Any]) -> list[dict[str, Any]]:
    """Most frequent confusions (gold, predicted), with example texts."""
    pairs = [
        {"gold": gold, "predicted": predicted, "count": count, "share": count / sum(row.values())}
        for gold, row in confusion["counts"].items()
        for predicted, count in row.items()
        if gold != predicted and count
    ]
    pairs.sort(key=lambda pair: -pair["count"])
    for pair in pairs[:TOP_CONFUSIONS]:
        pair["examples"] = [
            _example_text(example)
            for example in confusion["examples"]
            if (example["gold"], example["predicted"]) == (pair["gold"], pair["predicted"])
        ][:EXAMPLES_A_PAIR]
    return pairs[:TOP_CONFUSIONS]


def _parts(sample: dict[str, Any]) -> list[tuple[str, str]]:
    """Parts of a sample's text, cut at its entities or tokens: (text, label or '')."""
    text: str = sample["text"]
    parts, position = [], 0
    for span in sample.get("entities") or sample.get("tokens") or ():
        parts += [(text[position : span["start"]], ""), (span["text"], span["label"])]
        position = span["end"]
    return [part for part in [*parts, (text[position:], "")] if part[0]]


def _by_stage(
    histories: Iterable[dict[str, Any]],
) -> list[tuple[str, list[dict[str, Any]]]]:
    stages: dict[str, list[dict[str, Any]]] = {}
    for row in histories:
        stages.setdefault(row["stage"], []).append(row)
    return list(stages.items())


def _groups(groups: dict[str, list[dict[str, Any]]], metric: str) -> dict[str, Any]:
    """Figures for languages and lengths, tables for all groups; largest losses first."""
    figures = [
        (kind, groups_figure(kind, groups[kind], metric))
        for kind in ("language", "length")
        if len(groups[kind]) > 1
    ]
    tables = []
    for kind, rows in groups.items():
        compared = [{**row, "change": _change(row)} for row in rows]
        if kind in ("label", "entity"):
            compared.sort(key=lambda row: (row["change"] is None, row["change"]))
        tables.append((kind, compared[:GROUPS_SHOWN], max(0, len(rows) - GROUPS_SHOWN)))
    return {"figures": figures, "tables": tables}


def _change(row: dict[str, Any]) -> float | None:
    teacher, student = row["teacher"]["share"], row["student"]["share"]
    return None if teacher is None or student is None else student - teacher


def _explorable(confusion: dict[str, Any]) -> dict[str, Any]:
    """Confusion matrix in the format of the page's script: cells `[gold, given, count]`."""
    at = {label: number for number, label in enumerate(confusion["labels"])}
    cells = [
        [at[gold], at[given], count]
        for gold, row in confusion["counts"].items()
        for given, count in row.items()
        if count
    ]
    cells.sort(key=lambda cell: -cell[2])
    examples: dict[str, list[str]] = {}
    for example in confusion["examples"]:
        pair = f"{at[example['gold']]},{at[example['predicted']]}"
        examples.setdefault(pair, []).append(_example_text(example))
    return {"labels": confusion["labels"], "cells": cells[:CELLS], "examples": examples}


def _example_text(example: dict[str, Any]) -> str:
    text: str = example["text"]
    return f"{text} [{example['word']}]" if "word" in example else text
