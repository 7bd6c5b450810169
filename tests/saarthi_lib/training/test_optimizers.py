"""Settings, optimizer and schedule of fine-tuning."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AlbertConfig, AutoModel, BertConfig, PretrainedConfig, XLMRobertaConfig

from saarthi_lib.config import TrainConfig
from saarthi_lib.training.optimizers import FineTuning, fine_tuning_optimizer, fine_tuning_settings

# Mosbach et al. 2021: learning rate, weight decay, betas, epsilon, gradient clip (0: none).
BERT = (2e-5, 0.01, (0.9, 0.999), 1e-6, 1.0)
ROBERTA = (2e-5, 0.1, (0.9, 0.98), 1e-6, 0.0)
ALBERT = (2e-5, 0.0, (0.9, 0.999), 1e-6, 1.0)
SIZES: dict[str, Any] = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 12,
}


def encoder(model_type: str, width: int = 768) -> PretrainedConfig:
    return PretrainedConfig.from_dict({"model_type": model_type, "hidden_size": width})


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("bert", BERT),
        ("roberta", ROBERTA),
        ("xlm-roberta", ROBERTA),
        ("albert", ALBERT),
        ("of-another-kind", BERT),
    ],
)
def test_fine_tuning_settings_follow_the_architecture(
    model_type: str, expected: tuple[float, float, tuple[float, float], float, float]
) -> None:
    assert fine_tuning_settings(encoder(model_type), TrainConfig()) == FineTuning(
        *expected, warm_up=0.1
    )


@pytest.mark.parametrize(
    ("task", "rate"), [("text_classification", 1e-4), ("joint", 3e-4), ("pos", 3e-4)]
)
def test_narrow_encoder_has_a_higher_rate_highest_for_tags(task: str, rate: float) -> None:
    config = TrainConfig.from_mapping({"task": task})
    base = fine_tuning_settings(encoder("xlm-roberta"), config)
    narrow = fine_tuning_settings(encoder("xlm-roberta", width=384), config)

    assert (base.learning_rate, narrow.learning_rate) == (2e-5, rate)
    assert replace(narrow, learning_rate=base.learning_rate) == base


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta", "albert"])
@pytest.mark.parametrize(
    ("field", "setting", "value"),
    [
        ("teacher_learning_rate", "learning_rate", 1e-4),
        ("teacher_weight_decay", "weight_decay", 0.05),
        ("teacher_weight_decay", "weight_decay", 0.0),
        ("teacher_clip_grad_norm", "clip_grad_norm", 0.5),
        ("teacher_clip_grad_norm", "clip_grad_norm", 0.0),
    ],
)
def test_given_fields_override_the_settings(
    model_type: str, field: str, setting: str, value: float
) -> None:
    for width in (384, 768):
        plain = fine_tuning_settings(encoder(model_type, width), TrainConfig())
        chosen = fine_tuning_settings(
            encoder(model_type, width), TrainConfig.from_mapping({field: value})
        )

        assert getattr(chosen, setting) == value
        assert replace(chosen, **{setting: getattr(plain, setting)}) == plain


@pytest.mark.parametrize(
    "config", [BertConfig(**SIZES), XLMRobertaConfig(**SIZES), AlbertConfig(**SIZES)]
)
def test_biases_and_norms_do_not_decay(config: Any) -> None:
    network = nn.ModuleDict({"encoder": AutoModel.from_config(config), "head": nn.Linear(8, 3)})
    recipe = fine_tuning_settings(encoder("bert"), TrainConfig())
    optimizer, _ = fine_tuning_optimizer(network, recipe, 10)
    decay = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }

    assert len(decay) == sum(1 for _ in network.parameters())
    for name, parameter in network.named_parameters():
        spared = name.endswith("bias") or "norm" in name.lower()
        assert decay[id(parameter)] == (0.0 if spared else recipe.weight_decay), name


def test_optimizer_has_the_given_settings() -> None:
    recipe = FineTuning(3e-5, 0.1, (0.9, 0.98), 1e-6, 0.0)
    optimizer, _ = fine_tuning_optimizer(nn.Linear(2, 2), recipe, 10)

    assert isinstance(optimizer, torch.optim.AdamW)
    for group in optimizer.param_groups:
        assert (group["betas"], group["eps"]) == (recipe.betas, recipe.epsilon)
        assert group["initial_lr"] == recipe.learning_rate


def learning_rates(total_steps: int, steps: int) -> list[float]:
    network = nn.Linear(2, 2)
    recipe = FineTuning(1.0, 0.0, (0.9, 0.999), 1e-6, 0.0)
    optimizer, schedule = fine_tuning_optimizer(network, recipe, total_steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        network(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        schedule.step()
    return [*rates, optimizer.param_groups[0]["lr"]]


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = learning_rates(100, 100)

    assert rates[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[10:] == pytest.approx([1 - step / 90 for step in range(91)])


@pytest.mark.parametrize("total_steps", [1, 2, 5])
def test_short_fine_tuning_learns_at_every_step(total_steps: int) -> None:
    rates = learning_rates(total_steps, total_steps + 2)

    assert all(rate > 0 for rate in rates[:total_steps])
    assert max(rates) == 1.0
    assert rates[total_steps:] == [0.0] * 3
