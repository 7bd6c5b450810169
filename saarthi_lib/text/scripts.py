"""Scripts, letters and combining signs, by Python's Unicode data."""

import unicodedata
from functools import cache

# First words of characters' names that are not the name of a script.
_SCRIPTS = {
    **{"oriya": "odia", "micro": "latin", "feminine": "latin", "masculine": "latin"},
    **{"fullwidth": "latin", "halfwidth": "cjk", "ideographic": "cjk", "hiragana": "cjk"},
    **{"katakana": "cjk", "katakana-hiragana": "cjk", "bopomofo": "cjk"},
}


@cache
def name_begin(character: str) -> str:
    """First word of a character's Unicode name in lower case: the script of most letters."""
    return unicodedata.name(character, "").partition(" ")[0].lower()


@cache
def script_of(character: str) -> str:
    """Script of a letter or sign, such as "devanagari"; "" for other characters.

    Chinese characters and kana are one script, "cjk".
    """
    word = name_begin(character) if is_letter(character) else ""
    return _SCRIPTS.get(word, word)


@cache
def is_letter(character: str) -> bool:
    """Whether a character is a letter or a sign that is part of one (Unicode's L and M)."""
    return unicodedata.category(character)[0] in "LM"


@cache
def is_sign(character: str) -> bool:
    """Whether a character combines with the letter before it (Unicode's M)."""
    return unicodedata.category(character)[0] == "M"
