"""Choices of fields: the values that each field accepts, and the nearest one to another value."""

import difflib
import re
import types
from typing import Any, Literal, Union, get_args, get_origin

from saarthi_lib.config.sections import SECTIONS

# Words in the names that other tools and people give to tasks.
_TASK_WORDS = {
    "joint": ("joint", "nlu", "slot", "slots", "frame", "frames"),
    "ner": (
        *("bio", "chunking", "entities", "entity", "iob", "iob2", "named", "ner", "span"),
        *("spancat", "spans"),
    ),
    "pos": ("parts", "pos", "speech", "upos", "xpos"),
    "intent_classification": ("banking", "bot", "chatbot", "faq", "intent", "intents"),
    "text_classification": (
        *("document", "documents", "emotion", "emotions", "multiclass", "sentence", "sentiment"),
        *("spam", "text", "textcat", "texts", "topic", "topics"),
    ),
}
_TAGGING = ("labeling", "labelling", "tagger", "tagging", "tags", "token", "tokens")
_CLASSIFYING = ("categorization", "classification", "classifier", "classify")
_UNIONS = (Union, types.UnionType)
_TYPES = {bool: "true or false", int: "whole number", float: "number", str: "text"}


def annotation_of(field: str) -> Any:
    """Type of a field; None if the field is unknown."""
    found = (each.model_fields[field] for each in SECTIONS.values() if field in each.model_fields)
    return next((each.annotation for each in found), None)


def is_list(field: str) -> bool:
    """Whether a field holds a list."""
    return get_origin(annotation_of(field)) is list


def is_number(field: str) -> bool:
    """Whether a field holds a number, or a list of numbers."""
    return any(part in (int, float) for part in _parts(annotation_of(field)))


def _parts(annotation: Any) -> list[Any]:
    """A type and all types in it."""
    inner = [] if get_origin(annotation) is Literal else get_args(annotation)
    return [annotation, *(each for part in inner for each in _parts(part))]


def choices(annotation: Any) -> list[str]:
    """Texts among which a field chooses; empty if it is free."""
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in choices(part)]


def nearest_choice(field: str, given: Any) -> str:
    """The value (or values) that a wrong value of a field probably means; empty if none is near."""
    name = re.sub(r"[\W_]+", "_", str(given).strip().lower()).strip("_")
    known = choices(annotation_of(field.partition(".")[0]))
    if name not in known and field == "task" and (meant := _task_meant(name.split("_"))):
        return meant
    near = difflib.get_close_matches(name, known, n=1)
    return near[0] if near else ""


def nearest_field(name: str) -> str:
    """The field that an unknown name probably means; empty if none is near."""
    fields = [field for section in SECTIONS.values() for field in section.model_fields]
    word = name.strip().lower().replace("-", "_").replace(" ", "_")
    begins = [field for field in fields if field.startswith(f"{word}_")]
    near = difflib.get_close_matches(word, fields, n=1)
    return next(iter([*begins, *near]), "")


def _task_meant(words: list[str]) -> str:
    tasks = {task for task, known in _TASK_WORDS.items() if not {*known}.isdisjoint(words)}
    if "joint" in tasks or {"intent_classification", "ner"} <= tasks:
        return "joint"
    if len(tasks) == 1:
        return tasks.pop()
    if not {*_TAGGING}.isdisjoint(words):
        return "ner (entities) or pos (parts of speech)"
    if not {*_CLASSIFYING}.isdisjoint(words):
        return "intent_classification or text_classification"
    return ""


def type_in_words(annotation: Any) -> str:
    """A field's type for people: `text`, `one of a, b`, `list of text`, `number or null`."""
    if annotation is None or annotation is type(None):
        return "null"
    if found := _TYPES.get(annotation):
        return found
    parts = get_args(annotation)
    if get_origin(annotation) is list:
        return f"list of {type_in_words(parts[0])}"
    if get_origin(annotation) in _UNIONS:
        return " or ".join(map(type_in_words, parts))
    return f"one of {', '.join(choices(annotation))}"
