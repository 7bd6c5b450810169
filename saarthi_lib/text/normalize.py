"""Text normalization fit for Indian scripts, the same in training and in serving.

Preset `standard` makes one spelling of those that a reader cannot tell apart or that differ by
nothing but typing habit: Unicode NFC, one order of nukta and vowel sign, atomic letters where a
sequence only looks like one, ASCII digits and punctuation, single spaces. Zero-width joiners stay
where they carry meaning. Letters keep their case and every mark its letter. Preset `romanized` also
folds the usual spelling variants of Hindi in Latin letters. Preset `none` changes nothing.

`Normalizer.align` tells which characters of the original each character stands for.

Sources: The Unicode Standard 17.0, chapters 9, 12, 13 and 23; UAX #15 (normalization forms); the
Unicode Character Database's DoNotEmit.txt.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from unicodedata import category, combining, decimal, is_normalized, normalize

PRESETS = ("none", "standard", "romanized")

Edit = tuple[int, int, str]  # replace text[start:end] by a string
Rule = Callable[[str], Iterable[Edit]]


@dataclass(frozen=True, slots=True)
class Alignment:
    """A text, its normalized form, and which characters of the one stand for which of the other.

    Attributes:
        original: the text as given.
        text: the normalized text.
        starts: for each character of `text` the begin of its characters in `original`.
        ends: their end, exclusive. Neither `starts` nor `ends` ever falls.
    """

    original: str
    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def to_original(self, start: int, end: int) -> tuple[int, int]:
        """The characters of the original that `text[start:end]` stands for."""
        if start < end:
            return self.starts[start], self.ends[end - 1]
        point = self.starts[start] if start < len(self.text) else len(self.original)
        return point, point

    def to_normalized(self, start: int, end: int) -> tuple[int, int]:
        """The characters of `text` that stand for any of `original[start:end]`.

        Empty, at the place where they would be, when all of them were removed.
        """
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
        self._rules = _STANDARD + _ROMANIZED if preset == "romanized" else _STANDARD

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Normalizer) and self.preset == other.preset

    def __hash__(self) -> int:
        return hash(self.preset)

    def __call__(self, text: str) -> str:
        """The normalized text; empty only when nothing of it can be seen."""
        while self._may_change(text):
            before = text
            for rule in self._rules:
                text = _apply(text, rule(text))
            if text == before:
                break
        return text

    def align(self, text: str) -> Alignment:
        """The normalized text and where its characters come from."""
        aligned = Alignment(text, text, range(len(text)), range(1, len(text) + 1))
        while self._may_change(aligned.text):
            before = aligned.text
            for rule in self._rules:
                aligned = _apply_aligned(aligned, list(rule(aligned.text)))
            if aligned.text == before:
                break
        return aligned

    def _may_change(self, text: str) -> bool:
        """Whether a rule may find something to do: on most texts the answer, at once, is no."""
        if self.preset == "none":
            return False
        return (
            text[:1] == " "
            or text[-1:] == " "
            or _REPEATED.search(text) is not None
            or (_ASCII_CONTROL.search(text) is not None if text.isascii() else _is_odd(text))
            or (self.preset == "romanized" and _is_foldable(text))
        )


def _apply(text: str, edits: Iterable[Edit]) -> str:
    parts: list[str] = []
    position = 0
    for start, end, new in edits:
        parts += (text[position:start], new)
        position = end
    return "".join((*parts, text[position:])) if parts else text


def _apply_aligned(aligned: Alignment, edits: list[Edit]) -> Alignment:
    """Apply edits; each character of a replacement stands for all that was replaced."""
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


# --- Kinds of rules


def _replace(pattern: str, new: Callable[[re.Match[str]], str]) -> Rule:
    """A rule that replaces what a pattern finds."""
    compiled = re.compile(pattern)
    return lambda text: _edits(compiled.finditer(text), new)


def _replace_in_words(
    pattern: str, new: Callable[[re.Match[str]], str], applies: Callable[[str], object]
) -> Rule:
    """A rule that replaces what a pattern finds in words of ASCII letters, where it applies."""
    compiled = re.compile(pattern)

    def rule(text: str) -> Iterator[Edit]:
        for word in _LATIN_WORD.finditer(text) if compiled.search(text) else ():
            if applies(word[0]):
                yield from _edits(compiled.finditer(text, *word.span()), new)

    return rule


def _edits(matches: Iterable[re.Match[str]], new: Callable[[re.Match[str]], str]) -> Iterator[Edit]:
    for match in matches:
        replacement = new(match)
        if replacement != match[0]:
            yield *match.span(), replacement


def _canonical(text: str) -> Iterator[Edit]:
    """Unicode NFC, by the shortest stretches that it changes."""
    if is_normalized("NFC", text):
        return
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or not _continues(text[end]):
            stretch = text[start:end]
            composed = normalize("NFC", stretch)
            if composed != stretch:
                yield start, end, composed
            start = end


def _continues(character: str) -> bool:
    """Whether a character can compose, or change places, with those before it (UAX #15, 9.1)."""
    return category(character)[0] == "M" or "\u1160" <= character <= "\u11ff"  # Hangul


def _atomic_vowels(match: re.Match[str]) -> str:
    """Fold a vowel and the signs behind it, from the left."""
    letters = [match[0][0]]
    for sign in match[0][1:]:
        atomic = _ATOMIC_VOWEL.get(letters[-1] + sign)
        letters[-1:] = [atomic] if atomic else [letters[-1], sign]
    return "".join(letters)


def _nukta_first(text: str) -> Iterator[Edit]:
    """Put a nukta before the other marks of its letter, once."""
    if _LATE_NUKTA.search(text):
        for match in _MARK_RUN.finditer(text):
            marks = match[0]
            nukta = next((mark for mark in marks if mark in _NUKTAS), "")
            ordered = nukta + "".join(mark for mark in marks if mark not in _NUKTAS)
            if ordered != marks:
                yield *match.span(), ordered


# --- The characters of the scripts

_NUKTA_CLASS, _VIRAMA_CLASS = 7, 9  # Canonical_Combining_Class
_INDIC = [
    chr(point)
    for point in chain(range(0x900, 0xE00), range(0xA8E0, 0xA900), range(0x11000, 0x11800))
]
_MARKS = "".join(character for character in _INDIC if category(character)[0] == "M")
_NUKTAS = "".join(mark for mark in _MARKS if combining(mark) == _NUKTA_CLASS)
# Meetei Mayek's is outside the blocks above.
_VIRAMAS = "".join(mark for mark in _MARKS if combining(mark) == _VIRAMA_CLASS) + "\uaaf6\uabed"
_MARK_RUN = re.compile(f"[{_MARKS}]+")
_LATE_NUKTA = re.compile(f"[{_NUKTAS}](?<=[{_MARKS}].)")
_JOINERS = "\u200c\u200d"
_ARABIC = re.compile(
    "[\u0610-\u061a\u0620-\u065f\u066e-\u06d3\u06d5-\u06ed\u06fa-\u06ff\u0750-\u077f\u08a0-\u08ff]"
)
_EMOJI = re.compile("[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff]")  # and their variation selector

# Controls but white space, soft hyphen, zero-width and word-joining spaces, marks of direction,
# invisible operators, interlinear annotation, language tags. Format characters that are seen, such
# as the Arabic number signs, are not among them.
_INVISIBLE = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\U000e0001\U000e0020-\U000e007f"
)
_FLAG_OF_A_REGION = "\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f"  # UTS #51: spelt in tags

