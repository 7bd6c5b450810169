"""All steps in one process: the library's `train`, and `saarthi train`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saarthi_lib import steps
from saarthi_lib.config import TRIAL, TrainConfig, require
from saarthi_lib.data.detect import with_task
from saarthi_lib.distillation.schedule import with_layers
from saarthi_lib.errors import TeacherError
from saarthi_lib.layout import EXPLANATIONS, STAGES, RunLayout
from saarthi_lib.logs import get_logger
from saarthi_lib.recipe import with_members, with_one_teacher
from saarthi_lib.runs.folder import RunFolder, at_work
from saarthi_lib.runs.reuse import Run
from saarthi_lib.storage import copy_file, digest_file, read_json

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

logger = get_logger("run")

Loggers = Mapping[str, Sequence["Logger"]]


def train(
    config: TrainConfig | Mapping[str, Any],
    loggers: Loggers | None = None,
    store: Path | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Train, distil, export, quantize, evaluate and bundle, into `root_output_path`.

    A step is reused if an earlier run in the same folder finished it with the same configuration,
    data and code. An interrupted run therefore resumes where it stopped. A step is rerun if its
    files were changed or damaged. One run at a time works in a folder. A finished run is not
    replaced by one with other data or networks unless `overwrite` is given; a trial may be.

    Args:
        config: the configuration, or a mapping of its fields.
        loggers: Lightning loggers for `teacher` and `student_stage_1` … `student_stage_5`, a list
            each; missing or empty means none.
        store: folder of finished steps that several runs share. A run reuses the steps that another
            has made with the same configuration, data and code.
        overwrite: replace another finished run in the folder.

    Returns:
        The run's folder.

    Raises:
        SaarthiError: an error that the user can fix.
    """
    from saarthi_lib.training.device import world

    world()
    if not isinstance(config, TrainConfig):
        config = TrainConfig.from_mapping(config)
    require(config, "input_path", "root_output_path")
    config = with_layers(with_one_teacher(with_task(config)))
    root = Path(config.root_output_path)
    with at_work(root) as place:
        if config.fast_dev_run:
            logger.warning(TRIAL)
        _train(Run(config, store, place, overwrite=overwrite), loggers or {})
        if config.fast_dev_run:
            logger.warning(TRIAL)
    return root


def _train(run: Run, logs: Loggers) -> None:
    """The steps in the order of the README's picture; each line makes or reuses one folder."""
    layout = run.layout
    data = run.prepare()
    steps.check_risk_target(run.config, data)
    teacher = _teacher(run, data, logs)
    teacher_test = run.make(steps.test_teacher, data, teacher, out=layout.teacher_test)
    stages = _distil(run, data, teacher, logs) if run.config.distillation else []
    delivered = ("student", stages[-1]) if stages else ("teacher", teacher)
    network = steps.TrainedNetwork(*delivered)
    exported = run.make(steps.export, data, network, out=layout.exported)
    quantized = None
    if run.config.quantization:
        quantized = run.make(steps.quantize, data, network, out=layout.quantized)
    models = steps.Models(teacher_test, stages, exported, quantized)
    evaluation = run.make(steps.evaluate, data, models, out=layout.evaluation)
    _publish(run, exported, evaluation, "final", layout.bundle)
    if run.config.quantization and quantized:
        bundle = layout.quantized_bundle(run.config.quantization)
        _publish(run, quantized, evaluation, "quantized", bundle)
    if run.config.torchscript and stages:
        network = steps.TrainedNetwork("teacher", teacher)
        whole = run.make(steps.export, data, network, out=layout.teacher_exported)
        _publish(run, whole, evaluation, "teacher", layout.teacher_bundle)
    if run.config.explained_errors:
        student = stages[-1] if stages else None
        inputs = (data, teacher, student, quantized or exported)
        explained = run.make(steps.explain, *inputs, out=layout.explained)
        run.folder.claim(layout.explanations)
        copy_file(explained / EXPLANATIONS, layout.explanations)
    finish(run.config, run.folder, evaluation)


def _teacher(run: Run, data: Path, logs: Loggers) -> Path:
    """Fine-tune the teacher, or use the one that the user brought."""
    teacher, config = run.layout.teacher, run.config
    if not config.teacher_exists:
        loggers = logs.get("teacher", ())
        return run.make(steps.train_teacher, data, out=teacher, loggers=loggers)
    described = _require_fitting(teacher, data)
    logger.info("teacher: %s, as teacher_exists says", teacher)
    return run.take(teacher, with_members(config, described))


def _require_fitting(teacher: Path, data: Path) -> dict[str, Any]:
    """Check that an existing teacher was trained on the vocabulary of these data.

    Returns:
        The content of its `teacher.json`.

    Raises:
        TeacherError: the teacher is missing, or its vocabulary differs.
    """
    try:
        described: dict[str, Any] = read_json(teacher / "teacher.json")
        trained_on = described["tokenizer"]
    except (OSError, ValueError, KeyError):
        raise TeacherError(
            f"{teacher}: holds no fine-tuned teacher, though teacher_exists is true; set it to "
            "false to train one"
        ) from None
    if trained_on != digest_file(data / "tokenizer.json"):
        raise TeacherError(
            f"{teacher}: was fine-tuned on a vocabulary that differs from that of these data; set "
            "teacher_exists to false to train it again"
        )
    return described


def _distil(run: Run, data: Path, teacher: Path, logs: Loggers) -> list[Path]:
    """Compute the teacher's signals, and then the student's stages one after the other."""
    signals = run.make(steps.teacher_signals, data, teacher, out=run.layout.signals)
    stages: list[Path] = []
    for stage in STAGES:
        inputs = (data, signals, stages[-1] if stages else None)
        out, loggers = run.layout.stage(stage), logs.get(f"student_stage_{stage}", ())
        stages.append(run.make(steps.distil, stage, *inputs, out=out, loggers=loggers))
    return stages


def _publish(run: Run, exported: Path, evaluation: Path, model: str, bundle: Path) -> None:
    """Write a bundle with the metrics of a model."""
    run.folder.claim(bundle)
    digest = run.folder.record["data_digest"]
    steps.publish(run.config, exported, evaluation, model, bundle, digest)


def finish(config: TrainConfig, folder: RunFolder, evaluation: Path) -> None:
    """Copy the results to the top of the run's folder, and remove files that are not kept.

    Args:
        config: the configuration.
        folder: the run's folder.
        evaluation: folder written by `evaluate`.
    """
    layout = folder.layout
    if saved := steps.log_saved(layout):
        folder.record["saved_seconds"] = saved
    results = (layout.metrics, layout.report, layout.predictions)
    folder.claim(*results)
    for place in results:
        copy_file(evaluation / place.name, place)
    if config.production:
        folder.remove_all_but_deliverables(keep_teacher=config.teacher_exists)
    elif not (config.enable_teacher_checkpointing or config.teacher_exists):
        folder.remove([layout.teacher])
    folder.save()


def loggers_of(config: TrainConfig) -> Loggers:
    """Loggers from the configuration, for the teacher and for each stage.

    Loggers that write files use `logs/` in the run's folder.

    Raises:
        ConfigError: a logger's package is not installed.
    """
    from saarthi_lib.training.loggers import make_loggers

    parts = ["teacher", *(f"student_stage_{stage}" for stage in STAGES)]
    logs = RunLayout(Path(config.root_output_path)).logs
    return make_loggers(config.loggers, logs, config.name, parts)
