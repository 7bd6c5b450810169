"""Reweighting: row weights follow the gradients, and rows with wrong labels get no weight."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AlbertConfig, AutoModel, BertConfig, PretrainedConfig, XLMRobertaConfig

from saarthi_lib import steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.encode import IGNORE, Encoded, concatenate
from saarthi_lib.distillation.signals import Signals, compute_signals
from saarthi_lib.distillation.stage import StageData, distil_stage
from saarthi_lib.errors import ConfigError
from saarthi_lib.models.student import ServedStudent, Student, StudentShape
from saarthi_lib.models.teacher import ServedTeacher, Teacher
from saarthi_lib.recipe import Facts
from saarthi_lib.storage import write_json
from saarthi_lib.tasks import Labels
from saarthi_lib.training.batches import Batch, BatchStream
from saarthi_lib.training.losses import head_losses, row_losses
from saarthi_lib.training.reweighting import (
    Reweighter,
    balanced_draw,
    full_agreement,
    last_layer_agreement,
    normalized,
)
from saarthi_lib.training.teacher import fine_tune

PIECES = 40
SPECIAL = {"pad": 0, "begin": 1, "end": 2}
SIZES: dict[str, Any] = {
    "vocab_size": PIECES,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 40,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "pad_token_id": 0,
}
ENCODERS: dict[str, PretrainedConfig] = {
    "bert": BertConfig(**SIZES),
    "xlm-roberta": XLMRobertaConfig(**SIZES),
    "albert": AlbertConfig(**SIZES, embedding_size=8),
}
# Columns of the sequence and of the token head.
TASKS = {"classification": (3, 0), "tagging": (0, 4), "joint": (3, 4)}
LABELS = Labels(("a", "b", "c"), ())


def teacher(kind: str, heads: tuple[int, int], dropout: float = 0.0) -> Teacher:
    torch.manual_seed(0)
    encoder = AutoModel.from_config(ENCODERS[kind], add_pooling_layer=False)
    return Teacher(encoder, SPECIAL, *heads, dropout)


def student(heads: tuple[int, int]) -> Student:
    torch.manual_seed(0)
    return Student(StudentShape(PIECES, 12, 10, 1, 16, *heads))


def sentences(count: int, seed: int, longest: int = 7) -> Encoded:
    """Random sentences and labels; one token in four continues a word."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, longest + 1, count)
    pieces = int(lengths.sum())
    first = generator.random(pieces) < 0.75
    return Encoded(
        ids=generator.integers(3, PIECES, pieces, dtype=np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        first=first,
        sequence_labels=generator.integers(0, 3, count),
        token_labels=np.where(first, generator.integers(0, 4, pieces), IGNORE),
        whole_lengths=lengths,
    )


def whole(encoded: Encoded) -> Batch:
    return BatchStream(encoded, len(encoded)).batch(np.arange(len(encoded)))


def brute_force_loss(
    network: nn.Module, compared: Sequence[nn.Parameter], batch: Batch, clean: Batch
) -> Tensor:
    """Compute the reweighted loss with one backward pass for each row."""

    def gradient(loss: Tensor) -> Tensor:
        parts = torch.autograd.grad(
            loss, compared, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in parts])

    sequence, token = network(clean["ids"], clean["lengths"])
    towards = gradient(head_losses(sequence, token, clean))
    loss = torch.zeros(())
    for head, logits in zip(
        ("sequence", "token"), network(batch["ids"], batch["lengths"]), strict=True
    ):
        if logits.size(-1):
            rows = row_losses(logits, batch[f"{head}_labels"]).flatten()
            agreement = torch.stack([gradient(row) @ towards for row in rows]).clamp(min=0)
            loss = loss + (agreement / agreement.sum() * rows).sum()
    return loss


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", [*ENCODERS, "student"])
def test_closed_form_weights_match_gradients_of_the_heads(kind: str, task: str) -> None:
    network = student(TASKS[task]) if kind == "student" else teacher(kind, TASKS[task])
    network.eval()  # dropout is off in the brute force
    served = ServedStudent(network) if isinstance(network, Student) else ServedTeacher(network)
    rows, clean = sentences(9, seed=1), sentences(6, seed=2)
    heads = network.heads()
    compared = [parameter for head in heads.values() for parameter in head.parameters()]

    loss, _ = Reweighter(heads, clean, batch_size=6, seed=0).loss(served, whole(rows))

    expected = brute_force_loss(served, compared, whole(rows), whole(clean))
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ENCODERS)
def test_full_weights_match_gradients_of_all_parameters(kind: str, task: str) -> None:
    network = teacher(kind, TASKS[task]).eval()
    served = ServedTeacher(network)
    rows, clean = sentences(9, seed=1), sentences(6, seed=2)

    reweighter = Reweighter(network.heads(), clean, 6, seed=0, full=True)
    loss, _ = reweighter.loss(served, whole(rows))

    expected = brute_force_loss(served, list(served.parameters()), whole(rows), whole(clean))
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_dropout_is_off_only_while_rows_are_weighed() -> None:
    served = ServedTeacher(teacher("bert", (3, 4), dropout=0.5))
    rows, clean = whole(sentences(9, seed=1)), whole(sentences(6, seed=2))

    first, second = (full_agreement(served.train(), rows, clean) for _ in range(2))

    assert all(torch.equal(first[head], second[head]) for head in ("sequence", "token"))
    assert all(module.training for module in served.modules())


