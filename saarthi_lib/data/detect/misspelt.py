"""Decide whether the name of a label is a misspelling of another one."""

import re
from collections.abc import Iterable
from functools import lru_cache
from unicodedata import category, normalize

from saarthi_lib.bundle.limits import LABEL_CHARACTERS

LEAST_LETTERS = 5  # in words that may differ by one letter; short words differ on purpose (on, off)
LEAST_SWAPPED = 4  # in words that may have two letters swapped
LEAST_JOINED = 8  # in whole names whose words are separated differently
# A name one letter apart from a known one is a misspelling if it has few rows.
FEW_ROWS = 2
FEW_SHARE = 0.05  # of the rows of the known name

# Digits, with a minus that begins a name or follows a space or underscore.
_NUMBERS = re.compile(r"(?:^|(?<=[\s_]))-\d+|\d+")
_SEPARATORS = re.compile(r"[\s_\-]+")
_CAPITAL = re.compile(r"(?<=[^\W\dA-Z_])(?=[A-Z])")


def likely_meant(name: str, known: Iterable[str], *, letters: bool = True) -> str | None:
    """The known name that a name probably misspells; None if it seems to be a different name.

    Names that differ only in case, separators or invisible characters are the same. Otherwise each
    word must equal its counterpart, or have one letter added, left out, changed or swapped.
    Numbers, a minus at the beginning, first letters and short words must agree: level_1_1 and
    level_11, set_alarm and get_alarm, LIGHT_ON and LIGHT_OFF are different names.

    Args:
        name: name in question.
        known: names that are right.
        letters: whether to accept a wrong letter; False for tags, which are short and alike.
    """
    plain, words, fixed = _plain(name), _words(name), _fixed(name)
    near = None
    for other in known:
        if other == name or _fixed(other) != fixed:
            continue
        if plain and _plain(other) == plain:
            return other
        if letters and near is None and _alike(words, _words(other)):
            near = other
    return near


def is_rare(rows: int, rows_of_known: float) -> bool:
    """Whether a name one letter apart is rare enough for a misspelling, not another word."""
    return rows <= max(FEW_ROWS, FEW_SHARE * rows_of_known)


@lru_cache(2**14)
def _fixed(name: str) -> tuple[bool, list[str]]:
    """Parts that no typing error changes: a minus at the beginning, and numbers."""
    return name.startswith("-"), _NUMBERS.findall(name)


@lru_cache(2**14)
def _plain(name: str) -> str:
    # The time of normalization can grow with the square of the length.
    visible = "".join(c for c in normalize("NFKC", name[:LABEL_CHARACTERS]) if category(c) != "Cf")
    return _SEPARATORS.sub("", visible).casefold()


@lru_cache(2**14)
def _words(name: str) -> list[str]:
    return [word.casefold() for word in _SEPARATORS.split(_CAPITAL.sub(" ", name)) if word]


def _alike(words: list[str], others: list[str]) -> bool:
    if len(words) == len(others):
        pairs = zip(words, others, strict=True)
        return all(word == other or _one_letter_apart(word, other) for word, other in pairs)
    joined, other = "".join(words), "".join(others)
    return min(len(joined), len(other)) >= LEAST_JOINED and _one_letter_apart(joined, other)


def _one_letter_apart(word: str, other: str) -> bool:
    """Whether one letter was added, left out, changed or swapped with the next."""
    start = _common(word, other)
    end = _common(word[start:][::-1], other[start:][::-1])
    mine, its = word[start : len(word) - end], other[start : len(other) - end]
    if start == 0 or any(map(str.isdigit, mine + its)):
        return False
    shorter = min(len(word), len(other))
    if len(mine) == 2 and mine == its[::-1]:
        return shorter >= LEAST_SWAPPED
    return max(len(mine), len(its)) == 1 and shorter >= LEAST_LETTERS


def _common(word: str, other: str) -> int:
    """Length of the common beginning."""
    pairs = zip(word, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(word), len(other)))
