"""Record the inputs and outputs of a run."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def record_run(
    data_digest: str,
    data: dsl.Input[dsl.Dataset],
    teacher: dsl.Input[dsl.Model],
    teacher_test: dsl.Input[dsl.Artifact],
    signals: dsl.Input[dsl.Dataset],
    stage_1: dsl.Input[dsl.Model],
    stage_2: dsl.Input[dsl.Model],
    stage_3: dsl.Input[dsl.Model],
    stage_4: dsl.Input[dsl.Model],
    stage_5: dsl.Input[dsl.Model],
    exported: dsl.Input[dsl.Model],
    quantized: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    bundle: dsl.Input[dsl.Model],
    bundle_quantized: dsl.Input[dsl.Model],
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Record the inputs and outputs of a run, so that a bundle can be traced back to its data.

    Args:
        data_digest: Output of digest_data.
        data: Folder written by preprocess_data.
        teacher: Folder written by train_teacher.
        teacher_test: Folder written by test_teacher.
        signals: Folder written by compute_teacher_signals.
        stage_1: Student after stage 1.
        stage_2: Student after stage 2.
        stage_3: Student after stage 3.
        stage_4: Student after stage 4.
        stage_5: Student after stage 5.
        exported: Folder written by export_model.
        quantized: Folder written by quantize_model.
        evaluation: Folder written by evaluate_models.
        bundle: Float32 bundle.
        bundle_quantized: Quantized bundle, which is served.
        record: JSON with the run's id, the code's revision, the data's digest, and the URI and
            duration of every artifact.
    """
    from saarthi_lib import logs
    from saarthi_lib.steps.task import write_run_record

    with logs.task():
        artifacts = {
            "data": data, "teacher": teacher, "teacher_test": teacher_test, "signals": signals,
            "stage_1": stage_1, "stage_2": stage_2, "stage_3": stage_3, "stage_4": stage_4,
            "stage_5": stage_5, "exported": exported, "quantized": quantized,
            "evaluation": evaluation, "bundle": bundle, "bundle_quantized": bundle_quantized,
        }  # fmt: skip
        write_run_record(record, data_digest, artifacts)
