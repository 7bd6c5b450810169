"""Characters that writers confuse: keys of a keyboard, and letters of Indic scripts."""

import unicodedata
from functools import cache

# Neighbours on a QWERTY keyboard.
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

# The Indic blocks from Devanagari (U+0900) to Malayalam (U+0D00) have one layout (ISCII's), at
# distances of 0x80, so one table of Devanagari serves all.
_DEVANAGARI = 0x0900
_INDIC_END = 0x0D80
_BLOCK = 0x80
_CONFUSED = (
    "\u0901\u0902",  # candrabindu, anusvara
    "\u093f\u0940",  # signs of i, ii
    "\u0941\u0942",  # signs of u, uu
    "\u0947\u0948",  # signs of e, ai
    "\u094b\u094c",  # signs of o, au
    "अआ", "इई", "उऊ", "एऐ", "ओऔ",
    "कख", "गघ", "चछ", "जझ", "टठ", "डढ", "तथ", "दध", "पफ", "बभ",  # aspirates
    "टत", "ठथ", "डद", "ढध", "नण", "लळ",  # dental and retroflex
    "शषस", "बव",
)  # fmt: skip


@cache
def beside_on_keyboard(character: str) -> str:
    """Adjacent keys of a Latin letter, in its case; empty for other characters."""
    near = ""
    for number, row in enumerate(_ROWS):
        column = row.find(character.lower())
        if column < 0 or not character.isascii():
            continue
        near += row[max(0, column - 1) : column] + row[column + 1 : column + 2]
        # Each row is shifted by half a key.
        if number > 0:
            near += _ROWS[number - 1][column : column + 2]
        if number + 1 < len(_ROWS):
            near += _ROWS[number + 1][max(0, column - 1) : column + 1]
    return near.upper() if character.isupper() else near


@cache
def confused_in_indic(character: str) -> str:
    """Characters of Indic scripts that writers confuse with a character.

    The pairs of Devanagari hold in other scripts, if both characters exist and are of one kind.
    """
    offset = ord(character) - _DEVANAGARI
    if not 0 <= offset < _INDIC_END - _DEVANAGARI:
        return ""
    shift = offset // _BLOCK * _BLOCK
    in_devanagari = chr(ord(character) - shift)
    kind = unicodedata.category(character)[0]
    others = (
        chr(ord(other) + shift)
        for group in _CONFUSED
        if in_devanagari in group
        for other in group
        if other != in_devanagari
    )
    return "".join(other for other in others if unicodedata.category(other)[0] == kind)
