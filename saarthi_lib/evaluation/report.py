"""The report of a run: one HTML page that needs nothing beside it.

Figures are inline SVG (Matplotlib) and take their colours from the page, so that they follow its
light or dark scheme. Every text from data or models passes Jinja2's autoescaping.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

import saarthi_lib
from saarthi_lib.pages import write_page
from saarthi_lib.pages.figures import INK, SERIES, as_svg, new_figure

MAIN_METRIC = {
    "intent_classification": "accuracy",
    "text_classification": "accuracy",
    "ner": "strict span F1",
    "pos": "token accuracy",
    "joint": "whole-frame accuracy",
}
WORST_LABELS = 15
TOP_CONFUSIONS = 12
EXAMPLES_A_PAIR = 2


def write_report(
    path: Path,
    metrics: dict[str, Any],
    *,
    config: dict[str, Any],
    histories: list[dict[str, Any]],
    confusion: dict[str, Any] | None,
    samples: list[dict[str, Any]],
) -> None:
    """Write the report; it appears whole or not at all.

    Args:
        path: the HTML file.
        metrics: the content of `metrics.json`; stages may lack parameters, size and latency,
            `quantized` may be None, and `student` is empty when nothing was distilled.
        config: the training configuration, flat.
        histories: one row an epoch, in order: `stage`, `phase`, `epoch`, `loss` (train) and `main`
            (validation); a value that was not measured is None or absent.
        confusion: `labels`, `counts` ({gold: {predicted: n}}) and `examples` (`text`, `gold`,
            `predicted`, `lang`), or None when the task has no such table.
        samples: answers of the delivered bundle: `text`, `lang` and what `Prediction.to_dict`
            gives.

    Raises:
        OSError: the file cannot be written.
    """
    rows = _result_rows(metrics)
    write_page(
        path,
        "evaluation",
        "report.html.j2",
        version=saarthi_lib.__version__,
        metrics=metrics,
        main_metric=MAIN_METRIC.get(metrics["task"], "main metric"),
        languages=metrics["languages"],
        quantization=config.get("quantization") or "quantised",
        delivered=rows[-1][1],
        rows=rows,
        journey=_journey_figure(rows, metrics["languages"]) if len(rows) > 1 else "",
        curves=[
            (stage, list(dict.fromkeys(row["phase"] for row in part)), _curve_figure(stage, part))
            for stage, part in _by_stage(histories)
        ],
        worst=_worst_labels(confusion) if confusion else [],
        pairs=_top_confusions(confusion) if confusion else [],
        samples=[{**sample, "parts": _parts(sample)} for sample in samples],
        config_yaml=yaml.safe_dump(config, allow_unicode=True, sort_keys=False),
    )


def _result_rows(metrics: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The models of the results table, in the order they came to be."""
    student = metrics["student"]
    stages = sorted(name for name in student if name != "final")
    rows = [("teacher", metrics["teacher"]), *((stage, student[stage]) for stage in stages)]
    rows += [("final", student.get("final")), ("quantized", metrics.get("quantized"))]
    return [(name, row) for name, row in rows if row]


# Where the model errs.


def _worst_labels(confusion: dict[str, Any]) -> list[dict[str, Any]]:
    """Labels with errors, lowest F1 first, each with the label it is mostly taken for."""
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
    return sorted(rows, key=lambda row: row["f1"])[:WORST_LABELS]


def _top_confusions(confusion: dict[str, Any]) -> list[dict[str, Any]]:
    """The most frequent (gold, predicted) pairs off the diagonal, with texts that show them."""
    pairs = [
        {"gold": gold, "predicted": predicted, "count": count, "share": count / sum(row.values())}
        for gold, row in confusion["counts"].items()
        for predicted, count in row.items()
        if gold != predicted and count
    ]
    pairs.sort(key=lambda pair: -pair["count"])
    for pair in pairs[:TOP_CONFUSIONS]:
        pair["examples"] = [
            example
            for example in confusion["examples"]
            if (example["gold"], example["predicted"]) == (pair["gold"], pair["predicted"])
        ][:EXAMPLES_A_PAIR]
    return pairs[:TOP_CONFUSIONS]


