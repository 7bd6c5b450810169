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
) -> str:
    """Export a student or a teacher in float32, and compare it with its source.

    Args:
        run_config: Section of the configuration, written to the bundle.
        data_config: Section of the configuration, written to the bundle.
        teacher_config: Section of the configuration, written to the bundle.
        student_config: Section of the configuration, written to the bundle.
        delivery_config: Runtime of the export, and the bundle's name and version.
        kind: "student" or "teacher".
        data: Folder written by preprocess_data.
        source: Student after a stage, or the teacher.
        exported: Bundle without metrics: TorchScript, and ONNX if the runtime is ONNX Runtime.

    Returns:
        URI and duration of the output, for record_run.
    """
    from saarthi_lib import steps
    from saarthi_lib.steps.task import paths, record_of, task

    with task(run_config, data_config, teacher_config, student_config, delivery_config) as config:
        folder, network, out = paths(data, source, exported)
        steps.log_recipe(steps.resolved(config, folder), "delivery")
        steps.export(config, folder, steps.TrainedNetwork(kind, network), out)
        exported.metadata |= {"precision": "float32", "runtime": config.runtime}
        return record_of(exported=exported)
