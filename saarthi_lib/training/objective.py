"""A fit's task and its result; the module does not load Lightning."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.encode import Encoded
from saarthi_lib.training.batches import Batch, Outputs
from saarthi_lib.training.reweighting import Reweighter
from saarthi_lib.training.self_adaptive import SelfAdaptiveLoss

NoisyLabelLoss = Reweighter | SelfAdaptiveLoss


@dataclass
class Objective:
    """A network with its loss, optimizer and score for one fit.

    Attributes:
        part: `teacher` or a stage of the student, for progress.
        phase: name of the fit, for progress and the history.
        network: network whose trainable parameters are fitted, in place.
        loss: function that gives the loss of a batch from the network's outputs.
        optimizer: function that makes the optimizer and its schedule, given the number of
            optimizer steps.
        score: metrics of the network on validation data; a higher `score` is better.
        epochs: maximum number of epochs.
        patience: epochs without a better score before the fit stops.
        clip_grad_norm: maximum gradient norm; 0 for no clipping.
        accumulate_batches: number of batches whose gradients make one step.
        ema_decay: decay of the running mean of the weights, which is scored and kept; 0 for none.
        epochs_before: epochs of the same part in earlier phases; loggers continue that count.
        noisy: loss of training batches that does not trust their labels, in place of `loss`.
        keeps_initial: whether the network before the fit may be the best one.
        keeps_last: whether the last epoch is kept, whatever its score.
    """

    part: str
    phase: str
    network: nn.Module
    loss: Callable[[Outputs, Batch], Tensor]
    optimizer: Callable[[int], tuple[Optimizer, LRScheduler]]
    score: Callable[[nn.Module], dict[str, float]]
    epochs: int
    patience: int
    clip_grad_norm: float = 0.0
    accumulate_batches: int = 1
    ema_decay: float = 0.0
    epochs_before: int = 0
    noisy: NoisyLabelLoss | None = None
    keeps_initial: bool = True
    keeps_last: bool = False

    @property
    def name(self) -> str:
        """Part and phase, as progress shows them."""
        return f"{self.part}, {self.phase}"


@dataclass
class FitResult:
    """History has one row per epoch; epoch 0 is the network before the fit."""

    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = float("-inf")


def noisy_label_loss(
    config: TrainConfig,
    heads: Mapping[str, nn.Linear],
    train: Encoded,
    clean: Encoded | None,
    batch_size: int,
    *,
    full: bool = False,
) -> NoisyLabelLoss | None:
    """Make the loss for labels that cannot be trusted; None if the configuration trusts them.

    Args:
        config: configuration of the run.
        heads: heads of the network, by `sequence` and `token`.
        train: training rows.
        clean: rows with correct labels, for reweighting.
        batch_size: maximum number of clean rows drawn for a batch.
        full: whether reweighting compares the gradients of all parameters.
    """
    if clean is not None:
        return Reweighter(heads, clean, batch_size, config.seed, full)
    return SelfAdaptiveLoss(train) if config.self_adaptive_training else None
