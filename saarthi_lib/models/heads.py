"""The linear heads of teacher and student."""

import warnings

import torch
from torch import Tensor, nn

# Smallest deviation, as a share of the median one. Some dimensions of an encoder are almost
# constant (three of MiniLM's 384). Divided by their own deviation, they would dominate all others
# as soon as training changes them.
_LEAST = 0.1


def linear_head(width: int, labels: int) -> nn.Linear:
    """A linear head, without columns and without a warning if the task does not need it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        return nn.Linear(width, labels)


class Standardize(nn.Module):
    """Shifts and scales states by dimension; before `measure` it changes nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.mean: Tensor
        self.deviation: Tensor

    def measure(self, states: Tensor) -> None:
        """Standardize such states, [rows, width], to mean 0 and deviation 1 from now on.

        Almost constant dimensions are scaled as if their deviation were a tenth of the median.
        """
        deviation = states.std(dim=0, correction=0)
        least = max(_LEAST * float(deviation.median()), 1e-6)
        self.mean.copy_(states.mean(dim=0))
        self.deviation.copy_(deviation.clamp(min=least))

    def forward(self, states: Tensor) -> Tensor:
        """Standardize states [..., width]."""
        return (states - self.mean) / self.deviation
