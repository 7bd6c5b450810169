"""A bundle as a KServe model: one class for every task and every protocol."""

import asyncio
import re
import struct
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import orjson
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput
from kserve.protocol.infer_type import to_http_parameters

from saarthi_lib.bundle import read_manifest
from saarthi_lib.errors import InputError
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.tasks import has_sequence_head

# How each protocol calls the text and the language at an index, for messages.
V1_NAMES = {"texts": "instances[{}]", "langs": "instances[{}].lang"}
V2_NAMES = {"texts": "text[{}]", "langs": "lang[{}]"}


class BundleModel(Model):
    """Serves one bundle under its manifest's name.

    Args:
        bundle: the bundle's folder.
        executor: where predictions run, so that the event loop stays free.
        threads: threads that one prediction may use.

    Raises:
        BundleError: the manifest cannot be read.
    """

    def __init__(self, bundle: str | Path, executor: Executor, threads: int = 1) -> None:
        self.manifest = read_manifest(bundle)
        super().__init__(self.manifest.name)
        self._bundle = bundle
        self._executor = executor
        self._threads = threads
        self._predictor: Predictor | None = None

    def load(self) -> bool:
        """Verify and load the bundle; ready only after it has answered once.

        Raises:
            BundleError: a file is missing or changed, or the runtime is not installed.
        """
        predictor = Predictor.load(self._bundle, threads=self._threads)
        predictor.warm_up()
        self._predictor = predictor
        self.ready = True
        return True

    def get_input_types(self) -> list[dict[str, Any]]:
        """V2 metadata of the inputs; `lang` may be left out."""
        return [_tensor_type("text", "BYTES"), _tensor_type("lang", "BYTES")]

    def get_output_types(self) -> list[dict[str, Any]]:
        """V2 metadata of the outputs."""
        outputs = [_tensor_type("predictions", "BYTES")]
        if has_sequence_head(self.manifest.task):
            outputs += [_tensor_type("label", "BYTES"), _tensor_type("probability", "FP32")]
        return outputs

    async def predict(
        self,
        payload: Any,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any] | InferResponse:
        """Answer a V1 body or a V2 request (REST or gRPC).

        Raises:
            InvalidInput: the request cannot be used; the message names the instance.
        """
        if isinstance(payload, InferRequest):
            answers = await self.answer(*_read_v2(payload), V2_NAMES)
            return self._to_v2(payload, answers)
        return {"predictions": await self.answer(*_read_v1(payload), V1_NAMES)}

    async def answer(
        self,
        texts: Sequence[Any],
        langs: Sequence[Any] | None,
        top_k: Any,
        names: Mapping[str, str],
    ) -> list[dict[str, Any]]:
        """Answer texts off the event loop.

        Args:
            texts: the texts, not yet checked.
            langs: a language, or None, for each text.
            top_k: how many labels to give.
            names: how the protocol calls `texts` and `langs`, with a place for the index.

        Raises:
            InvalidInput: a value cannot be used; the message names it as the protocol does.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._answer, texts, langs, top_k)
        except InputError as error:
            raise InvalidInput(_with_names(str(error), names)) from error

    def _answer(
        self, texts: Sequence[Any], langs: Sequence[Any] | None, top_k: Any
    ) -> list[dict[str, Any]]:
        assert self._predictor is not None  # kserve asks only models that are ready
        source = {"model": self.manifest.name, "version": self.manifest.version}
        predictions = self._predictor.predict(texts, langs, top_k)
        return [prediction.to_dict() | source for prediction in predictions]

    def _to_v2(self, request: InferRequest, answers: list[dict[str, Any]]) -> InferResponse:
        columns: dict[str, tuple[str, list[Any]]] = {
            "predictions": ("BYTES", [orjson.dumps(answer).decode() for answer in answers])
        }
        if has_sequence_head(self.manifest.task):
            columns["label"] = ("BYTES", [answer["label"] for answer in answers])
            columns["probability"] = ("FP32", [answer["probability"] for answer in answers])
        return InferResponse(
            response_id=request.id or str(uuid.uuid4()),
            model_name=self.name,
            model_version=self.manifest.version,
            infer_outputs=[
                InferOutput(name, [len(answers)], datatype, values)
                for name, (datatype, values) in columns.items()
            ],
            use_binary_outputs=request.use_binary_outputs,
            requested_outputs=request.request_outputs,
        )


def read_json(body: bytes) -> dict[str, Any]:
    """Read a request's body as a JSON object.

    Raises:
        InvalidInput: it is not one.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidInput("the body must be a JSON object")
    return content


def _read_v1(payload: Any) -> tuple[list[Any], list[Any], Any]:
    """Texts, languages and top_k of a V1 body."""
    if isinstance(payload, bytes):  # kserve decodes only the content types it knows
        payload = read_json(payload)
    instances = payload.get("instances") if isinstance(payload, dict) else None
    if not isinstance(instances, list):
        raise InvalidInput('the body must be an object with a list "instances"')
    texts, langs = [], []
    for index, instance in enumerate(instances):
        if isinstance(instance, dict) and "text" in instance:
            texts.append(instance["text"])
            langs.append(instance.get("lang"))
        elif isinstance(instance, str):
            texts.append(instance)
            langs.append(None)
        else:
            raise InvalidInput(f'instances[{index}] must be a string or an object with "text"')
    return texts, langs, _top_k(payload.get("parameters"))


def _read_v2(request: InferRequest) -> tuple[list[Any], list[Any] | None, Any]:
    """Texts, languages and top_k of a V2 request."""
    texts, langs = _strings(request, "text"), _strings(request, "lang")
    if texts is None:
        raise InvalidInput("the input 'text' is missing: send it as a BYTES tensor")
    if langs is not None:
        langs = [lang or None for lang in langs]  # BYTES has no null
    return texts, langs, _top_k(to_http_parameters(request.parameters or {}))


def _top_k(parameters: Any) -> Any:
    if parameters is None:
        return 1
    if not isinstance(parameters, dict):
        raise InvalidInput('"parameters" must be an object')
    return parameters.get("top_k", 1)


def _strings(request: InferRequest, name: str) -> list[Any] | None:
    """The strings of a BYTES tensor, whatever its shape; None when it was not sent."""
    tensor: InferInput | None = request.get_input_by_name(name)
    if tensor is None:
        return None
    if tensor.datatype != "BYTES":
        raise InvalidInput(f"the input {name!r} must be of type BYTES, not {tensor.datatype}")
    try:
        values = tensor.as_numpy().ravel().tolist()
    except (ValueError, TypeError, struct.error) as error:
        raise InvalidInput(
            f"the data of the input {name!r} do not fit its shape {tensor.shape}"
        ) from error
    return [_decode(value, f"{name}[{index}]") for index, value in enumerate(values)]


def _decode(value: Any, name: str) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is not valid UTF-8") from error


def _with_names(message: str, names: Mapping[str, str]) -> str:
    return re.sub(
        r"^(texts|langs)\[(\d+)\]", lambda match: names[match[1]].format(match[2]), message
    )


def _tensor_type(name: str, datatype: str) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1]}
