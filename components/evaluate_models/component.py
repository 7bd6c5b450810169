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
        data: Output of preprocess_data.
        teacher: Output of train_teacher.
        teacher_test: Output of test_teacher.
        stage_1: The student after stage 1.
        stage_2: The student after stage 2.
        stage_3: The student after stage 3.
        stage_4: The student after stage 4.
        stage_5: The student after stage 5.
        exported: Output of export_model.
        quantized: Output of quantize_model.
        evaluation: metrics.json and report.html.
        metrics: Main metric of baseline, teacher and bundles, and retention, compression and
            speedup, which a trial run lacks.
        confusion_matrix: Of the delivered bundle, for tasks that label whole texts.
        report: The report as a page.
    """
    import shutil
    from pathlib import Path

    from saarthi_lib import logs, steps
    from saarthi_lib.config import TrainConfig
    from saarthi_lib.storage import write_json

    with logs.task():
        config = TrainConfig.from_mapping(
            {**run_config, **data_config, **teacher_config, **student_config, **delivery_config}
        )
        stages = (stage_1, stage_2, stage_3, stage_4, stage_5)
        result = steps.evaluate(
            config,
            Path(data.path),
            Path(teacher.path),
            Path(teacher_test.path),
            [Path(stage.path) for stage in stages],
            Path(exported.path),
            Path(quantized.path),
            Path(evaluation.path),
        )
        if config.fast_dev_run:
            metrics.metadata["trial"] = True
        else:
            for name in ("retention", "compression", "speedup"):
                metrics.log_metric(name, result[name])
        metrics.log_metric("baseline_main", result["baseline"]["main"])
        metrics.log_metric("teacher_main", result["teacher"]["main"])
        metrics.log_metric("final_main", result["student"]["final"]["main"])
        metrics.log_metric("quantized_main", result["quantized"]["main"])
        confusion = steps.confusion_matrix(Path(evaluation.path))
        if confusion is not None:
            confusion_matrix.log_confusion_matrix(*confusion)
        write_json(metrics.path, result)
        write_json(confusion_matrix.path, confusion)
        shutil.copyfile(Path(evaluation.path) / "report.html", report.path)
