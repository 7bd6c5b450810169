"""Requests and responses of V2, over REST and gRPC."""

import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest, ModelInferResponse

from predictors.codecs import (
    V2,
    Answer,
    Limits,
    Row,
    check_count,
    check_rows,
    read_json,
    read_parameters,
)
from predictors.errors import RequestError
from saarthi_lib.bundle import BundleManifest
from saarthi_lib.tasks import has_sequence_head

_MAX_DIMENSIONS = 8


class Tensor(NamedTuple):
    """An input tensor with its flat values, unchecked."""

    name: str
    datatype: Any
    shape: Any
    values: Sequence[Any]


class V2Request(NamedTuple):
    """A V2 request.

    Attributes:
        rows: one row for each text.
        id: the client's identifier, or empty.
        outputs: for each requested output, whether it is sent in binary form; None: all outputs.
        binary: whether outputs are sent in binary form by default.
    """

    rows: list[Row]
    id: str = ""
    outputs: dict[str, bool] | None = None
    binary: bool = False


class Column(NamedTuple):
    """An output tensor: one value for each text."""

    name: str
    datatype: str
    values: list[Any]

    def packed(self) -> bytes:
        """The values in V2's binary form."""
        if self.datatype == "BYTES":
            encoded = [value.encode() for value in self.values]
            return b"".join(struct.pack("<I", len(value)) + value for value in encoded)
        code = "f" if self.datatype == "FP32" else "?"
        return struct.pack(f"<{len(self.values)}{code}", *self.values)


def read_v2(body: bytes, json_size: int | None, limits: Limits) -> V2Request:
    """Read a V2 REST body, with or without the extension for binary tensors.

    Args:
        body: JSON, followed by binary tensors.
        json_size: bytes of the JSON part; None if the whole body is JSON.
        limits: limits of the request.
    """
    json_size = len(body) if json_size is None else json_size
    content, tail = read_json(body[:json_size]), memoryview(body)[json_size:]
    inputs = content.get("inputs")
    if not isinstance(inputs, list):
        raise RequestError('the body must be an object with a list "inputs"')
    tensors = []
    for index, given in enumerate(inputs):
        tensor, tail = _read_tensor(given, f"inputs[{index}]", tail, limits)
        tensors.append(tensor)
    parameters = read_parameters(content, "parameters")
    binary = bool(parameters.get("binary_data_output", False))
    identifier = content.get("id") or ""
    if not isinstance(identifier, str):
        raise RequestError('"id" must be a string')
    rows = _rows(tensors, parameters.get("top_k", 1), limits)
    return V2Request(rows, identifier, _read_outputs(content.get("outputs"), binary), binary)


