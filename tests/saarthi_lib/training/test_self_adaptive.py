"""Self-adaptive training: the abstention class absorbs wrong labels, and little else."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saarthi_lib.data.encode import IGNORE, Encoded
from saarthi_lib.training.losses import head_losses
from saarthi_lib.training.self_adaptive import MOMENTUM, SelfAdaptiveLoss


def rows_with(labels: list[int]) -> Encoded:
    count = len(labels)
    return Encoded(
        ids=np.zeros(count, np.int32),
        offsets=np.arange(count + 1),
        first=np.ones(count, bool),
        sequence_labels=np.array(labels),
        token_labels=np.full(count, IGNORE),
        whole_lengths=np.ones(count, np.int64),
    )


def batch_of(rows: list[int], labels: list[int]) -> dict[str, Tensor]:
    return {
        "rows": torch.tensor(rows),
        "ids": torch.tensor(rows),
        "lengths": torch.ones(len(rows)),
        "sequence_labels": torch.tensor(labels),
        "token_labels": torch.full((len(rows), 1), IGNORE),
    }


class Fixed(nn.Module):
    """A network whose sequence logits come from a function of the rows; it has no tags."""

    def __init__(self, logits: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        del lengths
        empty = torch.zeros(len(ids), 1, 0)
        return self.logits(ids), empty, empty


def loss_of(loss: SelfAdaptiveLoss, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
    value, metrics = loss.loss(Fixed(lambda _: logits), batch)
    assert metrics == {}
    return value


def test_loss_is_cross_entropy_first_and_the_papers_later() -> None:
    loss = SelfAdaptiveLoss(rows_with([0, 0, IGNORE]))
    logits = torch.tensor([[4.0, 0.0, 1.0], [0.5, 0.0, 1.0], [0.0, 3.0, 0.0]])
    batch = batch_of([0, 1, 2], [0, 0, IGNORE])
    plain = float(head_losses(logits, torch.zeros(3, 1, 0), batch))
    assert loss_of(loss, logits, batch) == pytest.approx(plain)
    assert not loss.started
    while not loss.started:
        last = loss_of(loss, logits, batch)
    q = logits.softmax(dim=1)[:2]
    p = logits[:2, :2].softmax(dim=1)[:, 0]  # without the abstention class
    t = MOMENTUM + (1 - MOMENTUM) * p
    expected = -(t * q[:, 0].log() + (1 - t) * q[:, 2].log()).mean()
    assert last == pytest.approx(float(expected))


def test_targets_stay_1_until_the_network_fits() -> None:
    loss = SelfAdaptiveLoss(rows_with([0, 1]))
    for _ in range(100):
        loss_of(loss, torch.zeros(2, 5), batch_of([0, 1], [0, 1]))
    assert not loss.started
    assert loss.targets.tolist() == [1, 1]


def test_rows_out_of_scope_keep_their_target() -> None:
    loss = SelfAdaptiveLoss(rows_with([0, 2]))
    batch, logits = batch_of([0, 1], [0, 2]), torch.tensor([[4.0, 0.0, 1.0], [3.0, 0.0, 1.0]])
    for _ in range(50):
        last = loss_of(loss, logits, batch)
    assert loss.started
    assert loss.targets[0] < 1 and loss.targets[1] == 1
    alone = loss_of(loss, logits[1:], batch_of([1], [2]))
    assert alone == pytest.approx(-float(logits.log_softmax(dim=1)[1, 2]))
    assert torch.isfinite(last)


def train(loss: SelfAdaptiveLoss, network: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        for rows in torch.randperm(len(labels), generator=generator).split(16):
            optimizer.zero_grad()
            batch = batch_of(rows.tolist(), labels[rows].tolist())
            value, _ = loss.loss(Fixed(lambda ids: network(inputs[ids])), batch)
            value.backward()
            optimizer.step()


def test_wrong_labels_move_to_abstention_and_clean_texts_do_not() -> None:
    """A fifth of the labels is wrong. With the abstention class in p, 64% of the test abstained."""
    classes, generator = 10, torch.Generator().manual_seed(0)
    centres = torch.randn(classes, 10, generator=generator)

    def drawn(count: int) -> tuple[Tensor, Tensor]:
        truth = torch.randint(classes, (count,), generator=generator)
        return centres[truth] + 0.5 * torch.randn(count, 10, generator=generator), truth

    (inputs, labels), (test, truth) = drawn(500), drawn(1000)
    wrong = torch.rand(500, generator=generator) < 0.2
    shift = torch.randint(1, classes, (int(wrong.sum()),), generator=generator)
    labels[wrong] = (labels[wrong] + shift) % classes
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, classes + 1))
    loss = SelfAdaptiveLoss(rows_with(labels.tolist()))
    train(loss, network, inputs, labels)

    with torch.no_grad():
        answers = network(test).argmax(dim=1)
    abstained = answers == classes
    assert abstained.float().mean() < 0.25
    assert (answers == truth)[~abstained].float().mean() > 0.9
    assert loss.targets[wrong].mean() < 0.3
    assert loss.targets[~wrong].mean() > 0.9
