"""A fit's task and its result; the module does not load Lightning."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from saarthi_lib.training.batches import Batch

if TYPE_CHECKING:
    from torch.distributed.checkpoint.stateful import Stateful


@dataclass
class Objective:
    """A network with its loss, optimizer and score for one fit.

    Attributes:
        part: `teacher` or a stage of the student, for progress.
        phase: name of the fit, for progress and the history.
        network: network whose trainable parameters are fitted, in place.
        loss: function that gives the loss of a batch, and further metrics of the batch for the
            history. A loss without a gradient makes no update.
        optimizer: function that makes the optimizer and its schedule, given the number of
            optimizer steps.
        score: metrics of the network on validation data; a higher `score` is better.
        epochs: maximum number of epochs.
        patience: epochs without a better score before the fit stops.
        clip_grad_norm: maximum gradient norm; 0 for no clipping.
        accumulate_batches: number of batches whose gradients make one step.
        ema_decay: decay of the running mean of the weights, which is scored and kept; 0 for none.
        epochs_before: epochs of the same part in earlier phases; loggers continue that count.
        memory: state of the loss, if it has one; a restarted fit needs its initial value.
    """

    part: str
    phase: str
    network: nn.Module
    loss: Callable[[nn.Module, Batch], tuple[Tensor, dict[str, Tensor]]]
    optimizer: Callable[[int], tuple[Optimizer, LRScheduler]]
    score: Callable[[nn.Module], dict[str, float]]
    epochs: int
    patience: int
    clip_grad_norm: float = 0.0
    accumulate_batches: int = 1
    ema_decay: float = 0.0
    epochs_before: int = 0
    memory: "Stateful | None" = None

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
