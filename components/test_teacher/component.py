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
    """Evaluate the fine-tuned teacher on the test split, before distillation.

    Args:
        run_config: Task and maximum length.
        data: Folder written by preprocess_data.
        teacher: Folder written by train_teacher.
        teacher_test: Metrics overall and by language, with size and latency.
        metrics: Main metric, overall and by language.
    """
    from saarthi_lib import steps
    from saarthi_lib.steps.task import log_metrics, paths, task

    with task(run_config) as config:
        result = steps.test_teacher(config, *paths(data, teacher, teacher_test))
        languages = result["by_language"].items()
        by_language = {f"main_{language}": scores["main"] for language, scores in languages}
        log_metrics(metrics, {"main": result["main"], **by_language})
