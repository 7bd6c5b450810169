"""Text normalization for Indian scripts, the same in training and in serving.

Preset `standard` unifies spellings that look the same or differ only by typing habit: Unicode NFC,
one order of nukta and vowel sign, atomic letters for sequences that look alike, ASCII digits and
punctuation, single spaces, at most 30 combining marks in a row. Zero-width joiners stay where they
carry meaning. Letters keep their case and their marks. Preset `romanized` also unifies the usual
spelling variants of Hindi in Latin letters. Preset `none` changes nothing.

`Normalizer.align` maps each character to characters of the original. The rules are in
`normalization_rules`.

Sources: The Unicode Standard 17.0, chapters 9, 12, 13 and 23; UAX #15 (normalization forms); the
Unicode Character Database's DoNotEmit.txt.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from saarthi_lib.text.normalization_rules import (
    ROMANIZED,
    STANDARD,
    Edit,
    is_foldable,
    may_change,
)

PRESETS = ("none", "standard", "romanized")


@dataclass(frozen=True, slots=True)
class Alignment:
    """Mapping between the characters of a text and of its normalized form.

    Attributes:
        original: the given text.
        text: the normalized text.
        starts: first character in `original` of each character of `text`; never decreases.
        ends: end in `original` of each character of `text`, exclusive; never decreases.
    """

    original: str
    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def to_original(self, start: int, end: int) -> tuple[int, int]:
        """Span in the original of `text[start:end]`."""
        if start < end:
            return self.starts[start], self.ends[end - 1]
        point = self.starts[start] if start < len(self.text) else len(self.original)
        return point, point

    def to_normalized(self, start: int, end: int) -> tuple[int, int]:
        """Span in `text` of `original[start:end]`; empty, at its place, if all was removed."""
        first = bisect_right(self.ends, start)
        return first, max(first, bisect_left(self.starts, end)) if start < end else first


class Normalizer:
    """Normalizes texts by one of the `PRESETS`. Idempotent, and safe to use from several threads.

    Args:
        preset: `none`, `standard` or `romanized`.

    Raises:
        ValueError: the preset is unknown.
    """

    __slots__ = ("_rules", "preset")

    def __init__(self, preset: str = "standard") -> None:
        if preset not in PRESETS:
            raise ValueError(f"normalization must be one of {', '.join(PRESETS)}, not {preset!r}")
        self.preset = preset
        self._rules = STANDARD + ROMANIZED if preset == "romanized" else STANDARD

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Normalizer) and self.preset == other.preset

    def __hash__(self) -> int:
        return hash(self.preset)

    def __call__(self, text: str) -> str:
        """Normalize a text; the result is empty only if all characters are invisible."""
        while self._may_change(text):
            before = text
            for rule in self._rules:
                text = _apply(text, rule(text))
            if text == before:
                break
        return text

    def align(self, text: str) -> Alignment:
        """Normalize a text, and map its characters to the original."""
        aligned = Alignment(text, text, range(len(text)), range(1, len(text) + 1))
        while self._may_change(aligned.text):
            before = aligned.text
            for rule in self._rules:
                aligned = _apply_aligned(aligned, list(rule(aligned.text)))
            if aligned.text == before:
                break
        return aligned

    def _may_change(self, text: str) -> bool:
        """Whether a rule may change a text; a quick search excludes most texts."""
        if self.preset == "none":
            return False
        return may_change(text) or (self.preset == "romanized" and is_foldable(text))


def _apply(text: str, edits: Iterable[Edit]) -> str:
    parts: list[str] = []
    position = 0
    for start, end, new in edits:
        parts += (text[position:start], new)
        position = end
    return "".join((*parts, text[position:])) if parts else text


def _apply_aligned(aligned: Alignment, edits: list[Edit]) -> Alignment:
    """Apply edits; each character of a replacement maps to the whole replaced span."""
    if not edits:
        return aligned
    starts: list[int] = []
    ends: list[int] = []
    position = 0
    for start, end, new in edits:
        starts += aligned.starts[position:start]
        ends += aligned.ends[position:start]
        starts += [aligned.starts[start]] * len(new)
        ends += [aligned.ends[end - 1]] * len(new)
        position = end
    starts += aligned.starts[position:]
    ends += aligned.ends[position:]
    return Alignment(aligned.original, _apply(aligned.text, edits), starts, ends)
