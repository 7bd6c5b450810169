"""Rows, answers and limits that all protocols share; bodies of `POST /predict` and V1.

Every protocol's request becomes rows, and every protocol's response is made from the same answers.
Errors name a value as its protocol does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

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
        position: index in the request.
    """

    text: str
    lang: str | None
    top_k: int
    position: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Maximum texts in a request, and maximum characters in a text."""

    instances: int
    characters: int


class Names(NamedTuple):
    """A protocol's names of a text and its language, with a placeholder for the index."""

    text: str
    lang: str


PREDICT = Names("text", "lang")
V1 = Names("instances[{}]", "instances[{}].lang")
V2 = Names("text[{}]", "lang[{}]")
NAMES = {"predict": PREDICT, "v1": V1, "v2": V2, "grpc": V2}


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


def check_rows(
    texts: Sequence[Any], langs: Sequence[Any] | None, top_k: Any, names: Names, limits: Limits
) -> list[Row]:
    """Check the texts of a request.

    Raises:
        RequestError: a value cannot be used; the message names it as the protocol does.
    """
    if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1:
        raise RequestError("top_k must be a whole number above 0")
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
        if lang is not None and not isinstance(lang, str):
            raise RequestError(f"{names.lang.format(index)} must be a string or null")
        rows.append(Row(text, lang, top_k, index))
    return rows


def check_count(texts: int, limits: Limits) -> None:
    """Check the number of texts, before any of them is processed.

    Raises:
        TooLargeError: the request has too many texts.
    """
    if texts > limits.instances:
        raise TooLargeError(
            f"there are {texts} texts, and one request may have {limits.instances}: split it"
        )


def read_predict(content: Mapping[str, Any], limits: Limits) -> list[Row]:
    """Read a body of `POST /predict`: `text`, and optionally `lang` and `top_k`."""
    if "text" not in content:
        raise RequestError('the body must be an object with "text"')
    return check_rows(
        [content["text"]], [content.get("lang")], content.get("top_k", 1), PREDICT, limits
    )


def read_v1(content: Any, limits: Limits) -> list[Row]:
    """Read a V1 body: `instances` of strings, or of objects with `text` and `lang`."""
    instances = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(instances, list):
        raise RequestError('the body must be an object with a list "instances"')
    check_count(len(instances), limits)
    texts: list[Any] = []
    langs: list[Any] = []
    for index, instance in enumerate(instances):
        if isinstance(instance, str):
            instance = {"text": instance}
        elif not isinstance(instance, dict) or "text" not in instance:
            raise RequestError(f'instances[{index}] must be a string or an object with "text"')
        texts.append(instance["text"])
        langs.append(instance.get("lang"))
    top_k = read_parameters(content, "parameters").get("top_k", 1)
    return check_rows(texts, langs, top_k, V1, limits)


def write_v1(answers: Sequence[Answer]) -> bytes:
    """Write a V1 body."""
    return orjson.dumps({"predictions": answers})


def read_parameters(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Read the optional object `parameters`; `name` names it in errors.

    Raises:
        RequestError: it is not an object.
    """
    parameters = content.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError(f'"{name}" must be an object')
    return parameters
