"""Metrics of each task, overall and by language, from well-maintained libraries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from saarthi_lib.evaluation.scores import Scores, TaskScores
from saarthi_lib.tasks import has_sequence_head, has_token_head

MAIN_METRIC = {
    "intent_classification": "accuracy",
    "text_classification": "accuracy",
    "ner": "span F1",
    "pos": "accuracy by word",
    "joint": "right frames",
}


@dataclass(frozen=True)
class Answers:
    """Gold or predicted labels and tags of texts; empty if the task lacks them.

    Attributes:
        labels: one label per text.
        tags: one tag for each word of each text.
    """

    labels: Sequence[str] = ()
    tags: Sequence[Sequence[str]] = ()

    def rows(self, rows: Sequence[int]) -> "Answers":
        """Select the answers of some texts."""
        return Answers(
            [self.labels[row] for row in rows] if self.labels else (),
            [self.tags[row] for row in rows] if self.tags else (),
        )


def score(task: str, gold: Answers, predicted: Answers) -> TaskScores:
    """Compute the task's metrics, each 0 to 1; `main` is the task's main metric."""
    scores: dict[str, float] = {}
    tags = aligned_tags(gold, predicted)
    if has_sequence_head(task):
        scores |= _classification(gold.labels, predicted.labels)
        scores["main"] = scores["accuracy"]
    if task == "pos":
        pairs = (zip(g, p, strict=True) for g, p in zip(gold.tags, tags, strict=True))
        scores["token_accuracy"] = _share([g == p for words in pairs for g, p in words])
        scores["main"] = scores["token_accuracy"]
    elif has_token_head(task):
        scores |= _spans(gold.tags, tags)
        scores["main"] = scores["span_f1"]
    if task == "joint":
        scores["frame_accuracy"] = _share(right_rows(task, gold, predicted).tolist())
        scores["main"] = scores["frame_accuracy"]
    return cast(TaskScores, scores)


def score_by_language(
    task: str,
    gold: Answers,
    predicted: Answers,
    languages: Sequence[str],
    known: Sequence[str] | None = None,
) -> Scores:
    """Compute `score` over all texts and `by_language`, with the number of `examples`.

    Args:
        task: task of the run.
        gold: gold labels and tags.
        predicted: predicted labels and tags.
        languages: language of each text.
        known: labels that a model can predict. Texts with another label are out of scope and left
            out, since every answer to them is wrong. None: all texts are in scope.
    """

    def score_rows(rows: Sequence[int]) -> TaskScores:
        return {**score(task, gold.rows(rows), predicted.rows(rows)), "examples": len(rows)}

    within = in_scope(gold, known, len(languages))
    by_language = {
        language: score_rows([row for row in within if languages[row] == language])
        for language in sorted({languages[row] for row in within})
    }
    return cast(Scores, {**score_rows(within), "by_language": by_language})


def in_scope(gold: Answers, known: Sequence[str] | None, texts: int) -> list[int]:
    """Rows whose gold label is known; all rows for tasks without a label."""
    if known is None or not gold.labels:
        return list(range(texts))
    names = set(known)
    return [row for row, label in enumerate(gold.labels) if label in names]


def right_rows(task: str, gold: Answers, predicted: Answers) -> npt.NDArray[np.bool_]:
    """Whether each text has the right answer: label, all tags, or both; [texts]."""
    right: list[npt.NDArray[np.bool_]] = []
    if has_sequence_head(task):
        pairs = zip(gold.labels, predicted.labels, strict=True)
        right.append(np.fromiter((g == p for g, p in pairs), dtype=np.bool_))
    if has_token_head(task):
        tags = zip(gold.tags, aligned_tags(gold, predicted), strict=True)
        right.append(np.fromiter((list(g) == p for g, p in tags), dtype=np.bool_))
    return np.logical_and.reduce(right)


def aligned_tags(gold: Answers, predicted: Answers) -> list[list[str]]:
    """Predicted tags, one per gold tag; words beyond the maximum length get O."""
    return [
        [*list(p)[: len(g)], *["O"] * (len(g) - len(p))]
        for g, p in zip(gold.tags, predicted.tags, strict=True)
    ]


def _share(right: Sequence[bool]) -> float:
    return sum(right) / max(1, len(right))


def _classification(gold: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score

    if not gold:
        return {"accuracy": 0.0, "macro_f1": 0.0}
    macro = f1_score(gold, predicted, average="macro")
    return {"accuracy": float(accuracy_score(gold, predicted)), "macro_f1": float(macro)}


def _spans(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Span-level scores with exact boundaries and types (seqeval's strict mode)."""
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2

    if not gold:
        return {"span_precision": 0.0, "span_recall": 0.0, "span_f1": 0.0}
    precision, recall, f1, _ = precision_recall_fscore_support(
        [list(tags) for tags in gold],
        [list(tags) for tags in predicted],
        average="micro",
        scheme=IOB2,
        zero_division=0,
    )
    return {"span_precision": float(precision), "span_recall": float(recall), "span_f1": float(f1)}
