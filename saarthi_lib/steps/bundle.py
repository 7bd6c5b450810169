"""Exported model and evaluation → bundle."""

from dataclasses import replace
from pathlib import Path

from saarthi_lib.bundle import read_manifest, write_bundle
from saarthi_lib.config import TrainConfig
from saarthi_lib.lineage import origin
from saarthi_lib.logs import get_logger
from saarthi_lib.steps.record import reads
from saarthi_lib.storage import read_json, verify_record

logger = get_logger("steps")


@reads("run", "delivery")
def publish(
    config: TrainConfig,
    exported: Path,
    evaluation: Path,
    model: str,
    out: Path,
    input_digest: str = "",
) -> None:
    """Write the final bundle: the exported files, and the metrics measured on the test split.

    Args:
        config: configuration.
        exported: folder written by `export` or `quantize`.
        evaluation: folder written by `evaluate`.
        model: model whose metrics the bundle gets: `final`, `quantized` or `teacher`.
        out: bundle folder to write.
        input_digest: digest of the input data, recorded in the bundle.

    Raises:
        ArtifactError: an input was changed or damaged.
    """
    for folder in (exported, evaluation):
        verify_record(folder)
    source = exported / "bundle"
    manifest = read_manifest(source)
    metrics = read_json(evaluation / "metrics.json")
    digest = {"input_digest": input_digest} if input_digest else {}
    final = replace(
        manifest,
        version=config.version,
        metrics=metrics["student"]["final"] if model == "final" else metrics[model],
        made_by={**manifest.made_by, **origin(), **digest},
    )
    write_bundle(out, files={name: source / name for name in manifest.files}, manifest=final)
    logger.info("bundle %s version %s: %s", config.name, config.version, out)
    if manifest.trial:
        logger.warning("%s: the bundle of a trial run is neither published nor rolled out", out)
