"""Student or teacher → exported: float32 or quantized model files in a bundle without metrics."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saarthi_lib.bundle import FAMILIARITY, BundleManifest, write_bundle
from saarthi_lib.config import NOT_IN_ARTIFACTS, SECTIONS, TrainConfig
from saarthi_lib.errors import ParityError
from saarthi_lib.logs import get_logger
from saarthi_lib.steps.data import prepared_data
from saarthi_lib.steps.network import manifest_content, network_predictor, served_network
from saarthi_lib.steps.record import reads, recorded_step
from saarthi_lib.storage import folder_size, write_json

if TYPE_CHECKING:
    from saarthi_lib.data.preprocess import Prepared
    from saarthi_lib.inference.predictor import Predictor

logger = get_logger("steps")


@reads(*SECTIONS)  # the bundle holds the whole configuration
def export(config: TrainConfig, data: Path, source: Path, kind: str, out: Path) -> None:
    """Export a student or teacher in float32 as a bundle without metrics, and check parity."""
    with recorded_step(f"export {kind}", config, out, data, source) as folder:
        _write_models(config, data, source, kind, "float32", folder)


@reads(*SECTIONS)
def quantize(config: TrainConfig, data: Path, source: Path, kind: str, out: Path) -> None:
    """Export in the configured quantization as a bundle without metrics.

    `quantization.json` records the loss on validation for each engine and language. If the loss is
    too large, `<out>.refused.json` records it instead.

    Raises:
        ParityError: the quantized model lost more on validation than allowed.
    """
    from saarthi_lib.evaluation.evaluate import evaluate_table
    from saarthi_lib.export.parity import check_quality, quality_changes
    from saarthi_lib.inference.predictor import Predictor

    precision = config.quantization or "float32"
    refused = out.with_name(f"{out.name}.refused.json")
    with recorded_step(f"quantize {kind} ({precision})", config, out, data, source) as folder:
        manifest = _write_models(config, data, source, kind, precision, folder).manifest
        validation = prepared_data(data).table("validation")
        before, _, _ = evaluate_table(network_predictor(data, source, kind), validation)
        changes = {}
        for runtime, model in (("torchscript", "model.pt"), ("onnxruntime", "model.onnx")):
            if model in manifest.files:
                predictor = Predictor.load(folder / "bundle", runtime=runtime)
                after, _, _ = evaluate_table(predictor, validation)
                changes[runtime] = quality_changes(before, after)
                logger.info(
                    "validation: %.4f before, %.4f after (%s)",
                    before["main"],
                    after["main"],
                    runtime,
                )
        write_json(folder / "quantization.json", changes)
        refused.unlink(missing_ok=True)
        for runtime, change in changes.items():
            try:
                if not config.fast_dev_run:
                    check_quality(change, config.max_quantization_loss, precision)
            except ParityError as error:
                write_json(refused, changes)
                raise ParityError(f"on {runtime}, {error}. All metrics: {refused}") from None


def check_risk_target(config: TrainConfig, data: Path) -> None:
    """Check before training that the validation rows can support the risk target.

    Raises:
        ConfigError: they cannot, even if all their answers are right.
    """
    from saarthi_lib.evaluation import abstention

    abstention.check_risk_target(config, prepared_data(data).summary["rows"]["validation"])


def _write_models(
    config: TrainConfig, data: Path, source: Path, kind: str, precision: str, folder: Path
) -> "Predictor":
    """Write model files as a bundle to `folder / "bundle"`; returns its predictor."""
    from saarthi_lib.evaluation.abstention import calibrate, familiarity_of
    from saarthi_lib.inference.predictor import Predictor

    prepared = prepared_data(data)
    content = {
        "name": config.name,
        "version": config.bundle_version,
        "runtime": config.runtime,
        "precision": precision,
        **manifest_content(prepared),
    }
    models = folder / "models"
    models.mkdir()
    files = {name: data / name for name in ("labels.json", "tokenizer.json", "distil_vocab.json")}
    files["training_config.json"] = models / "training_config.json"
    training = config.model_dump(exclude=set(NOT_IN_ARTIFACTS))
    training["input_path"] = prepared.summary["input_path"]
    write_json(files["training_config.json"], training)
    content["made_by"] |= {"recipe": config.reasons}
    engines = _write_engines(config, prepared, source, kind, precision, models)
    files |= {name: models / name for name in engines}
    name, make_engine = list(engines.items())[-1]  # engine of the bundle's runtime
    manifest, train = BundleManifest(format=1, files={}, **content), prepared.encoded("train")
    served_as = calibrate(
        Predictor(manifest, prepared.labels, prepared.tokenizer, make_engine(files[name])),
        familiarity := familiarity_of(train, prepared.labels),
        prepared.table("validation"),
        prepared.encoded("validation"),
        config,
        prepared.out_of_scope,
        train,
    ).manifest
    content |= {
        "threshold": served_as.threshold,
        "calibration": asdict(served_as.calibration),
        "expected_coverage": served_as.expected_coverage,
    }
    if served_as.calibration.familiarity_weight:
        files[FAMILIARITY] = models / FAMILIARITY
        files[FAMILIARITY].write_bytes(familiarity.table)
    write_bundle(folder / "bundle", files=files, manifest=content)
    for file in models.iterdir():
        file.unlink()
    models.rmdir()
    logger.info("%s bundle: %.2f MB", precision, folder_size(folder / "bundle") / 1e6)
    return Predictor.load(folder / "bundle")


def _write_engines(
    config: TrainConfig,
    prepared: "Prepared",
    source: Path,
    kind: str,
    precision: str,
    folder: Path,
) -> dict[str, Any]:
    """Write a network for each engine; returns the engines by file name, the bundle's last."""
    from saarthi_lib.export import exported_program, onnx, onnx_teacher, torchscript
    from saarthi_lib.export.parity import check_parity
    from saarthi_lib.inference.engine import OnnxEngine, TorchScriptEngine
    from saarthi_lib.models.student import load_student
    from saarthi_lib.models.teacher import load_teacher

    exporters: dict[str, tuple[Any, Any, Any]] = {
        "student": (load_student, torchscript.export_student, onnx.export_student),
        "teacher": (load_teacher, torchscript.export_teacher, onnx_teacher.export_teacher),
    }
    load, write_torchscript, write_onnx = exporters[kind]
    network = load(source)
    engines: dict[str, Any] = {"model.pt": TorchScriptEngine}
    write_torchscript(network, folder / "model.pt", precision)
    if config.runtime == "onnxruntime":
        engines["model.onnx"] = OnnxEngine
        write_onnx(network, folder / "model.onnx", precision)
    if config.exported_program and kind == "student" and precision == "float32":
        if network.shape.family in exported_program.FAMILIES:
            engines["model.pt2"] = exported_program.ProgramEngine
            exported_program.export_student(network, folder / "model.pt2")
        else:
            logger.warning(
                "exported_program: torch.export does not support %s; model.pt2 is not written",
                network.shape.family,
            )
    if precision != "int8":
        served, validation = served_network(source, kind), prepared.encoded("validation")
        for name, engine in engines.items():
            path = folder / name
            difference = check_parity(served, engine(path), validation, precision, path)
            logger.info("%s: differs from its source by at most %.2g", name, difference)
    return engines
