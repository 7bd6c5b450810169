"""Trained networks, before export, and predictors over them."""

from dataclasses import dataclass
from functools import cached_property
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


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained student or teacher.

    Attributes:
        kind: `student` or `teacher`.
        folder: folder written by `distil` or `train_teacher`.
    """

    kind: str
    folder: Path

    @cached_property
    def network(self) -> Any:
        """A `Student`, `Teacher` or `TeacherEnsemble`, loaded on first use."""
        from saarthi_lib.models.student import load_student
        from saarthi_lib.models.teacher import load_teacher

        return load_student(self.folder) if self.is_student else load_teacher(self.folder)

    @property
    def is_student(self) -> bool:
        """Whether this is a student."""
        return self.kind == "student"

    def served(self) -> "nn.Module":
        """The network in its served form, which returns only logits."""
        from saarthi_lib.models.student import ServedStudent
        from saarthi_lib.models.teacher import ServedTeacher

        return (ServedStudent if self.is_student else ServedTeacher)(self.network).eval()

    @property
    def embeddings(self) -> "list[nn.Module]":
        """The embedding layers; an ensemble has one for each member."""
        if self.is_student:
            return [self.network.embedding]
        members = getattr(self.network, "members", [self.network])
        return [member.encoder.get_input_embeddings() for member in members]

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def export_torchscript(self, path: Path, precision: str) -> None:
        """Write `model.pt`."""
        from saarthi_lib.export import torchscript

        export = torchscript.export_student if self.is_student else torchscript.export_teacher
        export(self.network, path, precision)

    def export_onnx(self, path: Path, precision: str) -> None:
        """Write `model.onnx`."""
        from saarthi_lib.export import onnx, onnx_teacher

        export = onnx.export_student if self.is_student else onnx_teacher.export_teacher
        export(self.network, path, precision)


def network_predictor(data: Path, network: TrainedNetwork) -> "Predictor":
    """Create a predictor for a trained network.

    For tasks with tags, temperatures are fitted on validation, as in a bundle.
    """
    from saarthi_lib.evaluation.abstention import tempered

    predictor, prepared = predictor_of(data, network.served()), prepared_data(data)
    if not has_token_head(predictor.task):
        return predictor  # temperatures do not change the answers
    return tempered(predictor, prepared.encoded("validation"), prepared.summary["seed"])


def predictor_of(data: Path, network: "nn.Module") -> "Predictor":
    """Create a predictor for a network in memory, with data from `preprocess`."""
    from saarthi_lib.evaluation.evaluate import NetworkEngine
    from saarthi_lib.inference.predictor import Predictor

    prepared = prepared_data(data)
    engine = NetworkEngine(network)
    return Predictor(data_manifest(prepared), prepared.labels, prepared.tokenizer, engine)


def data_manifest(
    prepared: "Prepared",
    name: str = "network",
    version: str = "",
    runtime: str = "",
    precision: str = "float32",
) -> BundleManifest:
    """Create the manifest of an uncalibrated bundle without files, for prepared data."""
    summary = prepared.summary
    return BundleManifest(
        name=name,
        version=version,
        task=summary["task"],
        languages=tuple(summary["languages"]["train"]),
        runtime=runtime,
        precision=precision,
        max_seq_len=summary["max_seq_len"],
        made_by={**made_by(), "data_digest": summary["digest"]},
        normalization=summary["normalization"],
        word_splitting=summary["word_splitting"],
        trial=summary["trial"],
    )
