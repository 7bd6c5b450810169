"""What a task is: its heads, its labels, and how tag sequences are read.

A task has a `sequence` head (one label for the text), a `token` head (one tag for each word), or
both (`joint`). Everything else follows from that.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from saarthi_lib.errors import BundleError
from saarthi_lib.storage import parse_json

HEADS: dict[str, tuple[str, ...]] = {
    "intent_classification": ("sequence",),
    "text_classification": ("sequence",),
    "ner": ("token",),
    "pos": ("token",),
    "joint": ("sequence", "token"),
}
OUTSIDE = "O"
# The class of texts that no answer fits; a head that has it has it last, and it is never answered.
OUT_OF_SCOPE = "(out of scope)"


def has_sequence_head(task: str) -> bool:
    """Whether the task gives the whole text a label."""
    return "sequence" in HEADS[task]


def has_token_head(task: str) -> bool:
    """Whether the task gives each word a tag."""
    return "token" in HEADS[task]


def uses_bio(task: str) -> bool:
    """Whether the task's tags are BIO spans (NER, slots) rather than one tag a word (POS)."""
    return task in ("ner", "joint")


@dataclass(frozen=True)
class Labels:
    """The label names of each head, in the order of the head's columns; an absent head has none."""

    sequence: tuple[str, ...] = ()
    token: tuple[str, ...] = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """The labels that a text can be given: all but the class of those out of scope."""
        return self.sequence[:-1] if self.sequence[-1:] == (OUT_OF_SCOPE,) else self.sequence

    def abstaining(self) -> "Labels":
        """The same with a class of texts that no answer fits."""
        return replace(self, sequence=(*self.answers, OUT_OF_SCOPE))

    @classmethod
    def load(cls, path: str | Path) -> "Labels":
        """Read `labels.json`.

        Raises:
            BundleError: the file cannot be read or does not hold two lists of strings.
        """
        try:
            return cls.parse(Path(path).read_bytes(), path)
        except OSError as error:
            raise BundleError(
                f"{path}: cannot be read as labels ({error}); write the bundle again"
            ) from error

    @classmethod
    def parse(cls, content: bytes, path: str | Path) -> "Labels":
        """Read the content of a `labels.json`; `path` is for the error's message.

        Raises:
            BundleError: it does not hold two lists of strings.
        """
        try:
            parsed = parse_json(content)
            heads = {head: parsed[head] for head in ("sequence", "token")}
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(
                f"{path}: cannot be read as labels ({error}); write the bundle again"
            ) from error
        for head, names in heads.items():
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise BundleError(
                    f"{path}: {head!r} must be a list of strings; write the bundle again"
                )
        return cls(tuple(heads["sequence"]), tuple(heads["token"]))

    def save(self, path: str | Path) -> None:
        """Write `labels.json`."""
        content = {"sequence": list(self.sequence), "token": list(self.token)}
        text = json.dumps(content, ensure_ascii=False, indent=2)
        Path(path).write_text(text + "\n", encoding="utf-8")


def bio_spans(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Read BIO tags as spans `(first word, last word + 1, label)`.

    A stray `I-X`, with no `X` span before it, opens a span, as in the CoNLL evaluation script.
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


def decode_tags(log_probs: npt.NDArray[np.floating], labels: Sequence[str], bio: bool) -> list[int]:
    """Choose the most probable tag sequence, by Viterbi when the tags are BIO.

    Args:
        log_probs: log-probabilities, [words, tags].
        labels: the tags, in the order of the columns.
        bio: whether illegal BIO transitions (`O` or another type before `I-X`) are ruled out.

    Returns:
        The index of each word's tag.
    """
    words = log_probs.shape[0]
    greedy: list[int] = log_probs.argmax(axis=-1).tolist()
    if not bio or _is_legal([labels[tag] for tag in greedy]):
        return greedy
    allowed = np.where(_legal_transitions(tuple(labels)), 0.0, -np.inf)
    starts = np.array([-np.inf if name.startswith("I-") else 0.0 for name in labels])
    score = log_probs[0] + starts
    back = np.zeros((words, len(labels)), dtype=np.int64)
    for word in range(1, words):
        candidates = score[:, None] + allowed
        back[word] = candidates.argmax(axis=0)
        score = candidates.max(axis=0) + log_probs[word]
    path = [int(score.argmax())]
    for word in range(words - 1, 0, -1):
        path.append(int(back[word, path[-1]]))
    return path[::-1]


def _is_legal(tags: Sequence[str]) -> bool:
    before = OUTSIDE
    for tag in tags:
        if tag.startswith("I-") and before[2:] != tag[2:]:
            return False
        before = tag
    return True


@lru_cache(maxsize=16)
def _legal_transitions(labels: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """[from, to]: `I-X` only after `B-X` or `I-X`; anything else after anything."""
    return np.array(
        [[not to.startswith("I-") or before[2:] == to[2:] for to in labels] for before in labels]
    )