def write_v2(
    request: V2Request, answers: Sequence[Answer], manifest: BundleManifest, identifier: str
) -> tuple[bytes, int | None]:
    """Write a V2 REST body; returns it with the size of its JSON part if binary tensors follow."""
    outputs, tail = [], []
    for column, binary in _requested_columns(request, answers, manifest):
        output: dict[str, Any] = {
            "name": column.name,
            "datatype": column.datatype,
            "shape": [len(column.values)],
        }
        if binary:
            tail.append(column.packed())
            output["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            output["data"] = column.values
        outputs.append(output)
    head = orjson.dumps(
        {
            "id": request.id or identifier,
            "model_name": manifest.name,
            "model_version": manifest.version,
            "outputs": outputs,
        }
    )
    return (b"".join((head, *tail)), len(head)) if tail else (head, None)


def read_grpc(request: ModelInferRequest, limits: Limits) -> V2Request:
    """Read a V2 gRPC message; outputs are raw if the inputs are."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise RequestError(f"there are {len(raw)} raw contents for {len(request.inputs)} inputs")
    tensors = []
    for index, tensor in enumerate(request.inputs):
        values = _unpack(raw[index], tensor.name, limits) if raw else tensor.contents.bytes_contents
        shape = tensor.shape[: _MAX_DIMENSIONS + 1]
        tensors.append(Tensor(tensor.name, tensor.datatype, shape, values))
    top_k: Any = 1
    if "top_k" in request.parameters:
        parameter = request.parameters["top_k"]
        top_k = getattr(parameter, parameter.WhichOneof("parameter_choice") or "int64_param")
    outputs = {output.name: bool(raw) for output in request.outputs} or None
    return V2Request(_rows(tensors, top_k, limits), request.id, outputs, bool(raw))


def write_grpc(
    request: V2Request, answers: Sequence[Answer], manifest: BundleManifest, identifier: str
) -> ModelInferResponse:
    """Write a V2 gRPC message."""
    response = ModelInferResponse(
        id=request.id or identifier, model_name=manifest.name, model_version=manifest.version
    )
    for column, binary in _requested_columns(request, answers, manifest):
        output = response.outputs.add(
            name=column.name, datatype=column.datatype, shape=[len(column.values)]
        )
        if binary:
            response.raw_output_contents.append(column.packed())
        elif column.datatype == "BYTES":
            output.contents.bytes_contents.extend(value.encode() for value in column.values)
        elif column.datatype == "FP32":
            output.contents.fp32_contents.extend(column.values)
        else:
            output.contents.bool_contents.extend(column.values)
    return response


def input_types() -> list[dict[str, Any]]:
    """V2 metadata of the inputs; `lang` is optional."""
    return [_tensor_type("text", "BYTES"), _tensor_type("lang", "BYTES")]


def output_types(manifest: BundleManifest) -> list[dict[str, Any]]:
    """V2 metadata of the outputs."""
    return [_tensor_type(column.name, column.datatype) for column in _columns([], manifest)]


def _tensor_type(name: str, datatype: str) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1]}


def _columns(answers: Sequence[Answer], manifest: BundleManifest) -> list[Column]:
    columns = [Column("predictions", "BYTES", [orjson.dumps(a).decode() for a in answers])]
    if has_sequence_head(manifest.task):
        columns += [
            Column("label", "BYTES", [answer["label"] for answer in answers]),
            Column("probability", "FP32", [answer["probability"] for answer in answers]),
            Column("abstained", "BOOL", [answer["abstained"] for answer in answers]),
            Column("reason", "BYTES", [answer.get("reason") or "" for answer in answers]),
        ]
    return columns


def _requested_columns(
    request: V2Request, answers: Sequence[Answer], manifest: BundleManifest
) -> list[tuple[Column, bool]]:
    """The columns that a request asks for, and whether each is sent in binary form."""
    columns = {column.name: column for column in _columns(answers, manifest)}
    if request.outputs is None:
        return [(column, request.binary) for column in columns.values()]
    for name in request.outputs:
        if name not in columns:
            raise RequestError(f"the output {name!r} is unknown: there are {', '.join(columns)}")
    return [(columns[name], binary) for name, binary in request.outputs.items()]


def _read_tensor(
    tensor: Any, where: str, tail: memoryview, limits: Limits
) -> tuple[Tensor, memoryview]:
    """Read an input of a REST body; returns it with the binary data after its own."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise RequestError(f'{where} must be an object with "name", "datatype" and "shape"')
    size = read_parameters(tensor, f"{where}.parameters").get("binary_data_size")
    values: Any
    if size is not None:
        if not isinstance(size, int) or not 0 <= size <= len(tail):
            raise RequestError(f"{where}: binary_data_size does not fit the body's size")
        values, tail = _unpack(tail[:size], tensor["name"], limits), tail[size:]
    else:
        values = tensor.get("data")
        if not isinstance(values, list):
            raise RequestError(f'{where} has no list "data"')
        while values and all(isinstance(value, list) for value in values):
            values = [value for row in values for value in row]
    return Tensor(tensor["name"], tensor.get("datatype"), tensor.get("shape"), values), tail


def _read_outputs(outputs: Any, binary: bool) -> dict[str, bool] | None:
    if not outputs:
        return None
    if not isinstance(outputs, list):
        raise RequestError('"outputs" must be a list')
    requested = {}
    for index, output in enumerate(outputs):
        if not isinstance(output, dict) or not isinstance(output.get("name"), str):
            raise RequestError(f'outputs[{index}] must be an object with "name"')
        parameters = read_parameters(output, f"outputs[{index}].parameters")
        requested[output["name"]] = bool(parameters.get("binary_data", binary))
    return requested


def _rows(tensors: Sequence[Tensor], top_k: Any, limits: Limits) -> list[Row]:
    by_name = {tensor.name: tensor for tensor in tensors}
    if "text" not in by_name:
        raise RequestError("the input 'text' is missing: send it as a BYTES tensor")
    texts = _strings(by_name["text"], limits)
    langs = None
    if "lang" in by_name:
        langs = [lang or None for lang in _strings(by_name["lang"], limits)]  # BYTES lacks null
    return check_rows(texts, langs, top_k, V2, limits)


def _strings(tensor: Tensor, limits: Limits) -> list[Any]:
    if tensor.datatype != "BYTES":
        raise RequestError(f"the input {tensor.name!r} must be of datatype BYTES")
    shape = tensor.shape
    if (
        not isinstance(shape, list)
        or len(shape) > _MAX_DIMENSIONS  # the product of very many numbers would take hours
        or not all(isinstance(size, int) and size >= 0 for size in shape)
    ):
        raise RequestError(
            f"the input {tensor.name!r} must have a shape of at most {_MAX_DIMENSIONS} whole "
            "numbers"
        )
    check_count(len(tensor.values), limits)
    if math.prod(shape) != len(tensor.values):
        raise RequestError(
            f"the input {tensor.name!r} has {len(tensor.values)} values, "
            f"which do not fit its shape {shape}"
        )
    return [
        _decode(value, tensor.name, index) if isinstance(value, bytes) else value
        for index, value in enumerate(tensor.values)
    ]


def _decode(value: bytes, name: str, index: int) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"{name}[{index}] is not valid UTF-8") from error


def _unpack(raw: bytes | memoryview, name: str, limits: Limits) -> list[bytes]:
    """Unpack strings of V2's binary form: each follows its length in 4 bytes."""
    values: list[bytes] = []
    at, size = 0, len(raw)
    while at + 4 <= size:
        check_count(len(values), limits)
        (length,) = struct.unpack_from("<I", raw, at)
        values.append(bytes(raw[at + 4 : at + 4 + length]))
        at += 4 + length
    if at != size:
        raise RequestError(f"the data of the input {name!r} are cut off or of another form")
    return values
