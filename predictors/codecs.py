"""Requests and answers of each protocol: V1, V2 over REST and gRPC, and `POST /predict`.

All become rows and are made from the same answers, so that no protocol says anything else. What
cannot be used is refused here, by the name that the protocol gives it.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest, ModelInferResponse

from predictors.errors import RequestError, TooLargeError
from saarthi_lib.bundle import BundleManifest
from saarthi_lib.tasks import has_sequence_head

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A checked text, its language, how many labels are wanted, and its place in the request."""

    text: str
    lang: str | None
    top_k: int
    index: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Most texts of a request, and most characters of a text."""

    instances: int
    characters: int


@dataclass(frozen=True, slots=True)
class Names:
    """How a protocol calls a text and its language, with a place for the index."""

    text: str
    lang: str


_DIMENSIONS = 8  # most of a tensor
PREDICT = Names("text", "lang")
V1 = Names("instances[{}]", "instances[{}].lang")
V2 = Names("text[{}]", "lang[{}]")
NAMES = {"predict": PREDICT, "v1": V1, "v2": V2, "grpc": V2}


@dataclass(slots=True)
class Tensor:
    """A V2 tensor as it came, its values in one row."""

    name: str
    datatype: Any
    shape: Any
    values: Sequence[Any]


@dataclass(slots=True)
class V2Request:
    """A V2 request: its rows, its identifier and how its outputs are wanted.

    Attributes:
        rows: one for each text.
        id: as the client gave it, or empty.
        outputs: for each output that is wanted whether in binary; None for all there are.
        binary: whether outputs are binary when it was not said of each.
    """

    rows: list[Row]
    id: str = ""
    outputs: dict[str, bool] | None = None
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """An output of V2: one value for each text."""

    name: str
    datatype: str
    values: list[Any] = field(repr=False)

    def packed(self) -> bytes:
        """The values in V2's binary form."""
        if self.datatype == "BYTES":
            encoded = [value.encode() for value in self.values]
            return b"".join(struct.pack("<I", len(value)) + value for value in encoded)
        code = "f" if self.datatype == "FP32" else "?"
        return struct.pack(f"<{len(self.values)}{code}", *self.values)


def read_json(body: bytes) -> dict[str, Any]:
    """Read a body as a JSON object.

    Raises:
        RequestError: it is not one.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise RequestError("the body must be a JSON object")
    return content


def check_rows(
    texts: Sequence[Any], langs: Sequence[Any] | None, top_k: Any, names: Names, limits: Limits
) -> list[Row]:
    """Check what was sent.

    Raises:
        RequestError: a value cannot be used; the message names it as the protocol does.
    """
    if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1:
        raise RequestError("top_k must be a whole number above 0")
    _check_count(len(texts), limits)
    if langs is None:
        langs = [None] * len(texts)
    elif len(langs) != len(texts):
        raise RequestError(f"there are {len(langs)} langs for {len(texts)} texts: give one each")
    for index, (text, lang) in enumerate(zip(texts, langs, strict=True)):
        if not isinstance(text, str):
            raise RequestError(f"{names.text.format(index)} must be a string")
        if len(text) > limits.characters:
            raise TooLargeError(
                f"{names.text.format(index)} has {len(text)} characters, "
                f"and a text may have {limits.characters}: shorten it"
            )
        if not text or text.isspace():
            raise RequestError(f"{names.text.format(index)} is empty: give it at least one word")
        if lang is not None and not isinstance(lang, str):
            raise RequestError(f"{names.lang.format(index)} must be a string or null")
    pairs = enumerate(zip(texts, langs, strict=True))
    return [Row(text, lang, top_k, index) for index, (text, lang) in pairs]


def _check_count(texts: int, limits: Limits) -> None:
    """Refuse too many texts, before anything is done with each of them."""
    if texts > limits.instances:
        raise TooLargeError(
            f"there are {texts} texts, and one request may have {limits.instances}: split it"
        )


def read_predict(content: Mapping[str, Any], limits: Limits) -> list[Row]:
    """The row of a body of `POST /predict`: `text`, and `lang` and `top_k` as wanted."""
    if "text" not in content:
        raise RequestError('the body must be an object with "text"')
    return check_rows(
        [content["text"]], [content.get("lang")], content.get("top_k", 1), PREDICT, limits
    )


def read_v1(content: Any, limits: Limits) -> list[Row]:
    """The rows of a V1 body: `instances` of strings, or of objects with `text` and `lang`."""
    instances = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(instances, list):
        raise RequestError('the body must be an object with a list "instances"')
    _check_count(len(instances), limits)
    texts: list[Any] = []
    langs: list[Any] = []
    for index, instance in enumerate(instances):
        if isinstance(instance, str):
            texts.append(instance)
            langs.append(None)
        elif isinstance(instance, dict) and "text" in instance:
            texts.append(instance["text"])
            langs.append(instance.get("lang"))
        else:
            raise RequestError(f'instances[{index}] must be a string or an object with "text"')
    top_k = _parameters(content, "parameters").get("top_k", 1)
    return check_rows(texts, langs, top_k, V1, limits)


def write_v1(answers: Sequence[Answer]) -> bytes:
    """A V1 body."""
    return orjson.dumps({"predictions": answers})


def read_v2(body: bytes, json_size: int | None, limits: Limits) -> V2Request:
    """Read a V2 REST body, with or without the extension for binary tensors.

    Args:
        body: JSON, followed by the binary tensors.
        json_size: bytes of the JSON part; None when all is JSON.
        limits: of the request.
    """
    json_size = len(body) if json_size is None else json_size
    content, tail = read_json(body[:json_size]), memoryview(body)[json_size:]
    inputs = content.get("inputs")
    if not isinstance(inputs, list):
        raise RequestError('the body must be an object with a list "inputs"')
    tensors = []
    for index, tensor in enumerate(inputs):
        where = f"inputs[{index}]"
        if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
            raise RequestError(f'{where} must be an object with "name", "datatype" and "shape"')
        size = _parameters(tensor, f"{where}.parameters").get("binary_data_size")
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
        tensors.append(Tensor(tensor["name"], tensor.get("datatype"), tensor.get("shape"), values))
    parameters = _parameters(content, "parameters")
    binary = bool(parameters.get("binary_data_output", False))
    identifier = content.get("id") or ""
    if not isinstance(identifier, str):
        raise RequestError('"id" must be a string')
    rows = _rows(tensors, parameters.get("top_k", 1), limits)
    return V2Request(rows, identifier, _outputs(content.get("outputs"), binary), binary)


def write_v2(
    request: V2Request, answers: Sequence[Answer], manifest: BundleManifest, identifier: str
) -> tuple[bytes, int | None]:
    """A V2 REST body, and the size of its JSON part when binary tensors follow it."""
    outputs, tail = [], []
    for column, binary in _wanted(request, answers, manifest):
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
    """Read a V2 gRPC message; outputs are wanted raw when the inputs are."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise RequestError(f"there are {len(raw)} raw contents for {len(request.inputs)} inputs")
    tensors = []
    for index, tensor in enumerate(request.inputs):
        values = _unpack(raw[index], tensor.name, limits) if raw else tensor.contents.bytes_contents
        tensors.append(
            Tensor(tensor.name, tensor.datatype, tensor.shape[: _DIMENSIONS + 1], values)
        )
    top_k: Any = 1
    if "top_k" in request.parameters:
        parameter = request.parameters["top_k"]
        top_k = getattr(parameter, parameter.WhichOneof("parameter_choice") or "int64_param")
    outputs = {output.name: bool(raw) for output in request.outputs} or None
    return V2Request(_rows(tensors, top_k, limits), request.id, outputs, bool(raw))


