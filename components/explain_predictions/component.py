"""Explain answers of teacher and student, word by word."""

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
    """Explain errors on the test split and some correct answers, word by word.

    Args:
        run_config: Seed and fast_dev_run.
        delivery_config: Number of explained errors, and the bundle's name.
        data: Folder written by preprocess_data.
        teacher: Folder written by train_teacher.
        student: Student after stage 5.
        explanations: Folder with explanations.json and explanations.html.
        metrics: Faithfulness of the explanations, and agreement of teacher and student.
        report: Explanations as an HTML page.
    """
    import shutil

    from saarthi_lib import steps
    from saarthi_lib.steps.task import log_metrics, paths, task

    with task(run_config, delivery_config) as config:
        folders = paths(data, teacher, student, None, explanations)
        scores = steps.explain(config, *folders)
        explanations.metadata |= scores
        log_metrics(metrics, scores)
        shutil.copyfile(folders[-1] / "explanations.html", report.path)
