"""The teacher's outputs on the transfer set, computed once and stored ragged in half precision.

Hidden states are much larger than logits, and only stage 1 can learn them, so they have a folder of
their own.
"""

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
HIDDEN = "hidden"  # folder of the hidden states, unless it is kept elsewhere


@dataclass(frozen=True)
class Signals:
    """Outputs of a teacher for the sentences of an `Encoded`, memory-mapped, float16.

    Attributes:
        sequence_logits: [sentences, sequence labels].
        token_logits: [subwords, token labels].
        hidden: hidden states of the chosen layer, or the mean of several, [subwords, width]; None
            if they were not computed.
    """

    sequence_logits: npt.NDArray[np.float16]
    token_logits: npt.NDArray[np.float16]
    hidden: npt.NDArray[np.float16] | None = None

    @classmethod
    def load(cls, folder: Path, split: str, hidden: Path | None = None) -> Self:
        """Memory-map the files written by `compute_signals`, with the hidden states if any."""
        files = [folder / f"{split}.{name}.npy" for name in ("sequence_logits", "token_logits")]
        states = (hidden or folder / HIDDEN) / f"{split}.hidden.npy"
        files += [states] if states.is_file() else []
        return cls(*(np.load(file, mmap_mode="r") for file in files))

    def of(
        self, encoded: Encoded, states: bool, rows: npt.NDArray[np.int64]
    ) -> dict[str, np.ndarray]:
        """Signals of the given sentences as padded arrays, ready for a batch.

        Args:
            encoded: sentences of the split.
            states: whether the hidden states are needed.
            rows: rows of the batch.
        """
        arrays = {
            "teacher_sequence_logits": self.sequence_logits[rows],
            "teacher_token_logits": encoded.padded(self.token_logits, rows, 0),
        }
        if states and self.hidden is not None:
            arrays["teacher_hidden"] = encoded.padded(self.hidden, rows, 0)
        return arrays


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
    hidden: Path | None = None,
) -> None:
    """Run the teacher over a split, batched by length, and write its outputs.

    Args:
        teacher: fine-tuned teacher.
        encoded: sentences of the split.
        layers: layers whose mean hidden states are kept; 0: output of the embeddings; empty: none.
        folder: folder for `<split>.token_logits.npy` and the like.
        split: name of the split, which begins the file names.
        device: device that the teacher runs on.
        half: half precision of its matrix products, by autocast; None for single precision.
        batch_size: sentences in one pass; halved for batches that exceed the memory.
        hidden: folder for `<split>.hidden.npy`; None: `hidden` in `folder`.
    """
    sentences, tokens = len(encoded), int(encoded.offsets[-1])
    shapes = {
        folder / f"{split}.sequence_logits.npy": (sentences, teacher.sequence_head.out_features),
        folder / f"{split}.token_logits.npy": (tokens, teacher.token_head.out_features),
    }
    if layers:
        shapes[(hidden or folder / HIDDEN) / f"{split}.hidden.npy"] = (tokens, teacher.width)
    arrays = [_create(path, shape) for path, shape in shapes.items()]
    teacher.to(device).eval()
    done, last = 0, time.monotonic()
    with torch.inference_mode(), torch.autocast(device.type, half, enabled=half is not None):
        waiting = deque(batches(encoded.lengths, batch_size))
        while waiting:
            rows = waiting.popleft()
            try:
                outputs = _outputs(teacher, encoded, rows, layers, device)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or len(rows) == 1:
                    raise
                logger.warning("teacher signals  out of memory with %d sentences", len(rows))
                waiting.extendleft(reversed(np.array_split(rows, 2)))
                continue
            arrays[0][rows] = outputs[0]
            for position, row in enumerate(rows):
                start, end = encoded.offsets[row], encoded.offsets[row + 1]
                for array, found in zip(arrays[1:], outputs[1:], strict=False):
                    array[start:end] = found[position, : end - start]
            done += len(rows)
            if time.monotonic() - last > PROGRESS_SECONDS or done == sentences:
                last = time.monotonic()
                logger.info("teacher signals  %s  %d of %d sentences", split, done, sentences)
    teacher.to("cpu")
    for array in arrays:
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
    path.parent.mkdir(exist_ok=True)
    if 0 in shape:
        empty = np.zeros(shape, dtype=np.float16)
        np.save(path, empty)
        return empty
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    # Allocate the space first: otherwise a full disk would end the process by a signal (SIGBUS).
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
