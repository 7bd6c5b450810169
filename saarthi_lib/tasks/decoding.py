"""Decoding: from a network's scores to the label of a text and the tags of its words."""

import numpy as np
import numpy.typing as npt

from saarthi_lib.tasks.heads import uses_bio
from saarthi_lib.tasks.labels import Labels

# In nats. A tag that is this far below its word's best tag is almost never on the best path.
_FAR = 8.0
_MANY_TAGS = 48  # above it, `PathSearch` is faster than a table of all transitions
_SEARCHED = 4  # labels whose best tags are searched; on real texts, two are enough


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
        if np.count_nonzero(near.any(axis=0)) > _MANY_TAGS:
            return labels.path_search.best(scores)
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

    The best tags are searched for a few labels only: those with the highest lower and upper bounds
    of this score. A text of any scores therefore takes little time. With scores of trained networks
    the answer is that of a search of all labels; with random scores another label may be better.

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
    free = label_scores + _total(tag_scores, tags, labels)  # with these tags, without costs
    if not np.isfinite(free[label]):
        return label, tags
    lower = free + np.add.reduce(labels.unseen[: len(free), tags], axis=1)
    upper = np.minimum(free, label_scores + labels.bounds(tag_scores))
    slack = _rounding(label_scores, tag_scores)
    first = [(-each).argsort(kind="stable")[:_SEARCHED] for each in (lower, upper)]
    candidates = list(dict.fromkeys(np.stack(first, axis=1).ravel().tolist()))
    best, most = (label, tags), (-np.inf, 0.0, 0)
    for candidate in candidates[:_SEARCHED]:
        if upper[candidate] + slack < most[0]:
            continue
        costly = tag_scores + labels.unseen[candidate]
        tags = decode_spans(costly, labels)
        score = float(label_scores[candidate] + _total(costly, tags, labels))
        if (score, free[candidate], -candidate) > most:
            most, best = (score, free[candidate], -candidate), (candidate, tags)
    return best


def _total(scores: npt.NDArray[np.floating], tags: list[int], labels: Labels) -> float:
    """Score of a path with its transition costs."""
    return float(scores[np.arange(len(tags)), tags].sum()) + _cost(np.array(tags), labels)


def _rounding(
    label_scores: npt.NDArray[np.floating], tag_scores: npt.NDArray[np.floating]
) -> float:
    """Bound the rounding errors of a sum of scores."""
    largest = [np.abs(each[np.isfinite(each)]).max() for each in (label_scores, tag_scores)]
    words = len(tag_scores)
    return float(np.finfo(np.float32).eps * (words + 8) * (largest[0] + words * (largest[1] + 8)))


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
