"""Learning from noisy labels: rows are weighed with the help of a small clean set.

Ren et al. 2018, "Learning to Reweight Examples for Robust Deep Learning" (arXiv 1803.09050). The
weight of a row is the drop in the loss of a batch of clean rows after a step on that row alone:

    w_i = relu(-∂/∂ε_i L_clean(θ - α Σ_k ε_k ∇l_k) at ε = 0) = α relu(<∇l_i, ∇L_clean>)

normalized to sum 1 over the batch, so that α cancels. The clean rows only guide; the network is not
trained on them.

A row is the unit of one label: a sentence for the sequence head and a word for the token head. Tags
go wrong one by one, and the other tags of a sentence remain useful. With two heads a row has a
weight in each, so that a wrong intent does not discredit the sentence's tags.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from saarthi_lib.data.encode import IGNORE, Encoded
from saarthi_lib.training.batches import Batch, BatchStream
from saarthi_lib.training.losses import head_losses, row_losses

# A tensor for each head, `sequence` or `token`.
ByHead = dict[str, Tensor]


class Reweighter:
    """Reweighted loss of a network's batches; each batch is compared with newly drawn clean rows.

    Args:
        heads: heads of the network, by `sequence` and `token`; a head without columns is left out.
        clean: rows with correct labels.
        batch_size: maximum number of clean rows drawn for a batch.
        seed: seed of the draws.
        full: whether to compare the gradients of all trainable parameters, not of the heads alone.
            A step then takes 3 times as long as an unweighted one; with the heads alone it takes
            1.5 times as long (a forward pass on the clean rows). The network needs forward-mode
            derivatives. The packed sequences of the LSTM student lack them (torch 2.13), so that
            student is reweighted by its heads.
    """

    def __init__(
        self,
        heads: Mapping[str, nn.Linear],
        clean: Encoded,
        batch_size: int,
        seed: int,
        full: bool = False,
    ) -> None:
        self.heads = {name: head for name, head in heads.items() if head.out_features}
        self.clean = BatchStream(clean, min(batch_size, len(clean)))
        self.generator = np.random.default_rng(seed)
        self.full = full

    def state_dict(self) -> dict[str, Any]:
        """State of the generator that draws clean rows."""
        return {"generator": self.generator.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume the draws at a state from `state_dict`."""
        self.generator.bit_generator.state = state["generator"]

    def loss(self, network: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted cross-entropy of a batch, summed over the heads.

        Args:
            network: teacher or student.
            batch: training rows.

        Returns:
            The loss, without a gradient if every weight is 0 (then there is no update); and by head
            the share of the labelled rows whose weight is 0, and their effective sample size as a
            share, (Σ w)² / Σ w² / rows.
        """
        clean = self._draw(batch["ids"].device)
        # Before the training forward pass, whose activations fill the memory.
        agreement = full_agreement(network, batch, clean) if self.full else {}
        with _inputs_of(self.heads) as inputs:
            logits = _logits(network, batch)
        if not self.full:
            with torch.no_grad(), _evaluating(network), _inputs_of(self.heads) as clean_inputs:
                clean_logits = _logits(network, clean)
            agreement = {
                head: last_layer_agreement(
                    (inputs[head], logits[head], batch[f"{head}_labels"]),
                    (clean_inputs[head], clean_logits[head], clean[f"{head}_labels"]),
                )
                for head in self.heads
            }
        loss = batch["ids"].new_zeros((), dtype=torch.float32)
        metrics: dict[str, Tensor] = {}
        for head, scores in agreement.items():
            labels = batch[f"{head}_labels"]
            weights = normalized(scores)
            if weights.any():
                loss = loss + (weights * row_losses(logits[head], labels)).sum()
            metrics |= _weight_metrics(head, weights[labels != IGNORE])
        return loss, metrics

    def _draw(self, device: torch.device) -> Batch:
        labels, count = self.clean.encoded.sequence_labels, self.clean.batch_size
        rows = balanced_draw(labels, count, self.generator)
        return {name: tensor.to(device) for name, tensor in self.clean.batch(rows).items()}


def balanced_draw(
    labels: npt.NDArray[np.int64], count: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw rows without replacement, equally many of each label while rows of it remain.

    Early in training, an over-represented label dominates a batch's gradient, and all rows with
    that label would seem right. (The paper's clean set has equally many rows of each label.)

    Args:
        labels: labels of the rows to draw from; if all are equal, every row is equally likely.
        count: number of rows to draw, at most all.
        generator: random generator of the draw.
    """
    order = generator.permutation(len(labels))
    by_label = order[np.argsort(labels[order], kind="stable")]
    _, starts, counts = np.unique(labels[by_label], return_index=True, return_counts=True)
    place = np.arange(len(labels)) - np.repeat(starts, counts)  # rank within a label
    return by_label[np.lexsort((generator.random(len(labels)), place))[:count]]


@torch.no_grad()
def last_layer_agreement(
    rows: tuple[Tensor, Tensor, Tensor], clean: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """Inner products of each row's gradient and the clean rows', in a linear layer under softmax.

    Closed form: Σ_j <p_i - y_i, p_j - y_j> (<h_i, h_j> + 1) over the clean rows j, where p are
    probabilities, y one-hot labels and h the layer's input; the 1 is the bias.

    Args:
        rows: the layer's input [..., width], its logits [..., classes] and labels [...].
        clean: the same for the clean rows.

    Returns:
        Float32, in the shape of the rows' labels; 0 where the label is `IGNORE`.
    """
    with torch.autocast(rows[0].device.type, enabled=False):
        residuals, inputs = _factors(*rows)
        clean_residuals, clean_inputs = _factors(*clean)
        # Summed over j first: the clean loss's gradient in the layer, [classes, width + 1].
        gradient = clean_residuals.T @ clean_inputs
        return (residuals @ gradient * inputs).sum(dim=1).view_as(rows[2])


def _factors(inputs: Tensor, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """p - y [rows, classes] and [h, 1] [rows, width + 1]: their outer product is the gradient."""
    probabilities = logits.float().softmax(dim=-1).flatten(0, -2)
    known = (labels != IGNORE).flatten()
    one_hot = functional.one_hot(labels.flatten().clamp(min=0), probabilities.size(1))
    residuals = (probabilities - one_hot) * known.unsqueeze(1)
    return residuals, functional.pad(inputs.float().flatten(0, -2), (0, 1), value=1.0)


def full_agreement(network: nn.Module, batch: Batch, clean: Batch) -> ByHead:
    """Inner products of each row's gradient and the clean loss's, in all trainable parameters.

    A single forward-mode derivative of the rows' losses in the direction of the clean gradient
    gives all of them, without a gradient per row. Dropout is off.

    Args:
        network: teacher or student.
        batch: rows to weigh.
        clean: rows with correct labels.

    Returns:
        A tensor for each existing head, in the shape of its labels.
    """
    parameters = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}

    def logits(parameters: dict[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        inputs = batch["ids"], batch["lengths"]
        sequence, token, *_ = functional_call(network, parameters, inputs)
        return sequence, token

    def clean_loss(parameters: dict[str, Tensor]) -> Tensor:
        return head_losses(*logits(parameters, clean), clean)

    def losses(parameters: dict[str, Tensor]) -> ByHead:
        by_head = zip(("sequence", "token"), logits(parameters, batch), strict=True)
        return {
            head: row_losses(values, batch[f"{head}_labels"])
            for head, values in by_head
            if values.size(-1)
        }

    with ExitStack() as stack:
        stack.enter_context(_evaluating(network))
        stack.enter_context(torch.autocast(batch["ids"].device.type, enabled=False))
        # Fused attention kernels lack a forward-mode derivative.
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        gradient = grad(clean_loss)(parameters)
        return jvp(losses, (parameters,), (gradient,))[1]


def _logits(network: nn.Module, batch: Batch) -> ByHead:
    sequence, token, *_ = network(batch["ids"], batch["lengths"])
    return {"sequence": sequence, "token": token}


def normalized(agreement: Tensor) -> Tensor:
    """Weights that sum to 1; all 0 where no row agrees with the clean ones (as in the paper)."""
    weights = agreement.clamp(min=0)
    total = weights.sum()
    return weights / torch.where(total > 0, total, 1)


def _weight_metrics(head: str, weights: Tensor) -> dict[str, Tensor]:
    rows = max(1, len(weights))
    effective = weights.sum() ** 2 / weights.square().sum().clamp(min=1e-12)
    return {
        f"{head}_zero_weights": (weights == 0).sum() / rows,
        f"{head}_effective_sample": effective / rows,
    }


@contextmanager
def _inputs_of(heads: Mapping[str, nn.Linear]) -> Iterator[ByHead]:
    """Yield a mapping that a forward pass in the block fills with the inputs of the heads."""
    inputs: ByHead = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, given: inputs.__setitem__(name, given[0].detach())

    with ExitStack() as stack:
        for name, head in heads.items():
            stack.callback(head.register_forward_pre_hook(keep(name)).remove)
        yield inputs


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Run the block with dropout off, then restore the mode of every module."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
