"""Find hidden and damaged characters, and words of two scripts.

Texts are arrays of code points, so that a million texts take seconds.
"""

import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from saarthi_lib.text.scripts import script_of

BoolArray = npt.NDArray[np.bool_]

_LANGUAGES: dict[str, list[str]] = yaml.safe_load(
    Path(__file__).with_name("scripts.yaml").read_text(encoding="utf-8")
)
SCRIPTS = ("", *_LANGUAGES)  # the number of a script is its index; 0: other scripts, or none
LANGUAGE_SCRIPTS: dict[str, list[str]] = {}
for _script, _languages in _LANGUAGES.items():
    for _language in _languages:
        LANGUAGE_SCRIPTS.setdefault(_language, []).append(_script)
# Scripts without spaces between words, where two adjacent scripts are usual.
_UNSPACED = {"cjk", "thai", "lao", "khmer", "myanmar"}

JOINERS = "\u200c\u200d"  # zero-width; needed in Indian scripts, Persian and emoji
# Letters and marks that are invisible.
_BLANK = "\u034f\u115f\u1160\u3164\uffa0\u2800"
# Visible format characters (Arabic number signs), and the tags in flags of countries.
_SEEN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x8E2, *range(0xE0020, 0xE0080)}

# UTF-8 that was read as Latin-1 or Windows-1252: the characters of the bytes 80 to BF.
_TAIL = "".join(dict.fromkeys(bytes([b]).decode("cp1252", "ignore") for b in range(0x80, 0xC0)))
DAMAGE = (
    f"\ufffd|[ÃÂ][\u0080-\u00bf]|â€[{_TAIL}\u0080-\u009f]"
    f"|à[\u00a4-\u00b7][{_TAIL}\u0080-\u009f]|(?:[ÐÑ][{_TAIL}\u0080-\u009f]){{2}}"
)

_LETTERS = 3  # least letters that show the script of a text
_ROWS = 50_000


class Characters(NamedTuple):
    """Findings by text, each [rows]."""

    hidden: BoolArray  # invisible, control, private-use or unassigned characters
    damaged: BoolArray  # replacement characters, or UTF-8 decoded with another encoding
    mixed: BoolArray  # letters of two scripts within one word
    script: npt.NDArray[np.uint8]  # number of the script of most letters, or 0


def scan(texts: pa.ChunkedArray) -> Characters:
    """Examine the characters of every text, chunk by chunk."""
    parts = [_scan(texts[start : start + _ROWS]) for start in range(0, len(texts), _ROWS)]
    return Characters(*map(np.concatenate, zip(*parts, strict=True)))


def describe_hidden(text: str) -> str:
    """Hidden characters of a text: code point, name and position."""
    codes = _codes([text])
    positions = np.flatnonzero(_hidden(codes))
    return _joined([f"{_character(text[at])} at {at}" for at in positions])


def describe_damage(text: str) -> str:
    """Damaged parts of a text."""
    return _joined([repr(found) for found in re.findall(DAMAGE, text)])


def describe_mixed(text: str) -> str:
    """Words of two scripts, with code points and names of the rarer script's letters."""
    scripts = _tables()[1]
    described = []
    for word in text.split():
        codes = _codes([word])
        if not _mixed(codes).any():
            continue
        of_word = scripts[codes]
        counts = np.bincount(of_word[of_word > 0], minlength=len(SCRIPTS))
        rarer = min(np.flatnonzero(counts), key=lambda script: counts[script])
        letters = dict.fromkeys(np.array(list(word))[of_word == rarer])
        described.append(f"{word}: {', '.join(_character(letter) for letter in list(letters)[:3])}")
    return _joined(described)


def _joined(parts: list[str]) -> str:
    shown = "; ".join(parts[:3])
    return f"{shown}; and {len(parts) - 3} more" if len(parts) > 3 else shown


def _character(character: str) -> str:
    name = unicodedata.name(character, unicodedata.category(character))
    return f"U+{ord(character):04X} {name}"


def _scan(chunk: pa.ChunkedArray) -> Characters:
    texts = chunk.to_pylist()
    codes = _codes(texts)
    lengths = np.array([len(text) for text in texts])
    row = np.repeat(np.arange(len(texts)), lengths)
    hidden, mixed = np.zeros((2, len(texts)), bool)
    hidden[row[_hidden(codes)]] = True
    pairs = np.flatnonzero(_mixed(codes))
    mixed[row[pairs[row[pairs] == row[pairs + 1]]]] = True
    script = _tables()[1][codes]
    letters = np.bincount(
        row[script > 0] * len(SCRIPTS) + script[script > 0], minlength=len(texts) * len(SCRIPTS)
    ).reshape(len(texts), len(SCRIPTS))
    most, total = letters.argmax(axis=1), letters.sum(axis=1)
    clear = (total >= _LETTERS) & (2 * letters.max(axis=1) > total)
    damaged = pc.match_substring_regex(chunk, DAMAGE).to_numpy().astype(bool)
    return Characters(hidden, damaged, mixed, np.where(clear, most, 0).astype(np.uint8))


def _codes(texts: list[str]) -> npt.NDArray[np.uint32]:
    return np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)


def _hidden(codes: npt.NDArray[np.uint32]) -> BoolArray:
    hidden, _, _, joinable = _tables()
    joiner = np.isin(codes, [ord(each) for each in JOINERS])
    carried = np.zeros(len(codes), bool)
    carried[1:] = joinable[codes[:-1]]
    return hidden[codes] & ~(joiner & carried)


def _mixed(codes: npt.NDArray[np.uint32]) -> BoolArray:
    """Whether a character and the next are letters (or marks) of two scripts; (codes - 1,)."""
    script = _tables()[2][codes]
    return (script[1:] != script[:-1]) & (script[1:] > 0) & (script[:-1] > 0)


@lru_cache(maxsize=1)
def _tables() -> tuple[BoolArray, npt.NDArray[np.uint8], npt.NDArray[np.uint8], BoolArray]:
    """Properties by code point: hidden; script; script with spaces; a joiner may follow."""
    size = 0x110000
    category = [unicodedata.category(chr(code)) for code in range(size)]
    hidden = np.array([name in ("Cc", "Cf", "Cn", "Co") for name in category])
    hidden[[*(ord(each) for each in _BLANK)]] = True
    hidden[[*_SEEN, ord("\t"), ord("\n"), ord("\r")]] = False
    number = {name: place for place, name in enumerate(SCRIPTS) if name}
    script = np.zeros(size, np.uint8)
    for code in range(0x10000):  # the scripts above all lie in the basic plane
        script[code] = number.get(script_of(chr(code)), 0)
    spaced = np.where(np.isin(script, [number[name] for name in _UNSPACED]), 0, script)
    alphabets = [number[name] for name in ("latin", "greek", "cyrillic")]
    joinable = (script > 0) & ~np.isin(script, alphabets)
    joinable |= np.array([name in ("So", "Sk") for name in category])
    joinable[0xFE0F] = True  # an emoji's variation selector
    return hidden, script, spaced.astype(np.uint8), joinable
