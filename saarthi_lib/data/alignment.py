"""Transfer tags between the words of a labelled file and the words of the service.

Both are character spans of one normalized text, in order, without overlap. A span may be empty: a
word that normalization removes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

from saarthi_lib.tasks import OUTSIDE, bio_tags

Span = tuple[int, int]


def first_overlaps(words: Sequence[Span], others: Sequence[Span]) -> list[int | None]:
    """For each word, the first of the other words that shares a character with it."""
    found: list[int | None] = []
    at = 0
    for start, end in words:
        while at < len(others) and (others[at][1] <= start or others[at][0] == others[at][1]):
            at += 1
        shares = at < len(others) and others[at][0] < end and start < end
        found.append(at if shares else None)
    return found


def cut_at_entities(
    words: Sequence[Span], entities: Sequence[tuple[int, int, str]]
) -> tuple[list[Span], list[str]]:
    """Cut words where an entity begins or ends inside them, so that entities keep their spans.

    Args:
        words: words of the service.
        entities: `(start, end, label)` in characters, in order, without overlap. An empty entity
            gets an empty word, which no prediction can find.

    Returns:
        The spans and their BIO tags.
    """
    bounds = sorted({bound for start, end, _ in entities for bound in (start, end)})
    spans: list[Span] = []
    for start, end in words:
        inner = bounds[bisect_right(bounds, start) : bisect_left(bounds, end)]
        spans += pairwise([start, *inner, end])
    for start, end, _ in entities:
        if start == end or not any(start <= left < right <= end for left, right in spans):
            spans.append((start, start))
    spans.sort()
    tagged: list[tuple[int, int, str]] = []
    at = 0
    for start, end, label in entities:
        while spans[at][0] < start:
            at += 1
        after = at + 1
        while after < len(spans) and spans[after][0] < spans[after][1] <= end:
            after += 1
        tagged.append((at, after, label))
        at = after
    return spans, bio_tags(tagged, len(spans))


def tags_of_words(
    words: Sequence[Span], given: Sequence[Span], tags: Sequence[str], *, bio: bool
) -> list[str | None]:
    """Tags of the service's words from the tags of other words.

    A word has the tag of the first given word that it shares a character with. The parts of a split
    word therefore all have its tag.

    Args:
        words: words of the service.
        given: words that have tags.
        tags: tags of the given words.
        bio: whether the tags are BIO. A word outside all given words then gets the tag "O",
            otherwise None.
    """
    owners = first_overlaps(words, given)
    if not bio:
        return [None if owner is None else tags[owner] for owner in owners]
    found: list[str | None] = []
    before, tag = None, OUTSIDE
    for owner in owners:
        last, tag = tag, OUTSIDE if owner is None else tags[owner]
        if tag != OUTSIDE:
            continues = owner == before or (tag[:2] == "I-" and last[2:] == tag[2:])
            tag = f"{'I' if continues else 'B'}-{tag[2:]}"
        found.append(tag)
        before = owner
    return found


def parts_of(given: Sequence[Span], words: Sequence[Span]) -> list[list[int]]:
    """For each given word, its parts among the words of the service.

    A word belongs to the first given word that it overlaps. If a word of the service covers several
    given words, it is the part of each. Empty words lack parts.
    """
    parts: list[list[int]] = [[] for _ in given]
    for index, owner in enumerate(first_overlaps(words, given)):
        if owner is not None:
            parts[owner].append(index)
    for index, covering in enumerate(first_overlaps(given, words)):
        if not parts[index] and covering is not None:
            parts[index].append(covering)
    return parts
