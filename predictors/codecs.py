"""Rows, answers and limits that all protocols share; bodies of `POST /predict` and V1.

Every protocol's request becomes rows, and every protocol's response is made from the same answers.
Errors name a value as its protocol does.
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from predictors.bodies import ExplainBody, Instance, Parameters, PredictBody, V1Body
from predictors.errors import RequestError, TooLargeError
from saarthi_lib.inference.answers import AnswerDict


class Answer(AnswerDict, total=False):
    """An answer with the name and version of its model."""

    model: str
    version: str


class Row(NamedTuple):
    """A checked text.

    Attributes:
        text: the text.
        lang: its language, if given.
        top_k: number of labels to return.
        threshold: lowest confidence for an answer; None: the bundle's.
        position: index in the request.
    """

    text: str
    lang: str | None
    top_k: int
    threshold: float | None
    position: int


class Options(NamedTuple):
    """Options of a request, unchecked; None: not given."""

    lang: Any = None
    top_k: Any = None
    threshold: Any = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of requests.

    Attributes:
        instances: maximum texts in a request.
        characters: maximum characters in a text.
        threshold: threshold of requests without one; None: the bundle's.
        min_threshold: lowest threshold of a request.
        max_threshold: highest threshold of a request.
    """

    instances: int
    characters: int
    threshold: float | None = None
    min_threshold: float = 0.0
    max_threshold: float = 1.0


class Names(NamedTuple):
    """A protocol's names of a text and its language, with a placeholder for the index."""

    text: str
    lang: str


PREDICT = Names("text", "lang")
V1 = Names("instances[{}]", "instances[{}].lang")
V2 = Names("text[{}]", "lang[{}]")
NAMES = {"predict": PREDICT, "v1": V1, "v2": V2, "grpc": V2}

PREDICT_FIELDS = frozenset(PredictBody.model_fields)
EXPLAIN_FIELDS = frozenset(ExplainBody.model_fields)
_V1_FIELDS = frozenset(V1Body.model_fields)
_INSTANCE_FIELDS = frozenset(Instance.model_fields)
PARAMETERS = frozenset(Parameters.model_fields)
_RESERVED = "triton_"  # Triton's parameters begin so


