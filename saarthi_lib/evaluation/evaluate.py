"""Evaluate any model the way it is served: table in, answers through a predictor, metrics out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from saarthi_lib.evaluation.metrics import Answers, score_by_language
from saarthi_lib.inference.engine import Logits
from saarthi_lib.inference.predictor import Prediction, Predictor, Span
from saarthi_lib.tasks import bio_tags, has_sequence_head, has_token_head, uses_bio

CHUNK = 1024


class NetworkEngine:
    """Runs a network in memory behind the interface of an exported model."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()

    def run(
        self, ids: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
    ) -> tuple[Logits | None, Logits | None]:
        """As `Engine.run`."""
        with torch.inference_mode():
            sequence, token = self.network(torch.from_numpy(ids), torch.from_numpy(lengths))
        return (
            sequence.numpy() if sequence.shape[-1] else None,
            token.numpy() if token.shape[-1] else None,
        )


def gold_answers(table: pd.DataFrame, task: str) -> Answers:
    """The labels that a table carries."""
    return Answers(
        list(table["label"]) if has_sequence_head(task) else (),
        [list(tags) for tags in table["tags"]] if has_token_head(task) else (),
    )


def predict_table(predictor: Predictor, table: pd.DataFrame) -> tuple[Answers, list[Prediction]]:
    """Answer every row; words that the table has are kept as they are."""
    task = predictor.task
    labels: list[str] = []
    tags: list[list[str]] = []
    predictions: list[Prediction] = []
    for start in range(0, len(table), CHUNK):
        part = table.iloc[start : start + CHUNK]
        texts = list(part["text"])
        spans = None
        if has_token_head(task):
            rows = zip(texts, part["words"], strict=True)
            spans = [word_spans(text, words) for text, words in rows]
        answers = predictor.predict(texts, list(part["lang"]), spans=spans)
        predictions += answers
        if has_sequence_head(task):
            labels += [str(answer.label) for answer in answers]
        if spans is not None:
            tags += [_tags(a, s, task) for a, s in zip(answers, spans, strict=True)]
    return Answers(labels, tags), predictions


def evaluate_table(
    predictor: Predictor, table: pd.DataFrame
) -> tuple[dict[str, Any], Answers, list[Prediction]]:
    """Metrics of a predictor on labelled rows, overall and by language, with its answers."""
    given, predictions = predict_table(predictor, table)
    gold = gold_answers(table, predictor.task)
    return score_by_language(predictor.task, gold, given, list(table["lang"])), given, predictions


def word_spans(text: str, words: Sequence[str]) -> list[Span]:
    """Where each word stands in the text, looked for from left to right."""
    spans: list[Span] = []
    position = 0
    for word in words:
        start = text.index(word, position)
        position = start + len(word)
        spans.append((start, position))
    return spans


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread, as a serving process has; put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tags(answer: Prediction, spans: Sequence[Span], task: str) -> list[str]:
    if not uses_bio(task):
        return [token.label for token in answer.tokens]
    first = {start: word for word, (start, _) in enumerate(spans)}
    after = {end: word + 1 for word, (_, end) in enumerate(spans)}
    found = [(first[e.start], after[e.end], e.label) for e in answer.entities]
    return bio_tags(found, len(spans))