def write_grpc(
    request: V2Request, answers: Sequence[Answer], manifest: BundleManifest, identifier: str
) -> ModelInferResponse:
    """A V2 gRPC message."""
    response = ModelInferResponse(
        id=request.id or identifier, model_name=manifest.name, model_version=manifest.version
    )
    for column, binary in _wanted(request, answers, manifest):
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
    """V2's metadata of the inputs; `lang` may be left out."""
    return [_tensor_type("text", "BYTES"), _tensor_type("lang", "BYTES")]


def output_types(manifest: BundleManifest) -> list[dict[str, Any]]:
    """V2's metadata of the outputs."""
    return [_tensor_type(column.name, column.datatype) for column in _columns([], manifest)]


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


def _wanted(
    request: V2Request, answers: Sequence[Answer], manifest: BundleManifest
) -> list[tuple[Column, bool]]:
    """The columns that a request wants, and whether in binary."""
    columns = {column.name: column for column in _columns(answers, manifest)}
    if request.outputs is None:
        return [(column, request.binary) for column in columns.values()]
    for name in request.outputs:
        if name not in columns:
            raise RequestError(f"the output {name!r} is unknown: there are {', '.join(columns)}")
    return [(columns[name], binary) for name, binary in request.outputs.items()]


def _outputs(outputs: Any, binary: bool) -> dict[str, bool] | None:
    if not outputs:
        return None
    if not isinstance(outputs, list):
        raise RequestError('"outputs" must be a list')
    wanted = {}
    for index, output in enumerate(outputs):
        if not isinstance(output, dict) or not isinstance(output.get("name"), str):
            raise RequestError(f'outputs[{index}] must be an object with "name"')
        parameters = _parameters(output, f"outputs[{index}].parameters")
        wanted[output["name"]] = bool(parameters.get("binary_data", binary))
    return wanted


def _rows(tensors: Sequence[Tensor], top_k: Any, limits: Limits) -> list[Row]:
    """The rows of V2 tensors."""
    by_name = {tensor.name: tensor for tensor in tensors}
    if "text" not in by_name:
        raise RequestError("the input 'text' is missing: send it as a BYTES tensor")
    texts = _strings(by_name["text"], limits)
    langs = None
    if "lang" in by_name:
        langs = [lang or None for lang in _strings(by_name["lang"], limits)]  # BYTES has no null
    return check_rows(texts, langs, top_k, V2, limits)


def _strings(tensor: Tensor, limits: Limits) -> list[Any]:
    if tensor.datatype != "BYTES":
        raise RequestError(f"the input {tensor.name!r} must be of datatype BYTES")
    shape = tensor.shape
    if (
        not isinstance(shape, list)
        or len(shape) > _DIMENSIONS  # the product of very many would take hours
        or not all(isinstance(size, int) and size >= 0 for size in shape)
    ):
        raise RequestError(
            f"the input {tensor.name!r} must have a shape of at most {_DIMENSIONS} whole numbers"
        )
    _check_count(len(tensor.values), limits)
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
    """The strings of V2's binary form: each has its length in 4 bytes before it."""
    values: list[bytes] = []
    at, size = 0, len(raw)
    while at + 4 <= size:
        _check_count(len(values), limits)
        (length,) = struct.unpack_from("<I", raw, at)
        values.append(bytes(raw[at + 4 : at + 4 + length]))
        at += 4 + length
    if at != size:
        raise RequestError(f"the data of the input {name!r} are cut off or of another form")
    return values


def _parameters(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    parameters = content.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError(f'"{name}" must be an object')
    return parameters


def _tensor_type(name: str, datatype: str) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1]}
