"""Self-adaptive training with an abstention class (Huang et al. 2020, arXiv 2002.10319, sec. 4).

The network abstains on rows that it keeps disagreeing with. Each row has a target t for its label:
1 at first, later a running mean of the label's probability p among the real classes. The loss is

    - t log q(label) - (1 - t) log q(abstain)

where q are the probabilities with the abstention class. The last class therefore absorbs rows that
do not fit, and the network does not memorize them. p excludes that class, as in the authors' code.
Otherwise every target is a fixed point: a network that fits the targets gives q(label) = t, and a
row that has moved away cannot return.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from saarthi_lib.data.encode import IGNORE, Encoded
from saarthi_lib.training.batches import Batch, outputs
from saarthi_lib.training.losses import label_loss

MOMENTUM = 0.9
# Targets stay 1 until p averages above FITTED over about BATCHES batches: disagreement of a new
# network says nothing about the rows. The paper waits for a number of epochs, set by data set.
FITTED, BATCHES = 0.5, 20


class SelfAdaptiveLoss:
    """The loss of one fit, with a target for each training row.

    The paper stores soft labels [rows, classes]. The loss reads only the entry of a row's label, so
    the others are not stored.

    Args:
        train: training rows; `rows` of a batch are their indices.
    """

    def __init__(self, train: Encoded) -> None:
        self.targets = torch.ones(len(train))
        self.started = False
        self._fit = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Targets and start of the adaptation."""
        return {"targets": self.targets.clone(), "started": self.started, "fit": self._fit}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state of `state_dict`."""
        self.targets, self.started = state["targets"].clone(), state["started"]
        self._fit = state["fit"]

    def loss(self, network: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, without further metrics; tags have the usual loss.

        Args:
            network: teacher or student; the last column of its sequence logits is the abstention
                class.
            batch: training rows.
        """
        sequence, token, _ = outputs(network, batch)
        loss = self._sequence_loss(sequence, batch["sequence_labels"], batch["rows"].cpu())
        if token.size(-1):
            loss = loss + label_loss(token, batch["token_labels"])
        return loss, {}

    def _sequence_loss(self, logits: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        known, abstention = labels != IGNORE, logits.size(1) - 1
        # Rows out of scope have the abstention class as their label: their targets stay 1.
        doubted = known & (labels != abstention)
        index = labels.clamp(0, abstention - 1).unsqueeze(1)
        fitted = logits[:, :-1].detach().softmax(dim=-1).gather(1, index).squeeze(1)[doubted].cpu()
        if len(fitted):
            self._fit += (float(fitted.mean()) - self._fit) / BATCHES
        self.started |= self._fit > FITTED
        if self.started:
            own_rows = rows[doubted.cpu()]
            self.targets[own_rows] = MOMENTUM * self.targets[own_rows] + (1 - MOMENTUM) * fitted
        targets = self.targets[rows].to(logits.device)
        log_probs = logits.log_softmax(dim=-1)
        own = log_probs.gather(1, labels.clamp(min=0).unsqueeze(1)).squeeze(1)
        losses = -(targets * own + (1 - targets) * log_probs[:, -1])
        return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)