def read_json(body: bytes) -> dict[str, Any]:
    """Read a body as a JSON object.

    Raises:
        RequestError: the body is not a JSON object.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise RequestError("the body must be a JSON object")
    return content


def refuse_unknown(given: Collection[str], known: frozenset[str], where: str = "") -> None:
    """Refuse fields without a meaning, which the server would ignore.

    Args:
        given: names in the request.
        known: names with a meaning.
        where: path of the names, for the error.

    Raises:
        RequestError: a name is unknown; the message suggests the nearest known one.
    """
    if known.issuperset(given):
        return
    name = next(name for name in given if name not in known)
    near = difflib.get_close_matches(name[:100].lower(), known, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise RequestError(
        f"{where}{name[:100]!r} is unknown: {meant}there are {', '.join(sorted(known))}"
    )


def read_parameters(
    content: Mapping[str, Any], known: frozenset[str], where: str = ""
) -> Mapping[str, Any]:
    """Read the optional object `parameters`.

    Args:
        content: object that may hold it.
        known: names of the parameters.
        where: path of `content`, for errors.

    Raises:
        RequestError: it is not an object, or a parameter is unknown.
    """
    parameters = content.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError(f'"{where}parameters" must be an object')
    check_parameters(parameters, known, where)
    return parameters


def check_parameters(parameters: Collection[str], known: frozenset[str], where: str = "") -> None:
    """Refuse unknown parameters, except those that a protocol reserves."""
    given = [name for name in parameters if not name.startswith(_RESERVED)]
    refuse_unknown(given, known, f"{where}parameters: ")


def read_options(
    content: Mapping[str, Any], parameters: Mapping[str, Any] | None = None
) -> Options:
    """Read the options of a request, at the top level or under `parameters`.

    Raises:
        RequestError: an option is given in both places.
    """
    beside = Options(content.get("lang"), content.get("top_k"), content.get("threshold"))
    if not parameters:
        return beside
    under = Options(*map(parameters.get, Options._fields))
    for name, first, second in zip(Options._fields, beside, under, strict=True):
        if first is not None and second is not None:
            raise RequestError(f"{name} is given twice, also under parameters: give it once")
    return Options(*(a if b is None else b for a, b in zip(beside, under, strict=True)))


def check_rows(
    texts: Sequence[Any],
    langs: Sequence[Any] | None,
    options: Options,
    names: Names,
    limits: Limits,
) -> list[Row]:
    """Check the texts and the options of a request.

    Raises:
        RequestError: a value cannot be used; the message names it as the protocol does.
    """
    default, top_k, threshold = _check_options(options, limits)
    check_count(len(texts), limits)
    if langs is None:
        langs = [None] * len(texts)
    elif len(langs) != len(texts):
        raise RequestError(f"there are {len(langs)} langs for {len(texts)} texts: give one each")
    rows = []
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
        if lang is None:
            lang = default
        elif not isinstance(lang, str):
            raise RequestError(f"{names.lang.format(index)} must be a string or null")
        rows.append(Row(text, lang, top_k, threshold, index))
    return rows


def _check_options(options: Options, limits: Limits) -> tuple[str | None, int, float | None]:
    lang, top_k, threshold = options
    if lang is not None and not isinstance(lang, str):
        raise RequestError("lang must be a string or null")
    if top_k is None:
        top_k = 1
    elif not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1:
        raise RequestError("top_k must be a whole number above 0")
    if threshold is None:
        return lang, top_k, limits.threshold
    low, high = limits.min_threshold, limits.max_threshold
    number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
    if not number or not low <= threshold <= high:
        limited = ", the limits of this server" if (low, high) != (0, 1) else ""
        raise RequestError(f"threshold must be a number from {low:g} to {high:g}{limited}")
    return lang, top_k, float(threshold)


def check_count(texts: int, limits: Limits) -> None:
    """Check the number of texts, before any of them is processed.

    Raises:
        TooLargeError: the request has too many texts.
    """
    if texts > limits.instances:
        raise TooLargeError(
            f"there are {texts} texts, and one request may have {limits.instances}: split it"
        )


def read_predict(
    content: Mapping[str, Any], limits: Limits, fields: frozenset[str] = PREDICT_FIELDS
) -> list[Row]:
    """Read a text and its options; `fields` are the names that the body may have."""
    refuse_unknown(content, fields)
    if "text" not in content:
        raise RequestError('the body must be an object with "text"')
    return check_rows([content["text"]], None, read_options(content), PREDICT, limits)


def read_v1(content: Any, limits: Limits) -> list[Row]:
    """Read a V1 body: `instances` of strings, or of objects with `text` and `lang`."""
    instances = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(instances, list):
        raise RequestError('the body must be an object with a list "instances"')
    refuse_unknown(content, _V1_FIELDS)
    check_count(len(instances), limits)
    texts: list[Any] = []
    langs: list[Any] = []
    for index, instance in enumerate(instances):
        if isinstance(instance, str):
            texts.append(instance)
            langs.append(None)
            continue
        if isinstance(instance, dict) and not _INSTANCE_FIELDS.issuperset(instance):
            refuse_unknown(instance, _INSTANCE_FIELDS, f"instances[{index}]: ")
        if not isinstance(instance, dict) or "text" not in instance:
            raise RequestError(f'instances[{index}] must be a string or an object with "text"')
        texts.append(instance["text"])
        langs.append(instance.get("lang"))
    options = read_options(content, read_parameters(content, PARAMETERS))
    return check_rows(texts, langs, options, V1, limits)


def write_v1(answers: Sequence[Answer]) -> bytes:
    """Write a V1 body."""
    return orjson.dumps({"predictions": answers})
