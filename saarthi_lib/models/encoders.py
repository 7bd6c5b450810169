"""The student's encoders, one class for each family, with one interface.

An encoder maps embedded tokens [batch, time, E] and their lengths [batch] to states
[batch, time, `width`]. Padding does not change the states of a sentence; states of the padding are
undefined. All encoders can be scripted.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

FAMILIES = ("lstm", "gru", "qrnn", "transformer")
WINDOW = 3  # positions that a quasi-recurrent layer and a transformer's input see at once
HEAD_WIDTH = 32
FEED_FORWARD = 4  # width of the feed-forward network, relative to the states
TRANSFORMER_DROPOUT = 0.1  # largest dropout of a transformer, the value of Vaswani et al.


class Encoder(nn.Module):
    """Base class; the module's docstring describes `forward`."""

    width: int


def make_encoder(family: str, embedding: int, hidden: int, layers: int, dropout: float) -> Encoder:
    """Make an encoder.

    Args:
        family: one of `FAMILIES`.
        embedding: width of the input (E).
        hidden: width of the states (H); in each direction for recurrent families.
        layers: number of layers.
        dropout: dropout between layers.
    """
    if family == "qrnn":
        return QuasiRecurrent(embedding, hidden, layers, dropout)
    if family == "transformer":
        return Transformer(embedding, hidden, layers, dropout)
    return Recurrent(family, embedding, hidden, layers, dropout)


