"""Metrics of each task, overall and by language, from well-maintained libraries.

The main metric is accuracy (classification), strict span F1 (NER), accuracy by token (POS) or
whole-frame accuracy (joint).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from saarthi_lib.tasks import has_sequence_head, has_token_head

MAIN_METRIC = {
    "intent_classification": "accuracy",
    "text_classification": "accuracy",
    "ner": "strict span F1",
    "pos": "token accuracy",
    "joint": "whole-frame accuracy",
}


@dataclass(frozen=True)
class Answers:
    """Gold or predicted labels and tags of texts; empty if the task lacks them.

    Attributes:
        labels: one label per text.
        tags: one tag for each word of each text.
    """

    labels: Sequence[str] = ()
    tags: Sequence[Sequence[str]] = field(default=())

    def rows(self, rows: Sequence[int]) -> "Answers":
        """Select the answers of some texts."""
        return Answers(
            [self.labels[row] for row in rows] if self.labels else (),
            [self.tags[row] for row in rows] if self.tags else (),
        )


def score(task: str, gold: Answers, predicted: Answers) -> dict[str, float]:
    """Compute the task's metrics, each 0 to 1; `main` is the task's main metric."""
    scores: dict[str, float] = {}
    if has_sequence_head(task):
        scores |= _classification(gold.labels, predicted.labels)
        scores["main"] = scores["accuracy"]
    if has_token_head(task):
        tags = _aligned(gold.tags, predicted.tags)
        if task == "pos":
            words = [
                pair
                for g, p in zip(gold.tags, tags, strict=True)
                for pair in zip(g, p, strict=True)
            ]
            scores["token_accuracy"] = sum(g == p for g, p in words) / max(1, len(words))
            scores["main"] = scores["token_accuracy"]
        else:
            scores |= _spans(gold.tags, tags)
            scores["main"] = scores["span_f1"]
    if task == "joint":
        frames = zip(gold.labels, predicted.labels, gold.tags, tags, strict=True)
        right = [g == p and list(gt) == list(pt) for g, p, gt, pt in frames]
        scores["frame_accuracy"] = sum(right) / max(1, len(right))
        scores["main"] = scores["frame_accuracy"]
    return scores


def score_by_language(
    task: str,
    gold: Answers,
    predicted: Answers,
    languages: Sequence[str],
    known: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Compute `score` over all texts and `by_language`, with the number of `examples`.

    Args:
        task: task of the run.
        gold: gold labels and tags.
        predicted: predicted labels and tags.
        languages: language of each text.
        known: labels that a model can predict. Texts with another label are out of scope and left
            out, since every answer to them is wrong. None: all texts are in scope.
    """
    within = in_scope(gold, known, len(languages))
    result: dict[str, Any] = {**score(task, gold.rows(within), predicted.rows(within))}
    result["examples"] = len(within)
    result["by_language"] = {}
    for language in sorted({languages[row] for row in within}):
        rows = [row for row in within if languages[row] == language]
        part = score(task, gold.rows(rows), predicted.rows(rows))
        result["by_language"][language] = {**part, "examples": len(rows)}
    return result


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
        tags = zip(gold.tags, _aligned(gold.tags, predicted.tags), strict=True)
        right.append(np.fromiter((list(g) == p for g, p in tags), dtype=np.bool_))
    return np.logical_and.reduce(right)


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


def _aligned(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> list[list[str]]:
    """Predicted tags, one per gold tag; words beyond the maximum length get O."""
    return [
        [*list(p)[: len(g)], *["O"] * (len(g) - len(p))]
        for g, p in zip(gold, predicted, strict=True)
    ]
