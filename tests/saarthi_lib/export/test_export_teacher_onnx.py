"""A teacher exported to ONNX Runtime answers as its source."""

from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AlbertConfig,
    AutoConfig,
    AutoModel,
    BertConfig,
    PretrainedConfig,
    XLMRobertaConfig,
)

from saarthi_lib.data.encode import Encoded
from saarthi_lib.export.onnx_teacher import export_teacher
from saarthi_lib.export.parity import largest_difference
from saarthi_lib.inference.engine import OnnxEngine
from saarthi_lib.models.teacher import ServedTeacher, Teacher

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 48,
}
ENCODERS: dict[str, tuple[PretrainedConfig, dict[str, int]]] = {
    "bert": (BertConfig(**SIZES, pad_token_id=0), {"pad": 0, "begin": 2, "end": 3}),
    "xlm-roberta": (
        XLMRobertaConfig(**SIZES, pad_token_id=1),
        {"begin": 0, "pad": 1, "end": 2},
    ),
    "albert": (
        AlbertConfig(**SIZES, embedding_size=8, pad_token_id=0),
        {"pad": 0, "begin": 2, "end": 3},
    ),
}
TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "int8": 0.1}


def make_teacher(kind: str, sequence_labels: int = 4, token_labels: int = 5) -> Teacher:
    config, special = ENCODERS[kind]
    torch.manual_seed(0)
    encoder = AutoModel.from_config(config, add_pooling_layer=False)
    return Teacher(encoder, special, sequence_labels, token_labels).eval()


def sentences(lengths: list[int]) -> Encoded:
    ids = np.random.default_rng(0).integers(4, 300, sum(lengths)).astype(np.int32)
    return Encoded(
        ids=ids,
        offsets=np.array([0, *accumulate(lengths)], dtype=np.int64),
        first=np.ones(len(ids), dtype=bool),
        sequence_labels=np.zeros(len(lengths), dtype=np.int64),
        token_labels=np.zeros(len(ids), dtype=np.int64),
        whole_lengths=np.array(lengths, dtype=np.int64),
    )


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        *(("bert", precision) for precision in TOLERANCE),
        ("xlm-roberta", "float32"),
        ("albert", "float32"),
        *(
            pytest.param(kind, precision, marks=pytest.mark.slow)  # weights are stored alike
            for kind in ("xlm-roberta", "albert")
            for precision in ("float16", "int8")
        ),
    ],
)
def test_teacher_onnx_matches_for_any_batch_and_length(
    kind: str, precision: str, tmp_path: Path
) -> None:
    teacher = make_teacher(kind)
    file = tmp_path / "model.onnx"
    export_teacher(teacher, file, precision)
    encoded = sentences([*range(1, 30), 44, 1, 3])
    difference = largest_difference(ServedTeacher(teacher), OnnxEngine(file), encoded)

    assert difference < TOLERANCE[precision]
    if precision != "float32":
        assert difference > 0


RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
OTHERS: dict[str, dict[str, Any]] = {
    "roberta": {},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
    "electra": {"embedding_size": 16},
    "mpnet": {},
    "deberta": RELATIVE,
    "deberta-v2": {**RELATIVE, "position_buckets": 16, "norm_rel_ebd": "layer_norm"},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8},
    "rembert": {"input_embedding_size": 16},
    "convbert": {"embedding_size": 32},
    "roformer": {"embedding_size": 32},
    "esm": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
def test_operators_of_other_encoders_are_allowed(kind: str, tmp_path: Path) -> None:
    config = AutoConfig.for_model(kind, **SIZES, **OTHERS[kind], pad_token_id=1)
    special = {"begin": 0, "pad": 1, "end": 2}
    teacher = Teacher(AutoModel.from_config(config), special, 4, 5).eval()
    for precision in TOLERANCE:
        file = tmp_path / f"{precision}.onnx"
        export_teacher(teacher, file, precision)
        OnnxEngine(file)  # refuses others by name


@pytest.mark.parametrize("kind", ENCODERS)
def test_padding_is_not_read(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    export_teacher(make_teacher(kind), file, "float32")
    engine = OnnxEngine(file)
    lengths = np.array([9, 2, 5])
    ids = np.random.default_rng(1).integers(4, 300, (3, 9))
    together = engine.run(ids, lengths)
    for row, length in enumerate(lengths):
        alone = engine.run(ids[row : row + 1, :length], lengths[row : row + 1])
        assert together[0] is not None and alone[0] is not None
        assert together[1] is not None and alone[1] is not None
        np.testing.assert_allclose(together[0][row], alone[0][0], atol=1e-5)
        np.testing.assert_allclose(together[1][row, :length], alone[1][0], atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("heads", [(4, 0), (0, 5)])
def test_teacher_export_has_the_heads_of_the_task(
    heads: tuple[int, int], precision: str, tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    export_teacher(make_teacher("bert", *heads), file, precision)
    sequence, token = OnnxEngine(file).run(np.full((3, 7), 9, np.int64), np.array([7, 4, 1]))

    assert (None if sequence is None else sequence.shape) == ((3, 4) if heads[0] else None)
    assert (None if token is None else token.shape) == ((3, 7, 5) if heads[1] else None)


def test_lower_precision_shrinks_the_file_not_the_teacher(tmp_path: Path) -> None:
    config = BertConfig(**{**SIZES, "vocab_size": 3000, "hidden_size": 128}, pad_token_id=0)
    encoder = AutoModel.from_config(config, add_pooling_layer=False)
    teacher = Teacher(encoder, {"pad": 0, "begin": 2, "end": 3}, 4, 0).eval()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    sizes = {}
    for precision in TOLERANCE:
        file = tmp_path / f"{precision}.onnx"
        export_teacher(teacher, file, precision)
        sizes[precision] = file.stat().st_size

    assert sizes["float16"] == pytest.approx(sizes["float32"] / 2, rel=0.15)
    assert sizes["int8"] < sizes["float32"] / 3
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
