"""Run one stage of distillation."""

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
    student: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    previous: dsl.Input[dsl.Model] | None = None,
) -> None:
    """Run one stage of distillation; the first stage creates the student.

    Args:
        run_config: Task, seed, precision, device and the other fields of the section `run`.
        student_config: Size and training of the student.
        stage: Stage number. Stage 1 learns the teacher's representations, 2 and 3 its logits, 4 and
            5 the labels. Stages 2 and 4 train only the head; 3 and 5 unfreeze the other layers from
            the top down.
        data: Folder written by preprocess_data.
        teacher: Folder written by train_teacher; stage 1 takes the student's embedding from it.
        signals: Folder written by compute_teacher_signals.
        student: Student after this stage (safetensors).
        metrics: Loss and main metric on validation.
        previous: Student after the previous stage; missing for stage 1.
    """
    from pathlib import Path

    from saarthi_lib import logs, steps
    from saarthi_lib.config import TrainConfig
    from saarthi_lib.storage import write_json

    with logs.task():
        config = TrainConfig.from_mapping({**run_config, **student_config})
        if previous is None:
            steps.log_recipe(steps.resolved(config, Path(data.path)), "student")
        scores = steps.distil(
            config,
            stage,
            Path(data.path),
            Path(teacher.path),
            Path(signals.path),
            Path(previous.path) if previous else None,
            Path(student.path),
        )
        student.metadata |= {"stage": stage, **scores}
        for name, value in scores.items():
            metrics.log_metric(name, value)
        write_json(metrics.path, scores)
