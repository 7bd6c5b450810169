"""Results of a sweep: rows by run and by configuration, the best configuration, and a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from saarthi_lib.layout import RunLayout
from saarthi_lib.reports.figures import INK, SERIES, as_svg, new_figure
from saarthi_lib.reports.page import write_page
from saarthi_lib.storage import whole_file, write_json
from saarthi_lib.sweep.execute import result_of
from saarthi_lib.sweep.plan import SweepRun

LATENCY_TURNS, LATENCY_CALLS = 5, 60


def collect(runs: Sequence[SweepRun], finished: Sequence[str]) -> dict[str, Any]:
    """Collect the content of `sweep.json`.

    Latency is measured here for all bundles, in turns and with nothing else of the sweep running.
    Latencies from concurrent runs cannot be compared.

    Args:
        runs: runs of the sweep.
        finished: names of the runs that have a result.

    Returns:
        `runs` (`name`, `seed`, `varied`, and the metrics), `configurations` (means over the seeds,
        and the range of the quality, best first) and `best`, the varied fields of the first.
        `failed` names the other runs. Configurations are ranked by quality on validation, then by
        latency; the test split is not used.
    """
    done = [run for run in runs if run.name in set(finished)]
    latency = _latency(done)
    rows = [
        {
            "name": run.name,
            "seed": run.config.seed,
            "varied": run.varied,
            **result_of(run),
            "latency_ms": latency[run.name],
        }
        for run in done
    ]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(repr(row["varied"]), []).append(row)
    configurations = [_summary(group) for group in groups.values()]
    configurations.sort(key=lambda row: (-row["validation_main"], row["latency_ms"]))
    for row in configurations:
        row["pareto"] = _is_undominated(row, configurations)
    return {
        "runs": rows,
        "configurations": configurations,
        "best": configurations[0]["varied"] if configurations else None,
        "failed": [run.name for run in runs if run.name not in set(finished)],
    }


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    scores = [row["validation_main"] for row in rows]
    figures = (
        "validation_main",
        "test_main",
        "teacher_main",
        "retention",
        "parameters",
        "size_bytes",
        "compression",
        "latency_ms",
        "seconds",
    )
    return {
        "varied": rows[0]["varied"],
        "seeds": len(rows),
        **{name: mean(row[name] for row in rows) for name in figures},
        "validation_range": [min(scores), max(scores)],
    }


def _is_undominated(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no other row is at least as good, fast and small, and better in one of these."""

    def costs(each: Mapping[str, Any]) -> tuple[float, float, float]:
        return -each["validation_main"], each["latency_ms"], each["size_bytes"]

    ours = costs(row)
    return not any(
        all(a <= b for a, b in zip(costs(other), ours, strict=True)) and costs(other) != ours
        for other in rows
    )


def _latency(runs: Sequence[SweepRun]) -> dict[str, float]:
    """Median milliseconds at batch 1 of each run's delivered bundle: the best of several turns."""
    from saarthi_lib.data.preprocess import Prepared
    from saarthi_lib.evaluation.evaluate import one_thread
    from saarthi_lib.evaluation.latency import latency_at_batch_1
    from saarthi_lib.inference.predictor import Predictor

    if not runs:
        return {}
    roots = {run.name: Path(run.config.root_output_path) for run in runs}
    first = next(iter(roots.values()))
    texts = list(Prepared(RunLayout.of(first).data).table("validation")["text"])
    predictors = {
        name: Predictor.load(RunLayout(root).delivered_bundle()) for name, root in roots.items()
    }
    found: dict[str, list[float]] = {name: [] for name in roots}
    with one_thread():
        for _ in range(LATENCY_TURNS):
            for name, predictor in predictors.items():
                found[name].append(latency_at_batch_1(predictor, texts, LATENCY_CALLS)["p50"])
    return {name: min(values) for name, values in found.items()}


def write_results(output: Path, results: Mapping[str, Any], title: str, metric: str) -> None:
    """Write `sweep.json`, `sweep.csv` (one row per run) and `sweep.html`.

    Args:
        output: the sweep's folder.
        results: result of `collect`.
        title: title of the page.
        metric: description of the main metric.
    """
    import pandas as pd

    write_json(output / "sweep.json", results)
    flat = [
        {
            **{key: value for key, value in row.items() if key != "varied"},
            **{field: str(value) for field, value in row["varied"].items()},
        }
        for row in results["runs"]
    ]
    with whole_file(output / "sweep.csv") as aside:
        pd.DataFrame(flat).to_csv(aside, index=False)
    if results["configurations"]:
        rows = results["configurations"]
        write_page(
            output / "sweep.html",
            "sweep.html.j2",
            title=title,
            metric=metric,
            rows=rows,
            fields=list(rows[0]["varied"]),
            failed=results["failed"],
            figures=[
                _figure(rows, "latency_ms", 1.0, "latency at batch 1, ms", "latency"),
                _figure(rows, "size_bytes", 1e-6, "the bundle on disk, MB", "size"),
            ],
        )


def _figure(
    rows: Sequence[Mapping[str, Any]], cost: str, scale: float, title: str, name: str
) -> Any:
    """Plot of quality against a cost: one point per configuration, and the Pareto front."""
    figure, (axes,) = new_figure(rows=1, width=8.4, height=3.4)
    xs = [scale * row[cost] for row in rows]
    ys = [100 * row["validation_main"] for row in rows]
    low = [y - 100 * row["validation_range"][0] for y, row in zip(ys, rows, strict=True)]
    high = [100 * row["validation_range"][1] - y for y, row in zip(ys, rows, strict=True)]
    axes.errorbar(xs, ys, yerr=[low, high], fmt="o", markersize=5, color=SERIES[0], linewidth=1)
    front: list[tuple[float, float]] = []
    for x, y in sorted(zip(xs, ys, strict=True), key=lambda point: (point[0], -point[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    axes.step(*zip(*front, strict=True), where="post", color=SERIES[1], label="Pareto front")
    for x, y, row in zip(xs, ys, rows, strict=True):
        if (x, y) in front:
            axes.annotate(
                " ".join(str(value) for value in row["varied"].values()),
                (x, y),
                xytext=(4, -11),
                textcoords="offset points",
                color=INK,
                fontsize=8,
            )
    axes.set_xlabel(title)
    axes.set_ylabel("validation, %")
    axes.legend(frameon=False, loc="lower right")
    return as_svg(figure, name, f"Quality on validation against {title}")
