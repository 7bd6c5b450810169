"""The student: outputs, parts, initial embedding and shared rows."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saarthi_lib.models.encoders import FAMILIES
from saarthi_lib.models.student import (
    ServedStudent,
    Student,
    StudentShape,
    cluster_rows,
    initial_embedding,
    load_student,
    save_student,
)

SHAPE = StudentShape(
    vocabulary=50,
    embedding=8,
    hidden=6,
    layers=2,
    projection=10,
    sequence_labels=4,
    token_labels=5,
)
some_lengths = st.lists(st.integers(1, 12), min_size=1, max_size=6)


@pytest.fixture(scope="module", params=FAMILIES)
def student(request: pytest.FixtureRequest) -> Student:
    torch.manual_seed(0)
    return Student(replace(SHAPE, family=request.param)).eval()


def batch(lengths: list[int], width: int | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random ids; those after each sentence's end are padding."""
    generator = torch.Generator().manual_seed(seed)
    width = width or max(lengths)
    return torch.randint(50, (len(lengths), width), generator=generator), torch.tensor(lengths)


def outputs(student: Student, ids: Tensor, lengths: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Outputs of the student for each sentence, without padding."""
    with torch.no_grad():
        sequence, token, projected = student(ids, lengths)
    return [
        (sequence[row], token[row, :length], projected[row, :length])
        for row, length in enumerate(lengths)
    ]


@given(some_lengths, st.integers(0, 5), st.integers(0, 3))
@settings(max_examples=40)
def test_padding_changes_nothing(
    student: Student, lengths: list[int], extra: int, seed: int
) -> None:
    ids, tensor = batch(lengths, max(lengths) + extra, seed)
    together = outputs(student, ids, tensor)

    for row, length in enumerate(lengths):
        [alone] = outputs(student, ids[row : row + 1, :length], tensor[row : row + 1])
        for one, other in zip(together[row], alone, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@given(some_lengths, st.integers(1, 2), st.integers(0, 3))
@settings(max_examples=20)
def test_lstm_in_training_equals_the_served_one(lengths: list[int], layers: int, seed: int) -> None:
    student = Student(replace(SHAPE, family="lstm", layers=layers), dropout=0.0)
    ids, tensor = batch(lengths, max(lengths) + 2, seed)
    trained, served = (outputs(student.train(mode), ids, tensor) for mode in (True, False))

    for one, other in zip(trained, served, strict=True):
        for left, right in zip(one, other, strict=True):
            torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-5)


@given(some_lengths, st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_order_within_a_batch_does_not_matter(
    student: Student, lengths: list[int], random: Random
) -> None:
    ids, tensor = batch(lengths)
    rows = list(range(len(lengths)))
    random.shuffle(rows)
    shuffled = outputs(student, ids[rows], tensor[rows])

    for row, answer in zip(rows, shuffled, strict=True):
        for one, other in zip(outputs(student, ids, tensor)[row], answer, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("sequence", "token"), [(4, 0), (0, 5), (4, 5)])
def test_missing_head_has_0_columns(sequence: int, token: int) -> None:
    student = Student(replace(SHAPE, sequence_labels=sequence, token_labels=token))
    sequence_logits, token_logits, projected = student(*batch([3, 7]))

    assert sequence_logits.shape == (2, sequence)
    assert token_logits.shape == (2, 7, token)
    assert projected.shape == (2, 7, SHAPE.projection)


def test_every_token_changes_the_logits(student: Student) -> None:
    ids, lengths = batch([6])
    before, _, _ = student(ids, lengths)
    for place in range(6):
        changed = ids.clone()
        changed[0, place] = (ids[0, place] + 1) % 50
        assert not torch.allclose(student(changed, lengths)[0], before, atol=1e-6)


def test_loaded_network_equals_the_saved_one(student: Student, tmp_path: Path) -> None:
    save_student(student, tmp_path)
    loaded = load_student(tmp_path).eval()
    ids, lengths = batch([3, 12, 1])

    assert loaded.shape == student.shape
    for one, other in zip(loaded(ids, lengths), student(ids, lengths), strict=True):
        assert torch.equal(one, other)


def test_served_student_returns_the_logits(student: Student) -> None:
    ids, lengths = batch([3, 12, 1])
    sequence, token, _ = student(ids, lengths)
    served = ServedStudent(student)(ids, lengths)

    assert torch.equal(served[0], sequence)
    assert torch.equal(served[1], token)


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_acts_only_in_training(layers: int) -> None:
    torch.manual_seed(0)
    student = Student(replace(SHAPE, layers=layers), dropout=0.5)
    ids, lengths = batch([6, 6])

    student.train()
    assert not torch.equal(student(ids, lengths)[2], student(ids, lengths)[2])
    student.eval()
    assert torch.equal(student(ids, lengths)[2], student(ids, lengths)[2])


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_acts_on_embedding_states_and_features(rate: float) -> None:
    torch.manual_seed(0)
    student = Student(replace(SHAPE, layers=1), dropout=rate).train()
    dropped: list[float] = []
    for module in (student.encoder, student.projection, student.token_head):
        module.register_forward_pre_hook(
            lambda _, inputs: dropped.append(
                float((getattr(inputs[0], "data", inputs[0]) == 0).float().mean())
            )
        )
    student(*batch([12] * 20))

    assert dropped == pytest.approx([rate] * 3, abs=0.06)


def test_parts_contain_every_parameter_once(student: Student) -> None:
    parts = [id(p) for part in student.parts() for p in student.parameters_of(part)]

    assert sorted(parts) == sorted(id(parameter) for parameter in student.parameters())


def table(pieces: int = 200, width: int = 24) -> Tensor:
    """Random rows around a centre, with directions of different weight."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.linspace(3, 0.1, width)
    return torch.randn(pieces, width, generator=generator) * spread + 5


def gram(rows: Tensor) -> Tensor:
    return rows @ rows.T


@pytest.mark.parametrize("width", [4, 12, 24])
def test_initial_embedding_is_the_best_of_its_rank(width: int) -> None:
    centred = table() - table().mean(dim=0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    best = gram(left[:, :width] * values[:width])
    reduced = initial_embedding(table(), width)
    scale = best.norm() / gram(reduced).norm()

    torch.testing.assert_close(gram(reduced) * scale, best, atol=1e-2, rtol=1e-3)


def test_initial_embedding_columns_are_orthogonal_and_sorted() -> None:
    reduced = initial_embedding(table(), 12)
    products = reduced.T @ reduced
    weights = products.diagonal()

    assert (products - weights.diag()).abs().max() < 1e-4 * weights.max()
    assert (weights.diff() < 0).all()
    assert float(reduced.std()) == pytest.approx(1, abs=1e-4)
    assert reduced.dtype == torch.float32


def test_initial_embedding_is_zero_beyond_the_tables_width() -> None:
    reduced = initial_embedding(table(), 30)

    assert reduced.shape == (200, 30)
    assert (reduced[:, 24:] == 0).all()
    assert torch.equal(reduced[:, :24], initial_embedding(table(), 24))


def test_initial_embedding_is_reproducible() -> None:
    assert torch.equal(initial_embedding(table(), 12), initial_embedding(table(), 12))


def test_initial_embedding_keeps_directions_that_sum_to_0() -> None:
    # Singular vectors (1, 1) and (1, -1), whose second sums to zero.
    rows = torch.tensor([[2.0, 1.0], [-2.0, -1.0], [1.0, 2.0], [-1.0, -2.0]])

    assert torch.linalg.matrix_rank(initial_embedding(rows, 2)) == 2


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60), st.data(), st.integers(0, 3))
@settings(max_examples=40)
def test_frequent_tokens_keep_rows_and_rare_ones_share(
    met: list[int], data: st.DataObject, seed: int
) -> None:
    spare = data.draw(st.integers(1, len(met) // 2))
    table = torch.randn(len(met), 5, generator=torch.Generator().manual_seed(seed))
    counts = torch.tensor(met)
    rows, row_of = cluster_rows(table, counts, spare, seed)

    kept = len(met) - 2 * spare
    assert rows.shape == (len(met) - spare, 5)
    assert sorted(set(row_of.tolist())) == list(range(len(rows)))  # every row is used
    own = row_of < kept
    assert torch.equal(rows[row_of][own], table[own])
    assert own.sum() == kept
    assert min(counts[own], default=9) >= max(counts[~own])
    # A shared row is the mean of its tokens, weighted by their counts plus one.
    for row in range(kept, len(rows)):
        weights = (counts[row_of == row] + 1).unsqueeze(1) / (counts[row_of == row] + 1).sum()
        mean = (weights * table[row_of == row]).sum(0)
        torch.testing.assert_close(rows[row], mean, atol=1e-5, rtol=1e-4)
    again = cluster_rows(table, counts, spare, seed)
    assert torch.equal(again[0], rows)
    assert torch.equal(again[1], row_of)


def test_similar_tokens_share_a_row() -> None:
    kinds = torch.eye(3).repeat_interleave(2, 0)
    noise = 0.01 * torch.randn(kinds.shape, generator=torch.Generator().manual_seed(0))
    _, row_of = cluster_rows(kinds + noise, torch.zeros(len(kinds), dtype=torch.int64), 3, seed=0)

    assert [len(set(part.tolist())) for part in row_of.split(2)] == [1, 1, 1]
    assert len(set(row_of.tolist())) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_of_one_row_have_equal_outputs(family: str, tmp_path: Path) -> None:
    student = Student(replace(SHAPE, family=family, rows=20)).eval()
    assert student.row_of is not None
    student.row_of.copy_(torch.arange(50) % 20)
    ids, lengths = batch([4, 7])
    sequence, token, _ = student(ids, lengths)

    assert torch.equal(student(ids % 20, lengths)[0], sequence)
    assert not torch.equal(student((ids + 1) % 20, lengths)[0], sequence)
    save_student(student, tmp_path)
    assert torch.equal(load_student(tmp_path).eval()(ids, lengths)[1], token)