_ASCII_OF = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2039\u203a", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63", "-"),
    "\u2026": "...",
    **{chr(point + 0xFEE0): chr(point) for point in range(ord("!"), ord("~") + 1)},  # full width
}

# Base, sign, and the letter that they only look like: the "do not use" tables of the Unicode
# Standard (12-1, 12-11, 12-16, 12-20, 12-22, 12-26, 12-30 to 12-32, 13-2), as in DoNotEmit.txt
# under Indic_Vowel_Letter. Fonts draw both alike and keyboards let people type both.
_ATOMIC_VOWELS = {
    "Devanagari": "अॆऄ अाआ उुऊ एॅऍ एॆऎ एेऐ अॉऑ आॅऑ अॊऒ आॆऒ अोओ आेओ अौऔ आैऔ अॅॲ अऺॳ अऻॴ आऺॴ अॏॵ अॖॶ अॗॷ",
    "Bengali": "অাআ ঋৃৠ ঌৢৡ",
    "Gurmukhi": "ਅਾਆ ੲਿਇ ੲੀਈ ੳੁਉ ੳੂਊ ੲੇਏ ਅੈਐ ੳੋਓ ਅੌਔ",
    "Gujarati": "અાઆ અૅઍ અેએ અૈઐ અૉઑ અોઓ આૅઓ અૌઔ આૈઔ ૅાૉ",
    "Odia": "ଅାଆ ଏୗଐ ଓୗଔ",
    "Tamil": "அூஆ",
    "Telugu": "ఒౕఓ ఒౌఔ ిౕీ ెౕే ొౕో",
    "Kannada": "ಉಾಊ ಒೌಔ ಋಾೠ",
    "Malayalam": "ഇൗഈ ഉൗഊ എെഐ ഒാഓ ഒൗഔ",
    "Sinhala": "අාආ අැඇ අෑඈ උෟඌ ඍෘඎ ඏෟඐ එ්ඒ එෙඓ ඔෟඖ",
}
_ATOMIC_VOWEL = {entry[:2]: entry[2] for row in _ATOMIC_VOWELS.values() for entry in row.split(" ")}
_SPLIT_II = "र्इ"  # ई of table 12-1, three characters
_BASES = "".join({pair[0] for pair in _ATOMIC_VOWEL})
_SIGNS = "".join({pair[1] for pair in _ATOMIC_VOWEL})

