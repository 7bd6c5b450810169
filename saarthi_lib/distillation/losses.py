"""Distillation losses: pure functions, masked; a batch in which all is masked costs zero.

XtremeDistil (arXiv 2004.05686), section 3.2 and 3.3.
"""

import torch
from torch import Tensor
from torch.nn import functional


def representation_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error against the layer-normalised hidden states of the teacher.

    Raw states differ by orders of magnitude between dimensions; normalised, each token weighs the
    same.

    Args:
        student: projected states, [batch, time, width].
        teacher: hidden states, [batch, time, width].
        mask: what is a real piece, bool [batch, time].
    """
    target = functional.layer_norm(teacher.float(), teacher.shape[-1:])
    return masked_mean((student.float() - target).square().mean(dim=-1), mask)


def logit_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Half the squared error of the logits, summed over the classes, without temperature.

    Args:
        student: logits, [..., classes].
        teacher: logits, [..., classes].
        mask: which of them count, bool [...].
    """
    error = 0.5 * (student.float() - teacher.float()).square().sum(dim=-1)
    return masked_mean(error, mask)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask`; zero (with a gradient of zero) where nothing is."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)
