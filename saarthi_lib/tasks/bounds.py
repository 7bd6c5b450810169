"""Upper bounds of joint scores, for all labels of a task at once.

A bound is the score of the best path in a smaller problem. The path alternates between words
without an entity, entities that the label has in the training rows (each kind apart), and other
entities (all kinds together, at the label's cost). A transition between two of these parts costs
what the cheapest pair of their tags costs. All tags and paths stay possible, so no real path scores
more.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_NEVER = np.float32(-np.inf)
_LONGEST = 12  # words of an entity; in longer ones of unseen kinds the kinds may change
Floats: TypeAlias = npt.NDArray[np.float32]
Places: TypeAlias = npt.NDArray[np.intp]


class LabelBounds:
    """Upper bounds of the scores of labels with any tags.

    Args:
        tags: BIO tags.
        costs: `Labels.transitions`.
        slots: `Labels.slots`.
        rows: `Labels.rows`.
    """

    def __init__(
        self,
        tags: Sequence[str],
        costs: npt.NDArray[np.float32],
        slots: Sequence[Sequence[str]],
        rows: Sequence[int],
    ) -> None:
        place = {tag: index for index, tag in enumerate(tags)}
        kinds = [tag[2:] for tag in tags if tag.startswith("B-")]
        # The padding holds a tag that never occurs, for kinds without an `I-` tag.
        padded = np.pad(costs[:-1], ((0, 1), (0, 1)), constant_values=_NEVER)
        self._begin = np.array([place[f"B-{kind}"] for kind in kinds], int)
        self._inside = np.array([place.get(f"I-{kind}", len(tags)) for kind in kinds], int)
        outside = [at for at, tag in enumerate(tags) if tag[:2] not in ("B-", "I-")]
        self._outside = np.array(outside or [len(tags)], int)
        self._first = np.append(costs[-1], _NEVER)
        ends = (self._begin, self._inside)
        self._inner = np.maximum(*(padded[end, self._inside] for end in ends))
        between = np.maximum(*(padded[end][:, self._begin] for end in ends))
        to_outside = np.maximum(*(padded[end][:, self._outside].max(axis=1) for end in ends))
        from_outside = padded[self._outside]
        self._outside_outside = from_outside[:, self._outside].max()
        self._unseen_outside = to_outside.max()
        self._any_begin = np.maximum(between, from_outside[:, self._begin].max(axis=0)).max(axis=0)
        self._set_labels(kinds, slots, rows, between, to_outside)
        self._outside_begin = np.append(from_outside[:, self._begin].max(axis=0), _NEVER)
        self._from_outside = self._outside_begin[self._kind]
        self._unseen_begin = np.append(between.max(axis=0), _NEVER)
        self._from_unseen = self._unseen_begin[self._kind]
        # With one more kind, which never occurs; first the ends `B-`, then the ends `I-`.
        begins, insides = np.append(self._begin, len(tags)), np.append(self._inside, len(tags))
        either = np.concatenate([begins, insides])
        self._ends = padded[either][:, begins]
        self._to_outside = padded[either][:, self._outside].max(axis=1)
        self._after_begin, self._after_inside = padded[begins, insides], padded[insides, insides]
        self._own = np.full((len(self._size), self._size.max()), len(kinds))
        self._own[np.arange(self._size.max()) < self._size[:, None]] = self._kind

    def _set_labels(
        self,
        kinds: Sequence[str],
        slots: Sequence[Sequence[str]],
        rows: Sequence[int],
        between: Floats,
        to_outside: Floats,
    ) -> None:
        """Make a pair for each label and each of its kinds, sorted by label."""
        number = {kind: index for index, kind in enumerate(kinds)}
        own, own_begin, own_outside = [], [], []
        self._cost = np.log(np.array(rows) + 2).astype(np.float32)
        for label, names in enumerate(slots):
            seen = np.array(sorted({number[name] for name in names if name in number}), int)
            if 3 * len(seen) > len(kinds):  # nearly every kind: a bound without costs is as good
                self._cost[label] = 0
                seen = seen[:0]
            own.append(seen if len(seen) else np.array([len(kinds)]))
            own_begin.append(between[np.ix_(seen, seen)].max(axis=0, initial=_NEVER))
            own_outside.append(to_outside[seen].max(initial=_NEVER))
        self._size = np.array([len(each) for each in own])
        self._label = np.repeat(np.arange(len(own)), self._size)
        self._kind = np.concatenate(own)
        pairs = [each if len(each) else np.array([_NEVER]) for each in own_begin]
        self._from_own = np.concatenate(pairs).astype(np.float32)
        self._own_outside = np.array(own_outside, np.float32)

    def __call__(self, scores: npt.NDArray[np.floating], labels: Places) -> Floats:
        """Bound the scores of all tags with each label, without the label's own score.

        Args:
            scores: logits or log-probabilities, [words, tags], at least one word.
            labels: indices of labels with `slots`, ascending.

        Returns:
            [labels].
        """
        wanted = np.zeros(len(self._size), bool)
        wanted[labels] = True
        pairs, size, cost = (
            np.flatnonzero(wanted[self._label]),
            self._size[labels],
            self._cost[labels],
        )
        starts, kind = np.cumsum(size) - size, self._kind[pairs]
        from_outside, from_own = self._from_outside[pairs], self._from_own[pairs]
        from_unseen, own_outside = self._from_unseen[pairs], self._own_outside[labels]
        scores = np.pad(scores.astype(np.float32), ((0, 0), (0, 1)), constant_values=_NEVER)
        spans, inner = self._unseen_spans(scores)
        begin = np.append(scores[:, self._begin], self._never(scores), axis=1)[:, kind]
        inside = np.append(scores[:, self._inside] + self._inner, self._never(scores), axis=1)
        inside = inside[:, kind]
        no_entity = scores[:, self._outside]
        # Best scores of the words so far, by the last part of the path.
        opened = begin[0] + np.append(self._first[self._begin], _NEVER)[kind]
        own = np.maximum.reduceat(opened, starts)
        outside = np.full_like(own, (no_entity[0] + self._first[self._outside]).max())
        unseen, longer = spans[0, 0] - cost, np.full_like(own, _NEVER)
        before = np.zeros((len(scores), len(labels)), np.float32)
        for word in range(1, len(scores)):
            before[word] = np.maximum(np.maximum(outside, own), unseen)
            start = np.repeat(outside, size) + from_outside
            start = np.maximum(start, np.repeat(own, size) + from_own)
            start = np.maximum(start, np.repeat(unseen, size) + from_unseen)
            opened = np.maximum(opened + inside[word], start + begin[word])
            outside = np.maximum(outside + self._outside_outside, own + own_outside)
            outside = np.maximum(outside, unseen + self._unseen_outside) + no_entity[word].max()
            own = np.maximum.reduceat(opened, starts)
            unseen, longer = self._unseen(word, before, spans, inner, longer)
            unseen = unseen - cost
        return np.maximum(np.maximum(outside, own), unseen)

    def closer(
        self, scores: npt.NDArray[np.floating], labels: Places, tags: Sequence[int]
    ) -> Floats:
        """Closer bounds for few labels: each pair of their kinds has its own transition cost.

        Args:
            scores: logits or log-probabilities, [words, tags], at least one word.
            labels: indices of labels with `slots`.
            tags: tags of a good path; their kinds are kept apart for every label.

        Returns:
            [labels].
        """
        extra = np.flatnonzero(np.isin(self._begin, tags))
        none, cost = len(self._begin), self._cost[labels, None]
        own = self._own[labels, : self._size[labels].max()]
        others = np.where((own[:, :, None] == extra).any(axis=1), none, extra)
        kind = np.concatenate([own, others], axis=1)
        own_cost = np.concatenate(
            [np.zeros_like(own, np.float32), np.broadcast_to(cost, others.shape)], axis=1
        )
        scores = np.pad(scores.astype(np.float32), ((0, 0), (0, 1)), constant_values=_NEVER)
        spans, inner = self._unseen_spans(scores, extra)
        begin = np.append(scores[:, self._begin], self._never(scores), axis=1)[:, kind] - own_cost
        inside = np.append(scores[:, self._inside], self._never(scores), axis=1)[:, kind]
        end = np.concatenate([kind, kind + none + 1], axis=1)
        between, to_outside = self._ends[end[:, :, None], kind[:, None, :]], self._to_outside[end]
        from_outside, from_unseen = self._outside_begin[kind], self._unseen_begin[kind]
        after_begin, after_inside = self._after_begin[kind], self._after_inside[kind]
        no_entity = scores[:, self._outside]
        begun = begin[0] + np.append(self._first[self._begin], _NEVER)[kind]
        within = np.full_like(begun, _NEVER)
        outside = np.full_like(cost, (no_entity[0] + self._first[self._outside]).max())
        unseen, longer = spans[0, 0] - cost, np.full_like(cost, _NEVER)
        before = np.zeros((len(scores), *cost.shape), np.float32)
        for word in range(1, len(scores)):
            ended = np.concatenate([begun, within], axis=1)
            own = ended.max(axis=1, keepdims=True)
            before[word] = np.maximum(np.maximum(outside, own), unseen)
            start = np.maximum(outside + from_outside, (ended[:, :, None] + between).max(axis=1))
            start = np.maximum(start, unseen + from_unseen)
            within = np.maximum(begun + after_begin, within + after_inside) + inside[word]
            begun = start + begin[word]
            outside = np.maximum(outside + self._outside_outside, unseen + self._unseen_outside)
            outside = np.maximum(outside, (ended + to_outside).max(axis=1, keepdims=True))
            outside += no_entity[word].max()
            unseen, longer = self._unseen(word, before, spans, inner, longer)
            unseen = unseen - cost
        own = np.maximum(begun, within).max(axis=1, keepdims=True)
        return np.maximum(np.maximum(outside, own), unseen)[:, 0]

    @staticmethod
    def _unseen(
        word: int, before: Floats, spans: Floats, inner: Floats, longer: Floats
    ) -> tuple[Floats, Floats]:
        """Best scores of paths that end in an entity of another kind, without its cost.

        Returns:
            The scores, and those of paths whose last entity is longer than the longest.
        """
        oldest = max(0, word + 1 - _LONGEST)
        last = spans[word, oldest : word + 1].reshape(-1, *[1] * (before.ndim - 1))
        unseen = (before[oldest : word + 1] + last).max(axis=0)
        if oldest:
            longer = np.maximum(longer, before[oldest - 1] + spans[word - 1, oldest - 1])
            longer = longer + inner[word]
        return np.maximum(unseen, longer), longer

    @staticmethod
    def _never(scores: Floats) -> Floats:
        return np.full((len(scores), 1), _NEVER)

    def _unseen_spans(
        self, scores: Floats, without: Places | tuple[()] = ()
    ) -> tuple[Floats, Floats]:
        """Bound the scores of entities of any one kind, except some.

        Returns:
            The best score of an entity by its last and first word, [words, words], up to the
            longest length; and the best score of a word inside of an entity, [words].
        """
        words = len(scores)
        spans = np.full((words, words), _NEVER)
        run = scores[:, self._begin] + self._any_begin
        run[0] = scores[0, self._begin] + self._first[self._begin]
        inner = scores[:, self._inside] + self._inner
        run[:, without] = inner[:, without] = _NEVER
        for length in range(1, min(words, _LONGEST) + 1):
            if length > 1:
                run = run[:-1] + inner[length - 1 :]
            first = np.arange(len(run))
            spans[first + length - 1, first] = run.max(axis=1)
        return spans, inner.max(axis=1)