# Letters that before Unicode 4.1 and 5.1 were consonant, virama and joiner (DoNotEmit.txt under
# Bengali_Khanda_Ta and Malayalam_Chillu; chillu K, which it leaves out, by the code chart).
_ATOMIC_CONSONANT = {
    "ত্\u200d": "ৎ",
    "ണ്\u200d": "ൺ",
    "ന്\u200d": "ൻ",
    "ര്\u200d": "ർ",
    "ല്\u200d": "ൽ",
    "ള്\u200d": "ൾ",
    "ക്\u200d": "ൿ",
}

_LATIN_WORD = re.compile(r"(?<!\w)[A-Za-z]++(?!\w)")
_ROMAN_NUMERAL = re.compile(r"m*(cm|cd|d?c{0,3})(xc|xl|l?x{0,3})(ix|iv|v?i{0,3})", re.IGNORECASE)
_ASPIRATE = re.compile(r"[bdjk]h|gh[aeiou]", re.IGNORECASE)


def _kept_joiner(match: re.Match[str]) -> str:
    """The first of the joiners where joiners carry meaning, nothing elsewhere.

    They do between virama and letter (क्‍ष, ශ්‍රී, ಸಾಫ್ಟ್‌ವೇರ್) and between letter and virama (র‍্যাব); the
    non-joiner between Arabic letters (می‌خواہم); the joiner between emoji (Unicode Standard, 9.2,
    12.1, 12.2, 13.2 and 23.2; UTS #51).
    """
    text, (start, end) = match.string, match.span()
    if start == 0 or end == len(text):
        return ""
    joiner, before, after = text[start], text[start - 1], text[end]
    if (
        (before in _VIRAMAS and after.isalpha())
        or (after in _VIRAMAS and (before.isalpha() or before in _NUKTAS))
        or (joiner == "\u200c" and _ARABIC.match(before) and _ARABIC.match(after))
        or (joiner == "\u200d" and _EMOJI.match(before) and _EMOJI.match(after))
    ):
        return joiner
    return ""


def _is_drawn_out(word: str) -> bool:
    """Whether a letter three times may be emphasis: not in XIII, www or AAA."""
    return len(set(word)) > 1 and not _ROMAN_NUMERAL.fullmatch(word)


def _fold(letters: str) -> Callable[[re.Match[str]], str]:
    """A replacement in the case of what is replaced."""

    def new(match: re.Match[str]) -> str:
        if match[0].isupper():
            return letters.upper()
        return letters.capitalize() if match[0][0].isupper() else letters

    return new


# --- The rules, in the order in which they are applied

