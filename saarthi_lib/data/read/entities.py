"""Entities with character offsets, as BIO tags of words."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from saarthi_lib.data.alignment import Span
from saarthi_lib.data.formats.cells import BadCellError, label_of
from saarthi_lib.tasks import OUTSIDE
from saarthi_lib.text.normalize import Normalizer

_FORM = "'entities' must be a list of entities with 'start', 'end' and 'label'"
_NAMES = (
    ("start", "start_offset", "begin", "start_char", "startOffset", "offset"),
    ("end", "end_offset", "stop", "end_char", "endOffset"),
    ("label", "type", "entity", "slot", "labels", "category", "entity_group"),
)
_PROPERTIES = ("value", "role", "group")
_TAG_OF_WORD = re.compile(r"O|[BI][-_:/|].+")
_TEXTS = ("text", "word", "surface", "value")  # usual names of an entity's own text


class BadEntityError(Exception):
    """The entities of a row cannot be used; the message says why."""


class _Entity(NamedTuple):
    start: int
    end: int
    label: str

    def __str__(self) -> str:
        return f"entity '{self.label}' ({self.start}, {self.end})"


def entity_tags(
    original: str, text: str, values: Any, words: Sequence[Span], normalizer: Normalizer
) -> tuple[list[str], list[str]]:
    """Tag words by entities with character offsets, each widened to whole words.

    Args:
        original: text of the file.
        text: normalized text.
        values: entities with offsets in the original: objects, or lists (start, end, label).
        words: words of the normalized text.
        normalizer: normalizer of the text.

    Returns:
        A BIO tag for each word, and a message for each widened entity.

    Raises:
        BadEntityError: an entity is malformed, covers no text, or overlaps another.
    """
    if not isinstance(values, list | tuple):
        raise BadEntityError(_FORM)
    found = (_entity(value, original) for value in values)
    entities = sorted(found, key=lambda entity: entity[:2])
    alignment = normalizer.align(original) if entities else None
    tags = [OUTSIDE] * len(words)
    widened = []
    for entity in entities:
        start = end = 0
        if alignment and 0 <= entity.start < entity.end <= len(original):
            start, end = alignment.to_normalized(entity.start, entity.end)
        touched = [at for at, (left, right) in enumerate(words) if left < end and right > start]
        if start >= end or not touched:
            raise BadEntityError(f"{entity} covers no text; correct its offsets")
        if any(tags[word] != OUTSIDE for word in touched):
            raise BadEntityError(
                f"{entity} overlaps another or shares a word with it; keep one of them"
            )
        covered = text[start:end]
        inner_start = start + len(covered) - len(covered.lstrip())
        inner_end = end - (len(covered) - len(covered.rstrip()))
        if words[touched[0]][0] < inner_start or words[touched[-1]][1] > inner_end:
            widened.append(f"{entity} begins or ends inside a word; it was widened to whole words")
        for position, word in enumerate(touched):
            tags[word] = f"{'I' if position else 'B'}-{entity.label}"
    return tags, widened


def canonical_entities(text: str, values: Any) -> list[dict[str, Any]]:
    """Entities with `start`, `end`, `label`, and perhaps `value`, `role` and `group`, in order.

    Args:
        text: text of the file.
        values: entities with offsets in it; see `entity_tags`.

    Raises:
        BadEntityError: an entity is malformed, covers no text, or overlaps another.
    """
    if not isinstance(values, list | tuple):
        raise BadEntityError(_FORM)
    found = sorted(((_entity(value, text), value) for value in values), key=lambda pair: pair[0])
    last = 0
    made = []
    for entity, value in found:
        if not 0 <= entity.start < entity.end <= len(text):
            raise BadEntityError(f"{entity} covers no text; correct its offsets")
        if entity.start < last:
            raise BadEntityError(f"{entity} overlaps another; keep one of them")
        last = entity.end
        given = value if isinstance(value, dict) else {}
        kept = {name: given[name] for name in _PROPERTIES if given.get(name) not in (None, "")}
        made.append({**entity._asdict(), **kept})
    return made


def _entity(value: Any, text: str) -> _Entity:
    try:
        if isinstance(value, dict):
            start, end, label = map(partial(_first, value), _NAMES)
            if end is None and value.get("length") is not None:
                end = _whole(start) + _whole(value["length"])
        else:
            start, end, label = value
        name = label_of(label)
        if not name:
            raise ValueError
        if _TAG_OF_WORD.fullmatch(name):
            raise BadEntityError(
                f"the label '{name}' is a tag of a word; write the type of the entity, and the "
                "offsets of all its words"
            )
        entity = _Entity(_whole(start), _whole(end), name)
    except BadCellError as error:
        raise BadEntityError(f"an entity: {error}") from None
    except (RuntimeError, TypeError, ValueError, OverflowError):
        raise BadEntityError(_FORM) from None
    if isinstance(value, dict):
        _check_text(value, entity, text)
    return entity


def _first(value: dict[str, Any], names: Sequence[str]) -> Any:
    return next((value[name] for name in names if value.get(name) is not None), None)


def _whole(value: Any) -> int:
    """A whole number.

    Raises:
        ValueError: it has a fraction, or is not a number.
    """
    number = int(value)
    if isinstance(value, bool) or (isinstance(value, float) and number != value):
        raise ValueError
    return number


def _check_text(value: dict[str, Any], entity: _Entity, text: str) -> None:
    """Check that an entity that repeats its text lies where the text is.

    A `value` may be another name of the entity. It counts only if other offsets would fit it.

    Raises:
        BadEntityError: the offsets are those of another text.
    """
    start, end, _ = entity
    for name in _TEXTS:
        own = value.get(name)
        if not isinstance(own, str) or not own.strip():
            continue
        found = text[start:end] if 0 <= start < end <= len(text) else ""
        if _same(found, own):
            return
        fits = [how for how, other in _other_readings(text, start, end) if _same(other, own)]
        if fits or name != "value":
            hint = f"; the offsets fit if counted {fits[0]}" if fits else ""
            raise BadEntityError(
                f"{entity} is {own!r} but lies at {found!r}{hint}; count its offsets in "
                "characters, from 0, with the end after the last one"
            )


def _same(found: str, own: str) -> bool:
    return " ".join(found.split()).casefold() == " ".join(own.split()).casefold()


def _other_readings(text: str, start: int, end: int) -> Iterator[tuple[str, str]]:
    """Texts at offsets that are counted in another way."""
    for what, encoding, size in (("UTF-16 units", "utf-16-le", 2), ("bytes", "utf-8", 1)):
        units = text.encode(encoding, "surrogatepass")
        yield f"in {what}", units[size * start : size * end].decode(encoding, "replace")
    yield "with the last character", text[start : end + 1]
    yield "from 1", text[start - 1 : end] if start else ""
    yield "as a start and a length", text[start : start + end]
