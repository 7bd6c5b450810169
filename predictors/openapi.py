"""The OpenAPI document of the server, which answers `GET /openapi.json`."""

import re
from functools import cache
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema

from predictors.bodies import ExplainBody, PredictBody, V1Body, V2Body
from saarthi_lib import __version__

_REFERENCE = "#/components/schemas/{model}"


class Response(BaseModel):
    """A part of a response."""

    model_config = ConfigDict(use_attribute_docstrings=True, protected_namespaces=())


class Problem(Response):
    """A refused request."""

    error: str
    """what is wrong, where, and what to do"""


class Choice(Response):
    """A label with its probability."""

    label: str
    probability: float


class Span(Choice):
    """An entity, or a tagged word."""

    text: str
    start: int
    """first character in the text"""
    end: int
    """character after the last one"""


class Answer(Response):
    """Answer to a text; the task decides which of label, entities and tokens it has."""

    label: str | None = None
    probability: float | None = None
    top_k: list[Choice] | None = None
    """the best labels, best first; only if more than one is requested"""
    entities: list[Span] | None = None
    tokens: list[Span] | None = None
    confidence: float
    """number that is compared with the threshold"""
    threshold: float | None
    """threshold of this answer; null: the model answers every text"""
    abstained: bool
    """whether the model is not sure enough to answer"""
    reason: Literal["low_probability", "unfamiliar_text", "out_of_scope"] | None
    """reason for an abstention"""
    lang: str | None
    truncated: bool | None = None
    """true if the text exceeds the model's maximum length"""
    model: str
    version: str


class V1Answers(Response):
    """Answers in the order of the texts."""

    predictions: list[Answer]


class TensorType(Response):
    """Name and type of a tensor; -1 is any size."""

    name: str
    datatype: Literal["BYTES", "FP32", "BOOL"]
    shape: list[int]


class OutputTensor(TensorType):
    """Values for all texts, flat, in their order."""

    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class V2Answers(Response):
    """Answers as tensors."""

    id: str
    model_name: str
    model_version: str
    outputs: list[OutputTensor]


class Metadata(Response):
    """The bundle's manifest, labels and thresholds."""

    model_config = ConfigDict(extra="allow")

    name: str
    version: str
    task: str
    languages: list[str]
    max_seq_len: int
    """longest text in subword tokens; the rest of a longer one is ignored"""
    threshold: float | None
    """lowest confidence for an answer; null: the model answers every text"""
    language_thresholds: dict[str, float]
    """thresholds of languages with one of their own"""
    threshold_limits: tuple[float, float]
    """lowest and highest threshold that a request can set"""
    labels: list[str] | None = None
    """possible labels of a text"""
    entity_labels: list[str] | None = None
    """possible labels of entities"""
    token_labels: list[str] | None = None
    """possible labels of words"""


class AllMetadata(Response):
    """Metadata of all models."""

    models: list[Metadata]


class V1Model(Response):
    """A model in V1."""

    name: str
    ready: bool
    metadata: Metadata


class V2Model(Response):
    """A model in V2."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorType]
    outputs: list[TensorType]
    metadata: Metadata


class Summary(Response):
    """A served model."""

    model_config = ConfigDict(extra="allow")

    name: str
    version: str
    task: str


class Alive(Response):
    """A server and its models."""

    status: Literal["alive"]
    models: list[Summary]


class Live(Response):
    """Whether the server runs."""

    live: bool


class Ready(Response):
    """Whether the server accepts requests."""

    ready: bool
    models: list[Summary]


class ModelReady(Response):
    """Whether the server accepts requests for a model."""

    name: str
    ready: bool


class Names(Response):
    """Names of the models."""

    models: list[str]


class Server(Response):
    """The server in V2."""

    name: str
    version: str
    extensions: list[str]


class Loaded(Response):
    """A model whose newest version is served."""

    name: str
    load: bool


class Part(Response):
    """Evidence of a word for the answer."""

    model_config = ConfigDict(extra="allow")

    text: str
    evidence: float
    probability: float


class Explanation(Response):
    """Evidence of a text's words for its answer."""

    model_config = ConfigDict(extra="allow")

    label: str
    probability: float
    parts: list[Part]
    milliseconds: float
    model: str
    version: str


