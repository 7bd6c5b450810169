"""The linear heads of teacher and student."""

import warnings

from torch import nn


def linear_head(width: int, labels: int) -> nn.Linear:
    """A linear head; one that the task does not have has no columns, which is no cause to warn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        return nn.Linear(width, labels)
