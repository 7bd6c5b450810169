"""State of a fit after its last finished epoch, on disk: a killed fit resumes from it.

The state has everything that the rest of the fit depends on: weights, best weights so far,
optimizer, schedule, random generators, state of the loss, history. On a CPU, an interrupted fit
therefore ends bit for bit like an uninterrupted one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from saarthi_lib.errors import ArtifactError
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import RECORD, read_json, verify_record, whole_folder, write_record
from saarthi_lib.training.objective import NoisyLabelLoss

logger = get_logger("training")

STATE = "state.ckpt"


@dataclass(frozen=True)
class Checkpoint:
    """Folder for the state of a fit.

    Attributes:
        folder: replaced as a whole after each epoch but the last.
        key: digest of the configuration, data and code; a fit ignores a state with another key.
    """

    folder: Path
    key: str

    def found(self) -> Path | None:
        """The state to resume from; None if it is missing, damaged or from another fit."""
        if not (self.folder / RECORD).is_file():
            return None
        try:
            verify_record(self.folder)
            record = read_json(self.folder / RECORD)
        except ArtifactError as error:
            logger.warning("%s: the training starts again", error)
            return None
        if record["key"] != self.key:
            return None
        logger.info("resuming after epoch %d, from %s", record["epoch"], self.folder)
        return self.folder / STATE


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
        with whole_folder(self.checkpoint.folder) as aside:
            trainer.save_checkpoint(aside / STATE)
            write_record(aside, {"key": self.checkpoint.key, "epoch": epoch})
