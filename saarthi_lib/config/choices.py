"""Choices of fields: the values that each field accepts, and the nearest one to another value."""

import difflib
import types
from typing import Any, Literal, Union, get_args, get_origin

from saarthi_lib.config.sections import SECTIONS

# Names of tasks in other tools and in everyday speech.
_TASKS = {
    "intent_classification": ("intent", "intents", "classification", "bot", "chatbot", "banking"),
    "text_classification": ("text", "texts", "sentiment", "topic", "topics", "document"),
    "ner": ("entity", "entities", "named_entities", "named_entity_recognition", "span", "spans"),
    "pos": ("tagging", "tagger", "upos", "part_of_speech", "parts_of_speech", "pos_tagging"),
    "joint": ("nlu", "slot", "slots", "slot_filling", "intents_and_slots", "intent_and_entities"),
}
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
    """The value that a wrong value of a field probably means; empty if none is near."""
    name = str(given).strip().lower().replace("-", "_").replace(" ", "_")
    if field == "task":
        for task, names in _TASKS.items():
            if name in names:
                return task
    near = difflib.get_close_matches(name, choices(annotation_of(field.partition(".")[0])), n=1)
    return near[0] if near else ""


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
