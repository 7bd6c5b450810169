"""Words as character spans, for scripts with and without combining vowel signs."""

from unicodedata import category

_JOINERS = "\u200c\u200d"  # zero-width non-joiner and joiner, inside many Indic and Persian words


def split_words(text: str) -> list[tuple[int, int]]:
    r"""Split a text into words and give the character span `(start, end)` of each.

    A word is a maximal run of letters, combining marks and digits (Unicode categories L, M, N),
    with zero-width joiners inside it. Any other character that is not a space is a word by itself.
    (The usual `\w+` counts no combining marks, and so cuts Devanagari words at their vowel signs.)
    """
    spans: list[tuple[int, int]] = []
    position = 0
    while position < len(text):
        start = position
        position += 1
        if _is_word_character(text[start]):
            position = _end_of_word(text, position)
        elif text[start].isspace():
            continue
        spans.append((start, position))
    return spans


def _is_word_character(character: str) -> bool:
    return category(character)[0] in "LMN"


def _end_of_word(text: str, end: int) -> int:
    """End of the word that holds `text[end - 1]`; joiners count only when the word goes on."""
    for position in range(end, len(text)):
        if _is_word_character(text[position]):
            end = position + 1
        elif text[position] not in _JOINERS:
            break
    return end
