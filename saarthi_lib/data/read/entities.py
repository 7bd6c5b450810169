"""Entities with character offsets, as BIO tags of words."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from saarthi_lib.data.alignment import Span
from saarthi_lib.tasks import OUTSIDE
from saarthi_lib.text.normalize import Normalizer

_FORM = "'entities' must be a list of entities with 'start', 'end' and 'label'"
_NAMES = (
    ("start", "start_offset", "begin"),
    ("end", "end_offset", "stop"),
    ("label", "type", "entity", "slot"),
)


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
    entities = sorted(map(_entity, values), key=lambda entity: entity[:2])
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


def _entity(value: Any) -> _Entity:
    try:
        if isinstance(value, dict):
            value = [
                next(value[name] for name in names if value.get(name) is not None)
                for names in _NAMES
            ]
        start, end, label = value
        label = str(label).strip()
        if not label:
            raise ValueError
        return _Entity(int(start), int(end), label)
    except (StopIteration, RuntimeError, TypeError, ValueError):
        raise BadEntityError(_FORM) from None
