"""Unlikely inputs: text of every kind, JSON of every shape, broken bytes."""

import sys
import unicodedata
from random import Random
from typing import Any

from tests.tiny_bundle import SENTENCES

WORDS = " ".join(SENTENCES).split()
_ASSIGNED = [
    point
    for point in range(sys.maxunicode + 1)
    if unicodedata.category(chr(point)) not in ("Cn", "Co", "Cs")
]
_BY_CATEGORY: dict[str, list[int]] = {}
for _point in _ASSIGNED:
    _BY_CATEGORY.setdefault(unicodedata.category(chr(_point)), []).append(_point)
_CATEGORIES = sorted(_BY_CATEGORY)
# White space, joiners, direction, marks before letters, substitutes, markers of subword tokens.
ODD = "\x00\t\n\r\x0b\x1f\x85\xa0\xad\u0301\u0315\u034f\u061c\u093c\u094d\u0958\u115f\u1680"
ODD += "\u180e\u200b\u200c\u200d\u200e\u200f\u2028\u202e\u2060\u2066\u3000\u3164\ufb01\ufe0f"
ODD += "\ufeff\ufffd\uffff\U0001f3f4\U0001f468\U0001f3fd\U000e0067\U000e007f\U0010ffff▁Ġ#<s>'\"\\"


def text(draw: Random, most: int = 12, surrogates: bool = False) -> str:
    """A text with at most `most` parts; with `surrogates`, some have lone surrogates."""
    parts = []
    for _ in range(draw.randrange(most + 1)):
        kind = draw.random()
        if kind < 0.25:
            parts.append(draw.choice(WORDS))
        elif kind < 0.45:
            parts.append(draw.choice((" ", " ", " ", "  ", "\t")))
        elif kind < 0.65:
            parts.append(draw.choice(ODD))
        elif kind < 0.85:
            points = _BY_CATEGORY[draw.choice(_CATEGORIES)]
            parts += [chr(draw.choice(points)) for _ in range(draw.randrange(1, 4))]
        elif kind < 0.95:
            parts.append(chr(draw.choice(_ASSIGNED)) * draw.choice((1, 2, 3, 70)))
        elif kind < 0.97 and surrogates:
            parts.append(chr(draw.randrange(0xD800, 0xE000)))
        else:
            parts.append(draw.choice(WORDS) * draw.choice((1, 9)))
    return "".join(parts)


NUMBERS = (0, 1, -1, 2**31, 2**53, 2**63 - 1, -(2**63), 2**64 - 1, 1e308, -0.0, 5e-324, True)
KEYS: tuple[str, ...] = ("inputs", "instances", "text", "lang", "name", "data", "shape")
KEYS += (
    "datatype",
    "outputs",
    "parameters",
    "top_k",
    "binary_data_size",
    "binary_data",
    "binary_data_output",
    "id",
    "model",
)


def anything(draw: Random, depth: int = 3) -> Any:
    """A JSON value."""
    kind = draw.randrange(9 if depth else 6)
    if kind == 0:
        return draw.choice(NUMBERS)
    if kind == 1:
        return text(draw, 4)
    if kind == 2:
        return draw.choice((None, True, False, "BYTES", "text", "lang", "", "intents", "label"))
    if kind <= 5:
        return draw.choice((draw.randrange(-3, 9), draw.random(), "a"))
    if kind <= 7:
        return [anything(draw, depth - 1) for _ in range(draw.randrange(4))]
    return {draw.choice(KEYS): anything(draw, depth - 1) for _ in range(draw.randrange(5))}


def changed(draw: Random, value: Any) -> Any:
    """A JSON value with one part replaced."""
    if draw.random() < 0.25:
        return anything(draw)
    if isinstance(value, dict) and value:
        key = draw.choice(list(value))
        if draw.random() < 0.15:
            return {name: each for name, each in value.items() if name != key}
        return {**value, key: changed(draw, value[key])}
    if isinstance(value, list) and value:
        at = draw.randrange(len(value))
        return [*value[:at], changed(draw, value[at]), *value[at + 1 :]]
    return anything(draw, 1)


_SNIPPETS: tuple[bytes, ...] = (b"\x00", b"\xff" * 4, b"[" * 40, b"}", b'"', b"9" * 400, b"NaN")
_SNIPPETS += (b"\\ud800", b"1e999", b"\xed\xa0\x80", b"\xc0\x80", b"-", b"null", b"\r\n")
_SNIPPETS += (b"\x80" * 9, b"../", b"%s")


def broken(draw: Random, content: bytes) -> bytes:
    """Broken bytes: flipped, cut, doubled, moved, or with other bytes inserted."""
    made = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        at = draw.randrange(len(made) + 1)
        kind = draw.randrange(7)
        if kind == 0 and at < len(made):
            made[at] ^= 1 << draw.randrange(8)
        elif kind == 1 and at < len(made):
            made[at] = draw.randrange(256)
        elif kind == 2:
            del made[at : at + draw.choice((1, 2, 8, len(made)))]
        elif kind == 3:
            made[at:at] = draw.choice(_SNIPPETS)
        elif kind == 4:
            made[at:at] = made[max(0, at - draw.randrange(1, 40)) : at]
        elif kind == 5:
            made[at:at] = draw.randbytes(draw.randrange(1, 9))
        else:
            other = draw.randrange(len(made) + 1)
            size = draw.randrange(1, 20)
            made[at : at + size] = made[other : other + size]
    return bytes(made)