def test_rows_without_a_label_get_weight_zero() -> None:
    head = nn.Linear(5, 3)
    given, labels = torch.randn(4, 6, 5), torch.full((4, 6), IGNORE)
    labels[:, ::2] = torch.randint(0, 3, (4, 3))
    rows = (given, head(given), labels)

    weights = normalized(last_layer_agreement(rows, rows))

    assert weights.shape == labels.shape
    assert float(weights.sum()) == pytest.approx(1)
    assert int((weights[labels == IGNORE] != 0).sum()) == 0


def test_clean_rows_are_drawn_evenly_over_the_labels() -> None:
    labels = np.array([0] * 90 + [1] * 8 + [2] * 2)
    draws = [balanced_draw(labels, 10, np.random.default_rng(seed)) for seed in range(50)]

    for rows in draws:
        assert len(set(rows.tolist())) == 10
        assert np.bincount(labels[rows]).tolist() == [4, 4, 2]
    assert (
        len({row for rows in draws for row in rows.tolist()}) > 80
    )  # every row is drawn at some time
    without_labels = balanced_draw(np.full(7, IGNORE), 7, np.random.default_rng(0))
    assert sorted(without_labels.tolist()) == list(range(7))


@pytest.mark.parametrize("full", [False, True])
def test_mixed_precision_gives_every_matrix_a_gradient(full: bool) -> None:
    network = teacher("bert", (3, 4))
    served = ServedTeacher(network)
    reweighter = Reweighter(network.heads(), sentences(6, seed=2), 6, 0, full)

    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = reweighter.loss(served, whole(sentences(9, seed=1)))
    loss.backward()

    matrices = {name: p for name, p in served.named_parameters() if p.ndim == 2}
    assert [name for name, p in matrices.items() if p.grad is None or not p.grad.any()] == []


# A toy task: one token of a sentence determines its label, the others are random. `wrong` is the
# share of label a that is labelled b instead: above one half, b is the best guess for those tokens.
def toy(count: int, seed: int, wrong: float = 0.0) -> Encoded:
    generator = np.random.default_rng(seed)
    length = 4
    ids = generator.integers(15, PIECES, (count, length), dtype=np.int32)
    labels = generator.integers(0, 3, count)
    ids[np.arange(count), generator.integers(0, length, count)] = (
        3 + 4 * labels + generator.integers(0, 4, count)
    )
    labels[(labels == 0) & (generator.random(count) < wrong)] = 1
    return Encoded(
        ids=ids.ravel(),
        offsets=np.arange(0, count * length + 1, length, dtype=np.int64),
        first=np.ones(count * length, dtype=bool),
        sequence_labels=labels,
        token_labels=np.full(count * length, IGNORE),
        whole_lengths=np.full(count, length),
    )


TRAIN, VALIDATION, CLEAN = toy(400, seed=0, wrong=0.7), toy(100, seed=1), toy(30, seed=2)


def configured(**fields: Any) -> TrainConfig:
    return TrainConfig.from_mapping(
        {
            "precision": 32,
            "device": "cpu",
            "teacher_learning_rate": 5e-3,
            "teacher_epochs": 8,
            "teacher_early_stopping_patience": 8,
            "student_epochs": 10,
            "student_batch_size": 16,
            "student_learning_rate": 5e-3,
            **fields,
        }
    )


def accuracy(served: nn.Module, encoded: Encoded) -> float:
    batch = whole(encoded)
    with torch.no_grad():
        answers = served.eval()(batch["ids"], batch["lengths"])[0].argmax(dim=1)
    return float((answers == batch["sequence_labels"]).float().mean())


TEST = toy(300, seed=3)


@pytest.fixture(scope="module")
def misled() -> Teacher:
    """A teacher that learnt the wrong labels without reweighting."""
    network = teacher("bert", (3, 0))
    fine_tune(network, TRAIN, VALIDATION, LABELS, configured(teacher_epochs=4))
    return network


