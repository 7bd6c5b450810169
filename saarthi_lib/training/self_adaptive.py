"""Self-adaptive training with a class that abstains (Huang et al. 2020, arXiv 2002.10319, sec. 4).

A row that the network keeps disagreeing with is one it may be silent on. Each row has a target t
for its label, 1 at first and then a running mean of the probability that the network gives it; the
loss is

    - t log p(label) - (1 - t) log p(abstain)

so that what cannot be fitted is moved to the last class, instead of being learnt by heart.
"""

import torch
from torch import Tensor

from saarthi_lib.data.encode import IGNORE, Encoded
from saarthi_lib.training.losses import label_loss

MOMENTUM = 0.9
WARM_UP = 2  # epochs with the labels as they are; probabilities of a new head mean nothing


class SelfAdaptiveLoss:
    """The loss of one fit; it remembers each training row's target.

    Of the paper's table of soft labels, [rows, classes], this loss reads one entry a row, that of
    its label, so no other is kept.

    Args:
        train: the rows that batches are drawn from; `rows` of a batch are their places here.
    """

    def __init__(self, train: Encoded) -> None:
        self.targets = torch.ones(len(train))
        self.seen = torch.zeros(len(train), dtype=torch.int64)

    def __call__(
        self, sequence_logits: Tensor, token_logits: Tensor, batch: dict[str, Tensor]
    ) -> Tensor:
        """The loss of a batch; tags are learnt as ever.

        Args:
            sequence_logits: [batch, sequence labels], the last of them the class that abstains.
            token_logits: [batch, time, tags]; no columns without the head.
            batch: has `rows` [batch], `sequence_labels` [batch] and `token_labels` [batch, time].
        """
        labels, rows = batch["sequence_labels"], batch["rows"].cpu()
        log_probs = sequence_logits.float().log_softmax(dim=-1)
        known = labels != IGNORE
        own = log_probs.gather(1, labels.clamp(min=0).unsqueeze(1)).squeeze(1)
        targets = self._updated(rows, own.detach().exp().cpu()).to(own.device)
        losses = -(targets * own + (1 - targets) * log_probs[:, -1])
        loss = torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)
        return (
            loss + label_loss(token_logits, batch["token_labels"])
            if token_logits.size(-1)
            else loss
        )

    def _updated(self, rows: Tensor, probabilities: Tensor) -> Tensor:
        started = self.seen[rows] >= WARM_UP
        mixed = MOMENTUM * self.targets[rows] + (1 - MOMENTUM) * probabilities
        self.targets[rows] = torch.where(started, mixed, self.targets[rows])
        self.seen[rows] += 1
        return self.targets[rows]
