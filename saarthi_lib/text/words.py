"""Words of the service: the one rule for training, evaluation, prediction and explanation."""

import re
from collections.abc import Sequence
from unicodedata import category

WORD_SPLITTING = ("punctuation", "whitespace")

# `[^\W_]` matches exactly the Unicode categories L and N. Words may contain zero-width joiners and
# non-joiners, as in Indic scripts and Persian. Possessive: backtracking finds no other match.
_WORDS = re.compile(r"[^\W_]++(?:[\u200c\u200d]++[^\W_]++)*+|\S")
_BETWEEN_SPACES = re.compile(r"\S+")


def split_words(text: str, rule: str = "punctuation") -> list[tuple[int, int]]:
    r"""Split a text into words; returns the character span `(start, end)` of each.

    With `punctuation`, a word is a maximal run of letters, combining marks and digits (Unicode
    categories L, M, N), with zero-width joiners inside it. Any other character except a space is a
    word of its own. (The usual `\w+` leaves out combining marks and therefore cuts Devanagari words
    at their vowel signs.) With `whitespace`, a word is a maximal run without spaces.
    """
    if rule == "whitespace":
        return [match.span() for match in _BETWEEN_SPACES.finditer(text)]
    if not text.isascii():
        text = text.translate(_LETTERS_FOR_MARKS)
    return [match.span() for match in _WORDS.finditer(text)]


def words_of(text: str, rule: str = "punctuation") -> list[str]:
    """The words of a text as strings."""
    return [text[start:end] for start, end in split_words(text, rule)]


def word_spans(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Spans of given words in a text that holds them in this order.

    Raises:
        ValueError: a word is missing.
    """
    spans: list[tuple[int, int]] = []
    position = 0
    for word in words:
        start = text.index(word, position)
        position = start + len(word)
        spans.append((start, position))
    return spans


class _LettersForMarks(dict[int, int | str]):
    """A letter for each combining mark, all else unchanged; fills itself on first use."""

    def __missing__(self, code: int) -> int | str:
        self[code] = "a" if category(chr(code))[0] == "M" else code
        return self[code]


_LETTERS_FOR_MARKS = _LettersForMarks()
