"""Heads of the tasks, and BIO tags as spans."""

from collections.abc import Sequence

HEADS: dict[str, tuple[str, ...]] = {
    "intent_classification": ("sequence",),
    "text_classification": ("sequence",),
    "ner": ("token",),
    "pos": ("token",),
    "joint": ("sequence", "token"),
}
OUTSIDE = "O"
# Class of out-of-scope texts, always the last of its head. Services never answer it.
OUT_OF_SCOPE = "(out of scope)"


def has_sequence_head(task: str) -> bool:
    """Whether the task labels the whole text."""
    return "sequence" in HEADS[task]


def has_token_head(task: str) -> bool:
    """Whether the task tags each word."""
    return "token" in HEADS[task]


def uses_bio(task: str) -> bool:
    """Whether the tags are BIO spans (NER, slots) instead of one tag for each word (POS)."""
    return task in ("ner", "joint")


def bio_spans(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Read BIO tags as spans `(first word, last word + 1, label)`.

    An `I-X` without an `X` span before it opens a span, as in the CoNLL evaluation script.
    """
    spans: list[tuple[int, int, str]] = []
    start, label = 0, ""
    for position, tag in enumerate([*tags, OUTSIDE]):
        prefix, _, name = tag.partition("-")
        if label and (prefix != "I" or name != label):
            spans.append((start, position, label))
            label = ""
        if prefix == "B" or (prefix == "I" and not label):
            start, label = position, name
    return spans


def bio_tags(spans: Sequence[tuple[int, int, str]], words: int) -> list[str]:
    """Write spans `(first word, last word + 1, label)` as BIO tags of `words` words."""
    tags = [OUTSIDE] * words
    for start, end, label in spans:
        tags[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
    return tags