_STANDARD: tuple[Rule, ...] = (
    _replace(f"({_FLAG_OF_A_REGION})|[{_INVISIBLE}]", lambda m: m[1] or ""),
    _replace(
        r"\s(?:\s+|(?<! )|(?<=\A.)|(?=\Z))",
        lambda m: " " if m.start() > 0 and m.end() < len(m.string) else "",
    ),
    _replace(r"[^\D0-9]", lambda m: str(decimal(m[0]))),  # category Nd, of every script
    _replace(f"[{''.join(_ASCII_OF)}]", lambda m: _ASCII_OF[m[0]]),
    _canonical,
    _replace("|".join(_ATOMIC_CONSONANT), lambda m: _ATOMIC_CONSONANT[m[0]]),
    _replace(f"[{_JOINERS}]+", _kept_joiner),
    # NFC orders nukta and virama, but not nukta and vowel sign. A letter has one nukta.
    _nukta_first,
    _replace(f"[{_BASES}][{_SIGNS}]+(?![{_JOINERS}])", _atomic_vowels),
    _replace(_SPLIT_II, lambda m: "ई"),
    _replace(r"([!?؟])\1+", lambda m: m[1]),
    _replace(r"""([.,;:*_~='"।॥۔،؛-])\1\1+""", lambda m: m[1]),
    # To two letters, not one: no word has three, and "goood" meets "good" rather than "god".
    _replace_in_words(r"([A-Za-z])\1\1+", lambda m: m[0][:2], _is_drawn_out),
)

# Hindi in Latin letters has no spelling rules, and texts mix it with English, whose spelling the
# teacher knows. So there are only rules that together change 6 in 10,000 words of English (SNIPS)
# where they change 5 in 100 of Hindi-English (Hinglish-TOP); the share there and the number of
# pairs of spellings that became one stand above each. Not among them, for what they do to English:
# w for v (8% of its words), final -ay or -ey for -e (2%), oo for u (3%) and ee for i (1%) in all
# words, z for j (0.7%), ph for f (0.3%).
_ROMANIZED: tuple[Rule, ...] = (
    # aaj, kyaa, waale: 4.3%, 69 pairs
    _replace_in_words("(?i)aa+", _fold("a"), bool),
    # bhee, dhoop, khareedne, where an aspirate that English lacks marks the word: 0.1%, 1 pair
    _replace_in_words("(?i)ee+", _fold("i"), _ASPIRATE.search),
    _replace_in_words("(?i)oo+", _fold("u"), _ASPIRATE.search),
    # What emphasis left at a word's end, as in nahiii; neither ii nor VIII
    _replace_in_words("(?i)(?<=[a-z]{2})ii(?![a-z])", _fold("i"), _is_drawn_out),
    _replace_in_words("(?i)(?<=[a-z]{2})uu(?![a-z])", _fold("u"), _is_drawn_out),
    # bataiye, jaiye: 0.2%, 10 pairs
    _replace_in_words("(?i)ai(?=ye)", _fold("a"), bool),
    # batayen, batayein: 0.3%, 12 pairs
    _replace_in_words("(?i)(?<=[aeiou]y)ei?n(?![a-z])", _fold("e"), bool),
    # karein, rokein: 0.3%, 5 pairs
    _replace_in_words("(?i)(?<=[a-z]{2})ein(?![a-z])", _fold("en"), bool),
    # achchha, achha, accha: 0.03%, 1 pair
    _replace_in_words("(?i)(ch|c)?chh|(ch|c)ch", _fold("ch"), bool),
    # yeh, weh, woh, voh
    _replace_in_words("(?i)(?<=[ywv])eh(?![a-z])", _fold("e"), bool),
    _replace_in_words("(?i)(?<=[ywv])oh(?![a-z])", _fold("o"), bool),
)

# --- What a text must hold for a rule to find something, as quick searches

_REPEATED = re.compile(r"([\WA-Za-z])\1(?:(?<=[!?؟ ])|\1)")
_ASCII_CONTROL = re.compile(r"[^ -~]")
_ODD_CHARACTER = re.compile(
    f"[{_INVISIBLE}{_JOINERS}{''.join(_ASCII_OF)}"
    "\t-\r\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
)
_OTHER_DIGIT = re.compile(r"[^\D0-9]")
_SPLIT_VOWEL = re.compile(f"[{_BASES}][{_SIGNS}]")
_FOLDABLE = (
    *("aa", "ii", "uu", "aiy", "yen", "ein", "chh", "cch", "chc"),
    *("bh", "dh", "jh", "kh", "gha", "ghe", "ghi", "gho", "ghu"),
    *("yeh", "weh", "veh", "yoh", "woh", "voh"),
)


def _is_odd(text: str) -> bool:
    return (
        _ODD_CHARACTER.search(text) is not None
        or _OTHER_DIGIT.search(text) is not None
        or _SPLIT_VOWEL.search(text) is not None
        or _LATE_NUKTA.search(text) is not None
        or _SPLIT_II in text
        or not is_normalized("NFC", text)
    )


def _is_foldable(text: str) -> bool:
    return any(map(text.lower().__contains__, _FOLDABLE))
