"""Tasks: their heads, their labels, and the decoding of tag sequences.

A task has a `sequence` head (one label for the text), a `token` head (one tag for each word), or
both (`joint`). The heads decide everything else.
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
# In nats. A tag that is this far below its word's best tag is almost never on the best path.
_FAR = 8.0
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


@dataclass(frozen=True)
class Labels:
    """Label names of each head, in the order of the head's columns; empty for a missing head.

    Attributes:
        sequence: labels of a text.
        token: tags of a word.
        slots: for each of the `answers`, the entities in its training rows; empty if unknown or if
            the task has one head.
        rows: for each of the `answers`, the number of its training rows.
        following: for each BIO tag, the tags of the next words in the training rows, with their
            counts; empty if unknown.
    """

    sequence: tuple[str, ...] = ()
    token: tuple[str, ...] = ()
    slots: tuple[tuple[str, ...], ...] = ()
    rows: tuple[int, ...] = ()
    following: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def answers(self) -> tuple[str, ...]:
        """Possible answers: all labels of a text except `OUT_OF_SCOPE`."""
        return self.sequence[:-1] if self.sequence[-1:] == (OUT_OF_SCOPE,) else self.sequence

    def abstaining(self) -> "Labels":
        """Return the same labels with the class `OUT_OF_SCOPE`."""
        return replace(self, sequence=(*self.answers, OUT_OF_SCOPE))

    @cached_property
    def unseen(self) -> npt.NDArray[np.float32] | None:
        """Costs of entities that do not occur with the text's label in the training rows.

        The cost is the log-probability of an event that n rows have not shown, by the rule of
        succession: -log(n + 2).

        Returns:
            [labels, tags], zero for pairs that occur; None if `slots` is empty.
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
        """Tag transition costs; infinite where invalid.

        The cost is half of a negative pointwise mutual information of two successive tags (Church
        and Hanks 1990). A network that tags word by word knows the neighboring tags only in part.
        Smoothing adds one transition from each tag, drawn from all tags.

        Returns:
            [tags + 1, tags], at most zero; the last row has the costs of the first word's tag.
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
                valid = costs[before, index]
                costs[:, index] = -np.inf
                costs[before, index] = valid
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
        """Read the content of a `labels.json`; errors name `path`.

        Raises:
            BundleError: it does not hold labels.
        """

        def require(valid: bool, message: str) -> None:
            if not valid:
                raise BundleError(f"{path}: {message}; write the bundle again")

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
            require(_are_strings(names), f"{head!r} must be a list of strings")
        labels = cls(tuple(heads["sequence"]), tuple(heads["token"]), following=following)
        require(_are_counts_of(following, labels.token), "'following' must count tags for each tag")
        if slots == rows == []:
            return labels
        answers = len(labels.answers)
        require(
            isinstance(slots, list) and len(slots) == answers and all(map(_are_strings, slots)),
            "'slots' must be a list of strings for each label",
        )
        require(
            isinstance(rows, list) and len(rows) == answers and _are_counts(rows),
            "'rows' must be a count for each label",
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


def decode(
    task: str,
    labels: Labels,
    label_scores: npt.NDArray[np.floating] | None,
    tag_scores: npt.NDArray[np.floating],
) -> tuple[int | None, list[int]]:
    """Choose the tags of a text, and its label if the task has one, from a network's scores.

    Args:
        task: the task; tags that are not BIO are chosen word by word.
        labels: names of labels and tags.
        label_scores: logits or log-probabilities, [labels]; None for tasks without a text label.
        tag_scores: logits or log-probabilities, [words, tags].

    Returns:
        The index of the label, or None, and the index of each word's tag.
    """
    if label_scores is not None:
        return decode_joint(label_scores, tag_scores, labels)
    if not uses_bio(task):
        return None, tag_scores.argmax(axis=-1).tolist()
    return None, decode_spans(tag_scores, labels)


def decode_spans(scores: npt.NDArray[np.floating], labels: Labels) -> list[int]:
    """Choose the most probable BIO tags of a text, by Viterbi over `Labels.transitions`.

    Transition costs are at most zero, so a path scores at most the sum of each word's best tag. The
    best path has no tag that is further below its word's best tag than the total loss of any other
    path.

    Args:
        scores: logits or log-probabilities, [words, tags].
        labels: tags in the order of the columns.

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
    # A valid greedy path bounds the best path's loss. An invalid one does not, so widen the search.
    for margin in (cost,) if cost < np.inf else (_FAR, np.inf):
        near = ~(scores < (most - margin)[:, None])  # written like this, NaN stays
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
    """Choose the most probable combination of a label and tags.

    `Labels.unseen` is the cost of an entity that does not occur with a label in the training rows.
    A confident head therefore overrules an uncertain one. A new combination stays possible if both
    heads are confident.

    Args:
        label_scores: logits or log-probabilities, [labels].
        tag_scores: logits or log-probabilities, [words, tags].
        labels: names of labels and tags, with the entities of each label.

    Returns:
        The index of the label, and the index of each word's tag.
    """
    label = int(label_scores.argmax())
    tags = decode_spans(tag_scores, labels)
    if labels.unseen is None or not labels.unseen[label, tags].any():
        return label, tags  # the best label and the best tags go together
    words = np.arange(len(tags))

    def total(scores: npt.NDArray[np.floating], tags: list[int]) -> float:
        return float(scores[words, tags].sum()) + _cost(np.array(tags), labels)

    # Upper bound for each label: its score with these tags, without costs of unseen entities.
    free = label_scores + total(tag_scores, tags)
    most, best = -np.inf, (label, tags)
    for candidate in (-free).argsort(kind="stable").tolist():
        if free[candidate] <= most:
            break
        costly = tag_scores + labels.unseen[candidate]
        tags = decode_spans(costly, labels)
        score = label_scores[candidate] + total(costly, tags)
        if score > most:
            most, best = score, (candidate, tags)
    return best


def _cost(path: npt.NDArray[np.int64], labels: Labels) -> float:
    """Sum of the transition costs of a path: at most zero."""
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
    """Find the best path among the near tags, by Viterbi from the first unsure word to the last.

    Args:
        scores: logits or log-probabilities, [words, tags].
        best: each word's best tag, [words].
        near: whether a tag may be on the path; true for each word's best tag, [words, tags].
        costs: `Labels.transitions`.
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
