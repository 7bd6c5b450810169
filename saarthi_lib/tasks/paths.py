"""The best path of tags, for many tags: Viterbi over the transitions that occur."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_FEW = 48  # tags whose transitions are compared as a table


class PathSearch:
    """Viterbi that takes a time linear in the tags and in the distinct costs of their transitions.

    All transitions from a tag that never occur have one cost, so only the others are compared one
    by one. An `I-` tag follows only the tags of its own entity.

    Args:
        tags: BIO tags.
        costs: `Labels.transitions`.
    """

    def __init__(self, tags: Sequence[str], costs: npt.NDArray[np.float32]) -> None:
        place = {tag: index for index, tag in enumerate(tags)}
        inside = [index for index, tag in enumerate(tags) if tag.startswith("I-")]
        heads = np.array([index for index in range(len(tags)) if index not in set(inside)], int)
        self._inside = np.array(inside, int)
        self._begin = np.array([place.get(f"B{tags[at][1:]}", at) for at in inside], int)
        self._after_begin = costs[self._begin, self._inside]
        self._after_inside = costs[self._inside, self._inside]
        self._first = costs[-1]
        self._by_tag = np.ascontiguousarray(costs[:-1].T)
        self._heads = heads
        self._to_heads = to_heads = np.ascontiguousarray(costs[:-1, heads])
        self._least = to_heads.min(axis=1, initial=0)
        head, self._source = np.nonzero(self._least < to_heads.T)
        self._cost = costs[self._source, heads[head]]
        target, self._starts = np.unique(head, return_index=True)
        self._target = heads[target]

    def best(self, scores: npt.NDArray[np.floating]) -> list[int]:
        """Find the best path.

        Args:
            scores: logits or log-probabilities, [words, tags], at least one word.
        """
        score = scores[0] + self._first
        reached = [score]
        for word in scores[1:]:
            least = (score + self._least).max()
            after = np.full_like(score, least)
            # Costs are at most zero, so no transition from another tag reaches `least`.
            near = np.flatnonzero(score > least) if len(self._source) else self._source
            if 0 < len(near) <= _FEW:
                through = np.maximum.reduce(score[near, None] + self._to_heads[near])
                after[self._heads] = np.maximum(after[self._heads], through)
            elif len(near):
                through = np.maximum.reduceat(score[self._source] + self._cost, self._starts)
                after[self._target] = np.maximum(after[self._target], through)
            after[self._inside] = np.maximum(
                score[self._begin] + self._after_begin, score[self._inside] + self._after_inside
            )
            score = after + word
            reached.append(score)
        path = [int(score.argmax())]
        for score in reached[-2::-1]:
            path.append(int((score + self._by_tag[path[-1]]).argmax()))
        return path[::-1]
