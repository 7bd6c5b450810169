"""The teacher: trimming, outputs, saving and loading."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    AlbertConfig,
    AutoModel,
    BertConfig,
    PretrainedConfig,
    XLMRobertaConfig,
)

from saarthi_lib.errors import TeacherError
from saarthi_lib.models.teacher import (
    ServedTeacher,
    Teacher,
    TeacherEnsemble,
    load_teacher,
    member_folder,
    pretrained_teacher,
    save_teacher,
)
from saarthi_lib.storage import read_json, write_json

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 40,
}
# A configuration, and the original ids of its special tokens.
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
KEPT = [0, 1, 2, 3, *range(10, 60, 5), 58]


def make(folder: Path, kind: str, dropout: float = 0.0) -> tuple[Teacher, int, Any]:
    """A trimmed teacher, the number of parameters before trimming, and the published encoder."""
    config, special = ENCODERS[kind]
    torch.manual_seed(0)
    whole = AutoModel.from_config(config).eval()
    for parameter in whole.parameters():
        parameter.data.normal_(std=0.3)
    whole.save_pretrained(folder)
    new = {role: KEPT.index(piece) for role, piece in special.items()}
    teacher, parameters = pretrained_teacher(str(folder), KEPT, new, 3, 4, dropout)
    return teacher.eval(), parameters, whole


@pytest.fixture(scope="module", params=ENCODERS)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Teacher, int, Any]:
    return request.param, *make(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return make(tmp_path_factory.mktemp("bert"), "bert")[0]


def batch(lengths: list[int], width: int | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), width or max(lengths))
    return torch.randint(4, len(KEPT), shape, generator=generator), torch.tensor(lengths)


def test_kept_rows_equal_the_original_ones(made: tuple[str, Teacher, int, Any]) -> None:
    _, teacher, _, whole = made

    assert torch.equal(teacher.embedding_table, whole.get_input_embeddings().weight.detach()[KEPT])


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_trimmed_encoder_equals_the_whole_one(
    made: tuple[str, Teacher, int, Any], layer: int
) -> None:
    kind, teacher, _, whole = made
    special = ENCODERS[kind][1]
    ids, lengths = batch([7, 3, 1])
    with torch.no_grad():
        sequence, _, hidden = teacher(ids, lengths, [layer])
        for row, length in enumerate(lengths.tolist()):
            inner = [KEPT[piece] for piece in ids[row, :length].tolist()]
            text = torch.tensor([[special["begin"], *inner, special["end"]]])
            out = whole(input_ids=text, output_hidden_states=True)
            torch.testing.assert_close(
                hidden[row, :length], out.hidden_states[layer][0, 1:-1], atol=1e-5, rtol=1e-4
            )
            pooled = teacher.sequence_head(out.last_hidden_state[0].mean(dim=0))
            torch.testing.assert_close(sequence[row], pooled, atol=1e-5, rtol=1e-4)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 4), st.integers(0, 3))
@settings(max_examples=25)
def test_padding_changes_nothing(bert: Teacher, lengths: list[int], extra: int, seed: int) -> None:
    ids, tensor = batch(lengths, max(lengths) + extra, seed)
    with torch.no_grad():
        sequence, token, hidden = bert(ids, tensor, [2])
        for row, length in enumerate(lengths):
            alone = bert(ids[row : row + 1, :length], tensor[row : row + 1], [2])
            together = sequence[row], token[row, :length], hidden[row, :length]
            for one, other in zip(together, alone, strict=True):
                torch.testing.assert_close(one, other[0], atol=1e-5, rtol=1e-4)


def test_padding_changes_nothing_in_every_architecture(made: tuple[str, Teacher, int, Any]) -> None:
    _, teacher, _, _ = made
    ids, lengths = batch([9, 2], width=12)
    with torch.no_grad():
        together = teacher(ids, lengths, [2])
        alone = teacher(ids[1:, :2], lengths[1:], [2])

    torch.testing.assert_close(together[0][1], alone[0][0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together[1][1, :2], alone[1][0], atol=1e-5, rtol=1e-4)


def test_parameters_are_those_of_the_published_encoder(
    made: tuple[str, Teacher, int, Any],
) -> None:
    _, teacher, parameters, whole = made
    pooler = getattr(whole, "pooler", None)
    unread = sum(p.numel() for p in pooler.parameters()) if pooler is not None else 0
    trimmed = sum(p.numel() for p in teacher.encoder.parameters())

    # The heads never read the pooler, so it is not loaded.
    assert parameters == sum(p.numel() for p in whole.parameters()) - unread
    width = teacher.embedding_table.size(1)
    assert parameters - trimmed == (SIZES["vocab_size"] - len(KEPT)) * width


def test_loaded_network_equals_the_saved_one(
    made: tuple[str, Teacher, int, Any], tmp_path: Path
) -> None:
    _, teacher, _, _ = made
    save_teacher(teacher, tmp_path, {"note": "kept"})
    loaded = load_teacher(tmp_path)
    ids, lengths = batch([7, 3, 1])

    assert not loaded.training
    with torch.no_grad():
        for one, other in zip(loaded(ids, lengths, [1]), teacher(ids, lengths, [1]), strict=True):
            assert torch.equal(one, other)
        for one, other in zip(
            ServedTeacher(loaded)(ids, lengths), teacher(ids, lengths)[:2], strict=True
        ):
            assert torch.equal(one, other)
    assert '"note": "kept"' in (tmp_path / "teacher.json").read_text()


def test_ensemble_outputs_are_the_members_mean(tmp_path: Path) -> None:
    members = [make(tmp_path, "bert")[0].eval() for _ in range(2)]
    for parameter in members[1].parameters():
        parameter.data.mul_(0.7)
    for member, teacher in enumerate(members):
        folder = member_folder(tmp_path / "saved", member)
        folder.mkdir(parents=True)
        save_teacher(teacher, folder, {"members": 2})
    ensemble = load_teacher(tmp_path / "saved")
    ids, lengths = batch([7, 3])

    assert isinstance(ensemble, TeacherEnsemble) and not ensemble.training
    with torch.no_grad():
        outputs = [member(ids, lengths, [1, 2]) for member in members]
        for mean, *alone in zip(ensemble(ids, lengths, [1, 2]), *outputs, strict=True):
            torch.testing.assert_close(mean, torch.stack(alone).mean(dim=0))


def test_several_layers_are_averaged(bert: Teacher) -> None:
    ids, lengths = batch([7, 3])
    with torch.no_grad():
        one, two, both = (bert(ids, lengths, layers)[2] for layers in ([1], [2], [1, 2]))

    torch.testing.assert_close(both, (one + two) / 2)


def test_dropout_has_the_configured_rate(tmp_path: Path) -> None:
    teacher, _, _ = make(tmp_path, "bert", dropout=0.4)
    rates = {module.p for module in teacher.modules() if isinstance(module, torch.nn.Dropout)}
    ids, lengths = batch([7])
    teacher.train()

    assert rates == {0.4}
    assert not torch.equal(teacher(ids, lengths, [2])[2], teacher(ids, lengths, [2])[2])


def test_missing_layer_is_an_error(bert: Teacher) -> None:
    with pytest.raises(IndexError):
        bert(*batch([3]), layers=[3])


@pytest.mark.parametrize("name", ["no-such-teacher", "./no/such/folder"])
def test_error_names_an_unknown_teacher(name: str) -> None:
    with pytest.raises(TeacherError, match=name):
        pretrained_teacher(name, KEPT, {"pad": 0, "begin": 2, "end": 3}, 3, 4, 0.1)


@pytest.mark.parametrize("content", [None, "{}", '{"model_type": "bert"}', "rubbish"])
def test_error_names_a_folder_without_an_encoder(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)

    with pytest.raises(TeacherError, match=tmp_path.name):
        pretrained_teacher(str(tmp_path), KEPT, {"pad": 0, "begin": 2, "end": 3}, 3, 4, 0.1)


def test_error_names_damaged_pretrained_weights(tmp_path: Path) -> None:
    make(tmp_path, "bert")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])

    with pytest.raises(TeacherError, match=tmp_path.name):
        pretrained_teacher(str(tmp_path), KEPT, {"pad": 0, "begin": 2, "end": 3}, 3, 4, 0.1)


@pytest.mark.parametrize("lost", ["teacher.json", "config.json", "teacher.safetensors"])
@pytest.mark.parametrize("content", [None, "rubbish"])
def test_a_damaged_fine_tuned_teacher_is_refused(
    bert: Teacher, tmp_path: Path, lost: str, content: str | None
) -> None:
    save_teacher(bert, tmp_path, {})
    (tmp_path / lost).unlink()
    if content is not None:
        (tmp_path / lost).write_text(content)

    with pytest.raises(TeacherError, match=tmp_path.name):
        load_teacher(tmp_path)


def test_weights_of_another_shape_are_refused(bert: Teacher, tmp_path: Path) -> None:
    save_teacher(bert, tmp_path, {})
    shape = read_json(tmp_path / "teacher.json")
    write_json(tmp_path / "teacher.json", {**shape, "token_labels": 9})

    with pytest.raises(TeacherError, match="token_head"):
        load_teacher(tmp_path)
