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
) -> None:
    """Fine-tune a pretrained multilingual encoder on the labelled rows.

    Args:
        run_config: Task, seed, precision, device and the other fields of the section `run`.
        teacher_config: Name and fine-tuning of the encoder.
        data: Folder written by preprocess_data.
        teacher: Fine-tuned teacher on the trimmed vocabulary (safetensors).
        metrics: Main metric on validation.
    """
    from saarthi_lib import steps
    from saarthi_lib.steps.task import log_metrics, paths, task

    with task(run_config, teacher_config) as config:
        scores = steps.train_teacher(config, *paths(data, teacher))
        teacher.metadata |= {"teacher_name": config.teacher_name, **scores}
        log_metrics(metrics, scores)