class Recurrent(Encoder):
    """A bidirectional LSTM or GRU on packed sequences."""

    def __init__(
        self, family: str, embedding: int, hidden: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[family]
        self.family = family
        self.width = 2 * hidden
        self.network = kind(
            embedding,
            hidden,
            num_layers=layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,  # torch warns about dropout after one layer
        )

    def forward(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """See the module."""
        if self.training and self.family == "lstm" and not embedded.is_cuda:
            return self._lstm_in_training(embedded, lengths)
        packed = pack_padded_sequence(
            embedded, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(
            self.network(packed)[0], batch_first=True, total_length=embedded.size(1)
        )
        return states

    @torch.jit.unused
    def _lstm_in_training(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """The same on padded texts, one direction at a time; the backward one reverses the texts.

        oneDNN computes that in one pass. Packed sequences go step by step and take twice as long.
        """
        positions = torch.arange(embedded.size(1), device=embedded.device)
        ends = lengths.unsqueeze(1)
        reversed_ = torch.where(positions < ends, ends - 1 - positions, positions).unsqueeze(2)

        def reverse(values: Tensor) -> Tensor:
            return values.gather(1, reversed_.expand(-1, -1, values.size(2)))

        def run(values: Tensor, weights: list[Tensor]) -> Tensor:
            start = values.new_zeros(1, values.size(0), self.network.hidden_size)
            return torch.lstm(values, (start, start), weights, True, 1, 0.0, True, False, True)[0]

        states = embedded
        for layer in range(self.network.num_layers):
            if layer:
                states = nn.functional.dropout(states, self.network.dropout)
            ahead, back = self.network.all_weights[2 * layer : 2 * layer + 2]
            backward = reverse(run(reverse(states), back))
            states = torch.cat([run(states, ahead), backward], dim=2)
        return states


class QuasiRecurrent(Encoder):
    """Bidirectional layers with a recurrence without matrix products.

    One product computes gates and candidates of all positions from windows of the text. Only
    c_t = f_t * c_{t-1} + (1 - f_t) * z_t is recurrent, and elementwise. This is the QRNN's
    f-pooling (Bradbury et al., arXiv 1611.01576, section 2.1) with a linear candidate, like minGRU
    (Feng et al., arXiv 2410.01201, section 3.1).
    """

    def __init__(self, embedding: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.width = 2 * hidden
        self.layers = nn.ModuleList(
            QuasiRecurrentLayer(self.width if layer else embedding, hidden)
            for layer in range(layers)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """See the module."""
        real = real_positions(embedded, lengths).unsqueeze(2).to(embedded.dtype)
        states = embedded
        for number, layer in enumerate(self.layers):
            states = layer(self.dropout(states) if number else states, real)
        return states


class QuasiRecurrentLayer(nn.Module):
    """One bidirectional layer; the gates of both directions see a position and its neighbours."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        # Columns: forget gates, then candidates; each with a forward and a backward half.
        self.gates = nn.Linear(WINDOW * width, 4 * hidden)
        nn.init.constant_(self.gates.bias[: 2 * hidden], 1.0)  # remember at first

    def forward(self, values: Tensor, real: Tensor) -> Tensor:
        """From [batch, time, width] and a mask [batch, time, 1] to [batch, time, 2 hidden]."""
        values = values * real
        forget, candidate = self.gates(windows(values)).chunk(2, 2)
        forget = torch.sigmoid(forget)
        # Padding adds nothing, so the backward direction begins with the text.
        update = (1 - forget) * real * candidate
        # One scan for both directions; the backward half is reversed before and after it.
        return _reversed(_scanned(_reversed(forget), _reversed(update)))


def windows(values: Tensor) -> Tensor:
    """Join each position with its neighbours: [batch, time, width] to [batch, time, 3 width]."""
    before = nn.functional.pad(values, (0, 0, 1, 0))[:, : values.size(1)]
    after = nn.functional.pad(values, (0, 0, 0, 1))[:, 1:]
    return torch.cat([before, values, after], 2)


def _reversed(values: Tensor) -> Tensor:
    """Reverse the backward half of the columns in time."""
    forward, backward = values.chunk(2, 2)
    return torch.cat([forward, backward.flip(1)], 2)


def _scanned(forget: Tensor, update: Tensor) -> Tensor:
    """c_t = forget_t * c_{t-1} + update_t for all t, in log2(time) steps (Hillis and Steele).

    The factors are in (0, 1), so their products cannot overflow.
    """
    time = update.size(1)
    cells = update
    step = 1
    while step < time:
        cells = cells + forget * nn.functional.pad(cells, (0, 0, step, 0))[:, :time]
        forget = forget * nn.functional.pad(forget, (0, 0, step, 0))[:, :time]
        step *= 2
    return cells


class Transformer(Encoder):
    """Layers of self-attention (Vaswani et al., arXiv 1706.03762) on torch's fused kernel.

    Sinusoids mark the positions, so texts may be longer than those of training. The input is a
    window of the text: with few layers and little data, attention does not learn which tokens are
    neighbours (docs/benchmarks.md compares the families).

    The int8 exports do not find the weights of torch's nn.TransformerEncoder.
    """

    def __init__(self, embedding: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.width = hidden
        self.input = nn.Linear(WINDOW * embedding, hidden)
        self.layers = nn.ModuleList(
            TransformerLayer(hidden, min(dropout, TRANSFORMER_DROPOUT)) for _ in range(layers)
        )

    def forward(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """See the module."""
        real = real_positions(embedded, lengths)
        states = self.input(windows(embedded * real.unsqueeze(2).to(embedded.dtype)))
        time, width = states.size(1), states.size(2)
        states = states + sinusoids(time, width, states.device).to(states.dtype)
        visible = real.unsqueeze(1).unsqueeze(1)  # [batch, 1, 1, time]
        for layer in self.layers:
            states = layer(states, visible)
        return states


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward network, each with normalization after the addition."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        # Largest number of heads that divides the states and keeps the usual width.
        self.heads = next(n for n in range(max(1, width // HEAD_WIDTH), 0, -1) if width % n == 0)
        self.attention_input = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, FEED_FORWARD * width)
        self.outer = nn.Linear(FEED_FORWARD * width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, visible: Tensor) -> Tensor:
        """From [batch, time, width] and a mask [batch, 1, 1, time] to [batch, time, width]."""
        batch, time, width = states.shape
        query, key, value = (
            self.attention_input(states)
            .view(batch, time, 3, self.heads, width // self.heads)
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )
        attended = nn.functional.scaled_dot_product_attention(query, key, value, visible)
        attended = self.attention_output(attended.transpose(1, 2).reshape(batch, time, width))
        states = self.attention_norm(states + self.dropout(attended))
        change = self.outer(self.dropout(nn.functional.gelu(self.inner(states))))
        return self.feed_forward_norm(states + self.dropout(change))


def real_positions(values: Tensor, lengths: Tensor) -> Tensor:
    """Mask of a batch [batch, time, …] without padding, bool [batch, time]."""
    return torch.arange(values.size(1), device=values.device).unsqueeze(0) < lengths.unsqueeze(1)


def sinusoids(time: int, width: int, device: torch.device) -> Tensor:
    """Encoding of the positions, [time, width] (arXiv 1706.03762, section 3.5)."""
    positions = torch.arange(time, device=device).unsqueeze(1)
    rates = torch.exp(torch.arange((width + 1) // 2, device=device) * (-2 * math.log(1e4) / width))
    angles = positions * rates
    return torch.cat([angles.sin(), angles.cos()], 1)[:, :width]
