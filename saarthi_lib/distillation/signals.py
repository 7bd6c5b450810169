"""The teacher's outputs on the transfer set, computed once and stored ragged in half precision."""

import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from saarthi_lib.data.encode import Encoded, batches
from saarthi_lib.logs import get_logger
from saarthi_lib.models.teacher import Teacher, TeacherEnsemble
from saarthi_lib.training.device import is_out_of_memory

logger = get_logger("distillation")

PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class Signals:
    """Outputs of a teacher for the sentences of an `Encoded`, memory-mapped, float16.

    Attributes:
        hidden: hidden states of the chosen layer, or the mean of several, [subwords, width].
        sequence_logits: [sentences, sequence labels].
        token_logits: [subwords, token labels].
    """

    hidden: npt.NDArray[np.float16]
    sequence_logits: npt.NDArray[np.float16]
    token_logits: npt.NDArray[np.float16]

    @classmethod
    def load(cls, folder: Path, split: str) -> Self:
        """Memory-map the files written by `compute_signals`."""
        names = ("hidden", "sequence_logits", "token_logits")
        return cls(*(np.load(folder / f"{split}.{name}.npy", mmap_mode="r") for name in names))

    def of(self, encoded: Encoded, rows: npt.NDArray[np.int64]) -> dict[str, np.ndarray]:
        """Signals of the given sentences as padded arrays, ready for a batch."""
        return {
            "teacher_hidden": encoded.padded(self.hidden, rows, 0),
            "teacher_sequence_logits": self.sequence_logits[rows],
            "teacher_token_logits": encoded.padded(self.token_logits, rows, 0),
        }


def compute_signals(
    teacher: Teacher | TeacherEnsemble,
    encoded: Encoded,
    layers: Sequence[int],
    folder: Path,
    split: str,
    *,
    device: torch.device,
    half: torch.dtype | None = None,
    batch_size: int = 64,
) -> None:
    """Run the teacher over a split, batched by length, and write its outputs.

    Args:
        teacher: fine-tuned teacher.
        encoded: sentences of the split.
        layers: layers whose mean hidden states are kept; 0 is the output of the embeddings.
        folder: folder for `<split>.hidden.npy` and the like.
        split: name of the split, which begins the file names.
        device: device that the teacher runs on.
        half: half precision of its matrix products, by autocast; None for single precision.
        batch_size: sentences in one pass; halved for batches that exceed the memory.
    """
    sentences, tokens = len(encoded), int(encoded.offsets[-1])
    shapes = {
        "hidden": (tokens, teacher.width),
        "sequence_logits": (sentences, teacher.sequence_head.out_features),
        "token_logits": (tokens, teacher.token_head.out_features),
    }
    arrays = {
        name: _create(folder / f"{split}.{name}.npy", shape) for name, shape in shapes.items()
    }
    teacher.to(device).eval()
    done, last = 0, time.monotonic()
    with torch.inference_mode(), torch.autocast(device.type, half, enabled=half is not None):
        waiting = deque(batches(encoded.lengths, batch_size))
        while waiting:
            rows = waiting.popleft()
            try:
                sequence, token, hidden = _outputs(teacher, encoded, rows, layers, device)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or len(rows) == 1:
                    raise
                logger.warning("teacher signals  out of memory with %d sentences", len(rows))
                waiting.extendleft(reversed(np.array_split(rows, 2)))
                continue
            arrays["sequence_logits"][rows] = sequence
            for position, row in enumerate(rows):
                start, end = encoded.offsets[row], encoded.offsets[row + 1]
                arrays["hidden"][start:end] = hidden[position, : end - start]
                arrays["token_logits"][start:end] = token[position, : end - start]
            done += len(rows)
            if time.monotonic() - last > PROGRESS_SECONDS or done == sentences:
                last = time.monotonic()
                logger.info("teacher signals  %s  %d of %d sentences", split, done, sentences)
    teacher.to("cpu")
    for array in arrays.values():
        if isinstance(array, np.memmap):
            array.flush()


def _outputs(
    teacher: Teacher | TeacherEnsemble,
    encoded: Encoded,
    rows: npt.NDArray[np.int64],
    layers: Sequence[int],
    device: torch.device,
) -> tuple[npt.NDArray[np.float16], ...]:
    """Sequence logits, token logits and hidden states of some sentences, padded."""
    ids = torch.from_numpy(encoded.padded(encoded.ids, rows, 0)).long().to(device)
    lengths = torch.from_numpy(encoded.lengths[rows]).to(device)
    return tuple(out.half().cpu().numpy() for out in teacher(ids, lengths, layers))


def _create(path: Path, shape: tuple[int, int]) -> npt.NDArray[np.float16]:
    """A writable array on disk; an empty one cannot be mapped and is written at once."""
    if 0 in shape:
        empty = np.zeros(shape, dtype=np.float16)
        np.save(path, empty)
        return empty
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    # Allocate the space first: otherwise a full disk would end the process by a signal (SIGBUS).
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
