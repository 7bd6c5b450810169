"""The floor: the least time a student's network could take on this machine.

Both speeds are the best of many measurements in the same run, so the floor errs on the low side.
Counted are the weights' bytes and the matrix products; activations, copies and Python are not.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from saarthi_lib.models.encoders import FEED_FORWARD, WINDOW
from saarthi_lib.models.student import StudentShape

REPEATS = 30
GEMM = 512  # rows, columns and depth: large enough for the peak, and within the L2 cache
LONG = 2**22  # bytes read in one call, beside which the call's own time is nothing
GATES = {"lstm": 4, "gru": 3}  # of a recurrent cell
BYTES = {"float32": 4, "float16": 4, "int8": 1}  # of a weight as it is computed with on a CPU


@dataclass(frozen=True)
class Work:
    """One phase of the network: bytes of weights, out of a block of that size, and operations."""

    streamed: float
    block: int
    operations: float


def seconds(shape: StudentShape, precision: str, lengths: Sequence[int]) -> float:
    """The floor of one run of the network on a batch of texts of so many pieces.

    It is the sum over the phases of whichever takes longer, the bytes or the operations.
    """
    peak = peak_operations("int8" if precision == "int8" else "float32")
    return sum(
        max(work.streamed / bandwidth(work.block), work.operations / peak)
        for work in _phases(shape, precision, lengths)
    )


def recurrent_bytes(shape: StudentShape, precision: str) -> int:
    """The recurrent weights of one direction, which every step reads; 0 where there are none."""
    return BYTES[precision] * GATES.get(shape.family, 0) * shape.hidden**2


def _phases(shape: StudentShape, precision: str, lengths: Sequence[int]) -> list[Work]:
    size = BYTES[precision]
    rows = sum(lengths)
    once = _encoder_products(shape, rows)
    states = shape.hidden if shape.family == "transformer" else 2 * shape.hidden
    once += [
        (states * shape.projection, rows),
        (shape.projection * shape.sequence_labels, len(lengths)),
    ]
    # Each step needs the one before it, so a direction's recurrent matrix is read at every step.
    block = recurrent_bytes(shape, precision)
    directions = 2 * shape.layers if block else 0
    whole = size * sum(weights for weights, _ in once) + directions * block
    phases = [Work(size * weights, whole, 2 * weights * count) for weights, count in once]
    phases += [Work(max(lengths) * block, block, 2 * block / size * rows)] * directions
    if shape.family == "transformer":  # queries with keys, and weights with values
        pairs = sum(length**2 for length in lengths)
        phases.append(Work(0, whole, shape.layers * 2 * 2 * pairs * shape.hidden))
    return phases


def _encoder_products(shape: StudentShape, rows: int) -> list[tuple[int, int]]:
    """The encoder's products that are done once: weights, and the rows that they are done for."""
    hidden, inner = shape.hidden, range(1, shape.layers)
    if shape.family == "transformer":
        layer = (3 + 1 + 2 * FEED_FORWARD) * hidden**2
        return [(WINDOW * shape.embedding * hidden, rows), *[(layer, rows)] * shape.layers]
    widths = [shape.embedding, *[2 * hidden for _ in inner]]
    columns = (
        WINDOW * 4 * hidden if shape.family == "qrnn" else 2 * GATES[shape.family] * hidden
    )  # of both directions
    return [(columns * width, rows) for width in widths]


@cache
def bandwidth(block: int) -> float:
    """Bytes a second that one thread reads from a block of so many bytes, over and over."""
    numbers = np.ones(block // 8, dtype=np.int64)
    again_and_again = np.broadcast_to(numbers, (max(1, LONG // block), len(numbers)))
    return again_and_again.size * 8 / _least(lambda: again_and_again.max(axis=1))


@cache
def peak_operations(precision: str) -> float:
    """Operations a second of one thread in a large matrix product (a product and a sum are two)."""
    if precision == "float32":
        torch.set_num_threads(1)
        a, b = torch.rand(GEMM, GEMM), torch.rand(GEMM, GEMM)
        return 2 * GEMM**3 / _least(lambda: torch.mm(a, b))
    session, values = _int8_product(), np.full((GEMM, GEMM), 3, dtype=np.uint8)
    return 2 * GEMM**3 / _least(lambda: session.run(None, {"a": values}))


def _int8_product() -> onnxruntime.InferenceSession:
    weights = numpy_helper.from_array(np.full((GEMM, GEMM), 5, dtype=np.int8), "b")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [GEMM, GEMM])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, [GEMM, GEMM])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _least(call: Callable[[], object]) -> float:
    """Seconds of a call: the least of many runs, each long enough for the clock."""
    times = 1
    while (taken := _taken(call, times)) < 1e-3:
        times *= 2
    return min(taken, *(_taken(call, times) for _ in range(REPEATS))) / times


def _taken(call: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - start
