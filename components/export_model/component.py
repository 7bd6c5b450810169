"""Export a student or a teacher in float32, and compare it with its source."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def export_model(
    run_config: dict,
    data_config: dict,
    teacher_config: dict,
    student_config: dict,
    delivery_config: dict,
    kind: str,
    data: dsl.Input[dsl.Dataset],
    source: dsl.Input[dsl.Model],
    exported: dsl.Output[dsl.Model],
) -> None:
    """Export a student or a teacher in float32, and compare it with its source.

    Args:
        run_config: Section of the configuration, written into the bundle.
        data_config: Section of the configuration, written into the bundle.
        teacher_config: Section of the configuration, written into the bundle.
        student_config: Section of the configuration, written into the bundle.
        delivery_config: The runtime to export for, and the bundle's name and version.
        kind: "student" or "teacher".
        data: Output of preprocess_data.
        source: A stage's student, or the teacher.
        exported: A bundle (TorchScript, and ONNX when the runtime is ONNX Runtime) without metrics.
    """
    from pathlib import Path

    from saarthi_lib import logs, steps
    from saarthi_lib.config import TrainConfig

    with logs.task():
        config = TrainConfig.from_mapping(
            {**run_config, **data_config, **teacher_config, **student_config, **delivery_config}
        )
        steps.log_recipe(steps.resolved(config, Path(data.path)), "delivery")
        network = steps.TrainedNetwork(kind, Path(source.path))
        steps.export(config, Path(data.path), network, Path(exported.path))
        exported.metadata |= {"precision": "float32", "runtime": config.runtime}
