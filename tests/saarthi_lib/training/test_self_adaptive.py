"""Self-adaptive training: what cannot be fitted moves to the class that abstains."""

import numpy as np
import pytest
import torch

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


def batch_of(rows: list[int], labels: list[int]) -> dict[str, torch.Tensor]:
    return {
        "rows": torch.tensor(rows),
        "sequence_labels": torch.tensor(labels),
        "token_labels": torch.full((len(rows), 1), IGNORE),
    }


def test_it_begins_as_cross_entropy_and_then_trusts_the_network() -> None:
    loss = SelfAdaptiveLoss(rows_with([0, 0, IGNORE]))
    logits = torch.tensor([[4.0, 0.0, 1.0], [0.5, 0.0, 1.0], [0.0, 3.0, 0.0]])
    token, batch = torch.zeros(3, 1, 0), batch_of([0, 1, 2], [0, 0, IGNORE])
    plain = float(head_losses(logits, token, batch))
    assert loss(logits, token, batch) == pytest.approx(plain)
    assert not loss.started
    while not loss.started:
        last = loss(logits, token, batch)
    p = logits.softmax(dim=1)
    t = MOMENTUM + (1 - MOMENTUM) * p[:2, 0]
    expected = -(t * p[:2, 0].log() + (1 - t) * p[:2, 2].log()).mean()
    assert last == pytest.approx(float(expected))


def test_a_network_that_fits_nothing_yet_is_not_believed() -> None:
    loss = SelfAdaptiveLoss(rows_with([0, 1]))
    batch, token = batch_of([0, 1], [0, 1]), torch.zeros(2, 1, 0)
    for _ in range(100):
        loss(torch.zeros(2, 5), token, batch)
    assert not loss.started
    assert loss.targets.tolist() == [1, 1]


def test_wrong_labels_end_in_the_class_that_abstains() -> None:
    generator = torch.Generator().manual_seed(0)
    clusters = torch.eye(3) * 4
    truth = torch.arange(300) % 3
    inputs = clusters[truth] + 0.3 * torch.randn(300, 3, generator=generator)
    labels = truth.clone()
    wrong = torch.arange(300) % 10 == 0
    labels[wrong] = (labels[wrong] + 1) % 3
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 4)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    loss = SelfAdaptiveLoss(rows_with(labels.tolist()))
    for _ in range(20):
        for rows in torch.randperm(300, generator=generator).split(10):
            optimizer.zero_grad()
            batch = batch_of(rows.tolist(), labels[rows].tolist())
            loss(network(inputs[rows]), torch.zeros(len(rows), 1, 0), batch).backward()
            optimizer.step()
    assert loss.targets[wrong].max() < 0.5
    assert loss.targets[~wrong].min() > 0.5
    assert (network(inputs)[:, :3].argmax(dim=1) == truth).all()
