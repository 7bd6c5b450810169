"""Compute the teacher's hidden states and logits on the transfer set."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def compute_teacher_signals(
    run_config: dict,
    teacher_config: dict,
    data: dsl.Input[dsl.Dataset],
    teacher: dsl.Input[dsl.Model],
    signals: dsl.Output[dsl.Dataset],
) -> None:
    """Compute the teacher's hidden states and logits on the transfer set, once for all stages.

    Args:
        run_config: Task, device and the other fields of the section `run`.
        teacher_config: Number of the teacher layer to distil.
        data: Folder written by preprocess_data.
        teacher: Folder written by train_teacher.
        signals: Half-precision arrays, one row per subword token, which the stages map into memory.
    """
    from saarthi_lib import steps
    from saarthi_lib.steps.task import paths, task

    with task(run_config, teacher_config) as config:
        steps.teacher_signals(config, *paths(data, teacher, signals))
        signals.metadata["layer"] = config.teacher_layer_to_distil
