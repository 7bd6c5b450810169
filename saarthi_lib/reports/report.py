"""Write the report of a run as one self-contained HTML page.

Figures are inline SVG (Matplotlib) and take their colours from the page, so they follow its light
or dark scheme. Jinja2 escapes every text from data or models.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

import saarthi_lib
from saarthi_lib.data.check.findings import SEVERITIES, plural
from saarthi_lib.evaluation.breakdown import SPAN_OUTCOMES
from saarthi_lib.evaluation.calibration import wilson_interval
from saarthi_lib.evaluation.details import Breakdown, Confusion, Details, Group
from saarthi_lib.evaluation.metrics import MAIN_METRIC
from saarthi_lib.evaluation.scores import Metrics, Scores
from saarthi_lib.evaluation.summary import TASKS, answered, models, smaller, summarize
from saarthi_lib.reports.page import percent, write_page
from saarthi_lib.reports.report_figures import (
    curve_figure,
    groups_figure,
    journey_figure,
    latency_figure,
    reliability_figure,
    risk_figure,
)

GROUPS_SHOWN = 300
CELLS = 20_000  # most cells of the confusion matrix, largest counts first
WORST_LABELS = 15
TOP_CONFUSIONS = 12
EXAMPLES_A_PAIR = 2
PRECISE = 0.05  # largest half width of an interval that is not worth a remark
OF_WHOLE_TEXTS = ("accuracy", "right frames")  # metrics that are shares of the texts
FIXES_SHOWN, FIX_ROWS = 5, 12  # fixes on the first screen, and rows of each

Content = dict[str, Any]  # variables of the template
Texts = dict[tuple[str, str], list[str]]  # by gold and predicted label


def write_report(
    path: Path,
    metrics: Metrics,
    details: Details,
    *,
    config: Mapping[str, Any],
    histories: Sequence[Mapping[str, Any]],
    check: Mapping[str, Any],
    provenance: Mapping[str, str],
    recipe: Mapping[str, str],
) -> None:
    """Write the report, atomically.

    Args:
        path: HTML file to write.
        metrics: content of `metrics.json`. Stages may lack parameters, size and latency.
        details: content of `details.json`.
        config: training configuration, flat.
        histories: one row per epoch, in order: `stage`, `phase`, `epoch`, `loss` (train) and `main`
            (validation); missing values are None or absent.
        check: content of `check.json`.
        provenance: versions, code revision and data digest, by name.
        recipe: reason for each field that the recipe chose.

    Raises:
        OSError: the file cannot be written.
    """
    precision = config.get("quantization")
    breakdown, latency = details["breakdown"], details["latency"]
    names = {"teacher": "teacher", "final": "float32", "quantized": precision or "quantized"}
    metric, rows = MAIN_METRIC[metrics["task"]], models(metrics, precision)
    delivered = list(rows)[-1]
    confusion = _confusions(breakdown["confusion"]) if breakdown["confusion"] else None
    write_page(
        path,
        "report.html.j2",
        version=saarthi_lib.__version__,
        **_results(metrics, precision),
        errors=details["errors"],
        fix_limits=(FIXES_SHOWN, FIX_ROWS),
        pointers=_pointers(breakdown, check["findings"], metric, rows),
        journey=journey_figure(rows, metrics["languages"], metric),
        groups=_groups(breakdown["groups"], metric, delivered),
        breakdown=breakdown,
        shown={"teacher": "teacher", "student": delivered},
        outcomes=SPAN_OUTCOMES,
        confusion=confusion,
        reliability=reliability_figure(breakdown["calibration"], delivered),
        risk=risk_figure(breakdown["calibration"], delivered),
        latency=latency,
        latency_names=names,
        latency_figure=latency_figure(latency, names),
        curves=_curves(histories),
        samples=[{**sample, "parts": _parts(sample)} for sample in details["samples"]],
        findings=check["findings"],
        provenance=provenance,
        config=config,
        recipe=recipe,
        config_yaml=yaml.safe_dump(dict(config), allow_unicode=True, sort_keys=False),
    )


def _results(metrics: Metrics, precision: str | None) -> Content:
    """The summary, and the models with their metrics."""
    rows = models(metrics, precision)
    delivered, served = list(rows.items())[-1]
    return {
        "trial": metrics.get("trial", False),
        "headline": summarize(metrics, precision),
        "metrics": metrics,
        "task": TASKS[metrics["task"]],
        "metric": MAIN_METRIC[metrics["task"]],
        "rows": rows,
        "delivered": delivered,
        "served": served,
        "answered": answered(metrics["task"], served),
        "smaller": smaller(metrics, served),
    }


def _doubts(served: Scores, metric: str) -> Iterator[tuple[str, str]]:
    """Too few test texts for a precise metric, and fewer answers than expected."""
    texts, calibration = served.get("examples"), served.get("calibration")
    if texts and metric in OF_WHOLE_TEXTS:
        low, high = wilson_interval(served["main"] * texts, texts)
        if high - low > 2 * PRECISE:
            interval = f"{percent(low)} to {percent(high)}"
            yield "results", f"Few test texts: {texts:,}, so {metric} is {interval} (95% interval)"
    if calibration and "coverage" in calibration and "expected_coverage" in calibration:
        low, high = calibration["expected_coverage"]
        if calibration["coverage"] < low:
            share = f"{percent(calibration['coverage'])} of the test texts"
            yield (
                "certainty",
                f"Few answers: {share}, expected {100 * low:.0f} to {100 * high:.0f}%",
            )


def _pointers(
    breakdown: Breakdown,
    findings: Sequence[Mapping[str, Any]],
    metric: str,
    rows: Mapping[str, Scores],
) -> list[tuple[str, str]]:
    """What else to look at: place on the page, and text."""
    delivered, served = list(rows.items())[-1]
    found = [*_doubts(served, metric)]
    if flips := breakdown["flips"]:
        changed = f"{flips['changed']:,} of {plural(flips['examples_of'], 'answer')}"
        found.append(("quantization", f"Changed by {delivered}: {changed}"))
    counts = Counter(finding["severity"] for finding in findings)
    listed = [plural(counts[severity], severity) for severity in SEVERITIES if counts[severity]]
    if listed:
        found.append(("data", f"Data check: {', '.join(listed)}"))
    return found


def _curves(histories: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str], str]]:
    """Name, phases and learning curves of the teacher and of each stage."""
    curves = []
    for stage, group in groupby(histories, key=lambda row: row["stage"]):
        rows = list(group)
        phases = list(dict.fromkeys(row["phase"] for row in rows))
        curves.append((stage, phases, curve_figure(stage, rows)))
    return curves


def _groups(groups: Mapping[str, Sequence[Group]], metric: str, delivered: str) -> Content:
    """Figures for languages and lengths, tables for all groups; largest losses first."""
    tables = []
    for kind, rows in groups.items():
        compared = [{**row, "change": _change(row)} for row in rows]
        if kind in ("label", "entity"):
            compared.sort(key=lambda row: (row["change"] is None, row["change"]))
        tables.append((kind, compared[:GROUPS_SHOWN], max(0, len(rows) - GROUPS_SHOWN)))
    figures = [
        (kind, groups_figure(kind, groups[kind], metric, delivered))
        for kind in ("language", "length")
        if len(groups[kind]) > 1
    ]
    return {"figures": figures, "tables": tables}


def _change(row: Group) -> float | None:
    teacher, student = row["teacher"]["share"], row["student"]["share"]
    return None if teacher is None or student is None else student - teacher


def _confusions(confusion: Confusion) -> Content:
    """Weakest labels, most frequent confusions, and the matrix for the page's script."""
    texts: Texts = {}
    for example in confusion["examples"]:
        pair = (example["gold"], example["predicted"])
        word = f" [{example['word']}]" if "word" in example else ""
        texts.setdefault(pair, []).append(f"{example['text']}{word}")
    return {
        "worst": _worst_labels(confusion),
        "pairs": _top_confusions(confusion, texts),
        "matrix": _matrix(confusion, texts),
    }


