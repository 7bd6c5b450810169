"""What a task is: its heads, its labels, and how tag sequences are read.

A task has a `sequence` head (one label for the text), a `token` head (one tag for each word), or
both (`joint`). Everything else follows from that.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
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
# In nats; of two tags of a word this far apart the other is hardly ever on a best path.
_FAR = 8.0
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
        following: of each BIO tag, the tags of the words that followed it in the training rows, and
            how often each did; empty where this is not known.
    """

    sequence: tuple[str, ...] = ()
    token: tuple[str, ...] = ()
    slots: tuple[tuple[str, ...], ...] = ()
    rows: tuple[int, ...] = ()
    following: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

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

    @cached_property
    def transitions(self) -> npt.NDArray[np.float32]:
        """What it costs a BIO tag to follow another; where it may not, everything.

        Half the pointwise mutual information of the two (Church and Hanks 1990) where that is
        negative: a network that tags word by word knows the tags beside it only in part. After each
        tag one more counts as seen, drawn from all tags.

        Returns:
            [tags + 1, tags], none above zero; the last row is of the tags that begin a text.
        """
        place = {tag: index for index, tag in enumerate(self.token)}
        counts = np.zeros((len(self.token) + 1, len(self.token)))
        for tag, after in self.following.items():
            for next_tag, count in after.items():
                counts[place[tag], place[next_tag]] = count
        share = counts.sum(axis=0) + 1
        share /= share.sum()
        lift = (counts / share + 1) / (counts.sum(axis=1, keepdims=True) + 1)
        costs = 0.5 * np.log(np.minimum(lift, 1.0))
        for index, tag in enumerate(self.token):
            if tag.startswith("I-"):
                before = [place.get(f"{half}{tag[1:]}", index) for half in "BI"]
                legal = costs[before, index]
                costs[:, index] = -np.inf
                costs[before, index] = legal
        return costs.astype(np.float32)

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
            following = parsed.get("following", {})
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
        if not _are_counts_of(following, labels.token):
            raise BundleError(
                f"{path}: 'following' must be a count of tags for each tag; write the bundle again"
            )
        labels = replace(labels, following=following)
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
        if not isinstance(rows, list) or not _are_counts(rows) or len(rows) != answers:
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
    label_scores: npt.NDArray[np.floating] | None,
    tag_scores: npt.NDArray[np.floating],
) -> tuple[int | None, list[int]]:
    """What a network with a token head answers: the label, where there is one, and the tags.

    Args:
        task: which tells whether the tags are BIO; others are chosen word by word.
        labels: the names of both.
        label_scores: logits or log-probabilities, [labels]; None where a text has no label.
        tag_scores: logits or log-probabilities, [words, tags].

    Returns:
        The index of the label, or None, and of each word's tag.
    """
    if label_scores is not None:
        return decode_joint(label_scores, tag_scores, labels)
    if not uses_bio(task):
        return None, tag_scores.argmax(axis=-1).tolist()
    return None, decode_spans(tag_scores, labels)


def decode_spans(scores: npt.NDArray[np.floating], labels: Labels) -> list[int]:
    """Choose the most probable BIO tags of a text, by Viterbi over `Labels.transitions`.

    Transitions only cost. So no tags are more probable than each word's best, and a tag that is
    further below its word's best than another path loses in all is not on the best path.

    Args:
        scores: logits or log-probabilities, [words, tags].
        labels: the tags, in the order of the columns.

    Returns:
        The index of each word's tag.
    """
    best = scores.argmax(axis=-1)
    cost = -_cost(best, labels)
    if cost == 0:
        return best.tolist()
    words = np.arange(len(best))
    most = scores[words, best]
    path = best
    # What is legal bounds what the best path loses; what is not does not.
    for margin in (cost,) if cost < np.inf else (_FAR, np.inf):
        near = ~(scores < (most - margin)[:, None])  # so written, what is no number is kept
        if margin == cost and np.count_nonzero(near) == len(best):
            break
        path = _best_path(scores, best, near, labels.transitions)
        lost = np.add.reduce(most - scores[words, path]) - _cost(path, labels)
        if lost <= margin:
            break
    return path.tolist()


def decode_joint(
    label_scores: npt.NDArray[np.floating],
    tag_scores: npt.NDArray[np.floating],
    labels: Labels,
) -> tuple[int, list[int]]:
    """Choose the label and the tags of a text that are most probable together.

    An entity that a label was never seen with costs what `Labels.unseen` says, so that a sure head
    overrules a wavering one, and a combination that is new but clear stays possible.

    Args:
        label_scores: logits or log-probabilities, [labels].
        tag_scores: logits or log-probabilities, [words, tags].
        labels: the names, and which entities were seen with which label.

    Returns:
        The index of the label, and of each word's tag.
    """
    label = int(label_scores.argmax())
    tags = decode_spans(tag_scores, labels)
    if labels.unseen is None or not labels.unseen[label, tags].any():
        return label, tags  # the best of either is the best of both
    words = np.arange(len(tags))

    def worth(scores: npt.NDArray[np.floating], tags: list[int]) -> float:
        return float(scores[words, tags].sum()) + _cost(np.array(tags), labels)

    # What each label is at best worth: with these tags, as if it had been seen with all of them.
    free = label_scores + worth(tag_scores, tags)
    most, best = -np.inf, (label, tags)
    for candidate in (-free).argsort(kind="stable").tolist():
        if free[candidate] <= most:
            break
        costly = tag_scores + labels.unseen[candidate]
        tags = decode_spans(costly, labels)
        score = label_scores[candidate] + worth(costly, tags)
        if score > most:
            most, best = score, (candidate, tags)
    return best


def _cost(path: npt.NDArray[np.int64], labels: Labels) -> float:
    """What the transitions of a path cost: zero or less."""
    if not len(path):
        return 0.0
    costs = labels.transitions
    return float(costs[-1, path[0]] + np.add.reduce(costs[path[:-1], path[1:]]))


def _best_path(
    scores: npt.NDArray[np.floating],
    best: npt.NDArray[np.int64],
    near: npt.NDArray[np.bool_],
    costs: npt.NDArray[np.floating],
) -> npt.NDArray[np.int64]:
    """The best path of the tags that are near, by Viterbi from the first unsure word to the last.

    Args:
        scores: [words, tags].
        best: each word's best tag, [words].
        near: the tags that may be on the path, among them each word's best, [words, tags].
        costs: as `Labels.transitions`.
    """
    unsure = np.flatnonzero(np.add.reduce(near, axis=1) > 1)
    if not len(unsure):
        return best
    first, after = unsure[0], unsure[-1] + 1
    tags = np.flatnonzero(near[first:after].any(axis=0))
    score = scores[first, tags] + costs[best[first - 1] if first else -1, tags]
    between = costs[tags[:, None], tags]
    sources = []
    for word in scores[first + 1 : after, tags]:
        through = score[:, None] + between
        sources.append(through.argmax(axis=0))
        score = np.maximum.reduce(through) + word
    if after < len(best):
        score = score + costs[tags, best[after]]
    last = [score.argmax()]
    for source in reversed(sources):
        last.append(source[last[-1]])
    return np.concatenate([best[:first], tags[last[::-1]], best[after:]])


def _are_strings(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _are_counts(numbers: Iterable[object]) -> bool:
    return all(type(number) is int and 0 <= number < 2**53 for number in numbers)


def _are_counts_of(following: object, tags: Sequence[str]) -> bool:
    known = set(tags)
    return isinstance(following, dict) and all(
        tag in known
        and isinstance(after, dict)
        and known.issuperset(after)
        and _are_counts(after.values())
        for tag, after in following.items()
    )
