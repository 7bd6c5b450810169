"""Quantize a student or a teacher, and refuse it when it lost too much."""

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
) -> None:
    """Quantize a student or a teacher, and refuse it if it loses too much on validation.

    Args:
        run_config: Section of the configuration, written into the bundle.
        data_config: Section of the configuration, written into the bundle.
        teacher_config: Section of the configuration, written into the bundle.
        student_config: Section of the configuration, written into the bundle.
        delivery_config: int8 or float16, and how much of the main metric it may cost.
        kind: "student" or "teacher".
        data: Output of preprocess_data.
        source: A stage's student, or the teacher.
        quantized: A bundle without metrics.
    """
    from pathlib import Path

    from saarthi_lib import logs, steps
    from saarthi_lib.config import TrainConfig

    with logs.task():
        config = TrainConfig.from_mapping(
            {**run_config, **data_config, **teacher_config, **student_config, **delivery_config}
        )
        network = steps.TrainedNetwork(kind, Path(source.path))
        steps.quantize(config, Path(data.path), network, Path(quantized.path))
        quantized.metadata |= {"precision": config.quantization, "runtime": config.runtime}