def _worst_labels(confusion: Confusion) -> list[Content]:
    """Labels with errors, lowest F1 first, each with its most frequent wrong answer."""
    counts = confusion["counts"]
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


def _top_confusions(confusion: Confusion, texts: Texts) -> list[Content]:
    """Most frequent confusions (gold, predicted), with example texts."""
    pairs = [
        (count, gold, predicted)
        for gold, row in confusion["counts"].items()
        for predicted, count in row.items()
        if gold != predicted and count
    ]
    pairs.sort(key=lambda pair: -pair[0])
    return [
        {
            "gold": gold,
            "predicted": predicted,
            "count": count,
            "share": count / sum(confusion["counts"][gold].values()),
            "examples": texts.get((gold, predicted), [])[:EXAMPLES_A_PAIR],
        }
        for count, gold, predicted in pairs[:TOP_CONFUSIONS]
    ]


def _matrix(confusion: Confusion, texts: Texts) -> Content:
    """Confusion matrix in the format of the page's script: cells `[gold, given, count]`."""
    at = {label: number for number, label in enumerate(confusion["labels"])}
    cells = [
        [at[gold], at[given], count]
        for gold, row in confusion["counts"].items()
        for given, count in row.items()
        if count
    ]
    cells.sort(key=lambda cell: -cell[2])
    examples = {f"{at[gold]},{at[given]}": found for (gold, given), found in texts.items()}
    return {"labels": confusion["labels"], "cells": cells[:CELLS], "examples": examples}


def _parts(sample: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Parts of a sample's text, cut at its entities or tokens: (text, label or '')."""
    text: str = sample["text"]
    parts, position = [], 0
    for span in sample.get("entities") or sample.get("tokens") or ():
        parts += [(text[position : span["start"]], ""), (span["text"], span["label"])]
        position = span["end"]
    return [part for part in [*parts, (text[position:], "")] if part[0]]
