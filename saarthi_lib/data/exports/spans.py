"""Entities of exports: offsets are checked, and texts are joined from their parts."""

from collections.abc import Iterable, Sequence
from typing import Any

Entity = dict[str, Any]  # start, end, label; perhaps value, role and group


class BadSpanError(Exception):
    """An entity cannot be taken over; the message says why, and what to do."""


def entity(
    text: str,
    start: Any,
    end: Any,
    label: Any,
    *,
    covered: Any = None,
    utf16: bool = False,
    unclear: bool = False,
    **more: Any,
) -> Entity:
    """An entity with offsets in characters, end exclusive.

    Args:
        text: the text.
        start: its first character.
        end: the character after its last one.
        label: its type, or a list of one type.
        covered: its own text, if the export holds it. It decides whether offsets count characters
            or UTF-16 units, and must be equal to the text at these offsets.
        utf16: whether the offsets count UTF-16 units if the text does not show it.
        unclear: whether the tool does not say it. Then the reading is taken that begins and ends
            between words, if only one does.
        more: other properties; empty ones are left out.

    Raises:
        BadSpanError: the label or the offsets are wrong.
    """
    name = _label(label)
    shown = f"the entity '{name}' ({start}, {end})"
    if not _is_count(start) or not _is_count(end) or start >= end:
        raise BadSpanError(f"{shown} has no valid offsets; correct them in the tool")
    by_units, by_characters = _from_utf16(text, start, end), _within(text, start, end)
    places = [by_units, by_characters] if utf16 else [by_characters, by_units]
    if covered is None:
        place = places[0]
        if unclear and by_units != by_characters:
            between = [each for each in places if each and _is_between_words(text, *each)]
            place = between[0] if len(between) == 1 else None
        if place is None:
            raise BadSpanError(f"{shown} lies outside the text; correct its offsets in the tool")
    else:
        fitting = (each for each in places if each and text[each[0] : each[1]] == covered)
        place = next(fitting, None)
        if place is None:
            raise BadSpanError(
                f"{shown} is {text[start:end]!r} in the text, but {covered!r} in the export; "
                "correct one of them in the tool"
            )
    properties = {name: value for name, value in more.items() if value not in (None, "")}
    return {"start": place[0], "end": place[1], "label": name, **properties}


def joined(parts: Iterable[tuple[str, str, dict[str, Any]]]) -> tuple[str, list[Entity]]:
    """Join parts of a text: each has a text, the label of its entity or "", and properties."""
    text = ""
    entities: list[Entity] = []
    for part, label, properties in parts:
        if label and part:
            end = len(text) + len(part)
            entities.append({"start": len(text), "end": end, "label": label, **properties})
        text += part
    return text, entities


def _label(value: Any) -> str:
    """The one label of an entity."""
    labels: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
    if len(labels) != 1:
        raise BadSpanError(f"an entity has the labels {labels!r}; give it one in the tool")
    label = labels[0]
    if not isinstance(label, str | int) or isinstance(label, bool) or not str(label).strip():
        raise BadSpanError(f"an entity has the label {label!r}; give it a name in the tool")
    return str(label).strip()


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _within(text: str, start: int, end: int) -> tuple[int, int] | None:
    return (start, end) if end <= len(text) else None


def _is_between_words(text: str, start: int, end: int) -> bool:
    """Whether a part of a text has no space at its ends, and cuts no word."""
    part = text[start:end]
    cut = (text[:start][-1:] + part[:1]).isalnum(), (part[-1:] + text[end:][:1]).isalnum()
    before, after = text[:start][-1:], text[end:][:1]
    return part == part.strip() and not (cut[0] and before) and not (cut[1] and after)


def _from_utf16(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Offsets in characters for offsets in UTF-16 units; None inside a character."""
    if text.isascii() or max(map(ord, text)) < 0x10000:
        return _within(text, start, end)
    units = [0]
    for character in text:
        units.append(units[-1] + (2 if ord(character) > 0xFFFF else 1))
    places = {unit: at for at, unit in enumerate(units)}
    if start in places and end in places:
        return places[start], places[end]
    return None
