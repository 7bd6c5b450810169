"""One fit loop, on Lightning, for the teacher and for each phase of the student."""

import copy
import gc
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError, TrainingError
from saarthi_lib.logs import get_logger
from saarthi_lib.training.batches import Batch, BatchStream
from saarthi_lib.training.checkpoint import Checkpoint, Keeper, Stateful, plain
from saarthi_lib.training.device import (
    is_lost,
    is_out_of_memory,
    precision_for,
    set_up_process,
    world,
)
from saarthi_lib.training.loggers import log_settings, trainable_parameters

logger = get_logger("training")

PROGRESS_SECONDS = 10.0
TRAINED = "train/"  # prefix of an epoch's means over the training batches


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
        epochs_before: epochs of the same part in earlier phases; loggers continue that count.
        memory: state of the loss, if it has one; a restarted fit needs its initial value.
        accumulate_batches: number of batches whose gradients make one step.
        ema_decay: decay of the running mean of the weights, which is scored and kept; 0 for none.
    """

    part: str
    phase: str
    network: nn.Module
    loss: Callable[[nn.Module, Batch], tuple[Tensor, dict[str, Tensor]]]
    optimizer: Callable[[int], tuple[Optimizer, Any]]
    score: Callable[[nn.Module], dict[str, float]]
    epochs: int
    patience: int
    clip_grad_norm: float = 0.0
    accumulate_batches: int = 1
    ema_decay: float = 0.0
    epochs_before: int = 0
    memory: Stateful | None = None

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


def fit(
    objective: Objective,
    train: BatchStream,
    config: TrainConfig,
    loggers: Sequence[Logger] = (),
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Fit a network and leave it with the weights of its best epoch on validation data.

    The initial network counts as epoch 0, so a fit never lowers the score. If a batch does not fit
    into memory, the fit continues with half the rows at a time and twice the parts per step.

    Args:
        objective: network, loss, optimizer and score.
        train: training batches.
        config: configuration of the run.
        loggers: Lightning loggers.
        checkpoint: store of the state after each epoch; a later call resumes from it.

    Returns:
        The history and the best epoch.

    Raises:
        ConfigError: the device is not found.
        TrainingError: the loss is not finite, a single row exceeds the memory, or the device
            stopped answering. The network has the weights of its best epoch so far.
    """
    if config.device in ("cuda", "gpu") and not torch.cuda.is_available():
        raise ConfigError(f"device: {config.device}, but no such device is found; set device: cpu")
    given = {name: value.detach().clone() for name, value in objective.network.state_dict().items()}
    remembered = copy.deepcopy(objective.memory.state_dict()) if objective.memory else {}
    while (result := _fit(objective, train, config, loggers, checkpoint)) is None:
        train.parts *= 2
        train.epoch = 0
        objective.network.to("cpu").float().load_state_dict(given)
        if objective.memory:
            objective.memory.load_state_dict(remembered)
        gc.collect()  # frees the tensors of the failed attempt
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return result


def _fit(
    objective: Objective,
    train: BatchStream,
    config: TrainConfig,
    loggers: Sequence[Logger],
    checkpoint: Checkpoint | None,
) -> FitResult | None:
    """One attempt; None when it ran out of memory."""
    quiet_lightning()
    set_up_process(config)
    module = _Module(objective, train)
    trainer = L.Trainer(
        max_epochs=1 if config.fast_dev_run else objective.epochs,
        accelerator="gpu" if config.device == "cuda" else config.device,
        # Processes started by torchrun; a head that the task does not use gets no gradient.
        devices=int(os.environ["LOCAL_WORLD_SIZE"]) if world()[1] > 1 else 1,
        num_nodes=world()[1] // int(os.environ["LOCAL_WORLD_SIZE"]) if world()[1] > 1 else 1,
        strategy="ddp_find_unused_parameters_true" if world()[1] > 1 else "auto",
        precision=precision_for(config),
        gradient_clip_val=objective.clip_grad_norm or None,
        accumulate_grad_batches=objective.accumulate_batches * train.parts,
        logger=list(loggers),
        callbacks=[
            module.best,
            _Progress(objective.name, len(train)),
            Keeper(checkpoint, objective.memory),
        ],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        deterministic=True,
        log_every_n_steps=1,
    )
    log_settings(loggers, objective.phase, objective.network, config.model_dump())
    loader = DataLoader(train, batch_size=None, pin_memory=torch.cuda.is_available())
    state = checkpoint.found() if checkpoint else None
    try:
        trainer.fit(module, loader, ckpt_path=state, weights_only=True)
    except TrainingError:
        module.best.restore(objective.network)
        raise
    except (RuntimeError, MemoryError) as error:
        if is_lost(error):
            raise TrainingError(
                f"{module.place}: the device stopped answering ({_first_line(error)}); run the "
                "same command again: it goes on from what is finished"
            ) from error
        if not is_out_of_memory(error):
            raise
        rows = train.batch_size // train.parts
        if rows < 2 or world()[1] > 1:
            raise TrainingError(
                f"{module.place}: out of memory ({_first_line(error)}) with {rows} rows at a time; "
                "set a smaller batch size or max_seq_len, or a smaller teacher"
            ) from error
        logger.warning(
            "%s: out of memory with %d rows at a time (%s): going on with half as many, and twice "
            "as many of them in a step",
            module.place,
            rows,
            _first_line(error),
        )
        return None
    module.best.restore(objective.network)
    return module.best.result


