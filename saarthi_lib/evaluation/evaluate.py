"""Evaluate any model in its served form: run a predictor on a table, and compute metrics."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from saarthi_lib.data.alignment import parts_of, tags_of_words
from saarthi_lib.data.encode import file_words
from saarthi_lib.evaluation.metrics import Answers, score_by_language
from saarthi_lib.evaluation.scores import Scores
from saarthi_lib.inference.engine import Logits
from saarthi_lib.inference.predictor import Prediction, Predictor, Span, Token
from saarthi_lib.tasks import bio_spans, bio_tags, has_sequence_head, has_token_head, uses_bio
from saarthi_lib.text.words import split_words

CHUNK = 1024
NO_TAG = "(none)"  # for words whose parts differ, or that the service does not read whole


class NetworkEngine:
    """Runs a network in memory behind the interface of an exported model."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()

    def run(
        self, ids: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
    ) -> tuple[Logits | None, Logits | None]:
        """See `Engine.run`."""
        with torch.inference_mode():
            sequence, token = self.network(torch.from_numpy(ids), torch.from_numpy(lengths))
        return (
            sequence.numpy() if sequence.shape[-1] else None,
            token.numpy() if token.shape[-1] else None,
        )


def gold_answers(table: pd.DataFrame, task: str) -> Answers:
    """Labels and tags of a table."""
    return Answers(
        list(table["label"]) if has_sequence_head(task) else (),
        [list(tags) for tags in table["tags"]] if has_token_head(task) else (),
    )


def service_words(
    table: pd.DataFrame, task: str, word_splitting: str
) -> Iterator[tuple[list[Span], list[str | None]]]:
    """Words that the service splits from each text, with their gold tags; None without a tag."""
    for text, given, gold in zip(table["text"], file_words(table), table["tags"], strict=True):
        spans = split_words(text, word_splitting)
        yield spans, tags_of_words(spans, given, list(gold), bio=uses_bio(task))


def predict_table(predictor: Predictor, table: pd.DataFrame) -> tuple[Answers, list[Prediction]]:
    """Answer every text as the service does, and align the answers with the words of the table.

    For parts of speech, each word of the table gets one token in its prediction: the common tag of
    its parts and their lowest probability. A word counts as wrong if its parts differ or the
    service does not tag it.
    """
    task = predictor.task
    labels: list[str] = []
    tags: list[list[str]] = []
    predictions: list[Prediction] = []
    for start in range(0, len(table), CHUNK):
        part = table.iloc[start : start + CHUNK]
        answers = predictor.predict(list(part["text"]), list(part["lang"]))
        if has_sequence_head(task):
            labels += [str(answer.label) for answer in answers]
        if uses_bio(task):
            pairs = zip(answers, file_words(part), strict=True)
            tags += [entity_tags(answer, spans) for answer, spans in pairs]
        elif has_token_head(task):
            pairs = zip(answers, file_words(part), strict=True)
            answers = [_on_words(answer, spans) for answer, spans in pairs]
            tags += [[token.label for token in answer.tokens] for answer in answers]
        predictions += answers
    return Answers(labels, tags), predictions


def evaluate_table(
    predictor: Predictor, table: pd.DataFrame, trained_on: "pd.Series[str] | None" = None
) -> tuple[Scores, Answers, list[Prediction]]:
    """Evaluate a predictor on labelled rows; returns metrics, answers and predictions.

    Texts whose label the predictor never learned are out of scope and do not count here;
    `selective_metrics` measures them.

    Args:
        predictor: predictor to evaluate.
        table: labelled rows.
        trained_on: training texts. If some rows repeat them, `unseen` has the metrics of the other
            rows.
    """
    given, predictions = predict_table(predictor, table)
    task, known = predictor.task, predictor.labels.answers
    gold, languages = gold_answers(table, task), list(table["lang"])
    metrics = score_by_language(task, gold, given, languages, known)
    if trained_on is not None and (seen := table["text"].isin(trained_on)).any():
        rows = np.flatnonzero(~seen).tolist()
        part = (gold.rows(rows), given.rows(rows), [languages[row] for row in rows])
        metrics["unseen"] = (
            score_by_language(task, *part, known) if rows else cast(Scores, {"examples": 0})
        )
    return metrics, given, predictions


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread, as in a serving process; restore the number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tags_on_table(
    task: str, words: Sequence[Span], tags: Sequence[str], spans: Sequence[Span]
) -> list[str]:
    """Tags of a table's words, given by their spans, from tags of the words of the service."""
    if uses_bio(task):
        return _bio_tags([(words[a][0], words[b - 1][1], c) for a, b, c in bio_spans(tags)], spans)
    found = [{tags[part] for part in parts} for parts in parts_of(spans, words)]
    return [labels.pop() if len(labels) == 1 else NO_TAG for labels in found]


def entity_tags(answer: Prediction, spans: Sequence[Span]) -> list[str]:
    """BIO tags of words from a prediction; its entities begin and end at word boundaries."""
    return _bio_tags([(each.start, each.end, each.label) for each in answer.entities], spans)


def _bio_tags(entities: Sequence[tuple[int, int, str]], spans: Sequence[Span]) -> list[str]:
    real = [(word, span) for word, span in enumerate(spans) if span[0] < span[1]]
    first = {span[0]: word for word, span in real}
    after = {span[1]: word + 1 for word, span in real}
    found = [(first[start], after[end], label) for start, end, label in entities]
    return bio_tags(found, len(spans))


def _on_words(answer: Prediction, spans: Sequence[Span]) -> Prediction:
    """Merge the tokens of a prediction into one token per given word."""
    tokens = []
    words = [(token.start, token.end) for token in answer.tokens]
    for (start, end), parts in zip(spans, parts_of(spans, words), strict=True):
        served = [answer.tokens[part] for part in parts]
        labels = {token.label for token in served}
        unread = answer.truncated and end > words[-1][1]
        label = labels.pop() if len(labels) == 1 and not unread else NO_TAG
        probability = min((token.probability for token in served), default=0.0)
        tokens.append(Token(answer.text[start:end], label, start, end, probability))
    return replace(answer, tokens=tokens)
