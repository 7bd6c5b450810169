"""Detect the scheme of entity tags in CoNLL files, and convert the tags to BIO.

BIO, IOB1 and IO with `I-` are read alike: an entity begins at `B-X`, or at an `I-X` after another
label. BIOES (and BILOU, with L for E and U for S) also mark ends; IO without prefixes has only
labels.
"""

import re
from collections.abc import Mapping, Sequence

from saarthi_lib.tasks import OUTSIDE, bio_spans, bio_tags

_PREFIXED = {
    "bio": re.compile(r"[BI]-(.+)"),
    "bioes": re.compile(r"[BIESLU]-(.+)"),
    "io": re.compile(r"((?!-).+)"),
}
# A lower share of tags that mark ends means errors in BIO.
_LEAST_SHARE = 0.05


def detect_scheme(counts: Mapping[str, int]) -> str:
    """Detect a file's scheme from the counts of its tags: "bio", "bioes" or "io".

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
    """Whether a tag fits the scheme, without hidden characters or spaces around its label."""
    if tag == OUTSIDE:
        return True
    label = _PREFIXED[scheme].fullmatch(tag)
    return bool(label) and tag.isprintable() and label[1] == label[1].strip()  # type: ignore[index]


def to_bio(tags: Sequence[str], scheme: str) -> list[str]:
    """Convert well-formed tags of a scheme to BIO."""
    if scheme == "io":
        tags = [tag if tag == OUTSIDE else f"I-{tag}" for tag in tags]
    elif scheme == "bioes":
        tags = _without_ends(tags)
    return bio_tags(bio_spans(tags), len(tags))


def _without_ends(tags: Sequence[str]) -> list[str]:
    result = []
    within = ""  # label of the entity that may continue
    for tag in tags:
        prefix, _, label = tag.partition("-")
        if tag == OUTSIDE:
            result.append(tag)
        else:
            begins = prefix in "BSU" or label != within
            result.append(f"{'B' if begins else 'I'}-{label}")
        within = "" if prefix in "OESLU" else label
    return result
