"""ONNX: a teacher's graph, traced by torch's exporter.

Of torch's two exporters only the tracing one (`dynamo=False`) leaves both batch and length free.
"""

import copy
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from saarthi_lib.models.teacher import Teacher

OPSET = 17  # the first with LayerNormalization


def export_teacher(teacher: Teacher, path: Path, precision: str = "float32") -> None:
    """Trace a teacher's graph and write it.

    Inputs `ids` int64 [batch, time] and `lengths` int64 [batch]; outputs `sequence_logits`
    [batch, labels] and `token_logits` [batch, time, tags], those of the task. The graph holds for
    any batch and length, which the parity check proves for each export.

    Args:
        teacher: on the CPU.
        path: of the file.
        precision: `float32`, `float16` (weights stored in half) or `int8` (dynamic quantization of
            linear layers, and the table of pieces row by row).
    """
    heads = _Heads(copy.deepcopy(teacher).eval())
    model = _traced(heads, path)
    if precision == "float16":
        _store_in_half(model)
        onnx.save(model, str(path))
    elif precision == "int8":
        _quantize_table(model, heads.table_name)
        _quantize_linear(model, path)


class _Heads(nn.Module):
    """A teacher that gives the logits of the heads it has, and nothing else."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher
        widths = {
            "sequence_logits": teacher.sequence_head.out_features,
            "token_logits": teacher.token_head.out_features,
        }
        self.outputs = [name for name, width in widths.items() if width]

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        sequence, token, _ = self.teacher(ids, lengths)
        return tuple(logits for logits in (sequence, token) if logits.size(-1))

    @property
    def table_name(self) -> str:
        """The name of the piece table's weights in the graph."""
        table = self.teacher.encoder.get_input_embeddings().weight
        return next(name for name, weight in self.named_parameters() if weight is table)


def _traced(heads: _Heads, path: Path) -> onnx.ModelProto:
    axes = {
        "ids": {0: "batch", 1: "time"},
        "lengths": {0: "batch"},
        "sequence_logits": {0: "batch"},
        "token_logits": {0: "batch", 1: "time"},
    }
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of tracing, and that another exporter is the default
        torch.onnx.export(
            heads,
            (torch.ones(2, 5, dtype=torch.int64), torch.tensor([5, 3])),
            str(path),
            input_names=["ids", "lengths"],
            output_names=heads.outputs,
            dynamic_axes={name: axes[name] for name in ("ids", "lengths", *heads.outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load(str(path))


def _store_in_half(model: onnx.ModelProto) -> None:
    """Halve the weights in the file; they are cast to float32 when the graph is loaded."""
    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size > 1:
            name, stored = weight.name, f"{weight.name}.half"
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
            casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    _replace_nodes(model, [*casts, *model.graph.node])


def _quantize_table(model: onnx.ModelProto, name: str) -> None:
    """The table of pieces in int8, each row with its own scale.

    ONNX Runtime's own quantization has one scale for a whole table, which a few outlying rows
    would spoil for all others.
    """
    weights = model.graph.initializer
    [table] = [weight for weight in weights if weight.name == name]
    values = numpy_helper.to_array(table)
    scale = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12) / np.float32(127)
    rows, scales = f"{name}.int8", f"{name}.scale"
    weights.remove(table)
    weights.append(numpy_helper.from_array(np.rint(values / scale).astype(np.int8), rows))
    weights.append(numpy_helper.from_array(scale, scales))
    nodes = []
    for node in model.graph.node:
        if node.op_type != "Gather" or node.input[0] != name:
            nodes.append(node)
            continue
        ids, out = node.input[1], node.output[0]
        nodes += [
            helper.make_node("Gather", [rows, ids], [f"{out}.int8"]),
            helper.make_node("Cast", [f"{out}.int8"], [f"{out}.rows"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [scales, ids], [f"{out}.scale"]),
            helper.make_node("Mul", [f"{out}.rows", f"{out}.scale"], [out]),
        ]
    _replace_nodes(model, nodes)


def _quantize_linear(model: onnx.ModelProto, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a preprocessing that this graph has no use for
    try:
        quantize_dynamic(
            model,
            str(path),
            op_types_to_quantize=["MatMul", "Gemm"],
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # as a student's, see onnx_graph
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        root.setLevel(level)


def _replace_nodes(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
