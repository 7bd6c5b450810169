"""A graph that is assembled node by node, in float32, float16 or int8."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

RUNTIME_DOMAIN = "com.microsoft"  # ONNX Runtime's own operators
_LEAST = np.float32(1e-20)
# Weights in matrix products have seven bits: a CPU without VNNI adds two 8-bit products in 16 bits,
# which can overflow (`reduce_range` of onnxruntime.quantization.quantize_dynamic).
_PRODUCT_STEPS = 63

Floats = npt.NDArray[np.float32]


class Graph:
    """Nodes and weights, collected in order."""

    def __init__(self, precision: str) -> None:
        self.half = precision == "float16"
        self.int8 = precision == "int8"
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}

    def weight(self, name: str, values: npt.NDArray[Any]) -> str:
        """Add a constant; float16 graphs store float32 in half precision and cast it on loading."""
        if self.half and values.dtype == np.float32 and values.size > 1:
            self._keep(f"{name}.half", values.astype(np.float16))
            return self.node("Cast", [f"{name}.half"], name, to=TensorProto.FLOAT)
        return self._keep(name, values)

    def constant(self, name: str, value: int | list[int]) -> str:
        """Add an int64 constant; a constant of the same name is replaced."""
        return self._keep(name, np.array(value, dtype=np.int64))

    def quantized(self, name: str, values: Floats, axes: tuple[int, ...]) -> list[str]:
        """Add an int8 weight of a matrix product, symmetric about zero.

        Args:
            name: name of the weight.
            values: values of any shape.
            axes: axes along which values share a scale.

        Returns:
            Names of values, scales and zero points.
        """
        whole, scale = quantize(values, axes, _PRODUCT_STEPS)
        scale = scale.squeeze(axes)
        return [
            self.weight(name, whole),
            self.weight(f"{name}.scale", scale),
            self.weight(f"{name}.zero", np.zeros(scale.shape, np.int8)),
        ]

    def stored_in_int8(self, name: str, values: Floats, axes: tuple[int, ...]) -> str:
        """Add a weight that is stored in int8 and widened to float32 when the graph is loaded.

        ONNX Runtime folds Cast and Mul of constants, but not DequantizeLinear.
        """
        whole, scale = quantize(values, axes)
        wide = self.node("Cast", [self.weight(f"{name}.int8", whole)], f"{name}.wide", to=1)
        return self.node("Mul", [wide, self.weight(f"{name}.scale", scale)], name)

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.nodes_of(operator, inputs, [output], **attributes)[0]

    def nodes_of(
        self, operator: str, inputs: list[str], outputs: list[str], **attributes: Any
    ) -> list[str]:
        """Add a node and return its outputs' names."""
        self.nodes.append(
            helper.make_node(operator, inputs, outputs, name=f"{outputs[0]}_node", **attributes)
        )
        return outputs

    def embedding(self, ids: str, table: Floats, name: str) -> str:
        """Look up tokens in a table [vocabulary, width]."""
        if not self.int8:
            return self.node("Gather", [self.weight("embedding", table), ids], name)
        # One scale per row: a single outlier would degrade a scale of the whole table.
        whole, scale = quantize(table, (1,))
        inputs = [
            self.weight("embedding", (whole.astype(np.int16) + 128).astype(np.uint8)),
            ids,
            self.weight("embedding.scale", scale),
        ]
        block = max(16, 1 << (table.shape[1] - 1).bit_length())  # one row
        return self.node(
            "GatherBlockQuantized",
            inputs,
            name,
            domain=RUNTIME_DOMAIN,
            gather_axis=0,
            quantize_axis=1,
            block_size=block,
            bits=8,
        )

    def linear(self, values: str, layer: nn.Linear, name: str) -> str:
        """Apply a linear layer to the last axis."""
        weight = array(layer.weight).T.copy()
        bias = self.weight(f"{name}.bias", array(layer.bias))
        if self.int8:
            whole = self.quantized(f"{name}.weight", weight, (0,))
            inputs = [values, *whole, bias]
            return self.node("DynamicQuantizeMatMul", inputs, name, domain=RUNTIME_DOMAIN)
        product = self.node(
            "MatMul", [values, self.weight(f"{name}.weight", weight)], f"{name}.product"
        )
        return self.node("Add", [product, bias], name)

    def has(self, name: str) -> bool:
        """Whether a node has this output."""
        return any(name in node.output for node in self.nodes)

    def _keep(self, name: str, values: npt.NDArray[Any]) -> str:
        self.weights[name] = numpy_helper.from_array(values, name)
        return name


def quantize(
    values: Floats, axes: tuple[int, ...], steps: int = 127
) -> tuple[npt.NDArray[np.int8], Floats]:
    """Round to int8 in ±`steps`; returns values, and scales with size 1 on `axes`."""
    largest = np.abs(values).max(axis=axes, keepdims=True)
    scale = np.maximum(largest, _LEAST) / np.float32(steps)  # a weight can be all zeros
    return np.rint(values / scale).astype(np.int8), scale


def array(tensor: Tensor) -> Floats:
    """A tensor's values in float32."""
    return tensor.detach().float().cpu().numpy()
