"""Words as character spans, for scripts with and without combining vowel signs."""

import re
from unicodedata import category

# `[^\W_]` is just the Unicode categories L and N. Inside a word stand zero-width joiners too
# (non-joiner and joiner, in many Indic and Persian words). Possessive: no way back is ever needed.
_WORDS = re.compile(r"[^\W_]++(?:[\u200c\u200d]++[^\W_]++)*+|\S")


def split_words(text: str) -> list[tuple[int, int]]:
    r"""Split a text into words and give the character span `(start, end)` of each.

    A word is a maximal run of letters, combining marks and digits (Unicode categories L, M, N),
    with zero-width joiners inside it. Any other character that is not a space is a word by itself.
    (The usual `\w+` counts no combining marks, and so cuts Devanagari words at their vowel signs.)
    """
    if not text.isascii():
        text = text.translate(_LETTERS_FOR_MARKS)
    return [match.span() for match in _WORDS.finditer(text)]


class _LettersForMarks(dict[int, int | str]):
    """A letter for each combining mark, all else as it is; fills itself as characters are met."""

    def __missing__(self, code: int) -> int | str:
        self[code] = "a" if category(chr(code))[0] == "M" else code
        return self[code]


_LETTERS_FOR_MARKS = _LettersForMarks()
