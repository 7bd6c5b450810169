"""Lightning callbacks of a fit: choice of the best weights, progress, and the kept state."""

import time
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from saarthi_lib.logs import get_logger
from saarthi_lib.training.checkpoint import Checkpoint
from saarthi_lib.training.loggers import trainable_parameters
from saarthi_lib.training.objective import FitResult, NoisyLabelLoss, Objective

logger = get_logger("training")

PROGRESS_SECONDS = 10.0
TRAINED = "train/"  # prefix of an epoch's means over the training batches


class Best(Callback):
    """Scores the network before the fit and after each epoch, keeps the best weights, and stops.

    With `ema_decay`, it scores and keeps the running mean of the weights. Lightning's
    EMAWeightAveraging does not fit: it copies the module before the device and the precision are
    set, and exchanges weights only in Lightning's validation loop.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.result = FitResult()
        self.weights: dict[str, Tensor] = {}
        self.mean: AveragedModel | None = None
        self.loaded: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """Best weights, best epoch and history so far, and the running mean if there is one."""
        mean = self.mean.state_dict() if self.mean else {}
        return {"weights": self.weights, "result": vars(self.result), "mean": mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from this state when the training starts."""
        self.loaded = state

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        network = self.objective.network
        if self.objective.ema_decay:
            mean = AveragedModel(
                network, multi_avg_fn=get_ema_multi_avg_fn(self.objective.ema_decay)
            )
            trainer.optimizers[0].register_step_post_hook(
                lambda *_: mean.update_parameters(network)
            )
            self.mean = mean
        if self.loaded:
            self.weights, self.result = self.loaded["weights"], FitResult(**self.loaded["result"])
            if self.mean:
                self.mean.load_state_dict(self.loaded["mean"])
            network.train()
        else:
            self._judge(trainer, 0, {"loss": None})

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        trained = {
            name.removeprefix(TRAINED): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith(TRAINED)
        }
        scores = self._judge(trainer, epoch, trained)
        module.log_dict(
            {
                **{f"validation/{name}": value for name, value in scores.items()},
                **trainable_parameters(self.objective.network),
                "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
                # Epochs count on across the phases of a stage; Lightning restarts at each.
                "step": float(self.objective.epochs_before + epoch),
            }
        )
        metrics = {name: value for name, value in (trained | scores).items() if name != "score"}
        logger.info(
            "%s  epoch %d of at most %d  %s%s",
            self.objective.name,
            epoch,
            trainer.max_epochs,
            "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()),
            "  (best so far)" if self.result.best_epoch == epoch else "",
        )
        if epoch - self.result.best_epoch >= self.objective.patience:
            trainer.should_stop = True

    def _judge(
        self, trainer: L.Trainer, epoch: int, trained: Mapping[str, float | None]
    ) -> dict[str, float]:
        network = self.mean.module if self.mean else self.objective.network
        network.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            scores = self.objective.score(network)
        network.train()
        result, row = self.result, {"phase": self.objective.phase, "epoch": epoch}
        result.history.append({**row, **trained, **scores})
        is_candidate = epoch > 0 or self.objective.keeps_initial
        better = scores["score"] > result.best_score or self.objective.keeps_last
        if is_candidate and better:
            result.best_score, result.best_epoch = scores["score"], epoch
            self.weights = {
                name: value.detach().to("cpu", copy=True)
                for name, value in network.state_dict().items()
            }
        return scores

    def restore(self) -> None:
        """Give the network its best weights, in single precision on the CPU."""
        network = self.objective.network
        if self.weights:
            network.load_state_dict(self.weights)
        network.to("cpu").float().eval()


class Progress(Callback):
    """Logs a line every few seconds within a long epoch, readable in a terminal and in a log."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.last = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, out: Any, batch: Any, index: int
    ) -> None:
        if time.monotonic() - self.last < PROGRESS_SECONDS:
            return
        self.last = time.monotonic()
        done = (index + 1) / trainer.num_training_batches
        bar = ("#" * round(20 * done)).ljust(20, ".")
        epoch = trainer.current_epoch + 1
        logger.info("%s  epoch %d  [%s] %3.0f%%", self.name, epoch, bar, 100 * done)


class Keeper(Callback):
    """Writes the state after each epoch, and restores the random generators.

    Args:
        checkpoint: where to write; None: nowhere.
        noisy: loss whose state is part of the checkpoint, if there is one.
    """

    def __init__(self, checkpoint: Checkpoint | None, noisy: NoisyLabelLoss | None) -> None:
        self.checkpoint = checkpoint
        self.noisy = noisy
        self.generators: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """States of torch's random generators and of the loss."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        noisy = self.noisy.state_dict() if self.noisy else {}
        return {"cpu": torch.get_rng_state(), "cuda": cuda, "noisy": noisy}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep the generators' states until the epoch starts: Lightning draws before that."""
        self.generators = state
        if self.noisy:
            self.noisy.load_state_dict(state["noisy"])

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Restore the generators."""
        if self.generators:
            torch.set_rng_state(self.generators["cpu"])
            if self.generators["cuda"]:
                torch.cuda.set_rng_state_all(self.generators["cuda"])
            self.generators = {}
            # A loader draws when an epoch starts. In this epoch it drew before the restore.
            assert trainer.train_dataloader is not None
            iter(trainer.train_dataloader)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the state, except after the last epoch."""
        epoch = trainer.current_epoch + 1
        if self.checkpoint is None or trainer.should_stop or epoch == trainer.max_epochs:
            return
        self.checkpoint.write(trainer, epoch)
