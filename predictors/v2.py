"""Requests and responses of V2, over REST and gRPC."""

import math
import struct
from collections.abc import Sequence
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
    """An output tensor with its flat values."""

    name: str
    datatype: str
    shape: list[int]
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
    refuse_unknown(content, _FIELDS)
    tensors = []
    for index, given in enumerate(inputs):
        tensor, tail = _read_tensor(given, f"inputs[{index}]", tail, limits)
        tensors.append(tensor)
    parameters = read_parameters(content, PARAMETERS)
    binary = bool(parameters.get("binary_data_output", False))
    identifier = content.get("id") or ""
    if not isinstance(identifier, str):
        raise RequestError('"id" must be a string')
    rows = _rows(tensors, read_options(content, parameters), limits)
    return V2Request(rows, identifier, _read_outputs(content.get("outputs"), binary), binary)


def write_v2(
    request: V2Request, answers: Sequence[Answer], manifest: BundleManifest, identifier: str
) -> tuple[bytes, int | None]:
    """Write a V2 REST body; returns it with the size of its JSON part if binary tensors follow."""
    outputs, tail = [], []
    for output, binary in _requested(request, answers, manifest):
        described: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": output.shape,
        }
        if binary:
            tail.append(output.packed())
            described["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            described["data"] = output.values
        outputs.append(described)
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
    for output, binary in _requested(request, answers, manifest):
        tensor = response.outputs.add(
            name=output.name, datatype=output.datatype, shape=output.shape
        )
        if binary:
            response.raw_output_contents.append(output.packed())
        elif output.datatype == "BYTES":
            tensor.contents.bytes_contents.extend(value.encode() for value in output.values)
        elif output.datatype == "FP32":
            tensor.contents.fp32_contents.extend(output.values)
        else:
            tensor.contents.bool_contents.extend(output.values)
    return response


def input_types() -> list[dict[str, Any]]:
    """V2 metadata of the inputs; `lang` is optional."""
    return [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in _INPUTS]


def output_types(manifest: BundleManifest) -> list[dict[str, Any]]:
    """V2 metadata of the outputs."""
    return [
        {"name": each.name, "datatype": each.datatype, "shape": [-1] * len(each.shape)}
        for each in _outputs([], manifest)
    ]


def _outputs(answers: Sequence[Answer], manifest: BundleManifest) -> list[Output]:
    one = [len(answers)]
    outputs = [Output("predictions", "BYTES", one, [orjson.dumps(a).decode() for a in answers])]
    labelled = has_sequence_head(manifest.task)
    if labelled:
        outputs += [
            Output("label", "BYTES", one, [answer["label"] for answer in answers]),
            Output("probability", "FP32", one, [answer["probability"] for answer in answers]),
        ]
    outputs += [
        Output("confidence", "FP32", one, [answer["confidence"] for answer in answers]),
        # A threshold of 0 answers all texts, like none.
        Output("threshold", "FP32", one, [answer["threshold"] or 0.0 for answer in answers]),
        Output("abstained", "BOOL", one, [answer["abstained"] for answer in answers]),
        Output("reason", "BYTES", one, [answer["reason"] or "" for answer in answers]),
    ]
    if labelled:
        best: list[Any] = [answer.get("top_k") or [answer] for answer in answers]
        many = [len(best), len(best[0]) if best else 1]
        outputs += [
            Output("labels", "BYTES", many, [each["label"] for row in best for each in row]),
            Output("scores", "FP32", many, [each["probability"] for row in best for each in row]),
        ]
    return outputs


def _requested(
    request: V2Request, answers: Sequence[Answer], manifest: BundleManifest
) -> list[tuple[Output, bool]]:
    """The outputs that a request asks for, and whether each is sent in binary form."""
    outputs = {output.name: output for output in _outputs(answers, manifest)}
    if request.outputs is None:
        return [(output, request.binary) for output in outputs.values()]
    refuse_unknown(request.outputs, outputs, "the output ")
    return [(outputs[name], binary) for name, binary in request.outputs.items()]


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
    if not outputs:
        return None
    if not isinstance(outputs, list):
        raise RequestError('"outputs" must be a list')
    requested = {}
    for index, output in enumerate(outputs):
        if not isinstance(output, dict) or not isinstance(output.get("name"), str):
            raise RequestError(f'outputs[{index}] must be an object with "name"')
        refuse_unknown(output, _OUTPUT_FIELDS, f"outputs[{index}]: ")
        parameters = read_parameters(output, _OUTPUT_PARAMETERS, f"outputs[{index}].")
        requested[output["name"]] = bool(parameters.get("binary_data", binary))
    return requested


def _rows(tensors: Sequence[Tensor], options: Options, limits: Limits) -> list[Row]:
    by_name = {tensor.name: tensor for tensor in tensors}
    refuse_unknown(by_name, _INPUTS, "the input ")
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
