"""Record the inputs and outputs of a run."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def record_run(
    data_digest: str,
    data: str,
    teacher: str,
    signals: str,
    stage_1: str,
    stage_2: str,
    stage_3: str,
    stage_4: str,
    stage_5: str,
    exported: str,
    quantized: str,
    evaluation: str,
    bundle: str,
    bundle_quantized: str,
    record: dsl.Output[dsl.Artifact],
) -> None:
    """Record the inputs and outputs of a run, so that a bundle can be traced back to its data.

    The task reads no artifact: each task returns the URI and the duration of its output.

    Args:
        data_digest: Output of digest_data.
        data: Record of preprocess_data.
        teacher: Record of train_teacher.
        signals: Record of run_teacher.
        stage_1: Record of the first distil_stage.
        stage_2: Record of the second distil_stage.
        stage_3: Record of the third distil_stage.
        stage_4: Record of the fourth distil_stage.
        stage_5: Record of the last distil_stage.
        exported: Record of export_model.
        quantized: Record of quantize_model.
        evaluation: Record of evaluate_models.
        bundle: Record of publish_bundle for the float32 bundle.
        bundle_quantized: Record of publish_bundle for the quantized bundle, which is served.
        record: JSON with the run's id, the code's revision, the data's digest, and the URI and
            duration of every artifact.
    """
    from saarthi_lib import logs
    from saarthi_lib.steps.task import write_run_record

    with logs.task():
        stages = stage_1, stage_2, stage_3, stage_4, stage_5
        models = exported, quantized, evaluation, bundle, bundle_quantized
        write_run_record(record, data_digest, data, teacher, signals, *stages, *models)
