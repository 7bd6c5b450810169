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
    """Run one stage of distillation; stage 1 creates the student.

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
    from saarthi_lib import steps
    from saarthi_lib.steps.task import log_metrics, paths, task

    with task(run_config, student_config) as config:
        inputs = paths(data, teacher, signals, previous)
        if previous is None:
            steps.log_recipe(steps.resolved(config, inputs[0]), "student")
        scores = steps.distil(config, stage, *inputs, *paths(student))
        student.metadata |= {"stage": stage, **scores}
        log_metrics(metrics, scores)
