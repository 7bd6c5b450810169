"""Networks are checked in protobuf's wire format, however their bytes are written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from saarthi_lib.errors import BundleError
from saarthi_lib.inference.engine import OnnxEngine
from saarthi_lib.inference.onnx_wire import _FIELDS
from tests.tiny_bundle import write_tiny_bundle

# `location` names a file in the working directory, with its value before its key.
VALUE_FIRST = b"\x12\x07weights\x0a\x08location"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("wire") / "bundle"
    return (write_tiny_bundle(folder, runtime="onnxruntime") / "model.onnx").read_bytes()


def load(content: bytes) -> OnnxEngine:
    return OnnxEngine(Path("model.onnx"), content=content)


def varint(number: int, length: int = 0) -> bytes:
    """A varint, written in at least so many bytes."""
    out: list[int] = []
    while number or not out or len(out) < length:
        out.append((number & 127) | 128)
        number >>= 7
    return bytes([*out[:-1], out[-1] & 127])


def field(number: int, value: bytes | int, length: int = 0) -> bytes:
    if isinstance(value, int):
        return varint(number << 3, length) + varint(value)
    return varint(number << 3 | 2, length) + varint(len(value), length) + value


def elsewhere(where: bytes = field(13, VALUE_FIRST) + field(14, 1)) -> bytes:
    """A tensor with its values in another file."""
    return where + TensorProto(data_type=1, dims=[2], name="outside").SerializeToString()


def in_attribute(tensor: bytes, number: int = 5) -> bytes:
    """A model with a node that has the tensor in an attribute."""
    return field(7, field(1, field(4, b"Constant") + field(5, field(number, tensor))))


PLACES: dict[str, Callable[[bytes], bytes]] = {
    "initializer": lambda tensor: field(7, field(5, tensor)),
    "attribute": in_attribute,
    "tensors of an attribute": lambda tensor: in_attribute(tensor, 10),
    "values of a sparse initializer": lambda tensor: field(7, field(15, field(1, tensor))),
    "indices of a sparse initializer": lambda tensor: field(7, field(15, field(2, tensor))),
    "sparse attribute": lambda tensor: in_attribute(field(1, tensor), 22),
    "sparse attributes": lambda tensor: in_attribute(field(2, tensor), 23),
    "subgraph": lambda tensor: in_attribute(field(5, tensor), 6),
    "subgraphs": lambda tensor: in_attribute(field(5, tensor), 11),
    "function": lambda tensor: field(25, field(7, field(4, b"Add") + field(5, field(5, tensor)))),
    "default of a function": lambda tensor: field(25, field(11, field(5, tensor))),
    "training graph": lambda tensor: field(20, field(1, field(5, tensor))),
    "training algorithm": lambda tensor: field(20, field(2, field(5, tensor))),
}


@pytest.mark.parametrize("place", PLACES)
def test_weights_elsewhere_are_found_in_any_place(content: bytes, place: str) -> None:
    made = PLACES[place](elsewhere())
    for whole in (content + made, made + content):
        ModelProto.FromString(whole)  # protobuf merges the parts
        with pytest.raises(BundleError, match=r"model\.onnx: has weights in another file"):
            load(whole)


@pytest.mark.parametrize(
    "where",
    [
        field(13, b"") + field(14, 1),
        field(13, VALUE_FIRST),  # protobuf's default may change
        field(14, 1),
        field(14, 1) + field(14, 0) + field(14, 1),
        field(14, 2**32 + 1),  # protobuf keeps 32 bits
        field(14, 2**64 - 1),
        field(14, 1, length=4),
        field(13, VALUE_FIRST, length=5) + field(14, 1),
    ],
)
def test_weights_elsewhere_are_found_in_any_spelling(content: bytes, where: bytes) -> None:
    with pytest.raises(BundleError, match=r"model\.onnx: .*(another file|written longer)"):
        load(content + field(7, field(5, elsewhere(where))))


def test_file_in_working_directory_is_not_loaded(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = onnx.load_from_string(content)
    tensor = next(each for each in model.graph.initializer if each.name == "table")
    Path("weights").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    stripped = tensor.SerializeToString()
    model.graph.initializer.remove(tensor)
    made = model.SerializeToString() + field(
        7, field(5, stripped + field(13, VALUE_FIRST) + field(14, 1))
    )
    with pytest.raises(BundleError, match="weights in another file"):
        load(made)


@pytest.mark.parametrize(
    "extra",
    [
        b"\x0b\x0c",  # a group
        field(99, b"unknown"),
        field(7, 5),  # the graph as a number
        b"\x00\x00",  # field 0
        b"\x3a\xff\xff\xff\xff\x0f",  # longer than the file
        b"\x3a",
        b"\x08" + b"\xff" * 10,
        field(2, b"name", length=2),
        b"\xba\x80\x80\x80\x10\x00",  # a tag above 32 bits, which protobuf cuts to field 7
    ],
)
def test_bytes_outside_the_format_are_refused(content: bytes, extra: bytes) -> None:
    with pytest.raises(BundleError, match=r"model\.onnx: is not an ONNX model"):
        load(content + extra)


def test_deep_and_long_files_are_refused(content: bytes) -> None:
    graph = b""
    for _ in range(200):
        graph = field(1, field(4, b"Add") + field(5, field(6, graph)))
    many = field(7, b"\x0a\x00" * 1_000_001)
    for extra, message in ((field(7, graph), "messages in each other"), (many, "fields")):
        with pytest.raises(BundleError, match=message):
            load(content + extra)


def test_own_format_of_onnx_runtime_is_refused(tmp_path: Path) -> None:
    import onnxruntime

    bundle = write_tiny_bundle(tmp_path / "bundle", runtime="onnxruntime")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(bundle / "model.onnx"), options)
    for content in ((tmp_path / "model.ort").read_bytes(), b"\x12\x04..ORTM" + bytes(60)):
        with pytest.raises(BundleError, match=r"model\.onnx"):
            load(content)


def loop_of(steps: int) -> NodeProto:
    """A loop that adds, so many times."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["going"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("going", TensorProto.BOOL, [])],
    )
    return helper.make_node("Loop", [f"{steps}", ""], [], body=body)


