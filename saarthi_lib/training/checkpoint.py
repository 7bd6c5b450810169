"""State of a fit after its last finished epoch: a killed fit resumes from it.

The state has everything that the rest of the fit depends on: weights, best weights so far,
optimizer, schedule, random generators, state of the loss, history. On a CPU, an interrupted fit
therefore ends bit for bit like an uninterrupted one. A pod's disk ends with the pod, so the state
can have a copy in a bucket.
"""

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saarthi_lib.data.cloud import bucket_at, fetch, remove, replace, storage_errors
from saarthi_lib.errors import ArtifactError, DataError, StorageError
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import RECORD, read_json, verify_record, whole_folder, write_record

if TYPE_CHECKING:
    import lightning as L

logger = get_logger("training")

_SHARE = 0.1  # most of a training's time for writing its state, if it is paced


@dataclass
class Checkpoint:
    """State of a fit, or of several fits in a row.

    Attributes:
        folder: replaced as a whole after each epoch but the last of a fit.
        key: digest of the configuration, data and code; a state with another key is ignored.
        copy: address of a folder in a bucket that has a copy of the state; empty: none.
        paced: whether epochs whose state would take too long to write, in total, are left out.
        fit: number of the fit in the row.
        history: epochs of the fits before it.
    """

    folder: Path
    key: str
    copy: str = ""
    paced: bool = False
    fit: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    _due: float = 0.0  # earliest time to write

    def resume(self) -> None:
        """Continue with the fit whose state was written, if there is one.

        Raises:
            DataError: the bucket cannot be read.
        """
        if self.copy and not (self.folder / RECORD).is_file():
            bucket = bucket_at(self.copy)
            with storage_errors(bucket, self.copy):
                stored = bucket.find(RECORD)
            if stored:
                fetch(self.copy, self.folder)
        if record := self._record():
            self.fit, self.history = record["fit"], record["history"]

    def found(self) -> Path | None:
        """The state to resume this fit from; None if it is missing, damaged or another fit's."""
        record = self._record()
        if record is None or record["fit"] != self.fit:
            return None
        logger.info("resuming after epoch %d, from %s", record["epoch"], self.copy or self.folder)
        return self.folder / str(record["state"])

    def write(self, trainer: "L.Trainer", epoch: int) -> None:
        """Write the state after an epoch, and copy it; with several processes, the first one does.

        If it is paced, an error of the disk or the bucket does not stop the training.
        """
        if not trainer.is_global_zero:
            return
        begin = time.monotonic()
        if self.paced and begin < self._due:
            return
        name = f"{self.fit}-{epoch}.ckpt"  # a name of its own, so that copies are whole states
        place = {"state": name, "epoch": epoch, "fit": self.fit, "history": self.history}
        try:
            with whole_folder(self.folder) as aside:
                # Not Trainer.save_checkpoint, in which the first process waits for the others.
                state = trainer._checkpoint_connector.dump_checkpoint()
                trainer.strategy.save_checkpoint(state, aside / name)
                write_record(aside, {"key": self.key, **place})
            if self.copy:
                replace(self.folder, self.copy, last=RECORD)
        except (DataError, StorageError) as error:
            if not self.paced:
                raise
            logger.warning("%s: the state after epoch %d is not kept", error, epoch)
        end = time.monotonic()
        self._due = end + (end - begin) * (1 / _SHARE - 1)

    def remove(self) -> None:
        """Remove the state and its copy, when the training is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.copy:
            try:
                remove(self.copy)
            except DataError as error:
                logger.warning("%s: the state stays there", error)

    def _record(self) -> dict[str, Any] | None:
        """Record of the state; None if the state is missing, damaged or from another training."""
        if not (self.folder / RECORD).is_file():
            return None
        try:
            verify_record(self.folder)
            record: dict[str, Any] = read_json(self.folder / RECORD)
        except ArtifactError as error:
            logger.warning("%s: the training starts again", error)
            return None
        return record if record["key"] == self.key else None
