"""Upper bounds of joint scores, for all labels of a task at once."""

from collections.abc import Sequence

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
        begin = {tag[2:]: index for index, tag in enumerate(tags) if tag.startswith("B-")}
        none = len(tags)  # a tag that never occurs, for labels without entities
        own = [[begin[kind] for kind in kinds if kind in begin] or [none] for kinds in slots]
        own += [[none]] * (labels - len(slots))
        self._own = np.concatenate([np.array(each, int) for each in own])
        self._starts = np.cumsum([0, *map(len, own[:-1])])
        self._begin = np.array([*begin.values()], int)
        self._others = np.setdiff1d(np.arange(len(tags)), self._begin)
        self._cost = np.zeros(labels, np.float32)
        self._cost[: len(rows)] = np.log(np.array(rows) + 2)

    def __call__(self, scores: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Bound the scores of all tags with each label, without the label's own score.

        Args:
            scores: logits or log-probabilities, [words, tags], at least one word.

        Returns:
            [labels].
        """
        padded = np.pad(scores, ((0, 0), (0, 1)), constant_values=_NEVER)
        own = np.maximum.reduceat(padded[:, self._own], self._starts, axis=1)
        others = scores[:, self._others].max(axis=1, initial=_NEVER)
        begin = scores[:, self._begin].max(axis=1, initial=_NEVER)
        best = np.maximum(np.maximum(own, others[:, None]), begin[:, None] - self._cost)
        return best.sum(axis=0)
