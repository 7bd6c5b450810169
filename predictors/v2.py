"""Requests and responses of V2, over REST and gRPC."""

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple

import orjson
from google.protobuf.unknown_fields import UnknownFieldSet
from kserve.protocol.grpc.grpc_predict_v2_pb2 import (
    InferParameter,
    ModelInferRequest,
    ModelInferResponse,
)

from predictors.bodies import (
    InputParameters,
    InputTensor,
    OutputParameters,
    RequestedOutput,
    V2Body,
)
from predictors.codecs import (
    PARAMETERS,
    V2,
    Answer,
    Limits,
    Options,
    Row,
    check_count,
    check_parameters,
    check_rows,
    read_json,
    read_options,
    read_parameters,
    refuse_unknown,
)
from predictors.errors import RequestError
from saarthi_lib.bundle import BundleManifest
from saarthi_lib.tasks import has_sequence_head

_MAX_DIMENSIONS = 8
_INPUTS = ("text", "lang")
_FIELDS = frozenset(V2Body.model_fields)
_TENSOR_FIELDS = frozenset(InputTensor.model_fields)
_TENSOR_PARAMETERS = frozenset(InputParameters.model_fields)
_OUTPUT_FIELDS = frozenset(RequestedOutput.model_fields)
_OUTPUT_PARAMETERS = frozenset(OutputParameters.model_fields)
# Fields of Triton's InferParameter that KServe's lacks, with their wire type: double and uint64.
_TRITON_NUMBERS = {(4, 1): "<d", (5, 0): "<Q"}


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


class Output(NamedTuple):
    """An output tensor.

    Attributes:
        datatype: V2's name of its type.
        value: gets the value of an answer; a list if `wide`.
        wide: whether a text has one value for each of its `top_k` labels.
    """

    datatype: str
    value: Callable[[Answer], Any]
    wide: bool = False


def _choices(field: str) -> Callable[[Answer], list[Any]]:
    def values(answer: Answer) -> list[Any]:
        best: Any = answer.get("top_k") or (answer,)
        return [choice[field] for choice in best]

    return values


_OUTPUTS = {
    "predictions": Output("BYTES", lambda answer: orjson.dumps(answer).decode()),
    "label": Output("BYTES", itemgetter("label")),
    "probability": Output("FP32", itemgetter("probability")),
    "abstained": Output("BOOL", itemgetter("abstained")),
    "reason": Output("BYTES", lambda answer: answer["reason"] or ""),
    "confidence": Output("FP32", itemgetter("confidence")),
    # A threshold of 0 answers all texts, like none.
    "threshold": Output("FP32", lambda answer: answer["threshold"] or 0.0),
    "labels": Output("BYTES", _choices("label"), wide=True),
    "scores": Output("FP32", _choices("probability"), wide=True),
}
_OF_LABELS = ("label", "probability", "labels", "scores")  # for tasks that label a text
_CONTENTS = {"BYTES": "bytes_contents", "FP32": "fp32_contents", "BOOL": "bool_contents"}


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
    refuse_unknown(content, _FIELDS)
    tensors = []
    for index, given in enumerate(inputs):
        tensor, tail = _read_tensor(given, f"inputs[{index}]", tail, limits)
        tensors.append(tensor)
    if tail:
        raise RequestError(
            f"the body has {len(tail)} bytes after its inputs: give each binary input its "
            "binary_data_size"
        )
    parameters = read_parameters(content, PARAMETERS)
    binary = _flag(parameters, "binary_data_output", False)
    identifier = content.get("id", "")
    if identifier is None:
        identifier = ""
    if not isinstance(identifier, str):
        raise RequestError('"id" must be a string')
    rows = _rows(tensors, read_options(content, parameters), limits)
    return V2Request(rows, identifier, _read_outputs(content.get("outputs"), binary), binary)


