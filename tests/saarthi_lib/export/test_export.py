"""Exported students and teachers answer as their source, in every format and precision."""

from dataclasses import dataclass, replace
from itertools import accumulate, product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from transformers import AutoModel, BertConfig

from saarthi_lib.data.encode import Encoded
from saarthi_lib.errors import ParityError
from saarthi_lib.export import onnx as onnx_export
from saarthi_lib.export import torchscript
from saarthi_lib.export.onnx_encoders import GRU_LOOP_FROM
from saarthi_lib.export.parity import (
    check_parity,
    check_quality,
    largest_difference,
    quality_changes,
)
from saarthi_lib.inference.engine import Engine, OnnxEngine, TorchScriptEngine
from saarthi_lib.models.encoders import FAMILIES
from saarthi_lib.models.student import ServedStudent, Student, StudentShape
from saarthi_lib.models.teacher import ServedTeacher, Teacher

SHAPE = StudentShape(
    vocabulary=500,
    embedding=24,
    hidden=32,
    layers=1,
    projection=48,
    sequence_labels=4,
    token_labels=5,
)
HEADS = {
    "sequence": {"token_labels": 0},
    "token": {"sequence_labels": 0},
    "both": {},
    "two layers": {"layers": 2},
}
SHAPES = {
    f"{family} {heads}": replace(SHAPE, family=family, **changes)
    for family in FAMILIES
    for heads, changes in HEADS.items()
}
# Wide GRUs have another int8 graph.
SHAPES["gru wide"] = replace(SHAPE, family="gru", hidden=GRU_LOOP_FROM)
# The LSTM graph is time-major, the transformer graph batch-major.
SHAPES |= {
    f"{family} shared rows": replace(SHAPE, family=family, rows=60)
    for family in ("lstm", "transformer")
}
FORMATS = ["model.pt", "model.onnx"]
PRECISIONS = ["float32", "float16", "int8"]


def is_slow(shape: str, name: str, precision: str) -> bool:
    """Combinations that take seconds together and share their code with faster ones."""
    family, _, heads = shape.partition(" ")
    if name == "model.onnx":
        # One family of each layout shows that heads are exported alone.
        return family in ("gru", "qrnn") and heads in ("sequence", "token")
    # TorchScript compiles the student's own code, so one family shows the effect of the shape.
    return heads != "both" and (family != "lstm" or precision == "float16")


@dataclass
class Exported:
    student: Student
    file: Path
    engine: Engine
    precision: str


def make_student(shape: StudentShape) -> Student:
    torch.manual_seed(0)
    student = Student(shape).eval()
    for parameter in student.parameters():
        parameter.data.normal_(std=min(0.2, 1.6 / max(1, parameter.size(-1)) ** 0.5))
    if student.row_of is not None:
        student.row_of.copy_(torch.randint(shape.rows or 0, (shape.vocabulary,)))
    return student


def sentences(lengths: list[int], vocabulary: int = 500) -> Encoded:
    ids = np.random.default_rng(0).integers(0, vocabulary, sum(lengths)).astype(np.int32)
    return Encoded(
        ids=ids,
        offsets=np.array([0, *accumulate(lengths)], dtype=np.int64),
        first=np.ones(len(ids), dtype=bool),
        sequence_labels=np.zeros(len(lengths), dtype=np.int64),
        token_labels=np.zeros(len(ids), dtype=np.int64),
        whole_lengths=np.array(lengths, dtype=np.int64),
    )


SENTENCES = sentences([*range(1, 20), 26, 1, 3, 3])


def export(student: Student, file: Path, precision: str) -> Engine:
    if file.suffix == ".pt":
        torchscript.export_student(student, file, precision)
        return TorchScriptEngine(file)
    onnx_export.export_student(student, file, precision)
    return OnnxEngine(file)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(case, id="-".join(case), marks=[pytest.mark.slow] if is_slow(*case) else [])
        for case in product(SHAPES, FORMATS, PRECISIONS)
    ],
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    shape, name, precision = request.param
    student = make_student(SHAPES[shape])
    file = tmp_path_factory.mktemp("export") / name
    return Exported(student, file, export(student, file, precision), precision)


