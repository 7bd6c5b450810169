"""Run one stage of distillation."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def distil_stage(
    run_config: dict,
    student_config: dict,
    stage: int,
    data: dsl.Input[dsl.Dataset],
    student: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    curves: dsl.Output[dsl.Artifact],
    previous: dsl.Input[dsl.Model] | None = None,
    signals: dsl.Input[dsl.Dataset] | None = None,
    hidden: dsl.Input[dsl.Dataset] | None = None,
    workspace: str = "",
) -> str:
    """Run one stage of distillation; stage 1 creates the student.

    Args:
        run_config: Task, seed, precision, device and the other fields of the section `run`.
        student_config: Size and training of the student.
        stage: Stage number. Stage 1 learns the teacher's representations, 2 and 3 its logits, 4 and
            5 the labels. Stages 2 and 4 train only the head; 3 and 5 unfreeze the other layers from
            the top down.
        data: Folder written by preprocess_data.
        student: Student after this stage (safetensors).
        metrics: Loss and main metric on validation.
        curves: Files of the loggers, such as TensorBoard's.
        previous: Student after the previous stage; missing for stage 1.
        signals: Logits written by run_teacher; missing for stages 4 and 5.
        hidden: Folder written by run_teacher, with the hidden states and the student's embedding;
            only for stage 1.
        workspace: Folder of the run's Workspace, if it has one.

    Returns:
        URI and duration of the output, for record_run.
    """
    from saarthi_lib import steps
    from saarthi_lib.steps.task import log_metrics, loggers_of, paths, record_of, task

    with task(run_config, student_config, workspace=workspace) as config:
        folder, logits, before, out, states = paths(data, signals, previous, student, hidden)
        loggers = loggers_of(config, f"student_stage_{stage}", curves)
        if previous is None:
            steps.log_recipe(steps.resolved(config, folder), "student")
        scores = steps.distil(config, stage, folder, logits, before, out, loggers, hidden=states)
        student.metadata |= {"stage": stage, **scores}
        log_metrics(metrics, scores)
        return record_of(**{f"stage_{stage}": student})
