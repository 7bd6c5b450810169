"""The figures of the report, as inline SVG that takes its colours from the page."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saarthi_lib.evaluation.details import CalibrationCurve, Group, Share
from saarthi_lib.evaluation.scores import Scores
from saarthi_lib.reports.figures import INK, SERIES, as_svg, literal, new_figure, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODELS = {"teacher": SERIES[2], "student": SERIES[0]}  # colours that stay the same on all figures
MARKERS = {"teacher": "o", "student": "s"}
TIMED = {"teacher": SERIES[2], "final": SERIES[1], "quantized": SERIES[0]}
LONGEST_NAME = 22  # characters
ALL = "all languages"
DRAWN = len(SERIES)  # languages in one figure


def journey_figure(models: Mapping[str, Scores], languages: Sequence[str], metric: str) -> str:
    """Main metric of each student stage, overall and by language, with the teacher's as a line.

    Stage 1 is left out: it trains no head, so its answers are chance. Languages beyond `DRAWN` are
    left out too.
    """
    students = {
        name: row for name, row in models.items() if name not in ("baseline", "teacher", "stage 1")
    }
    if len(students) < 2:
        return ""
    figure, (axes,) = new_figure(rows=1, width=8.4, height=2.9)
    series = languages if len(languages) <= DRAWN else [ALL]
    for index, language in enumerate(series):
        colour = SERIES[index]
        axes.plot(
            range(len(students)),
            [_plotted(_main_of(row, language), 100) for row in students.values()],
            color=colour,
            marker="o",
            markersize=4,
            label=literal(language),
        )
        teacher = _main_of(models["teacher"], language)
        if teacher is not None:
            axes.axhline(100 * teacher, color=colour, linestyle="--", linewidth=0.9)
    axes.plot([], [], color=INK, linestyle="--", linewidth=0.9, label="teacher")
    axes.set_xticks(range(len(students)), list(students))
    axes.set_ylabel("test, %")
    figure.legend(frameon=False, loc="outside upper left", ncols=DRAWN + 1)
    return as_svg(figure, "journey", f"{metric} of every student stage on test")


def _main_of(row: Scores, language: str) -> float | None:
    if language == ALL:
        return row["main"]
    scores = row.get("by_language", {}).get(language)
    return scores["main"] if scores else None


def _plotted(value: float | None, scale: float) -> float:
    """Matplotlib leaves a gap where a value is NaN."""
    return float("nan") if value is None else scale * value


def curve_figure(stage: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Train loss and validation main over a stage's epochs; dotted lines separate its phases."""
    from matplotlib.ticker import MaxNLocator

    kinds = {
        "loss": (1, SERIES[1], "train loss"),
        "main": (100, SERIES[0], "validation, %"),
    }
    measured = [key for key in kinds if any(row.get(key) is not None for row in rows)]
    figure, panels = new_figure(rows=max(len(measured), 1), width=3.7, height=2.9)
    for axes, key in zip(panels, measured, strict=False):
        scale, colour, title = kinds[key]
        axes.plot(
            range(1, len(rows) + 1),
            [_plotted(row.get(key), scale) for row in rows],
            color=colour,
            marker="o" if len(rows) <= 40 else "",
            markersize=3,
        )
        axes.set_ylabel(title)
    starts = [i for i in range(1, len(rows)) if rows[i]["phase"] != rows[i - 1]["phase"]]
    for axes in panels:
        axes.set_xlim(0.5, len(rows) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for start in starts:
            axes.axvline(start + 0.5, color=INK, linestyle=":", linewidth=0.8, alpha=0.6)
    panels[-1].set_xlabel("epoch")
    return as_svg(figure, stage, f"Learning curves of {stage}")


def groups_figure(kind: str, rows: Sequence[Group], metric: str, delivered: str) -> str:
    """Teacher and delivered model side by side in each group, with 95% intervals."""
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = new_figure(rows=1, width=3.7, height=0.9 + 0.38 * len(rows))
    places = range(len(rows), 0, -1)
    results = {
        "teacher": [row["teacher"] for row in rows],
        "student": [row["student"] for row in rows],
    }
    for (model, shares), shift in zip(results.items(), (0.13, -0.13), strict=True):
        measured = [
            (place + shift, *values)
            for place, values in zip(places, map(_percentages, shares), strict=True)
            if values
        ]
        axes.errorbar(
            [share for _, share, _, _ in measured],
            [place for place, _, _, _ in measured],
            xerr=[
                [max(0.0, share - low) for _, share, low, _ in measured],
                [max(0.0, high - share) for _, share, _, high in measured],
            ],
            fmt=MARKERS[model],
            color=MODELS[model],
            ecolor=MODELS[model],
            markersize=4.5,
            elinewidth=1.4,
            label=_name(model, delivered),
        )
    axes.grid(axis="y", visible=False)
    axes.set_yticks(list(places), [shorten(row["name"], LONGEST_NAME) for row in rows])
    axes.set_ylim(0.4, len(rows) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"{metric}, %")
    _legend_above(axes)
    described = "; ".join(f"{row['name']}: {_described(row, delivered)}" for row in rows)
    return as_svg(figure, f"groups-{kind}", f"{metric} by {kind}. {described}")


def _percentages(share: Share) -> tuple[float, float, float] | None:
    """Share and its interval; None without examples."""
    value, low, high = share["share"], share["low"], share["high"]
    if value is None or low is None or high is None:
        return None
    return 100 * value, 100 * low, 100 * high


def _name(model: str, delivered: str) -> str:
    """The name that people read for `teacher` or `student`."""
    return delivered if model == "student" else model


def _described(row: Group, delivered: str) -> str:
    shares = {"teacher": row["teacher"]["share"], delivered: row["student"]["share"]}
    return ", ".join(f"{model} {100 * s:.1f}" for model, s in shares.items() if s is not None)


def reliability_figure(calibration: Mapping[str, CalibrationCurve], delivered: str) -> str:
    """Accuracy by probability; on the diagonal, probability and accuracy are equal."""
    figure, axes = _panel("probability, %", "right, %")
    axes.plot([0, 100], [0, 100], color=INK, linestyle=":", linewidth=0.9, label="calibrated")
    for model, colour in MODELS.items():
        bins = calibration[model]["bins"]
        axes.plot(
            [100 * each["probability"] for each in bins],
            [100 * each["accuracy"] for each in bins],
            color=colour,
            marker=MARKERS[model],
            markersize=4,
            label=_name(model, delivered),
        )
    _legend_above(axes)
    errors = "; ".join(
        f"{_name(model, delivered)}: expected calibration error {calibration[model]['ece']:.3f}"
        for model in MODELS
    )
    return as_svg(figure, "reliability", f"Share of right answers by probability. {errors}")


def risk_figure(calibration: Mapping[str, CalibrationCurve], delivered: str) -> str:
    """Share of wrong answers among the most certain ones, by their number."""
    figure, axes = _panel("answered, %", "wrong answers, %")
    for model, colour in MODELS.items():
        found = calibration[model]
        coverage, risk = ([100 * v for v in found["coverage"]], [100 * v for v in found["risk"]])
        axes.plot(coverage, risk, color=colour, label=_name(model, delivered))
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0)
    _legend_above(axes)
    areas = "; ".join(
        f"{_name(model, delivered)}: area {calibration[model]['aurc']:.4f}" for model in MODELS
    )
    return as_svg(figure, "risk", f"Risk by coverage. {areas}")


def latency_figure(latency: Mapping[str, Sequence[float]], names: Mapping[str, str]) -> str:
    """Distribution of the time of single predictions."""
    figure, axes = _panel("milliseconds", "answered by then, %")
    for model, percentiles in latency.items():
        axes.plot(percentiles, range(101), color=TIMED[model], label=names[model])
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _legend_above(axes)
    medians = "; ".join(f"{names[model]}: median {p[50]:.3g} ms" for model, p in latency.items())
    return as_svg(figure, "latency", f"Distribution of latency. {medians}")


def _panel(x: str, y: str) -> tuple["Figure", "Axes"]:
    figure, (axes,) = new_figure(rows=1, width=3.7, height=3.1)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _legend_above(axes: "Axes") -> None:
    axes.figure.legend(
        frameon=False, loc="outside upper left", ncols=3, handlelength=1.4, columnspacing=1.2
    )
