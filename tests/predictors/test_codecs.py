"""Codecs read a request or refuse it with a message."""

import contextlib
import struct
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest

from predictors import codecs, v2
from predictors.codecs import Limits
from predictors.errors import RequestError
from saarthi_lib.bundle import BundleManifest

LIMITS = Limits(instances=10, characters=5000)
FIELDS: tuple[str, ...] = ("inputs", "instances", "text", "lang", "name", "data", "shape")
FIELDS += ("datatype", "parameters", "outputs", "top_k", "binary_data_size", "binary_data", "id")
FIELDS += ("threshold", "triton_a", "priority")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5)
    ),
    max_leaves=12,
)
TENSOR = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["text", "lang"]),
        "datatype": st.sampled_from(["BYTES", "FP32", None, 3]),
        "shape": ANYTHING,
        "data": ANYTHING,
        "parameters": ANYTHING,
    }
)
V2_BODY = st.fixed_dictionaries(
    {
        "inputs": st.lists(TENSOR, max_size=3),
        "parameters": ANYTHING,
        "outputs": ANYTHING,
        "id": ANYTHING,
    }
)


@settings(max_examples=100)
@given(ANYTHING, V2_BODY, st.none() | st.integers(0, 40), st.binary(max_size=20))
def test_any_json_is_read_or_refused(
    anything: Any, v2_body: Any, json_size: int | None, tail: bytes
) -> None:
    with contextlib.suppress(RequestError):
        codecs.read_v1(anything, LIMITS)
    with contextlib.suppress(RequestError):
        codecs.read_predict(anything if isinstance(anything, dict) else {}, LIMITS)
    for content in (anything, v2_body):
        with contextlib.suppress(RequestError):
            v2.read_v2(orjson.dumps(content) + tail, json_size, LIMITS)


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=12), max_size=3), st.lists(st.integers(-2, 4), max_size=2))
def test_any_message_is_read_or_refused(raw: list[bytes], shape: list[int]) -> None:
    message = ModelInferRequest(raw_input_contents=raw)
    message.inputs.add(name="text", datatype="BYTES", shape=shape)
    with contextlib.suppress(RequestError):
        v2.read_grpc(message, LIMITS)


@given(
    st.lists(st.text(min_size=1, max_size=9).filter(lambda text: not text.isspace()), max_size=9)
)
def test_binary_strings_are_read_unchanged(texts: list[str]) -> None:
    packed = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)
    message = ModelInferRequest(raw_input_contents=[packed])
    message.inputs.add(name="text", datatype="BYTES", shape=[len(texts)])

    assert [row.text for row in v2.read_grpc(message, LIMITS).rows] == texts


def test_tensor_may_have_two_dimensions() -> None:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [2, 1], "data": [["a"], ["b"]]}

    read = v2.read_v2(orjson.dumps({"inputs": [tensor]}), None, LIMITS)

    assert [row.text for row in read.rows] == ["a", "b"]
    with pytest.raises(RequestError, match=r"shape \[3\]"):
        v2.read_v2(orjson.dumps({"inputs": [tensor | {"shape": [3]}]}), None, LIMITS)


PACKED = b"\1\0\0\0a"
PLAIN = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}
BINARY = {
    "name": "text",
    "datatype": "BYTES",
    "shape": [1],
    "parameters": {"binary_data_size": len(PACKED)},
}


@pytest.mark.parametrize(
    ("fields", "tail", "message"),
    [
        ({"inputs": [PLAIN]}, PACKED, "5 bytes after its inputs"),
        ({"inputs": [BINARY]}, PACKED + b"b", "1 bytes after its inputs"),
        ({"inputs": [BINARY | {"data": ["b"]}]}, PACKED, "give one of them"),
        ({"inputs": [BINARY | {"parameters": {"binary_data_size": True}}]}, b"a", "does not fit"),
        ({"parameters": {"binary_data_output": "false"}}, b"", "binary_data_output must be true"),
        (
            {"outputs": [{"name": "label", "parameters": {"binary_data": 0}}]},
            b"",
            "binary_data must be true",
        ),
        ({"outputs": [{"name": "label"}] * 2}, b"", "outputs[1] is requested twice"),
        ({"outputs": {}}, b"", '"outputs" must be a list'),
        ({"id": 0}, b"", '"id" must be a string'),
        ({"id": False}, b"", '"id" must be a string'),
    ],
)
def test_v2_values_of_another_form_are_refused(
    fields: dict[str, Any], tail: bytes, message: str
) -> None:
    head = orjson.dumps({"inputs": [PLAIN], **fields})
    with pytest.raises(RequestError) as refused:
        v2.read_v2(head + tail, len(head), LIMITS)
    assert message in str(refused.value)


def test_null_in_v2_is_like_a_field_left_out() -> None:
    output = {"name": "label", "parameters": {"binary_data": None}}
    body = {"inputs": [PLAIN], "id": None, "parameters": {"binary_data_output": True}}
    read = v2.read_v2(orjson.dumps(body | {"outputs": [output]}), None, LIMITS)
    assert (read.id, read.outputs) == ("", {"label": True})
    assert v2.read_v2(orjson.dumps(body | {"outputs": []}), None, LIMITS).outputs is None


def test_v2_gives_the_reason_of_an_abstention() -> None:
    manifest = BundleManifest(
        format=1,
        name="tiny",
        version="1",
        task="intent_classification",
        languages=(),
        runtime="onnxruntime",
        precision="int8",
        created="2026-01-01T00:00:00+00:00",
        max_seq_len=26,
        threshold=0.5,
        metrics={},
        made_by={},
        files={},
    )
    first: codecs.Answer = {"label": "a", "probability": 0.9, "abstained": False, "reason": None}
    first |= {"confidence": 0.8, "threshold": None}
    second: codecs.Answer = first | {"abstained": True, "reason": "unfamiliar_text"}
    body, _ = v2.write_v2(v2.V2Request([]), [first, second], manifest, "1")
    outputs = {output["name"]: output for output in orjson.loads(body)["outputs"]}
    assert outputs["abstained"]["data"] == [False, True]
    assert outputs["reason"]["data"] == ["", "unfamiliar_text"]
    assert outputs["reason"]["datatype"] == "BYTES"
    assert {"reason", "abstained"} <= {each["name"] for each in v2.output_types(manifest)}
