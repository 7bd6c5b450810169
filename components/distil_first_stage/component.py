"""Make a student of the teacher's embedding; with tags, teach it the teacher's representations."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def distil_first_stage(
    run_config: dict,
    student_config: dict,
    data: dsl.Input[dsl.Dataset],
    teacher: dsl.Input[dsl.Model],
    signals: dsl.Input[dsl.Dataset],
    student: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Make a student of the teacher's embedding; with tags, teach it the teacher's representations.

    Args:
        run_config: Task, seed, precision, device and the other fields of the section `run`.
        student_config: Sizes and training of the student.
        data: Output of preprocess_data.
        teacher: Output of train_teacher; the SVD of its table is the student's embedding.
        signals: Output of compute_teacher_signals.
        student: The student after stage 1 (safetensors).
        metrics: Loss and main metric on validation.
    """
    from pathlib import Path

    from saarthi_lib import logs, steps
    from saarthi_lib.config import TrainConfig
    from saarthi_lib.storage import write_json

    with logs.task():
        config = TrainConfig.from_mapping({**run_config, **student_config})
        steps.log_recipe(steps.resolved(config, Path(data.path)), "student")
        scores = steps.distil(
            config,
            1,
            Path(data.path),
            Path(teacher.path),
            Path(signals.path),
            None,
            Path(student.path),
        )
        student.metadata |= {"stage": 1, **scores}
        for name, value in scores.items():
            metrics.log_metric(name, value)
        write_json(metrics.path, scores)
