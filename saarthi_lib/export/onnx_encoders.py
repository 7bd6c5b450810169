"""ONNX: the student's encoders, from operators that take ragged batches."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from saarthi_lib.export.onnx_graph import RUNTIME_DOMAIN, Floats, Graph, array
from saarthi_lib.models.encoders import (
    QuasiRecurrent,
    QuasiRecurrentLayer,
    Recurrent,
    Transformer,
    TransformerLayer,
    sinusoids,
)

POSITIONS = 512  # above the largest max_seq_len
END = 2**31  # beyond the end of any axis
GRU_LOOP_FROM = 256  # smallest width of a GRU whose int8 graph is a loop of quantized products
# Order of the gates in an LSTM: torch has input, forget, cell, output; ONNX input, output, forget,
# cell. In a GRU: torch has reset, update, new; ONNX update, reset, new.
GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}


def recurrent(graph: Graph, encoder: Recurrent, embedded: str) -> str:
    """Add a packed LSTM or GRU: [time, batch, E] to [time, batch, width]."""
    network = encoder.network
    # ONNX Runtime lacks a quantized GRU. The float32 operator is fast while the recurrent weights
    # fit into the nearest caches; above that size, a loop of quantized products is faster.
    loop = graph.int8 and encoder.family == "gru" and network.hidden_size >= GRU_LOOP_FROM
    make_layer = _quantized_gru_layer if loop else _recurrent_layer
    states = embedded
    for layer in range(network.num_layers):
        states = make_layer(graph, encoder, layer, states)
    return states


def _recurrent_layer(graph: Graph, encoder: Recurrent, layer: int, states: str) -> str:
    """Add a bidirectional layer: [time, batch, width] to [time, batch, 2 hidden]."""
    hidden = encoder.network.hidden_size
    family = encoder.family

    def both(kind: str) -> Floats:
        directions = (f"{kind}_l{layer}", f"{kind}_l{layer}_reverse")
        tensors = [getattr(encoder.network, name) for name in directions]
        return np.stack([_gates(tensor, family, hidden) for tensor in tensors])

    name = f"{family}{layer}"
    biases = np.concatenate([both("bias_ih"), both("bias_hh")], axis=1)
    bias = graph.weight(f"{name}.B", biases)
    values = {f"{name}.W": both("weight_ih"), f"{name}.R": both("weight_hh")}
    settings = {"hidden_size": hidden, "direction": "bidirectional"}
    out = f"{name}.Y"
    if family == "gru":
        w, r = (
            graph.stored_in_int8(key, weight, (2,)) if graph.int8 else graph.weight(key, weight)
            for key, weight in values.items()
        )
        inputs = [states, w, r, bias, sequence_lens(graph)]
        graph.node("GRU", inputs, out, linear_before_reset=1, **settings)
    elif graph.int8:
        # One scale per direction: one per channel is a sixth slower and not more precise.
        (w, *w_scale), (r, *r_scale) = (
            graph.quantized(key, weight.swapaxes(1, 2).copy(), (1, 2))
            for key, weight in values.items()
        )
        inputs = [states, w, r, bias, sequence_lens(graph), "", "", "", *w_scale, *r_scale]
        graph.node("DynamicQuantizeLSTM", inputs, out, domain=RUNTIME_DOMAIN, **settings)
    else:
        w, r = (graph.weight(key, weight) for key, weight in values.items())
        graph.node("LSTM", [states, w, r, bias, sequence_lens(graph)], out, **settings)
    # The operator returns [time, directions, batch, hidden].
    turned = graph.node("Transpose", [out], f"{name}.turned", perm=[0, 2, 1, 3])
    flat = graph.constant(f"{name}.flat", [0, 0, 2 * hidden])
    return graph.node("Reshape", [turned, flat], name)


def _quantized_gru_layer(graph: Graph, encoder: Recurrent, layer: int, states: str) -> str:
    """Add an int8 GRU layer, see `_recurrent_layer`: one loop over time for both directions."""
    network, hidden = encoder.network, encoder.network.hidden_size
    name = f"gru{layer}"

    def of(kind: str, direction: str) -> Floats:
        return array(getattr(network, f"{kind}_l{layer}{direction}"))

    given = nn.Linear(network.weight_ih_l0.size(1), 6 * hidden)
    weights, biases = (
        np.concatenate([of(kind, direction) for direction in ("", "_reverse")])
        for kind in ("weight_ih", "bias_ih")
    )
    given.weight, given.bias = (nn.Parameter(torch.from_numpy(v)) for v in (weights, biases))
    read = _turned(graph, graph.linear(states, given, f"{name}.read"))
    by_direction = graph.constant(f"{name}.by_direction", [0, 0, 2, 3 * hidden])
    read = graph.node("Reshape", [read, by_direction], f"{name}.gates")
    start = _zeros(graph, read, hidden, name)

    body = Graph("int8")
    body.nodes_of("Split", ["state"], ["forward", "backward"], axis=1, num_outputs=2)
    recalled = []
    for half, direction in (("forward", ""), ("backward", "_reverse")):
        again = nn.Linear(hidden, 3 * hidden)
        values = (of(kind, direction) for kind in ("weight_hh", "bias_hh"))
        again.weight, again.bias = (nn.Parameter(torch.from_numpy(v)) for v in values)
        recalled.append(body.linear(half, again, f"{half}.recalled"))
    body.node("Concat", recalled, "recalled", axis=1)
    sizes = body.constant("sizes", [2 * hidden, hidden])
    for part in ("read", "recalled"):
        body.nodes_of("Split", [part, sizes], [f"{part}.open", f"{part}.new"], axis=2)
    body.node("Sigmoid", [body.node("Add", ["read.open", "recalled.open"], "opening")], "open")
    body.nodes_of("Split", ["open"], ["reset", "update"], axis=2, num_outputs=2)
    body.node("Mul", ["reset", "recalled.new"], "kept")
    body.node("Tanh", [body.node("Add", ["read.new", "kept"], "sum")], "new")
    body.node("Mul", ["update", body.node("Sub", ["state", "new"], "difference")], "change")
    body.node("Add", ["new", "change"], "moved")
    # Padding resets the state: the backward direction starts at the sentence's end.
    body.node("Identity", [body.node("Mul", ["moved", "real"], "state.next")], "state.out")
    inputs, outputs = (
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, None) for value in values]
        for values in (("state", "read", "real"), ("state.next", "state.out"))
    )
    loop = helper.make_graph(body.nodes, name, inputs, outputs, list(body.weights.values()))
    _, out = graph.nodes_of(
        "Scan",
        [start, read, _real_by_direction(graph)],
        [f"{name}.end", f"{name}.states"],
        body=loop,
        num_scan_inputs=2,
    )
    flat = graph.constant(f"{name}.flat", [0, 0, 2 * hidden])
    return _turned(graph, graph.node("Reshape", [out, flat], name))


def _gates(weight: Tensor, family: str, hidden: int) -> Floats:
    """Reorder torch's gates to ONNX's on the first axis."""
    values = array(weight)
    return np.concatenate([values[gate * hidden : (gate + 1) * hidden] for gate in GATES[family]])


def transformer(graph: Graph, encoder: Transformer, embedded: str) -> str:
    """Add transformer layers: [batch, time, E] to [batch, time, width]."""
    width = encoder.width
    real = _real_as_float(graph, time_first=False)
    states = graph.linear(_windows(graph, embedded, real, 1, "input"), encoder.input, "input.wide")
    places = array(sinusoids(POSITIONS, width, encoder.input.weight.device))
    zero = graph.constant("0", [0])
    if graph.int8:
        whole, *scale = graph.quantized("places", places, (0, 1))
        here = graph.node("Slice", [whole, zero, time_of(graph), zero], "places.int8")
        here = graph.node("DequantizeLinear", [here, *scale], "places.here")
    else:
        table = graph.weight("places", places)
        here = graph.node("Slice", [table, zero, time_of(graph), zero], "places.here")
    states = graph.node("Add", [states, here], "placed")
    for number, layer in enumerate(encoder.layers):
        assert isinstance(layer, TransformerLayer)
        states = _transformer_layer(graph, layer, states, f"layer{number}")
    return states


def _transformer_layer(graph: Graph, layer: TransformerLayer, states: str, name: str) -> str:
    weight = array(layer.attention_input.weight).T.copy()
    bias = graph.weight(f"{name}.qkv.bias", array(layer.attention_input.bias))
    settings = {"num_heads": layer.heads, "domain": RUNTIME_DOMAIN}
    attended = f"{name}.attended"
    if graph.int8:
        whole, scale, zero = graph.quantized(f"{name}.qkv", weight, (0,))
        rounded, its_scale, its_zero = graph.nodes_of(
            "DynamicQuantizeLinear", [states], [f"{name}.{part}" for part in ("in", "in_s", "in_z")]
        )
        inputs = [rounded, whole, bias, its_scale, scale, sequence_lens(graph), its_zero, zero]
        graph.node("QAttention", inputs, attended, **settings)
    else:
        inputs = [states, graph.weight(f"{name}.qkv", weight), bias, sequence_lens(graph)]
        graph.node("Attention", inputs, attended, **settings)

    change = graph.linear(attended, layer.attention_output, f"{name}.attention_output")
    states = _added_and_normalized(graph, states, change, layer.attention_norm, f"{name}.middle")
    inner = graph.node("Gelu", [graph.linear(states, layer.inner, f"{name}.inner")], f"{name}.gelu")
    change = graph.linear(inner, layer.outer, f"{name}.outer")
    return _added_and_normalized(graph, states, change, layer.feed_forward_norm, name)


def _added_and_normalized(
    graph: Graph, states: str, change: str, norm: nn.LayerNorm, name: str
) -> str:
    gamma = graph.weight(f"{name}.gamma", array(norm.weight))
    beta = graph.weight(f"{name}.beta", array(norm.bias))
    inputs = [states, change, gamma, beta]
    return graph.node(
        "SkipLayerNormalization", inputs, name, domain=RUNTIME_DOMAIN, epsilon=norm.eps
    )


def quasi_recurrent(graph: Graph, encoder: QuasiRecurrent, embedded: str) -> str:
    """Add quasi-recurrent layers: [time, batch, E] to [time, batch, width]."""
    real = _real_as_float(graph, time_first=True)
    states = embedded
    for number, layer in enumerate(encoder.layers):
        assert isinstance(layer, QuasiRecurrentLayer)
        states = _quasi_recurrent_layer(graph, layer, states, real, f"layer{number}")
    return states


def _quasi_recurrent_layer(
    graph: Graph, layer: QuasiRecurrentLayer, values: str, real: str, name: str
) -> str:
    def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        return graph.node(operator, inputs, f"{name}.{output}", **attributes)

    window = _windows(graph, values, real, 0, name)
    forget, candidate = graph.nodes_of(
        "Split",
        [graph.linear(window, layer.gates, f"{name}.gates")],
        [f"{name}.forget", f"{name}.candidate"],
        axis=2,
        num_outputs=2,
    )
    keep = node("Sigmoid", [forget], "keep")
    unit = graph.weight("unit", np.array(1, dtype=np.float32))
    share = node("Mul", [node("Sub", [unit, keep], "share"), real], "share.real")
    new = node("Mul", [share, candidate], "new")

    keep, new = _turned(graph, keep), _turned(graph, new)
    start = node("ConstantOfShape", [node("Shape", [new], "size", start=1)], "start")
    _, cells = graph.nodes_of(
        "Scan", [start, keep, new], [f"{name}.end", f"{name}.cells"], body=_STEP, num_scan_inputs=2
    )
    return _turned(graph, cells)


def _windows(graph: Graph, values: str, real: str, time_axis: int, name: str) -> str:
    """Concatenate each position with its neighbours; positions outside a sentence are zero."""
    axis = graph.constant(str(time_axis), [time_axis])
    inside = graph.node("Mul", [values, real], f"{name}.inside")
    ends = [inside, graph.constant("1, 1", [1, 1]), "", axis]
    padded = graph.node("Pad", ends, f"{name}.padded")
    zero, end = graph.constant("0", [0]), graph.constant("end", [END])
    places = [padded, zero, graph.constant("-2", [-2]), axis]
    before = graph.node("Slice", places, f"{name}.before")
    after = graph.node("Slice", [padded, graph.constant("2", [2]), end, axis], f"{name}.after")
    return graph.node("Concat", [before, inside, after], f"{name}.window", axis=2)


def _turned(graph: Graph, values: str) -> str:
    """Reverse the backward half of the columns in time, [time, batch, width]."""
    halves = [f"{values}.forward", f"{values}.backward"]
    forward, backward = graph.nodes_of("Split", [values], halves, axis=2, num_outputs=2)
    back = _reversed(graph, backward)
    return graph.node("Concat", [forward, back], f"{values}.turned", axis=2)


def _reversed(graph: Graph, values: str) -> str:
    """Reverse values in time, their first axis."""
    zero, last = graph.constant("0", [0]), graph.constant("-1", [-1])
    inputs = [values, last, graph.constant("before all", [-END]), zero, last]
    return graph.node("Slice", inputs, f"{values}.reversed")


def _step() -> onnx.GraphProto:
    """One step of the recurrence: cell = keep * cell + new."""
    names = ("cell", "keep", "new", "cell.next", "cell.out")
    cell, keep, new, following, out = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    nodes = [
        helper.make_node("Mul", ["cell", "keep"], ["kept"]),
        helper.make_node("Add", ["kept", "new"], ["cell.next"]),
        helper.make_node("Identity", ["cell.next"], ["cell.out"]),
    ]
    return helper.make_graph(nodes, "step", [cell, keep, new], [following, out])


def real_positions(graph: Graph, time_first: bool) -> str:
    """Mask of positions within their sentences: [time, batch, 1] or [batch, time, 1]."""
    if graph.has("real"):
        return "real"
    zero = graph.constant("0", [0])
    time = time_of(graph)
    # The axis of time is placed so that the comparison broadcasts to both axes.
    places = np.arange(POSITIONS, dtype=np.int64).reshape((-1, 1) if time_first else (-1,))
    here = graph.node("Slice", [graph.weight("positions", places), zero, time, zero], "here")
    lengths = (
        "lengths"
        if time_first
        else graph.node("Unsqueeze", ["lengths", graph.constant("1", [1])], "column")
    )
    within = graph.node("Less", [here, lengths], "within")
    return graph.node("Unsqueeze", [within, graph.constant("2", [2])], "real")


def _real_as_float(graph: Graph, time_first: bool) -> str:
    if graph.has("real.float"):
        return "real.float"
    real = real_positions(graph, time_first)
    return graph.node("Cast", [real], "real.float", to=TensorProto.FLOAT)


def _real_by_direction(graph: Graph) -> str:
    """Mask of real positions in the order of each direction, [time, batch, 2, 1]."""
    if graph.has("real.by_direction"):
        return "real.by_direction"
    real = _real_as_float(graph, time_first=True)
    both = graph.node("Concat", [real, _reversed(graph, real)], "real.both", axis=2)
    return graph.node("Unsqueeze", [both, graph.constant("3", [3])], "real.by_direction")


def _zeros(graph: Graph, values: str, hidden: int, name: str) -> str:
    """Initial state of zeros, [batch, 2, hidden], for values [time, batch, …]."""
    batch = graph.node("Shape", [values], f"{name}.batch", start=1, end=2)
    rest = graph.constant(f"{name}.rest", [2, hidden])
    size = graph.node("Concat", [batch, rest], f"{name}.size", axis=0)
    return graph.node("ConstantOfShape", [size], f"{name}.start")


def time_of(graph: Graph) -> str:
    """Number of positions, [1]."""
    if graph.has("time"):
        return "time"
    return graph.node("Shape", ["ids"], "time", start=1, end=2)


def sequence_lens(graph: Graph) -> str:
    """The graph's `lengths` as int32, which these operators need."""
    if not graph.has("sequence_lens"):
        graph.node("Cast", ["lengths"], "sequence_lens", to=TensorProto.INT32)
    return "sequence_lens"


_STEP = _step()
ENCODERS: dict[str, Callable[[Graph, Any, str], str]] = {
    "lstm": recurrent,
    "gru": recurrent,
    "qrnn": quasi_recurrent,
    "transformer": transformer,
}
TIME_FIRST = ("lstm", "gru", "qrnn")
