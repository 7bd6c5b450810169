"""Fields of all requests: the codecs read their names here, and OpenAPI describes them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_Index = Annotated[int, Field(ge=0)]


class Request(BaseModel):
    """A part of a request; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Options(Request):
    """Fields that hold for all texts of a request; null is like a field that is left out."""

    lang: str | None = None
    """language of the texts without one of their own; the answers repeat it"""
    top_k: Annotated[int, Field(ge=1)] | None = 1
    """number of labels to return for each text"""
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """lowest confidence for an answer, within the server's limits; default: the model's"""


class PredictBody(Options):
    """A text for `POST /predict`."""

    text: str
    """text to answer"""
    model: str | None = None
    """name of the model; default: the first one"""


class Target(Request):
    """An entity or a tagged word of an answer."""

    start: _Index
    end: _Index
    label: str


class ExplainBody(Request):
    """A text whose answer is explained."""

    text: str
    """text to explain"""
    model: str | None = None
    """name of the model; default: the first one"""
    target: Target | None = None
    """entity or tagged word to explain; default: the label of the text"""


class Parameters(Options):
    """Options of a request, and parameters of the protocol, which do not change the answers."""

    model_config = ConfigDict(json_schema_extra={"patternProperties": {"^triton_": {}}})

    binary_data_output: bool | None = None
    """V2: whether outputs are sent in binary form"""
    sequence_id: int | str | None = None
    sequence_start: bool | None = None
    sequence_end: bool | None = None
    priority: int | None = None
    timeout: int | None = None
    content_type: str | None = None
    headers: dict[str, Any] | None = None


class Instance(Request):
    """A text of a V1 request."""

    text: str
    """text to answer"""
    lang: str | None = None
    """language of the text"""


class V1Body(Options):
    """Texts for V1."""

    instances: list[str | Instance]
    """texts to answer"""
    parameters: Parameters | None = None
    """other place for the options"""
    signature_name: str | None = None
    """V1's own field, without effect"""


class InputParameters(Request):
    """Parameters of an input tensor."""

    binary_data_size: _Index | None = None
    """bytes of the values after the JSON part of the body"""
    content_type: str | None = None


class InputTensor(Request):
    """Texts, or the language of each text."""

    name: Literal["text", "lang"]
    shape: list[_Index]
    datatype: Literal["BYTES"]
    parameters: InputParameters | None = None
    data: list[Any] | None = None
    """strings, flat or nested; left out if the values are sent in binary form"""


class OutputParameters(Request):
    """Parameters of a requested output."""

    binary_data: bool | None = None
    """whether the output is sent in binary form"""
    content_type: str | None = None


class RequestedOutput(Request):
    """An output that the response contains."""

    name: str
    parameters: OutputParameters | None = None


class V2Body(Options):
    """Texts for V2."""

    inputs: list[InputTensor]
    """the tensor `text`, and optionally the tensor `lang`"""
    outputs: list[RequestedOutput] | None = None
    """requested outputs; default: all"""
    id: str | None = None
    """identifier, which the response repeats"""
    parameters: Parameters | None = None
    """other place for the options"""
    model_name: str | None = None
    """KServe's client repeats the path's name here"""
    model_version: str | None = None
