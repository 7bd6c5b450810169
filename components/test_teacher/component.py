"""Evaluate the fine-tuned teacher on the test split."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def test_teacher(
    run_config: dict,
    data: dsl.Input[dsl.Dataset],
    teacher: dsl.Input[dsl.Model],
    teacher_test: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Evaluate the fine-tuned teacher on the test split, before anything is distilled from it.

    Args:
        run_config: Task and maximum length.
        data: Of preprocess_data.
        teacher: Of train_teacher.
        teacher_test: The metrics overall and by language, with size and latency.
        metrics: The main metric, overall and by language.
    """
    from pathlib import Path

    from saarthi_lib import logs, steps
    from saarthi_lib.config import TrainConfig
    from saarthi_lib.storage import write_json

    with logs.task():
        config = TrainConfig.from_mapping(run_config)
        result = steps.test_teacher(
            config, Path(data.path), Path(teacher.path), Path(teacher_test.path)
        )
        metrics.log_metric("main", result["main"])
        for language, scores in result["by_language"].items():
            metrics.log_metric(f"main_{language}", scores["main"])
        write_json(metrics.path, result)
