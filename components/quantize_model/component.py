"""Quantize a student or a teacher, and reject it if it loses too much quality."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def quantize_model(
    run_config: dict,
    data_config: dict,
    teacher_config: dict,
    student_config: dict,
    delivery_config: dict,
    kind: str,
    data: dsl.Input[dsl.Dataset],
    source: dsl.Input[dsl.Model],
    quantized: dsl.Output[dsl.Model],
) -> str:
    """Quantize a student or a teacher, and reject it if it loses too much on validation.

    Args:
        run_config: Section of the configuration, written to the bundle.
        data_config: Section of the configuration, written to the bundle.
        teacher_config: Section of the configuration, written to the bundle.
        student_config: Section of the configuration, written to the bundle.
        delivery_config: Precision (int8 or float16), and the largest drop of the main metric.
        kind: "student" or "teacher".
        data: Folder written by preprocess_data.
        source: Student after a stage, or the teacher.
        quantized: Bundle without metrics.

    Returns:
        URI and duration of the output, for record_run.
    """
    from saarthi_lib import steps
    from saarthi_lib.steps.task import paths, record_of, task

    with task(run_config, data_config, teacher_config, student_config, delivery_config) as config:
        folder, network, out = paths(data, source, quantized)
        steps.quantize(config, folder, steps.TrainedNetwork(kind, network), out)
        quantized.metadata |= {"precision": config.quantization, "runtime": config.runtime}
        return record_of(quantized=quantized)
