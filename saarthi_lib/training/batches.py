"""Batches of encoded text, for training and for validation."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from saarthi_lib.data.encode import Encoded, batches
from saarthi_lib.training.device import world

Batch = dict[str, Tensor]
# Sequence logits [batch, labels], token logits [batch, time, tags] and states [batch, time, width].
Outputs = tuple[Tensor, Tensor, Tensor]
# Maps the rows of a batch to extra arrays, such as the teacher's signals.
Extras = Callable[[np.ndarray], dict[str, np.ndarray]]


class BatchStream(IterableDataset[Batch]):
    """Batches of similar length, in an order that depends on the seed and the epoch alone.

    A batch that exceeds the memory comes in consecutive `parts`, each with the `share` of its loss
    in the batch's loss. Weights, if given, draw rows with replacement.
    """

    def __init__(
        self,
        encoded: Encoded,
        batch_size: int,
        seed: int | None = None,
        extras: Extras | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        self.encoded = encoded
        self.batch_size = batch_size
        self.seed = seed
        self.extras = extras
        self.weights = weights
        self.epoch = 0
        self.parts = 1

    def __len__(self) -> int:
        count = -(-len(self.encoded) // self.batch_size)
        processes = 1 if self.seed is None else world()[1]
        return self.parts * -(-count // processes)

    def __iter__(self) -> Iterator[Batch]:
        generator = None
        if self.seed is not None:
            generator = np.random.default_rng([self.seed, self.epoch])
            self.epoch += 1
        found = batches(self.encoded.lengths, self.batch_size, generator, self.weights)
        if self.seed is not None and world()[1] > 1:
            # Each process takes an equal number of batches; otherwise some would wait for others.
            rank, size = world()
            every = list(found)
            every += every[: -len(every) % size]
            found = iter(every[rank::size])
        for rows in found:
            for part in np.array_split(rows, self.parts):
                # The last batch may have fewer rows than parts: padding parts get share 0.
                share = torch.tensor(len(part) * self.parts / len(rows))
                yield {**self.batch(part if len(part) else rows[:1]), "share": share}

    def batch(self, rows: np.ndarray) -> Batch:
        """Tensors of the given rows."""
        data = self.encoded
        arrays = {
            "rows": rows,
            "ids": data.padded(data.ids, rows, 0).astype(np.int64),
            "lengths": data.lengths[rows],
            "first": data.padded(data.first, rows, 0),
            "sequence_labels": data.sequence_labels[rows],
            "token_labels": data.padded(data.token_labels, rows, -100),
        }
        if self.extras is not None:
            arrays |= self.extras(rows)
        return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}


def outputs(network: nn.Module, batch: Batch) -> Outputs:
    """Outputs of a teacher or student, in single precision."""
    sequence, token, states = network(batch["ids"], batch["lengths"])
    return sequence.float(), token.float(), states.float()


def balanced_weights(labels: np.ndarray, languages: Sequence[str]) -> np.ndarray:
    """Weights that draw rows of rare labels and languages more often.

    The share of a group of n rows is proportional to the square root of n, which is common for
    languages (arXiv 1911.02116, section 3.1, uses n to the power of 0.3 to 0.7).

    Args:
        labels: label of each row, [rows]; all equal for tasks without labels.
        languages: language of each row, [rows].

    Returns:
        Weights, [rows].
    """
    weights = np.ones(len(labels))
    for groups in (labels, np.asarray(languages)):
        _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
        weights /= np.sqrt(counts[group])
    return weights
