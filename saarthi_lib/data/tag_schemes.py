"""The ways in which CoNLL files write entities as tags, all brought to BIO.

BIO, IOB1 and IO with `I-` are read alike: `B-X` begins an entity, and so does an `I-X` that no `X`
stands before. BIOES (and BILOU, which writes L for E and U for S) also mark ends; IO without
prefixes has bare labels.
"""

import re
from collections.abc import Mapping, Sequence

from saarthi_lib.tasks import OUTSIDE, bio_spans, bio_tags

_PREFIXED = {
    "bio": re.compile(r"[BI]-(.+)"),
    "bioes": re.compile(r"[BIESLU]-(.+)"),
    "io": re.compile(r"((?!-).+)"),
}
# Fewer tags that mark ends than this share of all are slips of BIO.
_LEAST_SHARE = 0.05


def detect_scheme(counts: Mapping[str, int]) -> str:
    """Tell a file's scheme from how often it has each tag: "bio", "bioes" or "io".

    Tags that begin with a hyphen are malformed in every scheme and do not count.
    """
    given = {tag: n for tag, n in counts.items() if tag != OUTSIDE and not tag.startswith("-")}
    total = sum(given.values())
    prefixed = {tag: n for tag, n in given.items() if _PREFIXED["bioes"].fullmatch(tag)}
    if 2 * sum(prefixed.values()) < total:
        return "io"
    ends = sum(n for tag, n in prefixed.items() if tag[0] in "ESLU")
    return "bioes" if ends and ends >= _LEAST_SHARE * total else "bio"


def is_well_formed(tag: str, scheme: str) -> bool:
    """Whether a tag is of the scheme and has no hidden characters or spaces around its label."""
    if tag == OUTSIDE:
        return True
    label = _PREFIXED[scheme].fullmatch(tag)
    return bool(label) and tag.isprintable() and label[1] == label[1].strip()  # type: ignore[index]


def to_bio(tags: Sequence[str], scheme: str) -> list[str]:
    """Write well-formed tags of a scheme as BIO."""
    if scheme == "io":
        tags = [tag if tag == OUTSIDE else f"I-{tag}" for tag in tags]
    elif scheme == "bioes":
        tags = _without_ends(tags)
    return bio_tags(bio_spans(tags), len(tags))


def _without_ends(tags: Sequence[str]) -> list[str]:
    result = []
    within = ""  # label of the entity that may go on
    for tag in tags:
        prefix, _, label = tag.partition("-")
        if tag == OUTSIDE:
            result.append(tag)
        else:
            begins = prefix in "BSU" or label != within
            result.append(f"{'B' if begins else 'I'}-{label}")
        within = "" if prefix in "OESLU" else label
    return result
