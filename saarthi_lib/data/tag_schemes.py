"""Detect the form of a file's entity tags, and convert the tags to BIO.

The whole file decides. Tags have a letter and a label (`B-city`, `B_city`, `city-B`, `b-city`), a
label alone (IO), or a letter alone. BIO, IOB1 and IO with `I-` are read alike: an entity begins at
`B-X`, or at an `I-X` after another label. E and L mark the last word of an entity, S, U and W its
only word, and M is another letter for I. Tags that look like another form are malformed.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from saarthi_lib.tasks import OUTSIDE, bio_spans, bio_tags

BARE_LABEL = "entity"  # label of tags that are letters alone

_BIO, _BIOES = "BI", "BIESLUMW"
_MEANING = str.maketrans("MLUW", "IESS")
# Suffix and separator of a reading; the likely ones first.
_READINGS = tuple(product((False, True), ("--", "__", *"-_:/.|=+")))
# A lower share of tags that mark ends means errors in BIO.
_LEAST_SHARE = 0.05
# Other names of `O`. The last ones may also be entity types, and count only in files with letters.
_OUTSIDE_NAMES = ("_", "-", "0", "NULL", "NONE", "NIL", "OUTSIDE", "OUT", "OTHER")
_SURE_OUTSIDE = 7
_LETTER_SETS = ("BI", "BIES", "BIEU", "BILU", "BILS", "BMES", "BMEW")
# Tags without a letter that look like another form.
_LOOKS_PREFIXED = re.compile(r"[BIESLUMWbi][-_:/|].+|.+[-_:/|][BI]|[BI]|O[-_].*")
_WORD = re.compile(r"[\W_]+")
_POSITIONS = re.compile(
    r"(?P<b>b|beg|begin|beginning|start)"
    r"|i|in|int|inside|inner|m|mid|middle|intermediate|cont|continue|continued|continuation",
    re.IGNORECASE,
)
_SEVERAL = re.compile(r"[|,;#](?:[BIESLUMW][-_:]|O$)")  # tags of nested entities, in one
_NOT_IN_LABELS = re.compile(r"""[()\[\]{}<>*"'`,;\s]""")


class TagForm(NamedTuple):
    """Form of a file's tags.

    Attributes:
        letters: letters that mark positions; "": tags are labels only.
        separator: between letter and label; "": tags are letters only, or labels only.
        suffix: whether the letter follows the label.
        outside: tags of words outside entities.
    """

    letters: str = _BIO
    separator: str = "-"
    suffix: bool = False
    outside: tuple[str, ...] = (OUTSIDE,)

    def parts(self, tag: str) -> tuple[str, str] | None:
        """Letter and label of a tag that is not outside; None if it has another form."""
        if not self.letters:
            return ("I", tag) if tag else None
        if not self.separator:
            return (tag, BARE_LABEL) if len(tag) == 1 and tag in self.letters else None
        if self.suffix:
            label, _, letter = tag.rpartition(self.separator)
        else:
            letter, _, label = tag.partition(self.separator)
        return (letter, label) if len(letter) == 1 and letter in self.letters and label else None


def detect_form(counts: Mapping[str, int]) -> TagForm:
    """Detect the form of a file's tags from their counts.

    Tags that begin with a hyphen are malformed in every form and do not count.
    """
    outside, given = _without_outside(counts)
    total = sum(given.values())
    if not total:
        return TagForm(outside=outside or (OUTSIDE,))
    bare = {tag.upper() for tag in given}
    if bare <= set(_BIOES) and _is_bare(bare):
        return TagForm("".join(sorted({*given})), "", outside=outside or (OUTSIDE,))
    best, most = TagForm("", ""), 0
    for suffix, separator in _READINGS:
        form = TagForm(_BIOES + _BIOES.lower(), separator, suffix)
        found = Counter({tag: n for tag, n in given.items() if form.parts(tag)})
        letters = _letters(form, found, lower="o" in outside)
        fitting = sum(n for tag, n in found.items() if _letter(form, tag) in letters)
        seen = {_letter(form, tag).upper() for tag in found if _letter(form, tag) in letters}
        # `E-mail` marks no end: an entity that ends begins, too.
        usual = separator == "-" and not suffix and not seen & {*"ELM"}
        sure = usual or bool(seen & {*_BIO})
        if fitting > most and sure:
            best, most = TagForm(letters, separator, suffix), fitting
    if 2 * most < total:
        best = TagForm("", "")
    if OUTSIDE not in outside and not best.letters and outside[:1] not in (("o",), ()):
        outside = outside if outside[0].upper() in _OUTSIDE_NAMES[:_SURE_OUTSIDE] else ()
    return best._replace(outside=outside or (OUTSIDE,))


def unread_positions(tags: Iterable[str]) -> tuple[str, str] | None:
    """Two tags that differ only in a word or letter for a position, such as `BX` and `IX`."""
    seen: dict[tuple[str, str], tuple[str, bool]] = {}
    for tag in sorted(tags):
        first, last = _WORD.split(tag)[0], _WORD.split(tag)[-1]
        parts = [("begins", first, tag.removeprefix(first)), ("ends", last, tag.removesuffix(last))]
        parts += [("begins", tag[:1], tag[1:]), ("ends", tag[-1:], tag[:-1])]
        for side, position, rest in parts:
            found = _POSITIONS.fullmatch(position)
            if found and rest:
                begins = bool(found["b"])
                other = seen.setdefault((side, rest), (tag, begins))
                if other[1] != begins:
                    return other[0], tag
    return None


