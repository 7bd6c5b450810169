"""The state of a fit after its last finished epoch, on disk: a killed one goes on from there.

What is stored is all that the rest of the fit depends on: weights, the best weights so far, the
optimizer, its schedule, the generators of random numbers, the loss's own memory, the history. So a
fit that was interrupted ends, on a CPU, bit for bit as one that was not.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from saarthi_lib.errors import ArtifactError
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import RECORD, read_json, verify_record, whole_folder, write_record

logger = get_logger("training")

STATE = "state.ckpt"


class Stateful(Protocol):
    """What remembers something from batch to batch, and can tell it in tensors and plain values."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a fit is kept while it lasts.

    Attributes:
        folder: replaced as a whole after each epoch but the last.
        key: of the configuration, data and code; a state of another key is not gone on from.
    """

    folder: Path
    key: str

    def found(self) -> Path | None:
        """The state to go on from; None where there is none, or it is damaged or of another fit."""
        if not (self.folder / RECORD).is_file():
            return None
        try:
            verify_record(self.folder)
            record = read_json(self.folder / RECORD)
        except ArtifactError as error:
            logger.warning("%s: the training begins anew", error)
            return None
        if record["key"] != self.key:
            return None
        logger.info("going on after epoch %d, from %s", record["epoch"], self.folder)
        return self.folder / STATE


class Keeper(Callback):
    """Writes the state after each epoch, and puts the generators back where they were.

    Args:
        checkpoint: where; None keeps nothing.
        memory: of the loss, if it has one.
    """

    def __init__(self, checkpoint: Checkpoint | None, memory: Stateful | None) -> None:
        self.checkpoint = checkpoint
        self.memory = memory
        self.generators: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """Of the generators that training draws from, and of the loss."""
        state: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        if self.memory is not None:
            state["memory"] = self.memory.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep it until the epoch begins: what comes before that draws random numbers too."""
        self.generators = state
        if self.memory is not None:
            self.memory.load_state_dict(state["memory"])

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Put the generators back."""
        if self.generators:
            torch.set_rng_state(self.generators["cpu"])
            if "cuda" in self.generators:
                torch.cuda.set_rng_state_all(self.generators["cuda"])
            self.generators = {}
            # A loader draws when an epoch begins: of this epoch it has done so before.
            assert trainer.train_dataloader is not None
            iter(trainer.train_dataloader)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write, but for the last epoch, after which the fit is as good as done."""
        epoch = trainer.current_epoch + 1
        if self.checkpoint is None or trainer.should_stop or epoch == trainer.max_epochs:
            return
        with whole_folder(self.checkpoint.folder) as aside:
            trainer.save_checkpoint(aside / STATE)
            write_record(aside, {"key": self.checkpoint.key, "epoch": epoch})


def plain(history: list[dict[str, Any]]) -> str:
    """A history as text: its floats come back as they were, and a checkpoint may hold it."""
    return json.dumps(history, default=float)