def test_exported_logits_match_the_student(exported: Exported) -> None:
    tolerance = {"float32": 1e-4, "float16": 2e-2, "int8": 0.1}[exported.precision]
    difference = largest_difference(ServedStudent(exported.student), exported.engine, SENTENCES)

    assert difference < tolerance
    if exported.precision != "float32":
        assert difference > 0


def test_student_export_has_the_heads_of_the_task(exported: Exported) -> None:
    shape = exported.student.shape
    sequence, token = exported.engine.run(np.ones((2, 7), np.int64), np.array([7, 2]))

    assert (sequence is not None) == (shape.sequence_labels > 0)
    assert (token is not None) == (shape.token_labels > 0)
    if sequence is not None:
        assert (sequence.shape, sequence.dtype) == (
            (2, shape.sequence_labels),
            np.dtype(np.float32),
        )
    if token is not None:
        assert (token.shape, token.dtype) == ((2, 7, shape.token_labels), np.dtype(np.float32))


def test_padded_batch_equals_single_sentences(exported: Exported) -> None:
    rows = np.array([19, 0, 6, 2, 20])
    ids = SENTENCES.padded(SENTENCES.ids, rows, 0).astype(np.int64)
    lengths = SENTENCES.lengths[rows]
    together = exported.engine.run(ids, lengths)
    # Dynamic int8 shares one activation scale in the batch.
    tolerance = 0.25 if exported.precision == "int8" else 1e-5
    for row, length in enumerate(lengths):
        ids[row, length:] = 77  # padding must not be read
        alone = exported.engine.run(ids[row : row + 1, :length], lengths[row : row + 1])
        if alone[0] is not None and together[0] is not None:
            np.testing.assert_allclose(together[0][row], alone[0][0], atol=tolerance)
        if alone[1] is not None and together[1] is not None:
            np.testing.assert_allclose(together[1][row, :length], alone[1][0], atol=tolerance)


@pytest.mark.parametrize("name", FORMATS)
def test_lower_precision_shrinks_the_file_not_the_student(tmp_path: Path, name: str) -> None:
    student = make_student(replace(SHAPE, vocabulary=4000, hidden=128, embedding=64))
    before = {key: value.clone() for key, value in student.state_dict().items()}
    sizes = {}
    for precision in PRECISIONS:
        file = tmp_path / precision / name
        file.parent.mkdir()
        export(student, file, precision)
        sizes[precision] = file.stat().st_size

    assert sizes["float16"] == pytest.approx(sizes["float32"] / 2, rel=0.1)
    assert sizes["int8"] < sizes["float32"] / 3
    after = student.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_weights_of_zero_can_be_quantized(tmp_path: Path) -> None:
    student = make_student(SHAPE)
    for parameter in (
        student.embedding.weight,
        student.encoder.get_parameter("network.weight_hh_l0"),
    ):
        parameter.data.zero_()
    student.sequence_head.weight.data[1].zero_()

    engine = export(student, tmp_path / "model.onnx", "int8")

    assert largest_difference(ServedStudent(student), engine, SENTENCES) < 0.15


def test_parity_returns_the_largest_difference(tmp_path: Path) -> None:
    student = make_student(SHAPE)
    file = tmp_path / "model.onnx"
    engine = export(student, file, "float32")

    assert 0 <= check_parity(ServedStudent(student), engine, SENTENCES, "float32", file) < 1e-4


@pytest.mark.parametrize("weight", ["embedding", "lstm0.R", "token_logits_by_time.bias"])
def test_tampered_model_is_refused_by_name(tmp_path: Path, weight: str) -> None:
    student = make_student(SHAPE)
    file = tmp_path / "model.onnx"
    export(student, file, "float32")
    model = onnx.load(file)
    [tampered] = [tensor for tensor in model.graph.initializer if tensor.name == weight]
    values = numpy_helper.to_array(tampered).copy()
    values[..., -1] += 0.5
    tampered.CopyFrom(numpy_helper.from_array(values, weight))
    onnx.save(model, file)

    with pytest.raises(ParityError, match=r"model\.onnx: logits differ .* not published"):
        check_parity(ServedStudent(student), OnnxEngine(file), SENTENCES, "float32", file)


