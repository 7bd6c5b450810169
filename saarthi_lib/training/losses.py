"""The loss on labels, shared by the teacher and the student's last stages."""

from torch import Tensor
from torch.nn import functional

from saarthi_lib.data.encode import IGNORE


def row_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each row; 0 where the label is `IGNORE`.

    Args:
        logits: [..., classes].
        labels: int64 [...].
    """
    flat = functional.cross_entropy(
        logits.float().flatten(0, -2), labels.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return flat.view_as(labels)


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of `row_losses` over the rows whose label is not `IGNORE`."""
    return row_losses(logits, labels).sum() / (labels != IGNORE).sum().clamp(min=1)


def head_losses(sequence_logits: Tensor, token_logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Sum of the label losses of the task's heads.

    Args:
        sequence_logits: [batch, sequence labels]; no columns without the head.
        token_logits: [batch, time, tags]; no columns without the head.
        batch: has `sequence_labels` [batch] and `token_labels` [batch, time].
    """
    loss = sequence_logits.new_zeros(())
    if sequence_logits.size(-1):
        loss = loss + label_loss(sequence_logits, batch["sequence_labels"])
    if token_logits.size(-1):
        loss = loss + label_loss(token_logits, batch["token_labels"])
    return loss
