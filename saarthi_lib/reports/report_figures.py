"""The figures of the report, as inline SVG that takes its colours from the page."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saarthi_lib.reports.figures import INK, SERIES, as_svg, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MODELS = {"teacher": SERIES[2], "student": SERIES[0]}  # colours that stay the same on all figures
TIMED = {"teacher": SERIES[2], "final": SERIES[1], "quantized": SERIES[0]}


def journey_figure(rows: Sequence[tuple[str, dict[str, Any]]], languages: Sequence[str]) -> str:
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


def curve_figure(stage: str, rows: Sequence[dict[str, Any]]) -> str:
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


def groups_figure(kind: str, rows: Sequence[dict[str, Any]], metric: str) -> str:
    """Teacher and student side by side in each group, with intervals of 95%."""
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = new_figure(rows=1, width=3.7, height=0.9 + 0.38 * len(rows))
    places = range(len(rows), 0, -1)
    for (model, colour), shift in zip(MODELS.items(), (0.13, -0.13), strict=True):
        measured = [
            (place + shift, row[model])
            for place, row in zip(places, rows, strict=True)
            if row[model]["share"] is not None
        ]
        shares = [100 * value["share"] for _, value in measured]
        below = [max(0.0, 100 * (value["share"] - value["low"])) for _, value in measured]
        above = [max(0.0, 100 * (value["high"] - value["share"])) for _, value in measured]
        axes.errorbar(
            shares,
            [place for place, _ in measured],
            xerr=[below, above],
            fmt="o" if model == "teacher" else "s",
            color=colour,
            ecolor=colour,
            markersize=4.5,
            elinewidth=1.4,
            label=model,
        )
    axes.grid(axis="y", visible=False)
    axes.set_yticks(list(places), [_short(row["name"]) for row in rows])
    axes.set_ylim(0.4, len(rows) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"{metric}, %")
    _legend_above(axes)
    said = "; ".join(f"{row['name']}: {_compared(row)}" for row in rows)
    return as_svg(figure, f"groups-{kind}", f"{metric} by {kind}. {said}")


def reliability_figure(calibration: Mapping[str, dict[str, Any]]) -> str:
    """Accuracy against probability; on the diagonal a model is as right as it says."""
    figure, (axes,) = new_figure(rows=1, width=3.7, height=3.1)
    axes.plot([0, 100], [0, 100], color=INK, linestyle=":", linewidth=0.9, label="as it says")
    for model, colour in MODELS.items():
        bins = calibration[model]["bins"]
        axes.plot(
            [100 * each["probability"] for each in bins],
            [100 * each["accuracy"] for each in bins],
            color=colour,
            marker="o" if model == "teacher" else "s",
            markersize=4,
            label=model,
        )
    axes.set_xlabel("probability, %")
    axes.set_ylabel("right, %")
    _legend_above(axes)
    said = "; ".join(
        f"{model}: expected calibration error {calibration[model]['ece']:.3f}" for model in MODELS
    )
    return as_svg(figure, "reliability", f"Share of right answers by probability. {said}")


def risk_figure(calibration: Mapping[str, dict[str, Any]]) -> str:
    """The share of wrong answers among the most certain ones, from few to all."""
    figure, (axes,) = new_figure(rows=1, width=3.7, height=3.1)
    for model, colour in MODELS.items():
        found = calibration[model]
        axes.plot(
            [100 * value for value in found["coverage"]],
            [100 * value for value in found["risk"]],
            color=colour,
            label=model,
        )
    axes.set_xlabel("answered, %")
    axes.set_ylabel("wrong among them, %")
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0)
    _legend_above(axes)
    said = "; ".join(f"{model}: area {calibration[model]['aurc']:.4f}" for model in MODELS)
    return as_svg(figure, "risk", f"Risk by coverage. {said}")


def latency_figure(latency: Mapping[str, Sequence[float]], names: Mapping[str, str]) -> str:
    """Which share of single predictions took at most how long."""
    figure, (axes,) = new_figure(rows=1, width=3.7, height=3.1)
    for model, percentiles in latency.items():
        axes.plot(percentiles, range(101), color=TIMED[model], label=names[model])
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("milliseconds")
    axes.set_ylabel("answered by then, %")
    _legend_above(axes)
    said = "; ".join(f"{names[model]}: median {p[50]:.3g} ms" for model, p in latency.items())
    return as_svg(figure, "latency", f"Distribution of latency. {said}")


def _legend_above(axes: "Axes") -> None:
    axes.figure.legend(
        frameon=False, loc="outside upper left", ncols=3, handlelength=1.4, columnspacing=1.2
    )


def _compared(row: dict[str, Any]) -> str:
    return ", ".join(
        f"{model} {100 * row[model]['share']:.1f}"
        for model in MODELS
        if row[model]["share"] is not None
    )


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:21]}…"
