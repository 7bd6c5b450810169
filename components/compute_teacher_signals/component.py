"""Compute the teacher's hidden states and logits on the transfer set, once."""

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
    """Compute the teacher's hidden states and logits on the transfer set, once.

    Args:
        run_config: Task, device and the other fields of the section `run`.
        teacher_config: Which layer is distilled.
        data: Of preprocess_data.
        teacher: Of train_teacher.
        signals: Half-precision arrays, a row a piece, that the stages map into memory.
    """
    from pathlib import Path

    from saarthi_lib import logs, steps
    from saarthi_lib.config import TrainConfig

    with logs.task():
        config = TrainConfig.from_mapping({**run_config, **teacher_config})
        steps.teacher_signals(config, Path(data.path), Path(teacher.path), Path(signals.path))
        signals.metadata["layer"] = config.teacher_layer_to_distil
