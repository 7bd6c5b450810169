"""Explanation of an answer by leave-one-out: leave out a word and compare the answers.

The method needs only logits, so it explains students and teachers in float32 and int8. It costs one
prediction per word. A word's evidence is the answer's log-odds with the word minus the log-odds
without it (Robnik-Šikonja and Kononenko 2008, "Explaining Classifications for Individual
Instances", section 3; Li et al. 2016, arXiv 1612.08220). Log-odds are used because a probability
near 1 hardly changes when a word is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saarthi_lib.errors import InputError
from saarthi_lib.inference.predictor import Predictor, RowLogits, Span
from saarthi_lib.tasks import Labels, has_token_head, uses_bio

MOST_PARTS = 64  # in a longer text neighbouring words share a part
_MOST_CERTAIN = 500.0  # nats; its exponential is still finite
_BLANK = "_"  # replaces a word that cannot be left out


@dataclass(frozen=True, slots=True)
class Target:
    """A labelled span: an entity, or one tagged word."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Part:
    """Evidence of one part of the text, usually one word.

    Attributes:
        text: the text's characters from `start` to `end` (exclusive).
        start: index of the first character.
        end: index after the last character.
        evidence: the answer's log-odds with this part minus those without it, in nats; above 0 the
            part supports the answer.
        probability: the answer's probability without this part.
    """

    text: str
    start: int
    end: int
    evidence: float
    probability: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Evidence of each part of a text for an answer.

    Attributes:
        label: explained label.
        probability: probability of the label with the whole text; for an entity, that of its least
            certain word.
        parts: evidence in the order of the text; 0 beyond the network's maximum length.
    """

    label: str
    probability: float
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Plan:
    """The texts that an explanation compares; their logits are the input of `explain_logits`.

    Attributes:
        texts: the whole text, then the text without each part.
        spans: words of each text if the task tags words, else None.
        parts: span of each part.
    """

    texts: list[str]
    spans: list[list[Span]] | None
    parts: list[Span]


def plan(predictor: Predictor, text: str) -> Plan:
    """Make the texts that an explanation compares.

    A part is left out of a text that gets a label. If the task tags words, a blank replaces the
    part, so that the other words stay in place.

    Args:
        predictor: predictor to explain.
        text: text to explain, not empty.

    Raises:
        InputError: the text cannot be used.
    """
    words = predictor.words(text)
    size = max(1, -(-len(words) // MOST_PARTS))
    groups = [words[at : at + size] for at in range(0, len(words), size)]
    parts = [(group[0][0], group[-1][1]) for group in groups]
    if not has_token_head(predictor.task):
        blank = _BLANK if len(parts) == 1 else ""  # a text must not be empty
        without = [text[:start] + blank + text[end:] for start, end in parts]
        return Plan([text, *without], None, parts)
    texts, spans = [text], [list(words)]
    for first in range(0, len(words), size):
        blanked, shifted, at = "", [], 0
        for index, (start, end) in enumerate(words):
            blanked += text[at:start]
            word = _BLANK if first <= index < first + size else text[start:end]
            shifted.append((len(blanked), len(blanked) + len(word)))
            blanked, at = blanked + word, end
        texts.append(blanked + text[at:])
        spans.append(shifted)
    return Plan(texts, spans, parts)


def explain(predictor: Predictor, text: str, target: Target | str | None = None) -> Explanation:
    """Say what each part of a text gives to its label, or to an entity or tag in it.

    Args:
        predictor: answers the text.
        text: not empty.
        target: an entity, a tagged word or a label; None for the likeliest label of the text.

    Raises:
        InputError: the text cannot be used, or the target is not in it.
    """
    made = plan(predictor, text)
    logits = predictor.logits(made.texts, made.spans)
    return explain_logits(predictor.labels, predictor.task, made, logits, target)


def explain_logits(
    labels: Labels, task: str, made: Plan, logits: Sequence[RowLogits], target: Target | str | None
) -> Explanation:
    """Compute an explanation from the logits of a plan's texts.

    Args:
        labels: the bundle's labels.
        task: the bundle's task.
        made: the plan.
        logits: of its texts, by `Predictor.logits`.
        target: entity, tagged word or label; None for the likeliest label.

    Raises:
        InputError: the task gives texts no label, or the target is not in the text.
    """
    whole_sequence, whole_token = logits[0]
    if target is None or isinstance(target, str):
        if whole_sequence is None:
            raise InputError(f"a target is needed: {task} gives a label to words, not to the text")
        label = target or labels.answers[int(whole_sequence[: len(labels.answers)].argmax())]
        columns = np.array([name == label for name in labels.sequence])
        rows = [sequence[None] for sequence, _ in logits if sequence is not None]
    else:
        if whole_token is None or made.spans is None:
            raise InputError(f"a target cannot be used: {task} gives a label to the whole text")
        label, names = target.label, labels.token
        if uses_bio(task):
            names = tuple(name.partition("-")[2] for name in names)
        columns = np.array([name == label for name in names])
        # A blank can have more tokens than its word, and push the last words beyond the limit.
        read = min(len(token) for _, token in logits if token is not None)
        chosen = [
            index
            for index, (start, end) in enumerate(made.spans[0][:read])
            if start < target.end and target.start < end
        ]
        if not columns.any() or not chosen:
            raise InputError(
                f"the target ({target.start} to {target.end}, {label[:128]!r}) is not in the text: "
                "give the start, end and label of an entity or word of the answer"
            )
        rows = [token[chosen] for _, token in logits if token is not None]
    odds = [_log_odds(row, columns) for row in rows]
    text = made.texts[0]
    parts = [
        Part(
            text[start:end],
            start,
            end,
            float((odds[0] - without).mean()),
            _probability(without.min()),
        )
        for (start, end), without in zip(made.parts, odds[1:], strict=True)
    ]
    return Explanation(label, _probability(odds[0].min()), parts)


def _log_odds(
    logits: npt.NDArray[np.floating], columns: npt.NDArray[np.bool_]
) -> npt.NDArray[np.floating]:
    """Log-odds that the answer is among some columns, from logits [rows, columns]; finite."""
    if columns.all():
        return np.full(len(logits), _MOST_CERTAIN)
    exact = logits.astype(np.float64)
    odds = _log_sum(exact[:, columns]) - _log_sum(exact[:, ~columns])
    return np.clip(odds, -_MOST_CERTAIN, _MOST_CERTAIN)


def _log_sum(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    highest = values.max(axis=1, keepdims=True)
    total: npt.NDArray[np.float64] = np.log(np.exp(values - highest).sum(axis=1)) + highest[:, 0]
    return total


def _probability(log_odds: float) -> float:
    return float(1 / (1 + np.exp(-log_odds)))
