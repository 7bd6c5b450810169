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
        teacher_config: Which encoder, and how it is fine-tuned.
        data: Of preprocess_data.
        teacher: The fine-tuned teacher on the trimmed vocabulary (safetensors).
        metrics: The main metric on validation.
    """
    from pathlib import Path

    from saarthi_lib import logs, steps
    from saarthi_lib.config import TrainConfig
    from saarthi_lib.storage import write_json

    with logs.task():
        config = TrainConfig.from_mapping({**run_config, **teacher_config})
        scores = steps.train_teacher(config, Path(data.path), Path(teacher.path))
        teacher.metadata |= {"teacher_name": config.teacher_name, **scores}
        for name, value in scores.items():
            metrics.log_metric(name, value)
        write_json(metrics.path, scores)
