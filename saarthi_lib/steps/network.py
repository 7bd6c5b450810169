"""Predictors over trained networks, before export."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saarthi_lib.bundle import BundleManifest
from saarthi_lib.lineage import made_by
from saarthi_lib.steps.data import prepared_data
from saarthi_lib.tasks import has_token_head

if TYPE_CHECKING:
    from torch import nn

    from saarthi_lib.data.preprocess import Prepared
    from saarthi_lib.inference.predictor import Predictor


def network_predictor(data: Path, source: Path, kind: str) -> "Predictor":
    """Create a predictor for the trained `student` or `teacher` in the folder `source`.

    For tasks with tags, temperatures are fitted on validation, as in a bundle.
    """
    from saarthi_lib.evaluation.abstention import tempered

    predictor, prepared = predictor_of(data, served_network(source, kind)), prepared_data(data)
    if not has_token_head(predictor.task):
        return predictor  # temperatures do not change the answers
    return tempered(predictor, prepared.encoded("validation"), prepared.summary["seed"])


def predictor_of(data: Path, network: "nn.Module") -> "Predictor":
    """Create a predictor for a network in memory, with data from `preprocess`."""
    from saarthi_lib.evaluation.evaluate import NetworkEngine
    from saarthi_lib.inference.predictor import Predictor

    prepared = prepared_data(data)
    manifest = BundleManifest(
        format=1,
        files={},
        name="network",
        version="",
        runtime="",
        precision="float32",
        **manifest_content(prepared),
    )
    return Predictor(manifest, prepared.labels, prepared.tokenizer, NetworkEngine(network))


def served_network(source: Path, kind: str) -> Any:
    """Load a trained `student` or `teacher` in its served form, which returns only logits."""
    from saarthi_lib.models.student import ServedStudent, load_student
    from saarthi_lib.models.teacher import ServedTeacher, load_teacher

    if kind == "student":
        return ServedStudent(load_student(source)).eval()
    return ServedTeacher(load_teacher(source)).eval()


def manifest_content(prepared: "Prepared") -> dict[str, Any]:
    """Fields of a bundle's manifest that depend only on the data."""
    summary = prepared.summary
    return {
        "task": summary["task"],
        "languages": tuple(summary["languages"]["train"]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "max_seq_len": summary["max_seq_len"],
        "threshold": None,
        "metrics": {},
        "made_by": {**made_by(), "data_digest": summary["digest"]},
        "normalization": summary["normalization"],
        "word_splitting": summary["word_splitting"],
        "trial": summary["trial"],
    }