def in_graph(node: NodeProto) -> bytes:
    return field(7, GraphProto(node=[node]).SerializeToString())


def in_subgraph(node: NodeProto) -> bytes:
    inner = AttributeProto(name="body", g=GraphProto(node=[node]))
    return in_graph(NodeProto(op_type="Scan", attribute=[inner]))


def in_function(node: NodeProto) -> bytes:
    return field(25, onnx.FunctionProto(name="Add", node=[node]).SerializeToString())


def in_training(node: NodeProto) -> bytes:
    return field(20, field(2, GraphProto(node=[node]).SerializeToString()))


@pytest.mark.parametrize("wrap", [in_graph, in_subgraph, in_function, in_training])
@pytest.mark.parametrize(
    ("node", "name"),
    [
        (loop_of(2**62), "'Loop'"),
        (NodeProto(op_type="If"), "'If'"),
        (NodeProto(op_type="add"), "'add'"),
        (NodeProto(op_type="Add", domain="ai.onnx.ml"), r"'ai\.onnx\.ml\.Add'"),
        (NodeProto(op_type="EPContext", domain="com.microsoft"), r"'com\.microsoft\.EPContext'"),
        (NodeProto(op_type="Loop\n\x1b[2J" + "x" * 5000), r"'Loop\\n\\x1b\[2Jx+'"),
    ],
)
def test_other_operators_are_refused_by_name(
    content: bytes, node: NodeProto, name: str, wrap: Callable[[NodeProto], bytes]
) -> None:
    with pytest.raises(BundleError, match=f"model.onnx: uses the ONNX operator {name}") as caught:
        load(content + wrap(node))
    assert len(str(caught.value)) < 300


def test_functions_and_double_names_are_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="defines ONNX functions"):
        load(content + in_function(NodeProto(op_type="Add")))
    twice = field(7, field(1, field(4, b"Loop") + field(4, b"Add")))
    with pytest.raises(BundleError, match="twice"):
        load(content + twice)


def test_table_of_fields_matches_onnx() -> None:
    """Every message that can hold a tensor or a node is opened, in each field."""
    opened = set(_FIELDS)
    for name, fields in _FIELDS.items():
        described = {each.number: each for each in getattr(onnx, name).DESCRIPTOR.fields}
        assert set(fields) == set(described)
        for number, kind in fields.items():
            inner = described[number].message_type
            assert (kind if isinstance(kind, str) else None) == (
                inner.name if inner and inner.name in opened else None
            )
            assert inner is None or inner.name in opened or not reaches(inner, opened)


def reaches(message: object, opened: set[str]) -> bool:
    seen, waiting = set(), [message]
    while waiting:
        for each in waiting.pop().fields:  # type: ignore[attr-defined]
            if each.message_type and each.message_type.name not in seen:
                if each.message_type.name in opened:
                    return True
                seen.add(each.message_type.name)
                waiting.append(each.message_type)
    return False


def shuffled(message: onnx.ModelProto, draw: Callable[[int], int]) -> bytes:
    """The same model, with the fields of each graph in another order and the graph in parts."""
    parts = [
        *(field(1, node.SerializeToString()) for node in message.graph.node),
        *(field(11, each.SerializeToString()) for each in message.graph.input),
        *(field(12, each.SerializeToString()) for each in message.graph.output),
        *(field(5, each.SerializeToString()) for each in message.graph.initializer),
        field(2, message.graph.name.encode()),
    ]
    cut = draw(len(parts))
    nodes, others = parts[: len(message.graph.node)], parts[len(message.graph.node) :]
    mixed = others[cut:] + nodes + others[:cut]
    message = onnx.ModelProto.FromString(message.SerializeToString())
    message.ClearField("graph")
    cut = draw(len(mixed))
    graphs = field(7, b"".join(mixed[:cut])) + field(7, b"".join(mixed[cut:]))
    return graphs + message.SerializeToString()


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_fields_in_any_order_load_with_the_same_logits(content: bytes, data: st.DataObject) -> None:
    model = onnx.load_from_string(content)
    made = shuffled(model, lambda end: data.draw(st.integers(0, end)))

    ids, lengths = np.array([[3, 4, 5]]), np.array([3])
    for found, wanted in zip(
        load(made).run(ids, lengths), load(content).run(ids, lengths), strict=True
    ):
        assert (found is None) == (wanted is None)
        if found is not None and wanted is not None:
            np.testing.assert_array_equal(found, wanted)


@settings(max_examples=200, deadline=None)
@given(noise=st.binary(min_size=1, max_size=40))
def test_hidden_weights_never_load(content: bytes, noise: bytes) -> None:
    """Whatever bytes are put between fields, a tensor elsewhere is never accepted."""
    made = content + noise + field(7, field(5, elsewhere()))
    try:
        merged = ModelProto.FromString(made)
    except Exception:
        merged = None
    hidden = merged is not None and any(
        each.data_location == TensorProto.EXTERNAL for each in merged.graph.initializer
    )
    try:
        load(made)
    except BundleError:
        return
    assert not hidden
