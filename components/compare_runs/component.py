"""Compare the students of a sweep."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def compare_runs(
    configurations: list,
    evaluations: dsl.Input[list[dsl.Artifact]],
    comparison: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> None:
    """Compare the students of a sweep: main metric, retention, size and latency, best first.

    Args:
        configurations: Student configurations, in the order of the evaluations.
        evaluations: Folders written by evaluate_models, one per configuration.
        comparison: Table as JSON, best student first.
        metrics: Metrics of the best student.
        report: Table as an HTML page.
    """
    from pathlib import Path

    from saarthi_lib import logs
    from saarthi_lib.reports.ranking import rank_evaluations, write_ranking
    from saarthi_lib.steps.task import log_metrics, paths
    from saarthi_lib.storage import write_json

    with logs.task():
        [folders] = paths(evaluations)
        rows = rank_evaluations(configurations, folders)
        write_json(comparison.path, rows)
        write_ranking(Path(report.path), rows, title="students of a pipeline", split="test")
        comparison.metadata |= {"configurations": len(rows), "best": rows[0]["varied"]}
        numbers = {k: v for k, v in rows[0].items() if isinstance(v, int | float)}
        del numbers["pareto"]
        log_metrics(metrics, numbers)
