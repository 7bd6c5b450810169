"""One fit loop, on Lightning, for the teacher and for each phase of the student."""

import copy
import gc
import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor
from torch.utils.data import DataLoader

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError, TrainingError
from saarthi_lib.logs import get_logger
from saarthi_lib.training.batches import Batch, BatchStream, outputs
from saarthi_lib.training.callbacks import TRAINED, Best, Keeper, Progress
from saarthi_lib.training.checkpoint import Checkpoint
from saarthi_lib.training.device import (
    is_lost,
    is_out_of_memory,
    precision_for,
    set_up_process,
    world,
)
from saarthi_lib.training.loggers import log_settings
from saarthi_lib.training.objective import FitResult, Objective

logger = get_logger("training")


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
    _quiet_lightning()
    network, noisy = objective.network, objective.noisy
    initial = copy.deepcopy((network.state_dict(), noisy.state_dict() if noisy else {}))
    while (result := _attempt(objective, train, config, loggers, checkpoint)) is None:
        train.parts *= 2
        train.epoch = 0
        network.to("cpu").float().load_state_dict(initial[0])
        if noisy:
            noisy.load_state_dict(initial[1])
        gc.collect()  # frees the tensors of the failed attempt
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return result


def _attempt(
    objective: Objective,
    train: BatchStream,
    config: TrainConfig,
    loggers: Sequence[Logger],
    checkpoint: Checkpoint | None,
) -> FitResult | None:
    """Fit once; None if it ran out of memory and half the rows at a time may fit."""
    set_up_process(config)
    module, best = _Module(objective, train), Best(objective)
    processes = world()[1]  # started by torchrun
    devices = int(os.environ["LOCAL_WORLD_SIZE"]) if processes > 1 else 1
    trainer = L.Trainer(
        max_epochs=1 if config.fast_dev_run else objective.epochs,
        accelerator="gpu" if config.device == "cuda" else config.device,
        devices=devices,
        num_nodes=processes // devices,
        # A head that the task does not use gets no gradient.
        strategy="ddp_find_unused_parameters_true" if processes > 1 else "auto",
        precision=precision_for(config),
        gradient_clip_val=objective.clip_grad_norm or None,
        accumulate_grad_batches=objective.accumulate_batches * train.parts,
        logger=list(loggers),
        callbacks=[best, Progress(objective.name), Keeper(checkpoint, objective.noisy)],
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
        best.restore()
        raise
    except (RuntimeError, MemoryError) as error:
        _check_memory(error, module.place, train.batch_size // train.parts)
        return None
    best.restore()
    return best.result


def _check_memory(error: BaseException, place: str, rows: int) -> None:
    """Return if half the rows at a time may fit into memory; otherwise raise.

    Args:
        error: error of the training.
        place: position in the fit.
        rows: rows at a time.
    """
    reason = (str(error.args[0] if error.args else "") or type(error).__name__).splitlines()[0]
    if is_lost(error):
        raise TrainingError(
            f"{place}: the device stopped answering ({reason}); run the same command again: it "
            "resumes after the last finished epoch or step"
        ) from error
    if not is_out_of_memory(error):
        raise error
    if rows < 2 or world()[1] > 1:
        raise TrainingError(
            f"{place}: out of memory ({reason}) with {rows} rows at a time; set a smaller batch "
            "size or max_seq_len, or a smaller teacher"
        ) from error
    logger.warning(
        "%s: out of memory with %d rows at a time (%s): continuing with half as many, and twice "
        "as many parts in a step",
        place,
        rows,
        reason,
    )


def _quiet_lightning() -> None:
    """Suppress Lightning's notes on devices and its warnings."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"(lightning|torch)\.")


class _Module(L.LightningModule):
    """Lightning's view of an objective."""

    def __init__(self, objective: Objective, train: BatchStream) -> None:
        super().__init__()
        self.objective = objective
        self.network = objective.network
        self.train_stream = train
        self.place = objective.name  # position in the fit, for errors

    def on_train_epoch_start(self) -> None:
        self.train_stream.epoch = self.current_epoch

    def training_step(self, batch: Batch, index: int) -> Tensor | None:
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.place = (
            f"{self.objective.name}: epoch {self.current_epoch + 1}, batch {index + 1} of "
            f"{len(self.train_stream)}, learning rate {rate:.3g}"
        )
        metrics: dict[str, Tensor] = {}
        if self.objective.noisy:
            loss, metrics = self.objective.noisy.loss(self.network, batch)
        else:
            loss = self.objective.loss(outputs(self.network, batch), batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"{self.place}: the loss is {loss.item()}, and this batch changed nothing; set a "
                "smaller learning rate, clip_grad_norm, or precision: 32"
            )
        self.log_dict(
            {f"{TRAINED}{name}": value for name, value in {"loss": loss, **metrics}.items()},
            on_step=False,
            on_epoch=True,
            batch_size=len(batch["rows"]),
            sync_dist=self.trainer.world_size > 1,
        )
        return loss * batch["share"] if loss.requires_grad else None

    def configure_optimizers(self) -> Any:
        batches_a_step = self.objective.accumulate_batches * self.train_stream.parts
        steps = -(-len(self.train_stream) // batches_a_step) * self.objective.epochs
        optimizer, schedule = self.objective.optimizer(steps)
        if self.device.type == "cpu":
            # Gradients are not scaled on a CPU, so they may be clipped before a fused step.
            optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
