"""How a pretrained encoder is fine-tuned, by architecture family.

Mosbach et al. 2021, "On the Stability of Fine-tuning BERT" (arXiv 2006.04884), and the authors'
published configurations.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PretrainedConfig

from saarthi_lib.config import TrainConfig
from saarthi_lib.models.sources import architecture_family
from saarthi_lib.tasks import has_token_head


@dataclass(frozen=True)
class Recipe:
    """Fine-tuning settings; `clip_grad_norm` 0 is none."""

    learning_rate: float
    weight_decay: float
    betas: tuple[float, float]
    epsilon: float
    clip_grad_norm: float
    warm_up: float = 0.1


RECIPES = {
    "bert": Recipe(2e-5, 0.01, (0.9, 0.999), 1e-6, 1.0),
    "roberta": Recipe(2e-5, 0.1, (0.9, 0.98), 1e-6, 0.0),
    "albert": Recipe(2e-5, 0.0, (0.9, 0.999), 1e-6, 1.0),
}

# The published rates are those of base-sized encoders (width 768). With them one of width 384 is
# far from done after 3 epochs of a few hundred rows, tags more so than labels. Turc et al. 2019
# (arXiv 1908.08962) search narrow ones' up to 3e-4.
NARROW_WIDTH = 512
NARROW_RATE = 1e-4
NARROW_RATE_OF_TAGS = 3e-4


def teacher_recipe(encoder: PretrainedConfig, config: TrainConfig) -> Recipe:
    """The recipe of the architecture's family and width, with what the user set put over it."""
    recipe = RECIPES[architecture_family(encoder.model_type)]
    if encoder.hidden_size <= NARROW_WIDTH:
        rate = NARROW_RATE_OF_TAGS if has_token_head(config.task) else NARROW_RATE
        recipe = replace(recipe, learning_rate=rate)
    chosen = {
        "learning_rate": config.teacher_learning_rate,
        "weight_decay": config.teacher_weight_decay,
        "clip_grad_norm": config.teacher_clip_grad_norm,
    }
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    return replace(recipe, **given)


def fine_tuning_optimiser(
    network: nn.Module, recipe: Recipe, total_steps: int
) -> tuple[Optimizer, LambdaLR]:
    """AdamW with bias correction, no decay on biases and norms, warm-up then linear decay to 0.

    Args:
        network: what is fine-tuned.
        recipe: its settings.
        total_steps: optimiser steps of the whole fine-tuning; the schedule is by step.
    """
    warm_up = max(1, round(recipe.warm_up * total_steps))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return max(0.0, (total_steps - step) / max(1, total_steps - warm_up))

    # Fused, a step on a CPU takes a third of the time. On a GPU, mixed precision with clipping
    # refuses it.
    on_cpu = all(parameter.device.type == "cpu" for parameter in network.parameters())
    optimiser = AdamW(
        _decay_groups(network.named_parameters(), recipe.weight_decay),
        lr=recipe.learning_rate,
        betas=recipe.betas,
        eps=recipe.epsilon,
        fused=on_cpu or None,
    )
    return optimiser, LambdaLR(optimiser, factor)


def _decay_groups(
    parameters: Iterable[tuple[str, nn.Parameter]], weight_decay: float
) -> list[dict[str, object]]:
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for _, parameter in parameters:
        # Biases and the weights of LayerNorm are the only parameters of one dimension.
        (spared if parameter.ndim < 2 else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
