"""Results of a sweep: rows by run and by configuration, and their files."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, TypedDict, cast

from saarthi_lib.layout import RunLayout
from saarthi_lib.reports.ranking import Candidate, rank, write_ranking
from saarthi_lib.storage import whole_file, write_json
from saarthi_lib.sweep.execute import result_of
from saarthi_lib.sweep.plan import SweepRun
from saarthi_lib.sweep.trial import TrialResult

LATENCY_TURNS, LATENCY_CALLS = 5, 60


class RunRow(TrialResult):
    """Result of a run, with the median latency of its bundle in milliseconds."""

    name: str
    seed: int
    varied: dict[str, Any]
    latency_ms: float


class SweepResults(TypedDict):
    """Content of `sweep.json`: `best` has the varied fields of the first configuration."""

    runs: list[RunRow]
    configurations: list[Candidate]
    best: dict[str, Any] | None
    failed: list[str]


def collect(runs: Sequence[SweepRun], finished: Sequence[str]) -> SweepResults:
    """Collect the content of `sweep.json`, with the configurations ranked on validation.

    Latency is measured here for all bundles, in turns and with nothing else of the sweep running.
    Latencies from concurrent runs cannot be compared.

    Args:
        runs: runs of the sweep.
        finished: names of the runs that have a result.
    """
    done = [run for run in runs if run.name in set(finished)]
    latency = _latency(done)
    rows: list[RunRow] = [
        {
            "name": run.name,
            "seed": run.config.seed,
            "varied": run.varied,
            **result_of(run),
            "latency_ms": latency[run.name],
        }
        for run in done
    ]
    groups: dict[str, list[RunRow]] = {}
    for row in rows:
        groups.setdefault(repr(row["varied"]), []).append(row)
    configurations = rank([_summary(group) for group in groups.values()], "validation")
    return {
        "runs": rows,
        "configurations": configurations,
        "best": configurations[0]["varied"] if configurations else None,
        "failed": [run.name for run in runs if run not in done],
    }


def _summary(rows: Sequence[RunRow]) -> Candidate:
    """Means over the seeds of a configuration, and the range of its quality."""
    scores = [row["validation_main"] for row in rows]
    columns: list[dict[str, Any]] = [dict(row) for row in rows]
    summary = {
        "varied": rows[0]["varied"],
        "seeds": len(rows),
        **{
            name: mean(column[name] for column in columns)
            for name in columns[0]
            if name not in ("name", "seed", "varied")
        },
        "validation_range": [min(scores), max(scores)],
    }
    return cast(Candidate, summary)


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
    with one_thread():
        turns = [
            {
                name: latency_at_batch_1(predictor, texts, LATENCY_CALLS)["p50"]
                for name, predictor in predictors.items()
            }
            for _ in range(LATENCY_TURNS)
        ]
    return {name: min(turn[name] for turn in turns) for name in roots}


def write_results(output: Path, results: SweepResults, title: str, metric: str) -> None:
    """Write `sweep.json`, `sweep.csv` (one row per run) and `sweep.html`.

    Args:
        output: folder of the sweep.
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
    if rows := results["configurations"]:
        failed, page = results["failed"], output / "sweep.html"
        write_ranking(page, rows, title=title, split="validation", metric=metric, failed=failed)
