"""Commands on finished runs: quantize the student again, list errors, explain answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saarthi_lib import steps
from saarthi_lib.bundle.manifest import LABELS
from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError, InputError
from saarthi_lib.evaluation.stored import finished_record
from saarthi_lib.layout import PREDICTIONS, RunLayout
from saarthi_lib.runs.folder import RunFolder, at_work, in_utf8
from saarthi_lib.storage import verify_record
from saarthi_lib.tasks import Labels

if TYPE_CHECKING:
    from saarthi_lib.evaluation.explanation.attribution import Method
    from saarthi_lib.evaluation.explanation.rows import Explanations
    from saarthi_lib.evaluation.fixes.types import ErrorList


def quantize_run(root: Path, precision: str) -> Path:
    """Quantize the student of a finished run again, into `bundle-<precision>`.

    Args:
        root: the run's folder.
        precision: `int8` or `float16`.

    Returns:
        The bundle, with its metrics on the test split.

    Raises:
        ArtifactError: a file of the run was changed or damaged.
        ConfigError: the folder is not a finished run, or keeps no student to quantize.
        ParityError: the drop on validation exceeds the limit in the run's configuration.
    """
    config = _config_of(root, quantization=precision)
    with at_work(root) as place:
        folder = RunFolder.of(config, place)
        layout = folder.layout
        data, source = layout.data, layout.stage()
        if not (source.is_dir() and data.is_dir()):
            raise ConfigError(
                f"{root}: keeps no student to quantize; run it with distillation: true and "
                "production: false"
            )
        bundle = layout.quantized_bundle(precision)
        quantized, evaluation = (
            layout.work / f"{step}-{precision}" for step in ("quantized", "evaluation")
        )
        folder.claim(quantized, evaluation, bundle)
        steps.quantize(config, data, steps.TrainedNetwork("student", source), quantized)
        steps.evaluate_bundle(config, data, quantized, layout.metrics, evaluation)
        steps.publish(config, quantized, evaluation, "quantized", bundle)
    return root / bundle.name


def errors_of_run(root: Path) -> "ErrorList":
    """List the fixes of the delivered model's wrong answers on the test split.

    Args:
        root: the run's folder. Without its prepared data (`production: true`), fixes that need the
            training rows are left out.

    Raises:
        ArtifactError: a file of the run was changed or damaged.
        ConfigError: the folder is not a finished run, or keeps no answers.
    """
    from saarthi_lib.data.preprocess import Prepared
    from saarthi_lib.evaluation.fixes.answered import answered_rows
    from saarthi_lib.evaluation.fixes.find import find_fixes
    from saarthi_lib.reports.runs import read_runs

    [run] = read_runs([root])
    if run.predictions is None:
        raise ConfigError(f"{root}: keeps no {PREDICTIONS} with the answers; train the run again")
    layout, data = RunLayout.of(root), None
    if layout.data.is_dir():
        verify_record(layout.data)
        data = Prepared(layout.data)
    labels = data.labels if data else Labels.load(layout.delivered_bundle() / LABELS)
    task = run.metrics["task"]
    return find_fixes(answered_rows(task, run.predictions, labels.answers, data))


def explain_run(
    root: Path,
    model: str,
    methods: Sequence["Method"],
    *,
    text: str | None = None,
    most: int | None = None,
) -> "Explanations":
    """Explain a text, or the errors of the test split, by a network of a finished run.

    Args:
        root: the run's folder.
        model: `student` or `teacher`.
        methods: methods of attribution.
        text: the text; None for the errors.
        most: maximum number of errors to explain; None for all.

    Raises:
        ConfigError: the folder is not a finished run, or does not keep such a network.
        InputError: the model is unknown, or the text cannot be used.
    """
    if model not in ("student", "teacher"):
        raise InputError(f"--model {model}: must be student or teacher")
    config = _config_of(root)
    with in_utf8(root) as place:
        layout = RunFolder.of(config, place).layout
        source = layout.stage() if model == "student" else layout.teacher
        if not (source.is_dir() and layout.data.is_dir()):
            raise ConfigError(
                f"{root}: keeps no {model} to explain; run it with production: false"
                + (" and distillation: true" if model == "student" else "")
            )
        network, bundle = steps.TrainedNetwork(model, source), layout.teacher_bundle
        if (model == "student") == config.distillation:
            bundle = layout.delivered_bundle()
        served = bundle if bundle.is_dir() else None
        return steps.explain_network(config, layout.data, network, served, methods, text, most)


def _config_of(root: Path, **changes: Any) -> TrainConfig:
    """The configuration of a finished run.

    Raises:
        ArtifactError: the record of the run is damaged.
        ConfigError: the folder is not a finished run.
    """
    record = finished_record(root)
    config = TrainConfig.from_mapping({**record["config"], **changes}, f"{root}/run.json")
    return config.with_reasons(record.get("recipe", {}))