def is_well_formed(tag: str, form: TagForm) -> bool:
    """Whether a tag has a form, without hidden characters or spaces around its label."""
    if tag in form.outside:
        return True
    parts = None if tag.startswith("-") else form.parts(tag)
    if not parts or not tag.isprintable() or parts[1] != parts[1].strip():
        return False
    if _SEVERAL.search(parts[1]):
        return False
    return bool(form.letters) or not (_LOOKS_PREFIXED.fullmatch(tag) or _NOT_IN_LABELS.search(tag))


def to_bio(tags: Sequence[str], form: TagForm) -> list[str]:
    """Convert well-formed tags to BIO."""
    if form != TagForm():
        tags = _without_ends(form.parts(tag) if tag not in form.outside else None for tag in tags)
    return bio_tags(bio_spans(tags), len(tags))


def describe(form: TagForm, pairs: Mapping[tuple[str, str], int]) -> str:
    """Describe a form to users; "" if all words are outside.

    Args:
        form: form of a file's tags.
        pairs: counts of a word's tag (`O` before the first word) and the next word's tag.
    """
    counts: Counter[str] = Counter()
    begins: Counter[str] = Counter()  # letters at the beginning of entities
    entities = 0
    shown: dict[str, str] = {}  # letters as the file writes them
    for (before, tag), count in pairs.items():
        if tag in form.outside or not (parts := form.parts(tag)):
            continue
        counts[parts[0].upper()] += count
        shown.setdefault(parts[0].upper(), parts[0])
        last = None if before in form.outside else form.parts(before)
        entities += count * (parts[0].upper() in "BSUW" or not last or last[1] != parts[1])
        if not last or last[1] != parts[1]:
            begins[parts[0].upper()] += count
    if not counts:
        return ""
    outside = "" if OUTSIDE in form.outside else f", with '{form.outside[0]}' for O"
    name = _name(form, counts, begins)
    if not form.letters:
        return f"{name} (label){outside}"
    first = next(shown[letter] for letter in _BIO + _BIOES if letter in shown)
    if not form.separator:
        return f"{name} ({first} alone, so the entity type is '{BARE_LABEL}'){outside}"
    pattern = f"label{form.separator}{first}" if form.suffix else f"{first}{form.separator}label"
    text = f"{name} ({pattern}){outside}"
    if name == "BIO" and begins["I"]:
        text += f"; {begins['I']} of {entities} entities begin with I"
    return text


def _name(form: TagForm, counts: Counter[str], begins: Counter[str]) -> str:
    if {*form.letters.upper()} - {*_BIO}:
        if counts["M"] or counts["W"]:
            return "BMEWO" if counts["W"] else "BMES"
        return "BILOU" if counts["L"] or counts["U"] else "BIOES"
    if not counts["B"]:
        return "IO"
    return "IOB1" if begins["I"] and not begins["B"] else "BIO"


def _without_outside(counts: Mapping[str, int]) -> tuple[tuple[str, ...], dict[str, int]]:
    """The tags of words outside entities, and the other tags with their counts."""
    outside = tuple(tag for tag in ("O", "o") if counts.get(tag))
    if not outside:
        named = [tag for tag in counts if tag.upper() in _OUTSIDE_NAMES]
        outside = (named[0],) if len(named) == 1 else ()
    given = {
        tag: n
        for tag, n in counts.items()
        if tag not in outside and tag and not tag.startswith("-")
    }
    return outside, given


def _is_bare(letters: set[str]) -> bool:
    """Whether tags of one letter are positions of one scheme instead of entity types."""
    known = any(letters <= set(each) for each in _LETTER_SETS)
    return known and (letters in ({"B"}, {"I"}) or {"B", "I"} <= letters or {"B", "M"} <= letters)


def _letter(form: TagForm, tag: str) -> str:
    parts = form.parts(tag)
    return parts[0] if parts else ""


def _letters(form: TagForm, found: Mapping[str, int], lower: bool) -> str:
    """Letters of a reading: only B and I unless enough tags mark ends.

    Small letters count if `O` is small too, or if a label has two of them (not `e-mail`).
    """
    upper = Counter[str]()
    small: dict[str, set[str]] = {}
    for tag, count in found.items():
        letter, label = form.parts(tag) or ("", "")
        if letter.islower():
            small.setdefault(label, set()).add(letter)
        else:
            upper[letter] += count
    if lower or any(len(letters) > 1 for letters in small.values()):
        for tag, count in found.items():
            if (letter := _letter(form, tag)).islower():
                upper[letter.upper()] += count
        lower = True
    ends = sum(n for letter, n in upper.items() if letter not in _BIO)
    letters = _BIOES if ends and ends >= _LEAST_SHARE * upper.total() else _BIO
    return letters + (letters.lower() if lower else "")


def _without_ends(parts: Iterable[tuple[str, str] | None]) -> list[str]:
    """BIO or IOB1 tags of letters and labels; None: outside."""
    result = []
    within = ""  # label of the entity that may continue
    for part in parts:
        if part is None:
            result.append(OUTSIDE)
            within = ""
            continue
        letter, label = part[0].upper().translate(_MEANING), part[1]
        begins = letter in "BS" or label != within
        result.append(f"{'B' if begins else 'I'}-{label}")
        within = "" if letter in "ES" else label
    return result
