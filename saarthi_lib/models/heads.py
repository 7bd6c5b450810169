"""The linear heads of teacher and student."""

import warnings

import torch
from torch import Tensor, nn

# Of the median deviation. Some dimensions of an encoder stand still (three of MiniLM's 384 do):
# divided by what little they move, they would drown all others once they are trained.
_LEAST = 0.1


def linear_head(width: int, labels: int) -> nn.Linear:
    """A linear head; one that the task does not have has no columns, which is no cause to warn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        return nn.Linear(width, labels)


class Standardize(nn.Module):
    """Shifts and scales states, dimension by dimension; as made it changes nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.mean: Tensor
        self.deviation: Tensor

    def measure(self, states: Tensor) -> None:
        """From here on give such states, [rows, width], a mean of 0 and a deviation of 1.

        Dimensions that hardly vary are scaled as if they varied a tenth as much as most.
        """
        deviation = states.std(dim=0, correction=0)
        least = max(_LEAST * float(deviation.median()), 1e-6)
        self.mean.copy_(states.mean(dim=0))
        self.deviation.copy_(deviation.clamp(min=least))

    def forward(self, states: Tensor) -> Tensor:
        """[..., width] to [..., width]."""
        return (states - self.mean) / self.deviation
