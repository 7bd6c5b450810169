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
    teacher: dsl.Input[dsl.Model],
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
) -> None:
    """Evaluate teacher, stages and bundles on the test split, and write the report.

    Args:
        run_config: Section of the configuration, shown in the report.
        data_config: Section of the configuration, shown in the report.
        teacher_config: Section of the configuration, shown in the report.
        student_config: Section of the configuration, shown in the report.
        delivery_config: Section of the configuration, shown in the report.
        data: Folder written by preprocess_data.
        teacher: Folder written by train_teacher.
        teacher_test: Folder written by test_teacher.
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
    """
    import shutil

    from saarthi_lib import steps
    from saarthi_lib.steps.task import log_confusion, log_metrics, main_metrics, paths, task

    with task(run_config, data_config, teacher_config, student_config, delivery_config) as config:
        stages = [stage_1, stage_2, stage_3, stage_4, stage_5]
        folder, out, *models = paths(
            data, evaluation, teacher, teacher_test, stages, exported, quantized
        )
        result = steps.evaluate(config, folder, steps.Models(*models), out)
        log_metrics(metrics, main_metrics(result))
        if config.fast_dev_run:
            metrics.metadata["trial"] = True
        log_confusion(confusion_matrix, steps.confusion_matrix(out))
        shutil.copyfile(out / "report.html", report.path)
