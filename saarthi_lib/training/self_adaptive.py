"""Self-adaptive training with a class that abstains (Huang et al. 2020, arXiv 2002.10319, sec. 4).

A row that the network keeps disagreeing with is one it may be silent on. Each row has a target t
for its label, 1 at first and then a running mean of the probability that the network gives it; the
loss is

    - t log p(label) - (1 - t) log p(abstain)

so that what cannot be fitted is moved to the last class, instead of being learnt by heart.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from saarthi_lib.data.encode import IGNORE, Encoded
from saarthi_lib.training.losses import label_loss

MOMENTUM = 0.9
# The labels are learnt as they are until the network gives them most of its probability, on average
# over the last batches: what a new network disagrees with says nothing of the rows.
FITTED, BATCHES = 0.5, 20


class SelfAdaptiveLoss:
    """The loss of one fit; it remembers each training row's target.

    Of the paper's table of soft labels, [rows, classes], this loss reads one entry a row, that of
    its label, so no other is kept.

    Args:
        train: the rows that batches are drawn from; `rows` of a batch are their places here.
    """

    def __init__(self, train: Encoded) -> None:
        self.targets = torch.ones(len(train))
        self.started = False
        self._fit = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What it remembers."""
        return {"targets": self.targets.clone(), "started": self.started, "fit": self._fit}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Remember what `state_dict` gave."""
        self.targets, self.started = state["targets"].clone(), state["started"]
        self._fit = state["fit"]

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
        probabilities = own.detach().exp()
        if known.any():
            self._fit += (float(probabilities[known].mean()) - self._fit) / BATCHES
        self.started |= self._fit > FITTED
        targets = self._updated(rows, probabilities.cpu()).to(own.device)
        losses = -(targets * own + (1 - targets) * log_probs[:, -1])
        loss = torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)
        return (
            loss + label_loss(token_logits, batch["token_labels"])
            if token_logits.size(-1)
            else loss
        )

    def _updated(self, rows: Tensor, probabilities: Tensor) -> Tensor:
        if self.started:
            mixed = MOMENTUM * self.targets[rows] + (1 - MOMENTUM) * probabilities
            self.targets[rows] = mixed
        return self.targets[rows]
