"""A trained network as what answers texts, before it is exported."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saarthi_lib.bundle import BundleManifest
from saarthi_lib.config import TrainConfig
from saarthi_lib.lineage import made_by
from saarthi_lib.steps.data import prepared_data

if TYPE_CHECKING:
    from torch import nn

    from saarthi_lib.inference.predictor import Predictor


def network_predictor(config: TrainConfig, data: Path, source: Path, kind: str) -> "Predictor":
    """A predictor over a trained network, for evaluation."""
    return predictor_of(config, data, served_network(source, kind))


def predictor_of(config: TrainConfig, data: Path, network: "nn.Module") -> "Predictor":
    """A predictor over a network in memory, for evaluation."""
    from saarthi_lib.evaluation.evaluate import NetworkEngine
    from saarthi_lib.inference.predictor import Predictor

    prepared = prepared_data(data)
    manifest = BundleManifest(format=1, files={}, **manifest_content(config, data, "float32"))
    return Predictor(manifest, prepared.labels, prepared.tokeniser, NetworkEngine(network))


def served_network(source: Path, kind: str) -> Any:
    """A trained `student` or `teacher` as it is served: logits only."""
    from saarthi_lib.models.student import ServedStudent, load_student
    from saarthi_lib.models.teacher import ServedTeacher, load_teacher

    if kind == "student":
        return ServedStudent(load_student(source)).eval()
    return ServedTeacher(load_teacher(source)).eval()


def manifest_content(config: TrainConfig, data: Path, precision: str) -> dict[str, Any]:
    """What a bundle of this run says of itself before anything is measured."""
    summary = prepared_data(data).summary
    return {
        "name": config.name,
        "version": config.bundle_version,
        "task": config.task,
        "languages": tuple(summary["languages"]["train"]),
        "runtime": config.runtime,
        "precision": precision,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "max_seq_len": config.max_seq_len,
        "threshold": None,
        "metrics": {},
        "made_by": {**made_by(), "data_digest": summary["digest"]},
        "normalisation": config.normalisation,
    }
