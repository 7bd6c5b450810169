"""Run one of the distillation stages 2 to 5 on the student of the stage before."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def distil_stage(
    run_config: dict,
    student_config: dict,
    stage: int,
    data: dsl.Input[dsl.Dataset],
    teacher: dsl.Input[dsl.Model],
    signals: dsl.Input[dsl.Dataset],
    previous: dsl.Input[dsl.Model],
    student: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Run one of the distillation stages 2 to 5 on the student of the stage before.

    Args:
        run_config: Task, seed, precision, device and the other fields of the section `run`.
        student_config: How the student is trained.
        stage: 2 and 3 learn the teacher's logits, 4 and 5 the labels; 2 and 4 release the head
            alone, 3 and 5 unfreeze the student from the top down.
        data: Of preprocess_data.
        teacher: Of train_teacher.
        signals: Of compute_teacher_signals.
        previous: The student of the stage before.
        student: The student after this stage (safetensors).
        metrics: Loss and main metric on validation.
    """
    from pathlib import Path

    from saarthi_lib import logs, steps
    from saarthi_lib.config import TrainConfig
    from saarthi_lib.storage import write_json

    with logs.task():
        config = TrainConfig.from_mapping({**run_config, **student_config})
        scores = steps.distil(
            config,
            stage,
            Path(data.path),
            Path(teacher.path),
            Path(signals.path),
            Path(previous.path),
            Path(student.path),
        )
        student.metadata |= {"stage": stage, **scores}
        for name, value in scores.items():
            metrics.log_metric(name, value)
        write_json(metrics.path, scores)
