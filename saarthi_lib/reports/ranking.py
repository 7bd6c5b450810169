"""Rank configurations by their results: the page of a sweep, on one machine or in a pipeline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, cast

from saarthi_lib.evaluation.metrics import MAIN_METRIC
from saarthi_lib.evaluation.scores import Headline, delivered, headline, read_metrics
from saarthi_lib.reports.figures import INK, SERIES, as_svg, new_figure
from saarthi_lib.reports.page import write_page


class Candidate(Headline):
    """Results of a configuration, as means over its seeds.

    `varied` has the fields that differ between the configurations. `latency_ms` is the median at
    batch 1. `metric` is the name of the main metric. `pareto` is set by `rank`.
    """

    varied: dict[str, Any]
    latency_ms: float
    seeds: NotRequired[int]
    metric: NotRequired[str]
    validation_main: NotRequired[float]
    validation_range: NotRequired[list[float]]
    teacher_main: NotRequired[float]
    seconds: NotRequired[float]
    speedup: NotRequired[float]
    pareto: NotRequired[bool]


def differing(columns: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Names whose values are not the same in all columns, with one value per column."""
    names = dict.fromkeys(name for column in columns for name in column)
    values = {name: [column.get(name) for column in columns] for name in names}
    return {name: row for name, row in values.items() if any(each != row[0] for each in row)}


def rank(candidates: Sequence[Candidate], split: str) -> list[Candidate]:
    """Sort by quality on a split (`validation` or `test`), then by latency; mark the Pareto front.

    A configuration is on the front if no other is at least as good, fast and small, and better in
    one of these.
    """
    costs = [(-_quality(row, split), row["latency_ms"], row["size_bytes"]) for row in candidates]

    def is_dominated(ours: tuple[float, ...]) -> bool:
        others = (each for each in costs if each != ours)
        return any(all(a <= b for a, b in zip(each, ours, strict=True)) for each in others)

    for row, cost in zip(candidates, costs, strict=True):
        row["pareto"] = not is_dominated(cost)
    return sorted(candidates, key=lambda row: (-_quality(row, split), row["latency_ms"]))


def rank_evaluations(
    configurations: Sequence[Mapping[str, Any]], folders: Sequence[Path]
) -> list[Candidate]:
    """Rank evaluated configurations, best first, on the test split.

    Args:
        configurations: configuration of each evaluation.
        folders: folders written by `steps.evaluate`, in the same order.
    """
    varied = differing(configurations)
    candidates: list[Candidate] = []
    for at, folder in enumerate(folders):
        metrics = read_metrics(folder)
        candidate = {
            "varied": {name: _whole(values[at]) for name, values in varied.items()},
            **headline(metrics),
            "latency_ms": delivered(metrics)["latency_ms"]["p50"],
            "speedup": metrics["speedup"],
            "metric": MAIN_METRIC[metrics["task"]],
        }
        candidates.append(cast(Candidate, candidate))
    return rank(candidates, "test")


def write_ranking(
    path: Path,
    rows: Sequence[Candidate],
    *,
    title: str,
    split: str,
    metric: str = "",
    failed: Sequence[str] = (),
) -> None:
    """Write ranked configurations as one self-contained HTML page.

    Args:
        path: HTML file to write.
        rows: result of `rank`, at least one.
        title: title of the page.
        split: split that the rows are ranked on.
        metric: name of the main metric; by default that of the rows.
        failed: names of runs without a result.
    """
    metric = metric or rows[0].get("metric", "quality")
    write_page(
        path,
        "ranking.html.j2",
        title=title,
        split=split,
        metric=metric,
        rows=rows,
        failed=failed,
        figures={
            f"{metric} and latency": _figure(rows, split, metric, "latency_ms"),
            f"{metric} and size": _figure(rows, split, metric, "size_bytes"),
        },
    )


def _quality(row: Candidate, split: str) -> float:
    return row["validation_main"] if split == "validation" else row["test_main"]


def _whole(value: Any) -> Any:
    """KFP passes every number as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _figure(rows: Sequence[Candidate], split: str, metric: str, cost: str) -> str:
    """Plot quality against a cost: one point per configuration, and the Pareto front."""
    title = {"latency_ms": "median latency, ms", "size_bytes": "size of the bundle, MB"}[cost]
    figure, (axes,) = new_figure(rows=1, width=8.4, height=3.4)
    xs = [row["latency_ms"] if cost == "latency_ms" else row["size_bytes"] / 1e6 for row in rows]
    ys = [100 * _quality(row, split) for row in rows]
    ranges = [row.get("validation_range", [_quality(row, split)] * 2) for row in rows]
    below = [y - 100 * low for y, (low, _) in zip(ys, ranges, strict=True)]
    above = [100 * high - y for y, (_, high) in zip(ys, ranges, strict=True)]
    yerr = [below, above]
    axes.errorbar(xs, ys, yerr=yerr, fmt="o", markersize=5, color=SERIES[0], linewidth=1)
    points = list(zip(xs, ys, strict=True))
    front: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    axes.step(*zip(*front, strict=True), where="post", color=SERIES[1], label="front, with ranks")
    for rank, point in enumerate(points, 1):
        if point in front:
            axes.annotate(
                str(rank), point, xytext=(5, 4), textcoords="offset points", color=INK, fontsize=9
            )
    axes.set_xlabel(title)
    axes.set_ylabel(f"{metric} on {split}, %")
    figure.legend(frameon=False, loc="outside upper left")
    return as_svg(figure, cost, f"{metric} on {split} by {title}")
