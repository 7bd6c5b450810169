"""Fine-tuning: the heads read standardized states."""

import torch
from torch import Tensor

from saarthi_lib.models.teacher import Teacher
from saarthi_lib.training.teacher import fine_tune, standardize_states
from tests.saarthi_lib.training.test_reweighting import (
    LABELS,
    configured,
    sentences,
    teacher,
    toy,
    whole,
)


def crowded(network: Teacher) -> Teacher:
    """Make all states similar, as in an encoder for sentence similarity."""
    last = network.encoder.encoder.layer[-1].output.LayerNorm
    with torch.no_grad():
        last.weight.mul_(0.05)
        last.bias.fill_(3.0)
    return network


def test_heads_read_states_of_mean_0_and_deviation_1() -> None:
    network, train = crowded(teacher("bert", (3, 4))), sentences(200, seed=1)
    standardize_states(network, train, configured())
    batch, read = whole(train), dict[str, Tensor]()
    with torch.no_grad():
        for name, head in (("sequence", network.sequence_head), ("token", network.token_head)):
            head.register_forward_pre_hook(
                lambda _, given, name=name: read.update({name: given[0]})
            )
        network.eval()(batch["ids"], batch["lengths"])

    for states in (read["sequence"], read["token"][batch["first"]]):
        torch.testing.assert_close(states.mean(dim=0), torch.zeros(16), atol=1e-3, rtol=0)
        torch.testing.assert_close(states.std(dim=0), torch.ones(16), atol=1e-2, rtol=0)


def test_encoder_with_similar_states_learns_as_well() -> None:
    train, validation = toy(400, seed=5), toy(100, seed=6)
    for network in (teacher("bert", (3, 0)), crowded(teacher("bert", (3, 0)))):
        result = fine_tune(network, train, validation, LABELS, configured(teacher_epochs=3))
        assert max(row["main"] for row in result.history) > 0.9


def test_constant_dimension_does_not_dominate() -> None:
    network, train = teacher("bert", (3, 0)), toy(200, seed=7)
    last = network.encoder.encoder.layer[-1].output.LayerNorm
    with torch.no_grad():
        last.weight[3] = 0.0
    standardize_states(network, train, configured())
    with torch.no_grad():
        last.weight[3] = 0.01  # training soon has such an effect
        read = list[Tensor]()
        network.sequence_head.register_forward_pre_hook(lambda _, given: read.append(given[0]))
        batch = whole(train)
        network.eval()(batch["ids"], batch["lengths"])
    assert read[0].abs().max() < 20
