"""Student or teacher → exported: float32 or quantized model files in a bundle without metrics."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from saarthi_lib.bundle import BundleManifest, write_bundle
from saarthi_lib.bundle.manifest import (
    FAMILIARITY,
    LABELS,
    MODEL,
    ONNX_MODEL,
    TOKENIZER,
    TRAINING_CONFIG,
    VOCABULARY,
)
from saarthi_lib.config import NOT_IN_ARTIFACTS, SECTIONS, TrainConfig
from saarthi_lib.errors import ParityError, printable
from saarthi_lib.layout import SYNONYMS
from saarthi_lib.logs import get_logger
from saarthi_lib.steps.data import prepared_data
from saarthi_lib.steps.network import TrainedNetwork, data_manifest, network_predictor
from saarthi_lib.steps.record import reads, recorded_step
from saarthi_lib.storage import folder_size, write_json

if TYPE_CHECKING:
    from saarthi_lib.data.preprocess import Prepared
    from saarthi_lib.inference.engine import Engine

logger = get_logger("steps")


@reads(*SECTIONS)  # the bundle holds the whole configuration
def export(config: TrainConfig, data: Path, network: TrainedNetwork, out: Path) -> None:
    """Export a student or teacher in float32 as a bundle without metrics, and check parity."""
    name = f"export {network.kind}"
    with recorded_step(name, config, out, data, network.folder) as folder:
        _write_bundle(config, data, network, "float32", folder / "bundle")


@reads(*SECTIONS)
def quantize(config: TrainConfig, data: Path, network: TrainedNetwork, out: Path) -> None:
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
    name = f"quantize {network.kind} ({precision})"
    with recorded_step(name, config, out, data, network.folder) as folder:
        manifest = _write_bundle(config, data, network, precision, folder / "bundle")
        validation = prepared_data(data).table("validation")
        before, _, _ = evaluate_table(network_predictor(data, network), validation)
        changes = {}
        for runtime, model in (("torchscript", MODEL), ("onnxruntime", ONNX_MODEL)):
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
    from saarthi_lib.evaluation import thresholds

    thresholds.check_risk_target(config, prepared_data(data).summary["rows"]["validation"])


def _write_bundle(
    config: TrainConfig, data: Path, network: TrainedNetwork, precision: str, bundle: Path
) -> BundleManifest:
    """Export a network, calibrate it, and write it as a bundle."""
    prepared = prepared_data(data)
    models = bundle.with_name("models")
    models.mkdir()
    files = {name: data / name for name in (LABELS, TOKENIZER, VOCABULARY)}
    if (data / SYNONYMS).is_file():
        files[SYNONYMS] = data / SYNONYMS
    files[TRAINING_CONFIG] = models / TRAINING_CONFIG
    training = config.model_dump(exclude=set(NOT_IN_ARTIFACTS))
    training["input_path"] = printable(prepared.summary["input_path"])  # it may not be UTF-8
    write_json(files[TRAINING_CONFIG], training)
    engines = _write_engines(config, prepared, network, precision, models)
    files |= {name: models / name for name in engines}
    default = engines.get(ONNX_MODEL, engines[MODEL])
    manifest, familiarity = _calibrated(config, prepared, default, precision)
    if manifest.calibration.familiarity_weight:
        files[FAMILIARITY] = models / FAMILIARITY
        files[FAMILIARITY].write_bytes(familiarity)
    manifest = write_bundle(bundle, files=files, manifest=manifest)
    shutil.rmtree(models)
    logger.info("%s bundle: %.2f MB", precision, folder_size(bundle) / 1e6)
    return manifest


def _write_engines(
    config: TrainConfig,
    prepared: "Prepared",
    network: TrainedNetwork,
    precision: str,
    folder: Path,
) -> dict[str, "Engine"]:
    """Write a network for each engine, and check parity; returns the engines by file name."""
    from saarthi_lib.export.parity import check_parity
    from saarthi_lib.inference.engine import OnnxEngine, TorchScriptEngine

    network.export_torchscript(folder / MODEL, precision)
    engines: dict[str, Engine] = {MODEL: TorchScriptEngine(folder / MODEL)}
    if config.runtime == "onnxruntime":
        network.export_onnx(folder / ONNX_MODEL, precision)
        engines[ONNX_MODEL] = OnnxEngine(folder / ONNX_MODEL)
    if precision != "int8":
        validation = prepared.encoded("validation")
        for name, engine in engines.items():
            path = folder / name
            difference = check_parity(network.served(), engine, validation, precision, path)
            logger.info("%s: differs from its source by at most %.2g", name, difference)
    return engines


def _calibrated(
    config: TrainConfig, prepared: "Prepared", engine: "Engine", precision: str
) -> tuple[BundleManifest, bytes]:
    """Fit calibration and threshold; returns the manifest and the table of familiarity."""
    from saarthi_lib.evaluation.abstention import calibrate, familiarity_of
    from saarthi_lib.inference.predictor import Predictor

    manifest = data_manifest(prepared, config.name, config.version, config.runtime, precision)
    manifest = replace(manifest, made_by={**manifest.made_by, "recipe": config.reasons})
    train = prepared.encoded("train")
    familiarity = familiarity_of(train, prepared.labels)
    calibrated = calibrate(
        Predictor(manifest, prepared.labels, prepared.tokenizer, engine),
        familiarity,
        prepared.table("validation"),
        prepared.encoded("validation"),
        config,
        prepared.out_of_scope,
        train,
    )
    return calibrated.manifest, familiarity.table