# The full form follows the same path. The tests above and below check its weights.
@pytest.mark.parametrize(
    "reweighting", ["last_layer", pytest.param("full", marks=pytest.mark.slow)]
)
def test_a_reweighted_teacher_learns_despite_wrong_labels(
    misled: Teacher, reweighting: str
) -> None:
    weighed = teacher("bert", (3, 0))
    config = configured(reweighting=reweighting, teacher_epochs=4)
    result = fine_tune(weighed, TRAIN, VALIDATION, LABELS, config, clean=CLEAN)

    assert accuracy(ServedTeacher(misled), TEST) < 0.85
    assert accuracy(ServedTeacher(weighed), TEST) > 0.95
    best = result.history[result.best_epoch]
    assert 0.2 < best["sequence_zero_weights"] < 0.8
    assert 0.1 < best["sequence_effective_sample"] < 0.8


def distilled(
    folder: Path, train: Encoded, clean: Encoded | None, **settings: Any
) -> tuple[Student, list[dict[str, Any]]]:
    """Train a student on labels, in the stages that read them; returns their last epochs."""
    of_teacher, network = teacher("bert", (3, 0)), student((3, 0))
    for split, encoded in (("transfer", train), ("validation", VALIDATION)):
        compute_signals(of_teacher, encoded, [1], folder, split, device=torch.device("cpu"))
    transfer, validation = (Signals.load(folder, split) for split in ("transfer", "validation"))
    data = StageData(train, transfer, train, VALIDATION, validation, clean)
    config = configured(student_batch_size=32, student_learning_rate=3e-2, **settings)
    return network, [distil_stage(stage, network, data, LABELS, config)[-1] for stage in (4, 5)]


def test_both_labelled_stages_of_a_student_are_reweighted(tmp_path: Path) -> None:
    few = TRAIN.take(np.arange(64))
    for clean in (None, CLEAN):
        _, epochs = distilled(tmp_path, few, clean, student_epochs=1)
        for row in epochs:
            assert ("sequence_zero_weights" in row) is (clean is not None)
            assert clean is None or 0 < row["sequence_zero_weights"] < 1


@pytest.mark.slow
def test_a_reweighted_student_learns_despite_wrong_labels(tmp_path: Path) -> None:
    plain, _ = distilled(tmp_path, TRAIN, None, student_epochs=3)
    weighed, _ = distilled(tmp_path, TRAIN, CLEAN, student_epochs=3)
    assert accuracy(ServedStudent(plain), TEST) < 0.8
    assert accuracy(ServedStudent(weighed), TEST) > 0.9


def test_the_same_seed_gives_the_same_weights() -> None:
    train = TRAIN.take(np.arange(96))

    def trained(noise: int) -> dict[str, Tensor]:
        network = teacher("bert", (3, 0), dropout=0.1)
        torch.manual_seed(noise)
        np.random.seed(noise)
        config = configured(reweighting="full", teacher_epochs=1)
        fine_tune(network, train, VALIDATION, LABELS, config, clean=CLEAN)
        return network.state_dict()

    first, second = trained(1), trained(2)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("reweighting", ["last_layer", "full"])
def test_no_update_when_all_rows_oppose_the_clean_rows(reweighting: str) -> None:
    # With two labels and one text, the gradient of the other label is always opposite.
    def one_text(label: int) -> Encoded:
        some = toy(1, seed=0)
        return concatenate([replace(some, sequence_labels=np.array([label]))] * 32)

    network = teacher("bert", (2, 0), dropout=0.1)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    wrong = one_text(1)
    config = configured(reweighting=reweighting, teacher_epochs=2)

    # The validation rows are wrong too, so any step would improve their score.
    labels = Labels(("a", "b"), ())
    result = fine_tune(network, wrong, wrong, labels, config, clean=one_text(0))

    assert [row["loss"] for row in result.history[1:]] == [0.0, 0.0]
    assert [row["sequence_zero_weights"] for row in result.history[1:]] == [1.0, 1.0]
    assert all(torch.equal(before[name], value) for name, value in network.named_parameters())
    assert len({row["validation_loss"] for row in result.history}) == 1
    # Without the clean rows, it learns the wrong label.
    fine_tune(network, wrong, wrong, labels, configured(teacher_epochs=2))
    assert not torch.equal(before["sequence_head.weight"], network.sequence_head.weight)


def test_reweighting_without_clean_rows_is_refused(tmp_path: Path) -> None:
    config = configured(reweighting="full")
    facts = Facts("intent_classification", 10, ("english",))
    write_json(tmp_path / "data.json", {"facts": facts.to_dict(), "digest": ""})
    with pytest.raises(ConfigError, match=r"add clean\.\* beside train\.\* in the input folder"):
        steps.train_teacher(config, tmp_path, tmp_path / "teacher")
