"""ONNX: a teacher's graph, traced by torch's exporter.

Only torch's tracing exporter (`dynamo=False`) keeps both batch and length dynamic.
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

from saarthi_lib.export.onnx_graph import quantize
from saarthi_lib.models.teacher import Teacher

OPSET = 17  # the first with LayerNormalization


def export_teacher(teacher: Teacher, path: Path, precision: str = "float32") -> None:
    """Trace a teacher's graph and write it.

    Inputs and outputs are those of `saarthi_lib.export.onnx.export_student`. The graph is valid for
    any batch and length, which the parity check verifies for each export.

    Args:
        teacher: teacher on the CPU.
        path: file to write.
        precision: `float32`, `float16` (weights stored in half precision) or `int8` (dynamic
            quantization of linear layers, and of the embedding row by row).
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
    """A teacher that returns only the logits of its heads."""

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
        """Name of the embedding's weight in the graph."""
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
        warnings.simplefilter("ignore")  # of tracing, and about the default exporter
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
    """Store weights in half precision; they are cast to float32 when the graph is loaded."""
    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size > 1:
            name, stored = weight.name, f"{weight.name}.half"
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
            casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    _replace_nodes(model, [*casts, *model.graph.node])


def _quantize_table(model: onnx.ModelProto, name: str) -> None:
    """Quantize the embedding to int8 with one scale per row.

    ONNX Runtime's own quantization has one scale for the whole table, which outliers degrade.
    """
    weights = model.graph.initializer
    [table] = [weight for weight in weights if weight.name == name]
    values, scale = quantize(numpy_helper.to_array(table), (1,))
    rows, scales = f"{name}.int8", f"{name}.scale"
    weights.remove(table)
    weights.append(numpy_helper.from_array(values, rows))
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
    root.setLevel(logging.ERROR)  # it recommends a preprocessing that does not help here
    try:
        quantize_dynamic(
            model,
            str(path),
            op_types_to_quantize=["MatMul", "Gemm"],
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # as for students, see onnx_graph
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        root.setLevel(level)


def _replace_nodes(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