def quiet_lightning() -> None:
    """Silence Lightning's notes on devices and its warnings."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"(lightning|torch)\.")


def _first_line(error: BaseException) -> str:
    return (str(error.args[0] if error.args else "") or type(error).__name__).splitlines()[0]


class _Module(L.LightningModule):
    """Lightning's view of an objective."""

    def __init__(self, objective: Objective, train: BatchStream) -> None:
        super().__init__()
        self.objective = objective
        self.network = objective.network
        self.train_stream = train
        steps_an_epoch = -(-len(train) // (objective.accumulate_batches * train.parts))
        self.total_steps = steps_an_epoch * objective.epochs
        self.best = _Best(objective)
        self.place = objective.name  # position in the fit, for errors

    def on_train_epoch_start(self) -> None:
        self.train_stream.epoch = self.current_epoch

    def training_step(self, batch: Batch, index: int) -> Tensor | None:
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.place = (
            f"{self.objective.name}: epoch {self.current_epoch + 1}, batch {index + 1} of "
            f"{len(self.train_stream)}, learning rate {rate:.3g}"
        )
        loss, figures = self.objective.loss(self.network, batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"{self.place}: the loss is {loss.item()}, and nothing was learnt of this batch "
                f"(best epoch before: {self.best.result.best_epoch}); set a smaller learning rate, "
                "clip_grad_norm, or precision: 32"
            )
        logged = {f"{TRAINED}{name}": value for name, value in {"loss": loss, **figures}.items()}
        self.log_dict(
            logged,
            on_step=False,
            on_epoch=True,
            batch_size=len(batch["rows"]),
            sync_dist=self.trainer.world_size > 1,
        )
        return loss * batch.get("share", 1.0) if loss.requires_grad else None

    def configure_optimizers(self) -> Any:
        optimizer, schedule = self.objective.optimizer(self.total_steps)
        if self.device.type == "cpu":
            # Gradients are not scaled on a CPU, so they may be clipped before a fused step.
            optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class _Best(Callback):
    """Scores the network before the fit and after each epoch, keeps the best weights, and stops."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.result = FitResult()
        self.weights: dict[str, Tensor] = {}
        self.mean: AveragedModel | None = None
        self.steps = 0
        self.loaded: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """Best weights, best epoch and history so far, and the running mean if there is one."""
        mean = {} if self.mean is None else self.mean.state_dict()
        history = plain(self.result.history)
        best = (self.result.best_epoch, self.result.best_score)
        return {"weights": self.weights, "mean": mean, "history": history, "best": best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from this state when the training starts."""
        self.loaded = state

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.steps = trainer.global_step
        if self.objective.ema_decay:
            average = get_ema_multi_avg_fn(self.objective.ema_decay)
            self.mean = AveragedModel(self.objective.network, multi_avg_fn=average)
        if not self.loaded:
            self._judge(module, 0, {"loss": None})
            return
        self.weights = self.loaded["weights"]
        self.result = FitResult(json.loads(self.loaded["history"]), *self.loaded["best"])
        if self.mean is not None:
            self.mean.load_state_dict(self.loaded["mean"])
        self.objective.network.train()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, out: Any, batch: Any, index: int
    ) -> None:
        # A step may take several batches.
        if self.mean is not None and trainer.global_step > self.steps:
            self.mean.update_parameters(self.objective.network)
        self.steps = trainer.global_step

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        trained = {
            name.removeprefix(TRAINED): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith(TRAINED)
        }
        scores = self._judge(module, trainer.current_epoch + 1, trained)
        module.log_dict({f"validation/{name}": value for name, value in scores.items()})
        module.log("learning_rate", trainer.optimizers[0].param_groups[0]["lr"])
        module.log_dict(trainable_parameters(self.objective.network))
        # Epochs count on across the phases of a stage; Lightning would restart at each.
        module.log("step", float(self.objective.epochs_before + trainer.current_epoch + 1))
        shown = "  ".join(
            f"{name} {value:.4f}"
            for name, value in {**trained, **scores}.items()
            if name != "score"
        )
        logger.info(
            "%s  epoch %d of at most %d  %s%s",
            self.objective.name,
            trainer.current_epoch + 1,
            trainer.max_epochs,
            shown,
            "  (best so far)" if self.result.best_epoch == trainer.current_epoch + 1 else "",
        )
        if trainer.current_epoch + 1 - self.result.best_epoch >= self.objective.patience:
            trainer.should_stop = True

    def _judge(
        self, module: L.LightningModule, epoch: int, trained: Mapping[str, float | None]
    ) -> dict[str, float]:
        network = self.objective.network if self.mean is None else self.mean.module
        network.eval()
        with torch.no_grad(), module.trainer.precision_plugin.forward_context():
            scores = self.objective.score(network)
        network.train()
        row = {"phase": self.objective.phase, "epoch": epoch, **trained, **scores}
        self.result.history.append(row)
        if scores["score"] > self.result.best_score:
            self.result.best_score = scores["score"]
            self.result.best_epoch = epoch
            self.weights = {
                name: value.detach().to("cpu", copy=True)
                for name, value in network.state_dict().items()
            }
        return scores

    def restore(self, network: nn.Module) -> None:
        if self.weights:
            network.load_state_dict(self.weights)
        # After training in double precision, continue in single precision like all others.
        network.to("cpu").float().eval()


class _Progress(Callback):
    """Logs a line every few seconds within a long epoch, readable in a terminal and in a log."""

    def __init__(self, name: str, total: int) -> None:
        self.name = name
        self.total = total
        self.last = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, out: Any, batch: Any, index: int
    ) -> None:
        now = time.monotonic()
        if now - self.last < PROGRESS_SECONDS:
            return
        self.last = now
        done = (index + 1) / self.total
        filled = round(20 * done)
        logger.info(
            "%s  epoch %d  [%s%s] %3.0f%%",
            self.name,
            trainer.current_epoch + 1,
            "#" * filled,
            "." * (20 - filled),
            100 * done,
        )
