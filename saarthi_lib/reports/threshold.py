"""Curve and effect of a bundle's thresholds, as rows of tables and as a page."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from saarthi_lib.evaluation.calibration import wilson_interval
from saarthi_lib.evaluation.operating_point.effect import ALL, Effect, Point
from saarthi_lib.evaluation.operating_point.move import Moved, Thresholds
from saarthi_lib.reports.figures import SERIES, as_svg, literal, new_figure
from saarthi_lib.reports.page import percent, write_page

SHARES = (1.0, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.25)  # rows of the curve
LEAST_SHOWN = 0.2  # coverage from which the figure shows the whole interval


def thresholds(found: Thresholds) -> str:
    """Thresholds of a bundle in one line."""
    own = [f"{_number(value)} for {name}" for name, value in found["language_thresholds"].items()]
    return ", ".join([_number(found["threshold"]), *own])


def curve_rows(points: Sequence[Point]) -> Iterator[tuple[str, str, str, str]]:
    """Rows of the curve: the fewest answers that are at least round shares of the texts.

    Each row has the threshold, the answers, the wrong ones, and the interval of their share.
    """
    shown: Point | None = None
    for share in SHARES if points else ():
        point = next((each for each in points if each["coverage"] >= share), points[-1])
        if point is not shown:
            yield (
                _number(point["threshold"]),
                f"{point['answered']} ({percent(point['coverage'])})",
                f"{point['wrong']} ({percent(point['risk'])})",
                f"{percent(point['low'])} to {percent(point['high'])}",
            )
        shown = point


def effect_rows(effect: Effect) -> Iterator[tuple[str, str, str]]:
    """Rows of the effect: a name, and its values before and after."""
    before, after, texts = effect["before"], effect["after"], effect["texts"]
    yield "answered", _share(before["answered"], texts), _share(after["answered"], texts)
    for name in ("right", "wrong"):
        shares = [_share(each[name], each["answered"]) for each in (before, after)]
        yield f"{name} answers", shares[0], shares[1]
    yield "right, but withheld", str(before["withheld"]), str(after["withheld"])
    if outside := effect["out_of_scope"]:
        given = [f"{each['answered_out_of_scope']} of {outside}" for each in (before, after)]
        yield "out of scope, but answered", given[0], given[1]


def language_rows(effects: Sequence[Effect]) -> Iterator[tuple[str, ...]]:
    """Rows of languages: name, texts, and before and after in one cell each."""
    for effect in effects:
        before, after = effect["before"], effect["after"]
        limits = _number(effect["threshold_before"]), _number(effect["threshold_after"])
        pairs = [(str(before[name]), str(after[name])) for name in ("answered", "right", "wrong")]
        changes = (a if a == b else f"{a} → {b}" for a, b in (limits, *pairs))
        yield (effect["language"], str(effect["texts"]), *changes)


def write_threshold(path: Path, moved: Moved) -> None:
    """Write curve and effect as one self-contained HTML page."""
    write_page(
        path,
        "threshold.html.j2",
        moved=moved,
        before=thresholds(moved.before),
        after=thresholds(moved.after),
        figures={name: _figure(points, moved, name) for name, points in moved.curves.items()},
        curves={name: list(curve_rows(points)) for name, points in moved.curves.items()},
        effect=list(effect_rows(moved.effect[0])) if moved.effect else [],
        languages=list(language_rows(moved.effect[1:])),
    )


def _number(value: float | None) -> str:
    """Three decimals; more near 0 and 1, where confidences of good models lie."""
    if value is None:
        return "none"
    if 0 < value < 0.001:
        return f"{value:.1g}"
    return f"{value:.6f}" if 0.999 < value < 1 else f"{value:.3f}"


def _share(part: int, whole: int) -> str:
    """A count with its share and the 95% interval of the share."""
    if not whole:
        return str(part)
    low, high = wilson_interval(part, whole)
    return f"{part} ({percent(part / whole)}, {100 * low:.0f} to {100 * high:.0f}%)"


def _figure(points: Sequence[Point], moved: Moved, language: str) -> str:
    """Share of wrong answers by the share of answered texts, with the thresholds as points."""
    figure, (axes,) = new_figure(rows=1, width=8.4, height=3.4)
    coverage = [100 * point["coverage"] for point in points]
    risk, low, high = ([100 * point[key] for point in points] for key in ("risk", "low", "high"))
    axes.fill_between(coverage, low, high, color=SERIES[0], alpha=0.15, linewidth=0)
    axes.plot(coverage, risk, color=SERIES[0], label="wrong answers, 95% interval")
    marks = {"before": (moved.before, SERIES[1], "o"), "after": (moved.after, SERIES[2], "s")}
    for name, (found, colour, marker) in marks.items():
        if name == "after" and not moved.bundle:
            continue
        limit = _of(found, language)
        point = next((each for each in reversed(points) if each["threshold"] >= limit), None)
        if point is not None:
            x, y = 100 * point["coverage"], 100 * point["risk"]
            label = literal(f"{name if moved.bundle else 'now'}: {_number(limit)}")
            style: dict[str, Any] = {"markersize": 7, "clip_on": False, "zorder": 3}
            axes.plot([x], [y], marker, color=colour, label=label, **style)
    axes.set_xlabel("answered, %")
    axes.set_ylabel("wrong answers, %")
    axes.set_xlim(0, 100)
    # With few answers, the interval is too wide to show.
    shown = [p["high"] for p in points if p["coverage"] >= LEAST_SHOWN]
    axes.set_ylim(0, 110 * max(shown, default=1.0))
    figure.legend(frameon=False, loc="outside upper left", ncols=3)
    return as_svg(figure, f"threshold-{language}", "Share of wrong answers by share of answers")


def _of(found: Thresholds, language: str) -> float:
    own = found["language_thresholds"].get(language) if language != ALL else None
    return (found["threshold"] if own is None else own) or 0.0
