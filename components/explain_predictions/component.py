"""Explain what teacher and student answer, word by word."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def explain_predictions(
    run_config: dict,
    delivery_config: dict,
    data: dsl.Input[dsl.Dataset],
    teacher: dsl.Input[dsl.Model],
    student: dsl.Input[dsl.Model],
    explanations: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> None:
    """Explain errors of the test split and some right answers, word by word.

    Args:
        run_config: Seed and fast_dev_run.
        delivery_config: How many errors are explained, and the bundle's name.
        data: Output of preprocess_data.
        teacher: Output of train_teacher.
        student: The student after stage 5.
        explanations: explanations.json and explanations.html.
        metrics: How faithful the explanations are, and how far teacher and student agree.
        report: The explanations as a page.
    """
    import shutil
    from pathlib import Path

    from saarthi_lib import logs, steps
    from saarthi_lib.config import TrainConfig
    from saarthi_lib.storage import write_json

    with logs.task():
        config = TrainConfig.from_mapping({**run_config, **delivery_config})
        paths = (Path(data.path), Path(teacher.path), Path(student.path))
        figures = steps.explain(config, *paths, Path(explanations.path))
        explanations.metadata |= figures
        for name, value in figures.items():
            metrics.log_metric(name, value)
        write_json(metrics.path, figures)
        shutil.copyfile(Path(explanations.path) / "explanations.html", report.path)