class Route(NamedTuple):
    """An operation of the server; without a response type, it answers text."""

    method: str
    path: str
    summary: str
    response: type[Response] | None
    body: type[BaseModel] | None = None


_V1_MODEL, _V2_MODEL = "/v1/models/{name}", "/v2/models/{name}"
_V2_VERSION = f"{_V2_MODEL}/versions/{{version}}"
ROUTES = (
    Route("post", "/predict", "Answer a text", Answer, PredictBody),
    Route("post", "/predict/{name}", "Answer a text by a model", Answer, PredictBody),
    Route("post", f"{_V1_MODEL}:predict", "Answer texts (V1)", V1Answers, V1Body),
    Route("post", f"{_V2_MODEL}/infer", "Answer texts (V2)", V2Answers, V2Body),
    Route("post", f"{_V2_VERSION}/infer", "Answer texts by a version", V2Answers, V2Body),
    Route("get", "/", "Status and models", Alive),
    Route("get", "/metadata", "Metadata of all models", AllMetadata),
    Route("get", "/metrics", "Metrics for Prometheus", None),
    Route("get", "/v1/models", "Names of the models (V1)", Names),
    Route("get", _V1_MODEL, "A model (V1)", V1Model),
    Route("get", "/v2", "The server (V2)", Server),
    Route("get", "/v2/health/live", "Whether the server runs", Live),
    Route("get", "/v2/health/ready", "Whether the server accepts requests", Ready),
    Route("get", "/v2/models", "Names of the models (V2)", Names),
    Route("get", _V2_MODEL, "A model (V2)", V2Model),
    Route("get", _V2_VERSION, "A version of a model", V2Model),
    Route("get", f"{_V2_MODEL}/ready", "Whether a model accepts requests", ModelReady),
    Route("get", f"{_V2_VERSION}/ready", "Whether a version accepts requests", ModelReady),
    Route("post", "/v2/repository/models/{name}/load", "Look for a new version", Loaded),
)
EXPLAIN = Route("post", "/playground/explain", "Explain an answer", Explanation, ExplainBody)


@cache
def document(playground: bool) -> dict[str, Any]:
    """Build the document; `playground` adds its operation."""
    routes = [*ROUTES, EXPLAIN] if playground else ROUTES
    types: dict[type[BaseModel], Literal["validation"]] = {Problem: "validation"}
    for route in routes:
        types |= {each: "validation" for each in (route.response, route.body) if each}
    _, schemas = models_json_schema(list(types.items()), ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Saarthi",
            "version": __version__,
            "description": "Answers of bundles over `POST /predict` and KServe's V1 and V2. All "
            "paths of GET answer HEAD. Bodies may be compressed with gzip or deflate.",
        },
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(route: Route) -> dict[str, Any]:
    good = _content(route.response)
    responses = {"200": {"description": "Success", **good}}
    if route.response and "ready" in route.response.model_fields:
        responses["503"] = {"description": "The server is shutting down", **good}
    for statuses, whose in (("4XX", "request"), ("5XX", "server")):
        responses[statuses] = {"description": f"Error of the {whose}", **_content(Problem)}
    operation: dict[str, Any] = {"summary": route.summary, "responses": responses}
    names = re.findall(r"{(\w+)}", route.path)
    if names:
        text = {"type": "string"}
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": text} for name in names
        ]
    if route.body:
        operation["requestBody"] = {"required": True, **_content(route.body)}
    return operation


def _content(kind: type[BaseModel] | None) -> dict[str, Any]:
    if kind is None:
        return {"content": {"text/plain": {"schema": {"type": "string"}}}}
    schema = {"$ref": _REFERENCE.format(model=kind.__name__)}
    return {"content": {"application/json": {"schema": schema}}}
