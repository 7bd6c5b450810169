"""ONNX: the student's graph assembled node by node.

The exporter cannot convert a packed LSTM, and an unpacked one reads padding. The ONNX LSTM operator
takes `sequence_lens`, so that ragged batches are exact.
"""

import logging
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
# torch keeps the LSTM's gates as input, forget, cell, output; ONNX as input, output, forget, cell.
GATES = (0, 3, 1, 2)


class _Graph:
    """Nodes and weights, collected in order."""

    def __init__(self, half: bool) -> None:
        self.half = half
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, values: npt.NDArray[Any]) -> str:
        """Add a constant; float32 ones are stored in half and cast when the graph is loaded."""
        if self.half and values.dtype == np.float32 and values.size > 1:
            self.weights.append(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            return self.node("Cast", [f"{name}.half"], name, to=TensorProto.FLOAT)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        self.nodes.append(
            helper.make_node(operator, inputs, [output], name=f"{output}_node", **attributes)
        )
        return output

    def linear(self, values: str, layer: nn.Linear, name: str) -> str:
        weight = self.weight(f"{name}.weight", _array(layer.weight).T.copy())
        bias = self.weight(f"{name}.bias", _array(layer.bias))
        return self.node(
            "Add", [self.node("MatMul", [values, weight], f"{name}.product"), bias], name
        )


def export_student(student: Student, path: Path, precision: str = "float32") -> None:
    """Assemble a student's graph and write it.

    Inputs `ids` int64 [batch, time] and `lengths` int64 [batch]; outputs `sequence_logits`
    [batch, labels] and `token_logits` [batch, time, tags], those of the task.

    Args:
        student: on the CPU.
        path: of the file.
        precision: `float32`, `float16` (weights stored in half) or `int8` (dynamic quantisation of
            LSTM, linear layers and embedding).
    """
    model = _assemble(student, half=precision == "float16")
    onnx.checker.check_model(model)
    if precision != "int8":
        onnx.save(model, str(path))
        return
    _quantise(model, path)


def _assemble(student: Student, half: bool) -> onnx.ModelProto:
    graph = _Graph(half)
    shape = student.shape
    graph.node("Transpose", ["ids"], "ids_by_time", perm=[1, 0])
    table = graph.weight("embedding", _array(student.embedding.weight))
    states = graph.node("Gather", [table, "ids_by_time"], "embedded")
    graph.node("Cast", ["lengths"], "sequence_lens", to=TensorProto.INT32)
    for layer in range(shape.layers):
        states = _lstm(graph, student, layer, states)
    projected = graph.linear(states, student.projection, "projection")
    features = graph.node("Gelu", [projected], "features")  # [time, batch, projection]
    outputs = []
    if shape.sequence_labels:
        graph.linear(_pooled(graph, features), student.sequence_head, "sequence_logits")
        outputs.append(_float("sequence_logits", ["batch", shape.sequence_labels]))
    if shape.token_labels:
        by_batch = graph.node("Transpose", [features], "features_by_batch", perm=[1, 0, 2])
        graph.linear(by_batch, student.token_head, "token_logits")
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
    return helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="saarthi",
    )


def _lstm(graph: _Graph, student: Student, layer: int, states: str) -> str:
    """One bidirectional layer: [time, batch, width] to [time, batch, 2 hidden]."""
    hidden = student.shape.hidden
    encoder = student.encoder

    def both(kind: str) -> npt.NDArray[np.float32]:
        directions = (f"{kind}_l{layer}", f"{kind}_l{layer}_reverse")
        return np.stack([_gates(getattr(encoder, name), hidden) for name in directions])

    inputs = graph.weight(f"lstm{layer}.W", both("weight_ih"))
    recurrent = graph.weight(f"lstm{layer}.R", both("weight_hh"))
    biases = np.concatenate([both("bias_ih"), both("bias_hh")], axis=1)
    bias = graph.weight(f"lstm{layer}.B", biases)
    out = graph.node(
        "LSTM",
        [states, inputs, recurrent, bias, "sequence_lens"],
        f"lstm{layer}.Y",
        hidden_size=hidden,
        direction="bidirectional",
    )
    # [time, directions, batch, hidden] to [time, batch, both directions]
    turned = graph.node("Transpose", [out], f"lstm{layer}.turned", perm=[0, 2, 1, 3])
    flat = graph.weight(f"lstm{layer}.flat", np.array([0, 0, 2 * hidden], dtype=np.int64))
    return graph.node("Reshape", [turned, flat], f"lstm{layer}")


def _pooled(graph: _Graph, features: str) -> str:
    """Maximum over the real pieces: the zeros the LSTM writes after a sentence must not win."""
    time_axis = graph.weight("time_axis", np.array([0], dtype=np.int64))
    zero, one = (graph.weight(n, np.array(v, dtype=np.int64)) for n, v in (("zero", 0), ("one", 1)))
    lowest = graph.weight("lowest", np.array(np.finfo(np.float32).min, dtype=np.float32))
    size = graph.node("Shape", ["ids_by_time"], "time_size", start=0, end=1)
    time = graph.node("Squeeze", [size, time_axis], "time")
    positions = graph.node("Range", [zero, time, one], "positions")
    column = graph.node(
        "Unsqueeze", [positions, graph.weight("column_axes", np.array([1, 2]))], "column"
    )
    row = graph.node("Unsqueeze", ["lengths", graph.weight("row_axes", np.array([0, 2]))], "row")
    real = graph.node("Less", [column, row], "real")  # [time, batch, 1]
    masked = graph.node("Where", [real, features, lowest], "masked")
    return graph.node("ReduceMax", [masked, time_axis], "pooled", keepdims=0)


def _quantise(model: onnx.ModelProto, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a preprocessing that this graph has no use for
    try:
        quantize_dynamic(
            model,
            str(path),
            op_types_to_quantize=["LSTM", "MatMul", "Gather"],
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        root.setLevel(level)


def _gates(weight: Tensor, hidden: int) -> npt.NDArray[np.float32]:
    """Reorder torch's gates to ONNX's, on the first axis."""
    values = _array(weight)
    return np.concatenate([values[gate * hidden : (gate + 1) * hidden] for gate in GATES])


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    return tensor.detach().float().cpu().numpy()


def _float(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