def _parts(sample: dict[str, Any]) -> list[tuple[str, str]]:
    """A sample's text cut at its entities or tokens: (piece of text, label or '')."""
    text: str = sample["text"]
    parts, position = [], 0
    for span in sample.get("entities") or sample.get("tokens") or ():
        parts += [(text[position : span["start"]], ""), (span["text"], span["label"])]
        position = span["end"]
    return [part for part in [*parts, (text[position:], "")] if part[0]]


# Figures.


def _by_stage(
    histories: Iterable[dict[str, Any]],
) -> list[tuple[str, list[dict[str, Any]]]]:
    stages: dict[str, list[dict[str, Any]]] = {}
    for row in histories:
        stages.setdefault(row["stage"], []).append(row)
    return list(stages.items())


def _journey_figure(rows: Sequence[tuple[str, dict[str, Any]]], languages: Sequence[str]) -> str:
    """The main metric from one student stage to the next, by language, against the teacher's.

    Stage 1 is left out: it trains no head, so its answers are chance.
    """
    figure, (axes,) = new_figure(rows=1, width=8.4, height=2.9)
    students = [(name, row) for name, row in rows if name not in ("teacher", "stage_1")]
    for index, language in enumerate(languages):
        colour = SERIES[index % len(SERIES)]
        axes.plot(
            range(len(students)),
            [_plotted(_main_of(row, language), 100) for _, row in students],
            color=colour,
            linestyle=("-", "-.", ":")[index // len(SERIES) % 3],
            marker="o",
            markersize=4,
            label=language,
        )
        teacher = _main_of(dict(rows)["teacher"], language)
        if teacher is not None:
            axes.axhline(100 * teacher, color=colour, linestyle="--", linewidth=0.9)
    axes.plot([], [], color=INK, linestyle="--", linewidth=0.9, label="teacher")
    axes.set_xticks(range(len(students)), [name.replace("_", " ") for name, _ in students])
    axes.set_ylabel("test, %")
    axes.legend(frameon=False, loc="lower right", ncols=4)
    return as_svg(figure, "journey", "The main metric of every student stage, by language")


def _main_of(row: dict[str, Any], language: str) -> float | None:
    main: float | None = row.get("by_language", {}).get(language, {}).get("main")
    return main


def _plotted(value: float | None, scale: float) -> float:
    """Matplotlib leaves a gap where a value is not a number."""
    return float("nan") if value is None else scale * value


def _curve_figure(stage: str, rows: Sequence[dict[str, Any]]) -> str:
    """Train loss and validation main over a stage's epochs; dotted lines part its phases."""
    from matplotlib.ticker import MaxNLocator

    measured = [key for key in ("loss", "main") if any(row.get(key) is not None for row in rows)]
    figure, panels = new_figure(rows=max(len(measured), 1), width=3.7, height=2.9)
    epochs = range(1, len(rows) + 1)
    for axes, key in zip(panels, measured, strict=False):
        scale, colour, title = {
            "loss": (1, SERIES[1], "train loss"),
            "main": (100, SERIES[0], "validation, %"),
        }[key]
        axes.plot(
            epochs,
            [_plotted(row.get(key), scale) for row in rows],
            color=colour,
            marker="o" if len(rows) <= 40 else "",
            markersize=3,
        )
        axes.set_ylabel(title)
    starts = [i for i, row in enumerate(rows) if i == 0 or row["phase"] != rows[i - 1]["phase"]]
    for axes in panels:
        axes.set_xlim(0.5, len(rows) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for start in starts[1:]:
            axes.axvline(start + 0.5, color=INK, linestyle=":", linewidth=0.8, alpha=0.6)
    panels[-1].set_xlabel("epoch")
    return as_svg(figure, stage, f"Learning curves of {stage}")
