"""Upper bounds of joint scores, for all labels of a task at once."""

from collections.abc import Sequence
from itertools import takewhile, zip_longest

import numpy as np
import numpy.typing as npt

_NEVER = np.float32(-np.inf)


class LabelBounds:
    """Upper bounds of the scores of labels with any tags.

    A bound takes each word's best tag at the label's cost, and leaves out the costs of transitions.

    Args:
        tags: BIO tags.
        slots: `Labels.slots`.
        rows: `Labels.rows`.
        labels: number of labels; those after `slots` have no costs.
    """

    def __init__(
        self, tags: Sequence[str], slots: Sequence[Sequence[str]], rows: Sequence[int], labels: int
    ) -> None:
        none = -1
        begin = {tag[2:]: index for index, tag in enumerate(tags) if tag.startswith("B-")}
        own = [[begin[kind] for kind in dict.fromkeys(kinds) if kind in begin] for kinds in slots]
        own += [[] for _ in range(labels - len(slots))]
        # Labels with the most kinds come first, so that their n-th kinds are one slice.
        order = sorted(range(labels), key=lambda label: -len(own[label]))
        self._place = np.argsort(np.array(order, int))
        columns = zip_longest(*(own[label] for label in order), fillvalue=none)
        self._own = [np.array([*takewhile(none.__ne__, column)], int) for column in columns]
        self._begin = np.array([*begin.values()], int)
        self._others = np.setdiff1d(np.arange(len(tags)), self._begin)
        cost = np.zeros(labels, np.float32)
        cost[: len(rows)] = np.log(np.array(rows) + 2)
        self._cost = cost[order]

    def __call__(self, scores: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Bound the scores of all tags with each label, without the label's own score.

        Args:
            scores: logits or log-probabilities, [words, tags], at least one word.

        Returns:
            [labels].
        """
        others = scores[:, self._others].max(axis=1, initial=_NEVER)
        begin = scores[:, self._begin].max(axis=1, initial=_NEVER)
        best = np.maximum(others, begin - self._cost[:, None])  # [labels, words]
        by_tag = scores.T.copy()
        for own in self._own:
            np.maximum(best[: len(own)], by_tag.take(own, axis=0), out=best[: len(own)])
        return best.sum(axis=1)[self._place]
