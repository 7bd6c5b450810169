"""ONNX: the student's graph assembled node by node.

torch's exporter cannot convert a packed LSTM, and an unpacked one reads padding. The ONNX LSTM
operator takes `sequence_lens`, so ragged batches are exact. The int8 graph uses ONNX Runtime's
operators with dynamic quantization of activations.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from saarthi_lib.export import onnx_encoders
from saarthi_lib.export.onnx_graph import RUNTIME_DOMAIN, Graph, array
from saarthi_lib.models.student import Student

OPSET = 20  # the first with Gelu
IR_VERSION = 10


def export_student(student: Student, path: Path, precision: str = "float32") -> None:
    """Assemble a student's graph and write it.

    Inputs are `ids` int64 [batch, time] and `lengths` int64 [batch]; outputs are `sequence_logits`
    [batch, labels] and `token_logits` [batch, time, tags], as far as the task has them.

    Args:
        student: student on the CPU.
        path: file to write.
        precision: `float32`, `float16` (weights stored in half precision) or `int8` (encoder,
            linear layers and embedding). int8 graphs and all transformers need ONNX Runtime's own
            operators.
    """
    model = _assemble(student, precision)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _assemble(student: Student, precision: str) -> onnx.ModelProto:
    graph = Graph(precision)
    shape = student.shape
    encode = onnx_encoders.ENCODERS[shape.family]
    # The recurrent operators take time as first axis; other encoders need no transposition.
    time_first = shape.family in onnx_encoders.TIME_FIRST
    ids = graph.node("Transpose", ["ids"], "ids_by_time", perm=[1, 0]) if time_first else "ids"
    if student.row_of is not None:
        ids = graph.node("Gather", [graph.weight("row_of", student.row_of.numpy()), ids], "rows")
    embedded = graph.embedding(ids, array(student.embedding.weight), "embedded")
    states = encode(graph, student.encoder, embedded)
    projected = graph.linear(states, student.projection, "projection")
    features = graph.node("Gelu", [projected], "features")
    outputs = []
    if shape.sequence_labels:
        graph.linear(_pooled(graph, features, time_first), student.sequence_head, "sequence_logits")
        outputs.append(_float("sequence_logits", ["batch", shape.sequence_labels]))
    if shape.token_labels:
        if time_first:
            tags = graph.linear(features, student.token_head, "token_logits_by_time")
            graph.node("Transpose", [tags], "token_logits", perm=[1, 0, 2])
        else:
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
        list(graph.weights.values()),
    )
    own = any(node.domain == RUNTIME_DOMAIN for node in graph.nodes)
    domains = {"": OPSET, RUNTIME_DOMAIN: 1} if own else {"": OPSET}
    return helper.make_model(
        whole,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in domains.items()],
        ir_version=IR_VERSION,
        producer_name="saarthi",
    )


def _pooled(graph: Graph, features: str, time_first: bool) -> str:
    """Maximum over the real tokens; padding is masked."""
    real = onnx_encoders.real_positions(graph, time_first)
    lowest = graph.weight("lowest", np.array(np.finfo(np.float32).min, dtype=np.float32))
    masked = graph.node("Where", [real, features, lowest], "masked")
    axis = graph.constant("time_axis", [0 if time_first else 1])
    return graph.node("ReduceMax", [masked, axis], "pooled", keepdims=0)


def _float(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
