"""Networks that load, and then hang, need much memory or fail for some batches only."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from saarthi_lib.bundle import read_manifest, write_bundle

MOST = 8192  # longest input of a bundle
LOGITS = "sequence_logits"
ROWS, TOKENS, CELLS = 0, 1, 2  # axes of the ids, and both
REPEATED = 3  # the number of tokens if all are the same known one, else 0
make = helper.make_node


def bundle_with(
    bundle: Path, folder: Path, content: bytes, name: str = "model.onnx", **fields: Any
) -> Path:
    """Write a bundle again with another network; `fields` go into its manifest."""
    manifest = read_manifest(bundle)
    other = folder.with_name(f"{folder.name}-{name}")
    other.write_bytes(content)
    files = {each: bundle / each for each in manifest.files} | {name: other}
    write_bundle(folder, files=files, manifest=replace(manifest, **fields))
    return folder


def late_network(content: bytes, fault: str, axis: int = TOKENS, at: int = 2) -> bytes:
    """A network with a fault for batches of one size.

    Args:
        content: an ONNX network with `sequence_logits`.
        fault: a key of `FAULTS`.
        axis: axis of the size; `CELLS`: rows times tokens; or `REPEATED`.
        at: size with the fault.
    """
    model = onnx.load_from_string(content)
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["good" if name == LOGITS else name for name in node.output]
    usual, wrong = VALUES[fault]
    table = np.full(MOST + 1, usual)
    table[at] = wrong
    constants: dict[str, Any] = {
        "late.table": table,
        "late.zeros": np.zeros(1, np.float32),
        "late.0": np.array([0]),
        "late.1": np.array([1]),
    }
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())
    for each in (ROWS, TOKENS):
        graph.node.append(make("Shape", ["ids"], [f"late.size{each}"], start=each, end=each + 1))
    graph.node.extend(
        [
            make("Mul", ["late.size0", "late.size1"], ["late.size2"]),
            make("Neg", ["ids"], ["late.negative"]),
            make("ReduceMax", ["ids"], ["late.highest"], keepdims=0),
            make("ReduceMax", ["late.negative"], ["late.lowest"], keepdims=0),
            make("Add", ["late.highest", "late.lowest"], ["late.spread"]),
            make("Equal", ["late.spread", "late.0"], ["late.same"]),
            make("Greater", ["late.highest", "late.0"], ["late.known"]),
            make("And", ["late.same", "late.known"], ["late.repeated"]),
            make("Cast", ["late.repeated"], ["late.once"], to=TensorProto.INT64),
            make("Mul", ["late.size1", "late.once"], ["late.size3"]),
        ]
    )
    graph.node.append(make("Gather", ["late.table", f"late.size{axis}"], ["late"]))
    FAULTS[fault](graph)
    return model.SerializeToString()


def _add(graph: GraphProto, name: str) -> None:
    graph.node.append(make("Add", ["good", name], [LOGITS]))


def _fails(graph: GraphProto) -> None:
    graph.node.append(make("Gather", ["late.zeros", "late"], ["late.zero"]))
    _add(graph, "late.zero")


def _divides(graph: GraphProto) -> None:
    graph.node.append(make("Div", ["late.0", "late"], ["late.whole"]))
    graph.node.append(make("Cast", ["late.whole"], ["late.zero"], to=TensorProto.FLOAT))
    _add(graph, "late.zero")


def _grows(graph: GraphProto) -> None:
    graph.node.append(make("ConstantOfShape", ["late"], ["late.large"]))
    graph.node.append(make("ReduceMax", ["late.large"], ["late.zero"], keepdims=0))
    _add(graph, "late.zero")


def _loses_labels(graph: GraphProto) -> None:
    graph.node.append(make("Slice", ["good", "late.0", "late", "late.1"], [LOGITS]))


def _loses_rows(graph: GraphProto) -> None:
    graph.node.append(make("Slice", ["good", "late.0", "late", "late.0"], [LOGITS]))


def _repeats_labels(graph: GraphProto) -> None:
    graph.node.append(make("Concat", ["late.1", "late"], ["late.times"], axis=0))
    graph.node.append(make("Tile", ["good", "late.times"], [LOGITS]))


FAULTS: dict[str, Callable[[GraphProto], None]] = {
    "fails": _fails,
    "divides by 0": _divides,
    "grows": _grows,
    "gives NaN": lambda graph: _add(graph, "late"),
    "gives Inf": lambda graph: _add(graph, "late"),
    "loses labels": _loses_labels,
    "loses rows": _loses_rows,
    "repeats labels": _repeats_labels,
}
VALUES: dict[str, tuple[Any, Any]] = {  # for most sizes, and for the size with the fault
    "fails": (0, 10**9),
    "divides by 0": (1, 0),
    "grows": (1, 3 << 28),  # 3 GB
    "gives NaN": (np.float32(0), np.float32("nan")),
    "gives Inf": (np.float32(0), np.float32("inf")),
    "loses labels": (1000, 3),
    "loses rows": (1000, 0),
    "repeats labels": (1, 2),
}


def double_network(content: bytes) -> bytes:
    """A network with logits in double precision."""
    model = onnx.load_from_string(content)
    for node in model.graph.node:
        node.output[:] = ["good" if name == LOGITS else name for name in node.output]
    model.graph.node.append(make("Cast", ["good"], [LOGITS], to=TensorProto.DOUBLE))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    return model.SerializeToString()


def endless_network(content: bytes, steps: int = 10**6, *, of_unknown: bool = False) -> bytes:
    """A network that never ends, from allowed operators: a scan in a scan in a scan.

    Args:
        content: an ONNX network with `sequence_logits`.
        steps: steps of each scan.
        of_unknown: whether it ends for all texts but those of unknown tokens.
    """
    model: ModelProto = onnx.load_from_string(content)
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["good" if name == LOGITS else name for name in node.output]
    constants = {
        "late.all": np.zeros(steps, np.float32),
        "late.0": np.array([0]),
        "late.1": np.array([1]),
        "late.counts": np.array([1 if of_unknown else steps, steps]),
    }
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())
    graph.node.extend(
        [
            make("ReduceMax", ["ids"], ["late.highest"], keepdims=0),
            make("Equal", ["late.highest", "late.0"], ["late.unknown"]),
            make("Cast", ["late.unknown"], ["late.which"], to=TensorProto.INT64),
            make("Gather", ["late.counts", "late.which"], ["late.count"]),
            make("Slice", ["late.all", "late.0", "late.count"], ["late.rows"]),
            make("ReduceMax", ["good"], ["late.begin"], keepdims=0),
            _scan(3, "late.begin", "late.end"),
            make("Add", ["good", "late.end"], [LOGITS]),
        ]
    )
    return model.SerializeToString()


def _scan(depth: int, start: str, end: str) -> NodeProto:
    """A scan over `late.rows` that adds, and scans in each step."""
    names = [f"late.{name}{depth}" for name in ("state", "row", "sum", "next")]
    state, row, total, following = names
    nodes = [make("Add", [state, row], [total])]
    if depth > 1:
        nodes.append(_scan(depth - 1, total, following))
    else:
        nodes.append(make("Identity", [total], [following]))
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in names}
    body = helper.make_graph(nodes, "step", [values[state], values[row]], [values[following]])
    return make("Scan", [start, "late.rows"], [end], body=body, num_scan_inputs=1)


def looped_network(content: bytes, steps: int) -> bytes:
    """A network with a `Loop` of some steps."""
    model = onnx.load_from_string(content)
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["good" if name == LOGITS else name for name in node.output]
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            make("Identity", ["late.on"], ["late.again"]),
            make("Identity", ["late.in"], ["late.out"]),
        ],
        "step",
        [
            value("late.step", TensorProto.INT64, []),
            value("late.on", TensorProto.BOOL, []),
            value("late.in", TensorProto.FLOAT, None),
        ],
        [value("late.again", TensorProto.BOOL, []), value("late.out", TensorProto.FLOAT, None)],
    )
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(steps), "late.steps"),
            numpy_helper.from_array(np.array(True), "late.true"),
        ]
    )
    graph.node.append(make("Loop", ["late.steps", "late.true", "good"], [LOGITS], body=body))
    return model.SerializeToString()


class _Endless(nn.Module):
    def forward(
        self, ids: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        total = lengths.sum()
        while bool(total > 0):
            total = total + 1
        return total, total


def endless_torchscript() -> bytes:
    """A TorchScript network that never ends."""
    buffer = BytesIO()
    torch.jit.save(torch.jit.script(_Endless()), buffer)
    return buffer.getvalue()
