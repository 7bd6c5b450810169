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
        configurations: What each of them was trained with, in the order of the evaluations.
        evaluations: Of evaluate_models, one a configuration.
        comparison: The table as JSON, best first.
        metrics: The best configuration's figures.
        report: The table as a page.
    """
    from pathlib import Path

    from saarthi_lib import logs
    from saarthi_lib.reports.students import compare_evaluations, write_comparison
    from saarthi_lib.storage import write_json

    with logs.task():
        folders = [Path(evaluation.path) for evaluation in evaluations]
        rows = compare_evaluations(configurations, folders)
        write_json(comparison.path, rows)
        write_comparison(Path(report.path), rows)
        best = rows[0]
        comparison.metadata |= {"configurations": len(rows), "best": best["configuration"]}
        for name, value in best["figures"].items():
            metrics.log_metric(name, value)
        write_json(metrics.path, best["figures"])
