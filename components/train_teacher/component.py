"""Fine-tune a pretrained multilingual encoder on the labelled rows."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def train_teacher(
    run_config: dict,
    teacher_config: dict,
    data: dsl.Input[dsl.Dataset],
    teacher: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    curves: dsl.Output[dsl.Artifact],
) -> str:
    """Fine-tune a pretrained multilingual encoder on the labelled rows.

    Args:
        run_config: Task, seed, precision, device and the other fields of the section `run`.
        teacher_config: Name and fine-tuning of the encoder.
        data: Folder written by preprocess_data.
        teacher: Fine-tuned teacher on the trimmed vocabulary (safetensors).
        metrics: Main metric on validation.
        curves: Files of the loggers, such as TensorBoard's.

    Returns:
        URI and duration of the output, for record_run.
    """
    from saarthi_lib import steps
    from saarthi_lib.steps.task import log_metrics, loggers_of, paths, record_of, task

    with task(run_config, teacher_config) as config:
        arguments = [*paths(data, teacher), loggers_of(config, "teacher", curves)]
        scores = steps.train_teacher(config, *arguments)
        teacher.metadata |= {"teacher_name": config.teacher_name, **scores}
        log_metrics(metrics, scores)
        return record_of(teacher=teacher)
