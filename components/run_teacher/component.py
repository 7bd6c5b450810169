"""Run the fine-tuned teacher: test it, and compute its signals for the students."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def run_teacher(
    run_config: dict,
    teacher_config: dict,
    data: dsl.Input[dsl.Dataset],
    teacher: dsl.Input[dsl.Model],
    teacher_test: dsl.Output[dsl.Artifact],
    signals: dsl.Output[dsl.Dataset],
    hidden: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    workspace: str = "",
) -> str:
    """Evaluate the fine-tuned teacher on the test split, and compute its signals, once.

    One task does both, so that the teacher is downloaded once. All students learn from the signals.

    Args:
        run_config: Task, maximum length, device and the other fields of the section `run`.
        teacher_config: Number of the teacher layer to distil.
        data: Folder written by preprocess_data.
        teacher: Folder written by train_teacher.
        teacher_test: Metrics overall and by language, with size and latency.
        signals: Logits on the transfer set, half-precision arrays, one row per subword token or
            text, which the stages map into memory.
        hidden: Everything that only stage 1 reads: hidden states on the transfer set, if a stage
            learns them, and the embedding table.
        metrics: Main metric, overall and by language.
        workspace: Folder of the run's Workspace for signals and hidden; empty: store them as
            artifacts.

    Returns:
        URIs and durations of the outputs, for record_run.
    """
    from saarthi_lib import steps
    from saarthi_lib.steps.task import kept, log_metrics, paths, record_of, task

    with task(run_config, teacher_config) as config:
        inputs = paths(data, teacher)
        result = steps.test_teacher(config, *inputs, *paths(teacher_test))
        languages = result["by_language"].items()
        by_language = {f"main_{language}": scores["main"] for language, scores in languages}
        log_metrics(metrics, {"main": result["main"], **by_language})
        made = [kept(each, workspace) for each in (signals, hidden)]
        steps.teacher_signals(config, *inputs, *made)
        return record_of(teacher_test=teacher_test, signals=signals)
