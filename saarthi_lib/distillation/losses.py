"""Distillation losses: pure functions with masks; the loss of a fully masked batch is zero.

XtremeDistil (arXiv 2004.05686), sections 3.2 and 3.3, and later losses from the literature.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

# Zhao et al. 2022 (arXiv 2203.08679), section 4: weight of the divergence among the other classes.
# The divergence of the target against all others has weight 1.
NON_TARGET_WEIGHT = 8.0


def normalized_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error against layer-normalized states, [..., width] to [...].

    Raw states differ by orders of magnitude between dimensions; normalized, each token weighs the
    same.
    """
    target = functional.layer_norm(teacher, teacher.shape[-1:])
    return (student - target).square().mean(dim=-1)


def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error against the states as they are, [..., width] to [...]."""
    return (student - teacher).square().mean(dim=-1)


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine of the angle between the states, [..., width] to [...]."""
    return 1 - functional.cosine_similarity(student, teacher, dim=-1)


def logit_mse(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Half the squared error of the logits, summed over the classes; without temperature.

    Shapes: [..., classes] to [...].
    """
    del temperature
    return 0.5 * (student - teacher).square().sum(dim=-1)


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence at a temperature, times its square (Hinton et al., 1503.02531).

    Shapes: [..., classes] to [...].
    """
    target = (teacher / temperature).softmax(dim=-1)
    given = (student / temperature).log_softmax(dim=-1)
    divergence = functional.kl_div(given, target, reduction="none").sum(dim=-1)
    return temperature**2 * divergence


def decoupled_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The divergence's two parts with separate weights (DKD, arXiv 2203.08679).

    The target is the teacher's most probable class, because most transfer text lacks a label.
    Shapes: [..., classes] to [...].
    """
    target = teacher.argmax(dim=-1, keepdim=True)
    is_target = torch.zeros_like(teacher, dtype=torch.bool).scatter(-1, target, True)
    given, wanted = (logits / temperature for logits in (student, teacher))

    def binary(logits: Tensor) -> Tensor:
        """Log-probabilities of the target and of all other classes together, [..., 2]."""
        others = logits.masked_fill(is_target, float("-inf")).logsumexp(dim=-1, keepdim=True)
        return torch.cat([logits.gather(-1, target), others], dim=-1).log_softmax(dim=-1)

    if teacher.size(-1) == 1:
        return torch.zeros_like(teacher[..., 0]) * student[..., 0]
    of_target = functional.kl_div(
        binary(given), binary(wanted), reduction="none", log_target=True
    ).sum(dim=-1)
    # A logit far below all others removes the target from the softmax without an infinity.
    given, wanted = (logits - 1000.0 * is_target for logits in (given, wanted))
    of_others = functional.kl_div(
        given.log_softmax(dim=-1), wanted.softmax(dim=-1), reduction="none"
    ).sum(dim=-1)
    return temperature**2 * (of_target + NON_TARGET_WEIGHT * of_others)


REPRESENTATION_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "normalized_mse": normalized_mse,
    "mse": mse,
    "cosine": cosine,
}
LOGIT_LOSSES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "mse": logit_mse,
    "kl": kl_divergence,
    "decoupled_kl": decoupled_kl,
}


def representation_loss(
    student: Tensor, teacher: Tensor, mask: Tensor, kind: str = "normalized_mse"
) -> Tensor:
    """The loss of the projected states against the teacher's hidden states.

    Args:
        student: projected states, [batch, time, width].
        teacher: hidden states, [batch, time, width].
        mask: tokens that count; False for padding, bool [batch, time].
        kind: name in `REPRESENTATION_LOSSES`.
    """
    return masked_mean(REPRESENTATION_LOSSES[kind](student.float(), teacher.float()), mask)


def logit_loss(
    student: Tensor, teacher: Tensor, mask: Tensor, kind: str = "mse", temperature: float = 1.0
) -> Tensor:
    """The loss of the logits against the teacher's.

    Args:
        student: logits, [..., classes].
        teacher: logits, [..., classes].
        mask: logits that count, bool [...].
        kind: name in `LOGIT_LOSSES`.
        temperature: temperature of the kinds that compare probabilities.
    """
    return masked_mean(LOGIT_LOSSES[kind](student.float(), teacher.float(), temperature), mask)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the unmasked `values`; zero, with a gradient of zero, if all are masked."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)