def write_v2(
    request: V2Request, answers: Sequence[Answer], manifest: BundleManifest, identifier: str
) -> tuple[bytes, int | None]:
    """Write a V2 REST body; returns it with the size of its JSON part if binary tensors follow."""
    outputs, tail = [], []
    for name, binary in _requested(request, manifest):
        shape, values = _tensor(name, answers)
        datatype = _OUTPUTS[name].datatype
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
        if binary:
            tail.append(_pack(datatype, values))
            output["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            output["data"] = values
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
        if tensor.parameters:
            check_parameters(tensor.parameters, _TENSOR_PARAMETERS, f"inputs[{index}].")
        shape = tensor.shape[: _MAX_DIMENSIONS + 1]
        tensors.append(Tensor(tensor.name, tensor.datatype, shape, values))
    for index, output in enumerate(request.outputs):
        check_parameters(output.parameters, _OUTPUT_PARAMETERS, f"outputs[{index}].")
    options = Options()
    if request.parameters:
        check_parameters(request.parameters, PARAMETERS)
        given = {name: _parameter(each) for name, each in request.parameters.items()}
        options = read_options(given)
        if isinstance(options.threshold, str):  # KServe's clients cannot send fractions
            options = options._replace(threshold=_number(options.threshold))
    outputs = {output.name: bool(raw) for output in request.outputs} or None
    return V2Request(_rows(tensors, options, limits), request.id, outputs, bool(raw))


def write_grpc(
    request: V2Request, answers: Sequence[Answer], manifest: BundleManifest, identifier: str
) -> ModelInferResponse:
    """Write a V2 gRPC message."""
    response = ModelInferResponse(
        id=request.id or identifier, model_name=manifest.name, model_version=manifest.version
    )
    for name, binary in _requested(request, manifest):
        shape, values = _tensor(name, answers)
        datatype = _OUTPUTS[name].datatype
        output = response.outputs.add(name=name, datatype=datatype, shape=shape)
        if binary:
            response.raw_output_contents.append(_pack(datatype, values))
        else:
            if datatype == "BYTES":
                values = [value.encode() for value in values]
            getattr(output.contents, _CONTENTS[datatype]).extend(values)
    return response


def input_types() -> list[dict[str, Any]]:
    """V2 metadata of the inputs; `lang` is optional."""
    return [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in _INPUTS]


def output_types(manifest: BundleManifest) -> list[dict[str, Any]]:
    """V2 metadata of the outputs."""
    found = ((name, _OUTPUTS[name]) for name in _names(manifest.task))
    return [
        {"name": name, "datatype": each.datatype, "shape": [-1, -1] if each.wide else [-1]}
        for name, each in found
    ]


@cache
def _names(task: str) -> tuple[str, ...]:
    """Names of the outputs of a task."""
    labelled = has_sequence_head(task)
    return tuple(name for name in _OUTPUTS if labelled or name not in _OF_LABELS)


def _requested(request: V2Request, manifest: BundleManifest) -> Iterable[tuple[str, bool]]:
    """Names of the outputs that a request asks for, and whether each is sent in binary form."""
    names = _names(manifest.task)
    if request.outputs is None:
        return [(name, request.binary) for name in names]
    refuse_unknown(request.outputs, frozenset(names), "the output ")
    return request.outputs.items()


def _tensor(name: str, answers: Sequence[Answer]) -> tuple[list[int], list[Any]]:
    """Shape and flat values of an output."""
    _, value, wide = _OUTPUTS[name]
    values = [value(answer) for answer in answers]
    if not wide:
        return [len(values)], values
    flat = [each for row in values for each in row]
    return [len(values), len(values[0]) if values else 1], flat


def _pack(datatype: str, values: list[Any]) -> bytes:
    """Values in V2's binary form."""
    if datatype == "BYTES":
        encoded = [value.encode() for value in values]
        return b"".join(struct.pack("<I", len(value)) + value for value in encoded)
    return struct.pack(f"<{len(values)}{'f' if datatype == 'FP32' else '?'}", *values)


def _read_tensor(
    tensor: Any, where: str, tail: memoryview, limits: Limits
) -> tuple[Tensor, memoryview]:
    """Read an input of a REST body; returns it with the binary data after its own."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise RequestError(f'{where} must be an object with "name", "datatype" and "shape"')
    refuse_unknown(tensor, _TENSOR_FIELDS, f"{where}: ")
    size = read_parameters(tensor, _TENSOR_PARAMETERS, f"{where}.").get("binary_data_size")
    values: Any
    if size is not None:
        if type(size) is not int or not 0 <= size <= len(tail):
            raise RequestError(f"{where}: binary_data_size does not fit the body's size")
        if tensor.get("data") is not None:
            raise RequestError(f"{where} has data and binary_data_size: give one of them")
        values, tail = _unpack(tail[:size], tensor["name"], limits), tail[size:]
    else:
        values = tensor.get("data")
        if not isinstance(values, list):
            raise RequestError(f'{where} has no list "data"')
        while values and all(isinstance(value, list) for value in values):
            values = [value for row in values for value in row]
    return Tensor(tensor["name"], tensor.get("datatype"), tensor.get("shape"), values), tail


def _parameter(parameter: InferParameter) -> Any:
    """The value of a gRPC parameter, also of Triton's types; None without a value."""
    if chosen := parameter.WhichOneof("parameter_choice"):
        return getattr(parameter, chosen)
    for field in UnknownFieldSet(parameter):
        form = _TRITON_NUMBERS.get((field.field_number, field.wire_type))
        if form:
            return struct.unpack(form, struct.pack("<Q", field.data))[0]
    return None


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _read_outputs(outputs: Any, binary: bool) -> dict[str, bool] | None:
    if outputs is None:
        return None
    if not isinstance(outputs, list):
        raise RequestError('"outputs" must be a list')
    requested: dict[str, bool] = {}
    for index, output in enumerate(outputs):
        if not isinstance(output, dict) or not isinstance(output.get("name"), str):
            raise RequestError(f'outputs[{index}] must be an object with "name"')
        refuse_unknown(output, _OUTPUT_FIELDS, f"outputs[{index}]: ")
        parameters = read_parameters(output, _OUTPUT_PARAMETERS, f"outputs[{index}].")
        if output["name"] in requested:
            raise RequestError(f"outputs[{index}] is requested twice: name each once")
        requested[output["name"]] = _flag(parameters, "binary_data", binary)
    return requested or None


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise RequestError(f"{name} must be true or false")
    return value


def _rows(tensors: Sequence[Tensor], options: Options, limits: Limits) -> list[Row]:
    by_name = {tensor.name: tensor for tensor in tensors}
    refuse_unknown(by_name, frozenset(_INPUTS), "the input ")
    if len(by_name) < len(tensors):
        raise RequestError("an input is given twice: send each once")
    if "text" not in by_name:
        raise RequestError("the input 'text' is missing: send it as a BYTES tensor")
    texts = _strings(by_name["text"], limits)
    langs = None
    if "lang" in by_name:
        langs = [lang or None for lang in _strings(by_name["lang"], limits)]  # BYTES lacks null
    return check_rows(texts, langs, options, V2, limits)


def _strings(tensor: Tensor, limits: Limits) -> list[Any]:
    if tensor.datatype != "BYTES":
        raise RequestError(f"the input {tensor.name!r} must be of datatype BYTES")
    shape = tensor.shape
    if (
        not isinstance(shape, list)
        or len(shape) > _MAX_DIMENSIONS  # the product of very many numbers would take hours
        or not all(type(size) is int and size >= 0 for size in shape)
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
