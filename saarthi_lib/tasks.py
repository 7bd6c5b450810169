"""What a task is: its heads, its labels, and how tag sequences are read.

A task has a `sequence` head (one label for the text), a `token` head (one tag for each word), or
both (`joint`). Everything else follows from that.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
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
    """The label names of each head, in the order of the head's columns; an absent head has none.

    Attributes:
        sequence: labels of a text.
        token: tags of a word.
        slots: of each of the `answers`, the entities that its training rows hold, where a task has
            both; empty where this is not known.
        rows: how many training rows those are.
    """

    sequence: tuple[str, ...] = ()
    token: tuple[str, ...] = ()
    slots: tuple[tuple[str, ...], ...] = ()
    rows: tuple[int, ...] = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """The labels that a text can be given: all but the class of those out of scope."""
        return self.sequence[:-1] if self.sequence[-1:] == (OUT_OF_SCOPE,) else self.sequence

    def abstaining(self) -> "Labels":
        """The same with a class of texts that no answer fits."""
        return replace(self, sequence=(*self.answers, OUT_OF_SCOPE))

    @cached_property
    def unseen(self) -> npt.NDArray[np.float32] | None:
        """What it costs a tag to open an entity that its text's label was never seen with.

        The log-probability of what n rows have not shown, by the rule of succession: -log(n + 2).

        Returns:
            [labels, tags], zero for what was seen; None where `slots` is empty.
        """
        if not self.slots:
            return None
        costs = np.zeros((len(self.sequence), len(self.token)), np.float32)
        for row, (kinds, count) in enumerate(zip(self.slots, self.rows, strict=True)):
            for column, tag in enumerate(self.token):
                if tag.startswith("B-") and tag[2:] not in kinds:
                    costs[row, column] = -np.log(count + 2)
        return costs

    @classmethod
    def load(cls, path: str | Path) -> "Labels":
        """Read `labels.json`.

        Raises:
            BundleError: the file cannot be read or does not hold labels.
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
            BundleError: it does not hold labels.
        """
        try:
            parsed = parse_json(content)
            heads = {head: parsed[head] for head in ("sequence", "token")}
            slots, rows = parsed.get("slots", []), parsed.get("rows", [])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(
                f"{path}: cannot be read as labels ({error}); write the bundle again"
            ) from error
        for head, names in heads.items():
            if not _are_strings(names):
                raise BundleError(
                    f"{path}: {head!r} must be a list of strings; write the bundle again"
                )
        labels = cls(tuple(heads["sequence"]), tuple(heads["token"]))
        if slots == rows == []:
            return labels
        answers = len(labels.answers)
        if (
            not isinstance(slots, list)
            or len(slots) != answers
            or not all(map(_are_strings, slots))
        ):
            raise BundleError(
                f"{path}: 'slots' must be a list of strings for each label; write the bundle again"
            )
        counted = isinstance(rows, list) and all(type(n) is int and 0 <= n < 2**53 for n in rows)
        if not counted or len(rows) != answers:
            raise BundleError(
                f"{path}: 'rows' must be a count for each label; write the bundle again"
            )
        return replace(labels, slots=tuple(map(tuple, slots)), rows=tuple(rows))

    def save(self, path: str | Path) -> None:
        """Write `labels.json`."""
        content = {
            name: value for name, value in asdict(self).items() if value or name in HEADS["joint"]
        }
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


def decode(
    task: str,
    labels: Labels,
    label_log_probs: npt.NDArray[np.floating] | None,
    tag_log_probs: npt.NDArray[np.floating],
) -> tuple[int | None, list[int]]:
    """What a network with a token head answers: the label, where there is one, and the tags.

    Args:
        task: which tells whether the tags are BIO.
        labels: the names of both.
        label_log_probs: [labels]; None where the task gives a text no label.
        tag_log_probs: [words, tags].

    Returns:
        The index of the label, or None, and of each word's tag.
    """
    if label_log_probs is None:
        return None, decode_tags(tag_log_probs, labels.token, uses_bio(task))
    return decode_joint(label_log_probs, tag_log_probs, labels)


def decode_tags(log_probs: npt.NDArray[np.floating], labels: Sequence[str], bio: bool) -> list[int]:
    """Choose the most probable tag sequence, by Viterbi when the tags are BIO.

    Args:
        log_probs: log-probabilities, [words, tags].
        labels: the tags, in the order of the columns.
        bio: whether illegal BIO transitions (`O` or another type before `I-X`) are ruled out.

    Returns:
        The index of each word's tag.
    """
    greedy: list[int] = log_probs.argmax(axis=-1).tolist()
    if not bio or _is_legal([labels[tag] for tag in greedy]):
        return greedy
    path: list[int] = _viterbi(log_probs, tuple(labels)).tolist()
    return path


def decode_joint(
    label_log_probs: npt.NDArray[np.floating],
    tag_log_probs: npt.NDArray[np.floating],
    labels: Labels,
) -> tuple[int, list[int]]:
    """Choose the label and the tags of a text that are most probable together.

    An entity that a label was never seen with costs what `Labels.unseen` says, so that a sure head
    overrules a wavering one, and a combination that is new but clear stays possible.

    Args:
        label_log_probs: [labels].
        tag_log_probs: [words, tags].
        labels: the names, and which entities were seen with which label.

    Returns:
        The index of the label, and of each word's tag.
    """
    label = int(label_log_probs.argmax())
    tags = decode_tags(tag_log_probs, labels.token, bio=True)
    if labels.unseen is None or not labels.unseen[label, tags].any():
        return label, tags  # the best of either is the best of both
    words = np.arange(len(tags))
    free = label_log_probs + tag_log_probs[words, tags].sum()  # what no label's best is above
    found = free[label] + labels.unseen[label, tags].sum()
    candidates = np.flatnonzero(~(free < found))  # so written, what is no number is kept
    costly = tag_log_probs + labels.unseen[candidates, None, :]  # [candidates, words, tags]
    paths = _viterbi(costly, tuple(labels.token))
    of_tags = np.take_along_axis(costly, paths[..., None], axis=2).sum(axis=(1, 2))
    best = int((label_log_probs[candidates] + of_tags).argmax())
    return int(candidates[best]), paths[best].tolist()


def _viterbi(log_probs: npt.NDArray[np.floating], labels: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """The most probable legal BIO tags, [..., words], of log-probabilities [..., words, tags].

    Only `I-X` has not every tag before it, so that a word costs as many comparisons as tags.
    """
    inside, begin = _bio_structure(labels)
    own = np.arange(len(labels))
    score = np.where(inside, -np.inf, log_probs[..., 0, :])
    before = []
    for word in range(1, log_probs.shape[-2]):
        begun = score[..., begin]
        source = np.where(begun >= score, begin, own)
        source = np.where(inside, source, score.argmax(axis=-1)[..., None])
        score = np.take_along_axis(score, source, axis=-1) + log_probs[..., word, :]
        before.append(source)
    path = [score.argmax(axis=-1)[..., None]]
    for source in reversed(before):
        path.append(np.take_along_axis(source, path[-1], axis=-1))
    return np.concatenate(path[::-1], axis=-1)


def _are_strings(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _is_legal(tags: Sequence[str]) -> bool:
    before = OUTSIDE
    for tag in tags:
        if tag.startswith("I-") and before[2:] != tag[2:]:
            return False
        before = tag
    return True


@lru_cache(maxsize=16)
def _bio_structure(labels: tuple[str, ...]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Which tags are `I-X`, and where the `B-X` of each is; without one, the tag itself."""
    place = {name: index for index, name in enumerate(labels)}
    begin = [place.get("B" + name[1:], place[name]) for name in labels]
    return np.array([name.startswith("I-") for name in labels]), np.array(begin)
