"""Rules of text normalization; `normalize` applies them."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from unicodedata import category, combining, decimal, is_normalized, normalize

Edit = tuple[int, int, str]  # replace text[start:end] by a string
Rule = Callable[[str], Iterable[Edit]]

# The limit of the Stream-Safe Text Format (UAX #15, section 13): the time that normalization to NFC
# takes grows with the square of a run's length.
LONGEST_MARK_RUN = 30
_LONG_MARK_RUN = re.compile(f"M{{{LONGEST_MARK_RUN + 1},}}")
# Neither letters, digits nor spaces: the marks are among the rest.
_SIGNS_ONLY = re.compile(rf"[^\w\s]{{{LONGEST_MARK_RUN + 1},}}")
_SIGNS_OF_SAMPLE = re.compile(r"[^\w\s]{3}")  # 31 characters have three of every tenth character


# --- Kinds of rules


def _replace(pattern: str, new: Callable[[re.Match[str]], str]) -> Rule:
    """A rule that replaces the matches of a pattern."""
    compiled = re.compile(pattern)
    return lambda text: _edits(compiled.finditer(text), new)


def _replace_in_words(
    pattern: str, new: Callable[[re.Match[str]], str], applies: Callable[[str], object]
) -> Rule:
    """A rule that replaces matches in words of ASCII letters for which `applies` holds."""
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
    """Unicode NFC, as edits of the shortest parts that change."""
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


def _shorten_mark_runs(text: str) -> Iterator[Edit]:
    """Cut runs of combining marks; the last kept mark maps to the others after it."""
    for stretch in _SIGNS_ONLY.finditer(text):
        kinds = "".join("M" if category(sign)[0] == "M" else " " for sign in stretch[0])
        for run in _LONG_MARK_RUN.finditer(kinds):
            last = stretch.start() + run.start() + LONGEST_MARK_RUN - 1
            yield last, stretch.start() + run.end(), text[last]


def _continues(character: str) -> bool:
    """Whether a character can combine or be reordered with earlier ones (UAX #15, 9.1)."""
    return category(character)[0] == "M" or "\u1160" <= character <= "\u11ff"  # Hangul


def _atomic_vowels(match: re.Match[str]) -> str:
    """Join a vowel and the signs after it, from the left."""
    letters = [match[0][0]]
    for sign in match[0][1:]:
        atomic = _ATOMIC_VOWEL.get(letters[-1] + sign)
        letters[-1:] = [atomic] if atomic else [letters[-1], sign]
    return "".join(letters)


def _nukta_first(text: str) -> Iterator[Edit]:
    """Put one nukta before the other marks of its letter.

    NFC moves it over marks of higher classes; this rule, in the same step, over vowel signs too.
    """
    if _LATE_NUKTA.search(text):
        for signs in _SIGNS_AFTER_EACH_OTHER.finditer(text):
            kinds = "".join("M" if _lets_nukta_pass(sign) else " " for sign in signs[0])
            for run in _MARK_RUN.finditer(kinds):
                start, end = (signs.start() + place for place in run.span())
                marks = text[start:end]
                nukta = next((mark for mark in marks if mark in _NUKTAS), "")
                ordered = nukta + "".join(mark for mark in marks if mark not in _NUKTAS)
                if ordered != marks:
                    yield start, end, ordered


def _lets_nukta_pass(sign: str) -> bool:
    return sign in _MARKS or combining(sign) > _NUKTA_CLASS


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
_MARK_RUN = re.compile("MM+")
_SIGNS_AFTER_EACH_OTHER = re.compile(r"[^\w\s]{2,}")
_LATE_NUKTA = re.compile(f"[{_NUKTAS}](?<=[{_MARKS}].)")
_JOINERS = "\u200c\u200d"
_ARABIC = re.compile(
    "[\u0610-\u061a\u0620-\u065f\u066e-\u06d3\u06d5-\u06ed\u06fa-\u06ff\u0750-\u077f\u08a0-\u08ff]"
)
_EMOJI = re.compile("[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff]")  # and their variation selector

# Controls except white space, soft hyphen, zero-width and word-joining spaces, marks of direction,
# invisible operators, interlinear annotation, language tags. Visible format characters, such as
# the Arabic number signs, are not included.
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

# Base, sign, and the letter that looks the same: the "do not use" tables of the Unicode Standard
# (12-1, 12-11, 12-16, 12-20, 12-22, 12-26, 12-30 to 12-32, 13-2), as in DoNotEmit.txt under
# Indic_Vowel_Letter. Fonts draw both alike, and people type both.
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

# Letters that were written as consonant, virama and joiner before Unicode 4.1 and 5.1
# (DoNotEmit.txt under Bengali_Khanda_Ta and Malayalam_Chillu; chillu K from the code chart).
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
    """The first joiner if joiners carry meaning at this place, else nothing.

    They carry meaning between virama and letter (क्‍ष, ශ්‍රී, ಸಾಫ್ಟ್‌ವೇರ್) and
    between letter and virama (র‍্যাব); the non-joiner between
    Arabic letters (می‌خواہم); the joiner between emoji (Unicode Standard,
    9.2, 12.1, 12.2, 13.2 and 23.2; UTS #51).
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
    """Whether three equal letters may be emphasis: not in XIII, www or AAA."""
    return len(set(word)) > 1 and not _ROMAN_NUMERAL.fullmatch(word)


def _fold(letters: str) -> Callable[[re.Match[str]], str]:
    """A replacement in the case of the match."""
    return lambda match: _in_case_of(match[0], letters)


def _one_ch(match: re.Match[str]) -> str:
    """One ch in place of several, up to the last h."""
    end = match[0].lower().rfind("h") + 1
    return _in_case_of(match[0][:end], "ch") + match[0][end:] if end > 2 else match[0]


def _in_case_of(word: str, letters: str) -> str:
    if word.isupper():
        return letters.upper()
    return letters.capitalize() if word[0].isupper() else letters


# --- The rules, in the order in which they are applied

STANDARD: tuple[Rule, ...] = (
    _replace(f"({_FLAG_OF_A_REGION})|[{_INVISIBLE}]", lambda m: m[1] or ""),
    _replace(
        r"\s(?:\s+|(?<! )|(?<=\A.)|(?=\Z))",
        lambda m: " " if m.start() > 0 and m.end() < len(m.string) else "",
    ),
    _replace(r"[^\D0-9]", lambda m: str(decimal(m[0]))),  # category Nd, of every script
    _replace(f"[{''.join(_ASCII_OF)}]", lambda m: _ASCII_OF[m[0]]),
    _shorten_mark_runs,
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

# Hindi in Latin letters has no spelling standard, and texts mix it with English, whose spelling the
# teacher knows. Therefore all rules together change only 6 in 10,000 words of English (SNIPS), but
# 5 in 100 of Hindi-English (Hinglish-TOP). The comment of a rule gives its share there, and the
# pairs of spellings that it unifies. Other rules change too many English words: w for v (8%), final
# -ay or -ey for -e (2%), oo for u (3%) and ee for i (1%) in all words, z for j (0.7%), ph for f
# (0.3%).
ROMANIZED: tuple[Rule, ...] = (
    # aaj, kyaa, waale: 4.3%, 69 pairs
    _replace_in_words("(?i)aa+", _fold("a"), bool),
    # bhee, dhoop, khareedne, where an aspirate that English lacks marks the word: 0.1%, 1 pair
    _replace_in_words("(?i)ee+", _fold("i"), _ASPIRATE.search),
    _replace_in_words("(?i)oo+", _fold("u"), _ASPIRATE.search),
    # The rest of emphasis at the end of a word, as in nahiii; not ii or VIII
    _replace_in_words("(?i)(?<=[a-z]{2})(?<!i)ii++(?![a-z])", _fold("i"), _is_drawn_out),
    _replace_in_words("(?i)(?<=[a-z]{2})(?<!u)uu++(?![a-z])", _fold("u"), _is_drawn_out),
    # bataiye, jaiye: 0.2%, 10 pairs
    _replace_in_words("(?i)ai(?=ye)", _fold("a"), bool),
    # batayen, batayein: 0.3%, 12 pairs
    _replace_in_words("(?i)(?<=[aeiou]y)ei?n(?![a-z])", _fold("e"), bool),
    # karein, rokein: 0.3%, 5 pairs
    _replace_in_words("(?i)(?<=[a-z]{2})ein(?![a-z])", _fold("en"), bool),
    # achchha, achha, accha: 0.03%, 1 pair
    _replace_in_words("(?i)c[ch][ch]++", _one_ch, bool),
    # yeh, weh, woh, voh
    _replace_in_words("(?i)(?<=[ywv])eh(?![a-z])", _fold("e"), bool),
    _replace_in_words("(?i)(?<=[ywv])oh(?![a-z])", _fold("o"), bool),
)

# --- Quick searches for texts that no rule changes

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


def may_change(text: str) -> bool:
    """Whether a rule of `STANDARD` may change a text."""
    if text[:1] == " " or text[-1:] == " " or _REPEATED.search(text):
        return True
    if text.isascii():
        return _ASCII_CONTROL.search(text) is not None
    return (
        _ODD_CHARACTER.search(text) is not None
        or _OTHER_DIGIT.search(text) is not None
        or _SPLIT_VOWEL.search(text) is not None
        or _LATE_NUKTA.search(text) is not None
        or _SPLIT_II in text
        or has_long_mark_run(text)
        or not is_normalized("NFC", text)
    )


def has_long_mark_run(text: str) -> bool:
    """Whether a text may have more combining marks in a row than `LONGEST_MARK_RUN`."""
    sample = _SIGNS_OF_SAMPLE.search(text[::10])
    return sample is not None and _SIGNS_ONLY.search(text) is not None


def is_foldable(text: str) -> bool:
    """Whether a rule of `ROMANIZED` may change a text."""
    return any(map(text.lower().__contains__, _FOLDABLE))
