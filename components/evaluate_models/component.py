"""Evaluate teacher, stages and bundles on the test split, and write the report."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def evaluate_models(
    run_config: dict,
    data_config: dict,
    teacher_config: dict,
    student_config: dict,
    delivery_config: dict,
    data: dsl.Input[dsl.Dataset],
    teacher_test: dsl.Input[dsl.Artifact],
    stage_1: dsl.Input[dsl.Model],
    stage_2: dsl.Input[dsl.Model],
    stage_3: dsl.Input[dsl.Model],
    stage_4: dsl.Input[dsl.Model],
    stage_5: dsl.Input[dsl.Model],
    exported: dsl.Input[dsl.Model],
    quantized: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    confusion_matrix: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Evaluate teacher, stages and bundles on the test split, and write the report.

    Args:
        run_config: Section of the configuration, shown in the report.
        data_config: Section of the configuration, shown in the report.
        teacher_config: Section of the configuration, shown in the report.
        student_config: Section of the configuration, shown in the report.
        delivery_config: Section of the configuration, shown in the report.
        data: Folder written by preprocess_data.
        teacher_test: Folder written by run_teacher.
        stage_1: Student after stage 1.
        stage_2: Student after stage 2.
        stage_3: Student after stage 3.
        stage_4: Student after stage 4.
        stage_5: Student after stage 5.
        exported: Folder written by export_model.
        quantized: Folder written by quantize_model.
        evaluation: Folder with metrics.json and report.html.
        metrics: Main metric of each model; retention, compression and speed-up except in trials.
        confusion_matrix: Answers of the delivered bundle, for tasks with one label per text.
        report: Report as an HTML page.

    Returns:
        URI and duration of the output, for record_run.
    """
    from saarthi_lib import steps
    from saarthi_lib.steps.task import paths, record_of, show_evaluation, task

    with task(run_config, data_config, teacher_config, student_config, delivery_config) as config:
        stages = [stage_1, stage_2, stage_3, stage_4, stage_5]
        folder, out, *models = paths(data, evaluation, teacher_test, stages, exported, quantized)
        result = steps.evaluate(config, folder, steps.Models(*models), out)
        confusion = steps.confusion_matrix(out)
        show_evaluation(result, confusion, out, metrics, confusion_matrix, report)
        return record_of(evaluation=evaluation)
