"""Optimizer and schedule for fine-tuning a pretrained encoder, by architecture family.

Mosbach et al. 2021, "On the Stability of Fine-tuning BERT" (arXiv 2006.04884), and the authors'
published configurations.
"""

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
class FineTuning:
    """Fine-tuning settings of an encoder; `clip_grad_norm` 0 means no clipping."""

    learning_rate: float
    weight_decay: float
    betas: tuple[float, float]
    epsilon: float
    clip_grad_norm: float
    warm_up: float = 0.1


FINE_TUNING = {
    "bert": FineTuning(2e-5, 0.01, (0.9, 0.999), 1e-6, 1.0),
    "roberta": FineTuning(2e-5, 0.1, (0.9, 0.98), 1e-6, 0.0),
    "albert": FineTuning(2e-5, 0.0, (0.9, 0.999), 1e-6, 1.0),
}

# The published rates suit base-sized encoders (width 768). An encoder of width 384 needs more than
# 3 epochs of a few hundred rows with them, and more for tags than for labels. Turc et al. 2019
# (arXiv 1908.08962) search rates up to 3e-4 for narrow encoders.
NARROW_WIDTH = 512
NARROW_RATE = 1e-4
NARROW_RATE_OF_TAGS = 3e-4


def fine_tuning_settings(encoder: PretrainedConfig, config: TrainConfig) -> FineTuning:
    """Settings of the architecture's family and width; given fields override them."""
    settings = FINE_TUNING[architecture_family(encoder.model_type)]
    if encoder.hidden_size <= NARROW_WIDTH:
        rate = NARROW_RATE_OF_TAGS if has_token_head(config.task) else NARROW_RATE
        settings = replace(settings, learning_rate=rate)
    chosen = {
        "learning_rate": config.teacher_learning_rate,
        "weight_decay": config.teacher_weight_decay,
        "clip_grad_norm": config.teacher_clip_grad_norm,
    }
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    return replace(settings, **given)


def fine_tuning_optimizer(
    network: nn.Module, settings: FineTuning, total_steps: int
) -> tuple[Optimizer, LambdaLR]:
    """AdamW with bias correction, no decay on biases and norms, warm-up then linear decay to 0.

    Args:
        network: network to fine-tune.
        settings: settings of its encoder.
        total_steps: optimizer steps of the whole fine-tuning; the schedule is by step.
    """
    warm_up = max(1, round(settings.warm_up * total_steps))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return max(0.0, (total_steps - step) / max(1, total_steps - warm_up))

    parameters = list(network.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1]},
        # Biases and the weights of LayerNorm are the only parameters of one dimension.
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    # A fused step takes a third of the time on a CPU. On a GPU, mixed precision with clipping
    # refuses it.
    on_cpu = all(parameter.device.type == "cpu" for parameter in parameters)
    optimizer = AdamW(
        groups,
        weight_decay=settings.weight_decay,
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        fused=on_cpu or None,
    )
    return optimizer, LambdaLR(optimizer, factor)
