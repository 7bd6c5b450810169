"""ONNX: the student's graph assembled node by node.

The exporter cannot convert a packed LSTM, and an unpacked one reads padding. The ONNX LSTM operator
takes `sequence_lens`, so that ragged batches are exact. The int8 graph is assembled likewise, of
ONNX Runtime's operators that quantise activations as they come.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from saarthi_lib.models.student import Student

OPSET = 20  # the first with Gelu
IR_VERSION = 10
RUNTIME_DOMAIN = "com.microsoft"  # ONNX Runtime's own operators
# torch keeps the LSTM's gates as input, forget, cell, output; ONNX as input, output, forget, cell.
GATES = (0, 3, 1, 2)
_LEAST = np.float32(1e-20)


class _Graph:
    """Nodes and weights, collected in order."""

    def __init__(self, precision: str) -> None:
        self.half = precision == "float16"
        self.int8 = precision == "int8"
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, values: npt.NDArray[Any]) -> str:
        """Add a constant; float32 ones are stored in half and cast when the graph is loaded."""
        if self.half and values.dtype == np.float32 and values.size > 1:
            self.weights.append(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            return self.node("Cast", [f"{name}.half"], name, to=TensorProto.FLOAT)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def quantised(
        self, name: str, values: npt.NDArray[np.float32], axes: tuple[int, ...]
    ) -> list[str]:
        """Add a weight in int8, symmetric about zero; the names of values, scales and zeros.

        Args:
            name: of the weight.
            values: of any shape.
            axes: along which values have their scale in common.
        """
        largest = np.abs(values).max(axis=axes, keepdims=True)
        scale = np.maximum(largest, _LEAST) / np.float32(127)  # a weight may be all zeros
        whole = np.rint(values / scale).astype(np.int8)
        scale = scale.squeeze(axes)
        return [
            self.weight(name, whole),
            self.weight(f"{name}.scale", scale),
            self.weight(f"{name}.zero", np.zeros(scale.shape, np.int8)),
        ]

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        self.nodes.append(
            helper.make_node(operator, inputs, [output], name=f"{output}_node", **attributes)
        )
        return output

    def embedding(self, ids: str, table: npt.NDArray[np.float32], name: str) -> str:
        if not self.int8:
            return self.node("Gather", [self.weight("embedding", table), ids], name)
        whole, scale, zero = self.quantised("embedding", table, (0, 1))
        rows = self.node("Gather", [whole, ids], f"{name}.int8")
        return self.node("DequantizeLinear", [rows, scale, zero], name)

    def linear(self, values: str, layer: nn.Linear, name: str) -> str:
        weight = _array(layer.weight).T.copy()
        bias = self.weight(f"{name}.bias", _array(layer.bias))
        if self.int8:
            whole = self.quantised(f"{name}.weight", weight, (0,))
            inputs = [values, *whole, bias]
            return self.node("DynamicQuantizeMatMul", inputs, name, domain=RUNTIME_DOMAIN)
        product = self.node(
            "MatMul", [values, self.weight(f"{name}.weight", weight)], f"{name}.product"
        )
        return self.node("Add", [product, bias], name)


def export_student(student: Student, path: Path, precision: str = "float32") -> None:
    """Assemble a student's graph and write it.

    Inputs `ids` int64 [batch, time] and `lengths` int64 [batch]; outputs `sequence_logits`
    [batch, labels] and `token_logits` [batch, time, tags], those of the task.

    Args:
        student: on the CPU.
        path: of the file.
        precision: `float32`, `float16` (weights stored in half) or `int8` (LSTM, linear layers and
            embedding; only ONNX Runtime can run it).
    """
    model = _assemble(student, precision)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _assemble(student: Student, precision: str) -> onnx.ModelProto:
    graph = _Graph(precision)
    shape = student.shape
    graph.node("Transpose", ["ids"], "ids_by_time", perm=[1, 0])
    states = graph.embedding("ids_by_time", _array(student.embedding.weight), "embedded")
    graph.node("Cast", ["lengths"], "sequence_lens", to=TensorProto.INT32)
    for layer in range(shape.layers):
        states = _lstm(graph, student, layer, states)
    projected = graph.linear(states, student.projection, "projection")
    features = graph.node("Gelu", [projected], "features")  # [batch, time, projection]
    outputs = []
    if shape.sequence_labels:
        graph.linear(_pooled(graph, features), student.sequence_head, "sequence_logits")
        outputs.append(_float("sequence_logits", ["batch", shape.sequence_labels]))
    if shape.token_labels:
        graph.linear(features, student.token_head, "token_logits")
        outputs.append(_float("token_logits", ["batch", "time", shape.token_labels]))
    whole = helper.make_graph(
        graph.nodes,
        "student",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "time"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
        ],
        outputs,
        graph.weights,
    )
    domains = {"": OPSET, RUNTIME_DOMAIN: 1} if graph.int8 else {"": OPSET}
    return helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in domains.items()],
        ir_version=IR_VERSION,
        producer_name="saarthi",
    )


def _lstm(graph: _Graph, student: Student, layer: int, states: str) -> str:
    """One bidirectional layer, from [time, batch, width].

    Returns:
        [batch, time, 2 hidden] of the last layer, [time, batch, 2 hidden] of the others.
    """
    hidden = student.shape.hidden
    encoder = student.encoder

    def both(kind: str) -> npt.NDArray[np.float32]:
        directions = (f"{kind}_l{layer}", f"{kind}_l{layer}_reverse")
        return np.stack([_gates(getattr(encoder, name), hidden) for name in directions])

    biases = np.concatenate([both("bias_ih"), both("bias_hh")], axis=1)
    bias = graph.weight(f"lstm{layer}.B", biases)
    values = {f"lstm{layer}.W": both("weight_ih"), f"lstm{layer}.R": both("weight_hh")}
    settings = {"hidden_size": hidden, "direction": "bidirectional"}
    out = f"lstm{layer}.Y"
    if graph.int8:
        # A scale for each direction: one for each channel is a sixth slower and no nearer.
        (w, *w_scale), (r, *r_scale) = (
            graph.quantised(name, weight.swapaxes(1, 2).copy(), (1, 2))
            for name, weight in values.items()
        )
        given = [states, w, r, bias, "sequence_lens", "", "", "", *w_scale, *r_scale]
        graph.node("DynamicQuantizeLSTM", given, out, domain=RUNTIME_DOMAIN, **settings)
    else:
        w, r = (graph.weight(name, weight) for name, weight in values.items())
        graph.node("LSTM", [states, w, r, bias, "sequence_lens"], out, **settings)
    # From [time, directions, batch, hidden].
    last = layer == student.shape.layers - 1
    order = [2, 0, 1, 3] if last else [0, 2, 1, 3]
    turned = graph.node("Transpose", [out], f"lstm{layer}.turned", perm=order)
    flat = graph.weight(f"lstm{layer}.flat", np.array([0, 0, 2 * hidden], dtype=np.int64))
    return graph.node("Reshape", [turned, flat], f"lstm{layer}")


def _pooled(graph: _Graph, features: str) -> str:
    """Maximum over the real pieces: the zeros the LSTM writes after a sentence must not win."""

    def constant(name: str, value: int | list[int]) -> str:
        return graph.weight(name, np.array(value, dtype=np.int64))

    zero, one, time_axis = constant("zero", 0), constant("one", 1), constant("time_axis", [1])
    size = graph.node("Shape", ["ids"], "size")
    time = graph.node("Gather", [size, one], "time")
    positions = graph.node("Range", [zero, time, one], "positions")
    column = graph.node("Unsqueeze", [positions, time_axis], "column")  # [time, 1]
    row = graph.node("Unsqueeze", ["lengths", constant("row_axes", [1, 2])], "row")
    real = graph.node("Less", [column, row], "real")  # [batch, time, 1]
    lowest = graph.weight("lowest", np.array(np.finfo(np.float32).min, dtype=np.float32))
    masked = graph.node("Where", [real, features, lowest], "masked")
    return graph.node("ReduceMax", [masked, time_axis], "pooled", keepdims=0)


def _gates(weight: Tensor, hidden: int) -> npt.NDArray[np.float32]:
    """Reorder torch's gates to ONNX's, on the first axis."""
    values = _array(weight)
    return np.concatenate([values[gate * hidden : (gate + 1) * hidden] for gate in GATES])


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    return tensor.detach().float().cpu().numpy()


def _float(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