class Broken(nn.Module):
    """Its logits are NaN."""

    def forward(
        self, ids: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        nothing = torch.full((ids.size(0), 4), float("nan"))
        return nothing, torch.zeros(ids.size(0), ids.size(1), 0)


def test_nan_logits_are_refused(tmp_path: Path) -> None:
    student = make_student(replace(SHAPE, token_labels=0))
    file = tmp_path / "model.pt"
    torch.jit.script(Broken()).save(str(file))

    with pytest.raises(ParityError, match=r"model\.pt"):
        check_parity(ServedStudent(student), TorchScriptEngine(file), SENTENCES, "float32", file)


def scores(overall: float, examples: int = 500, **languages: float) -> dict[str, Any]:
    by_language = {name: {"main": main, "examples": examples} for name, main in languages.items()}
    return {"main": overall, "examples": examples, "by_language": by_language}


def test_loss_of_quality_is_refused_with_both_metrics() -> None:
    for before, after, allowed in ((0.91, 0.90, 0.02), (0.80, 0.95, 0.0)):
        check_quality(quality_changes(scores(before), scores(after)), allowed, "int8")

    with pytest.raises(ParityError, match="max_quantization_loss") as caught:
        check_quality(quality_changes(scores(0.9123), scores(0.8512)), 0.02, "int8")
    message = str(caught.value)
    assert all(figure in message for figure in ("91.23", "85.12", "6.11", "2.00", "int8", "in all"))


def test_loss_in_one_language_is_refused_by_name() -> None:
    before = scores(0.95, english=0.96, hindi=0.94)
    after = scores(0.94, english=0.96, hindi=0.90)

    with pytest.raises(ParityError, match=r"4\.00 points in hindi \(94\.00 to 90\.00\)") as caught:
        check_quality(quality_changes(before, after), 0.02, "int8")
    assert "english" not in str(caught.value)
    assert "in all" not in str(caught.value)


def test_two_lost_answers_of_twenty_are_tolerated() -> None:
    before = scores(0.95, examples=20, hindi=0.95)
    check_quality(quality_changes(before, scores(0.85, hindi=0.85)), 0.02, "int8")

    for after, where in ((scores(0.95, hindi=0.80), "hindi"), (scores(0.80, hindi=0.95), "in all")):
        with pytest.raises(ParityError, match=where):
            check_quality(quality_changes(before, after), 0.02, "int8")


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=80,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=40,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    encoder = AutoModel.from_config(config, add_pooling_layer=False)
    return Teacher(encoder, {"pad": 0, "begin": 2, "end": 3}, 4, 5).eval()


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-4), ("float16", 2e-2), ("int8", 0.15)]
)
def test_traced_teacher_matches_for_any_batch_and_length(
    teacher: Teacher, tmp_path: Path, precision: str, tolerance: float
) -> None:
    file = tmp_path / "model.pt"
    torchscript.export_teacher(teacher, file, precision)
    difference = largest_difference(
        ServedTeacher(teacher), TorchScriptEngine(file), sentences([*range(1, 30), 38, 1], 80)
    )

    assert difference < tolerance


@pytest.mark.parametrize("absent", ["sequence_head", "token_head"])
def test_teacher_with_one_head_is_exported(teacher: Teacher, tmp_path: Path, absent: str) -> None:
    one_head = Teacher(
        teacher.encoder,
        teacher.special,
        0 if absent == "sequence_head" else 4,
        0 if absent == "token_head" else 5,
    ).eval()
    for precision in ("float32", "int8"):
        file = tmp_path / f"{precision}.pt"
        torchscript.export_teacher(one_head, file, precision)
        sequence, token = TorchScriptEngine(file).run(
            np.full((3, 9), 7, np.int64), np.array([9, 4, 1])
        )

        assert (sequence is None) == (absent == "sequence_head")
        assert (token is None) == (absent == "token_head")
