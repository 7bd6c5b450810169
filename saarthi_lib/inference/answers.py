"""Types of answers: labels, entities and tokens, with their probabilities."""

from dataclasses import dataclass
from typing import NamedTuple, TypedDict

from saarthi_lib.inference.engine import Logits
from saarthi_lib.tasks import has_sequence_head, has_token_head, uses_bio

# Reasons for abstention.
LOW_PROBABILITY = "low_probability"
UNFAMILIAR_TEXT = "unfamiliar_text"
NO_ANSWER_FITS = "out_of_scope"

Span = tuple[int, int]  # first character, and the one after the last
RowLogits = tuple[Logits | None, Logits | None]  # of the label [labels], of the words [words, tags]


class Entity(NamedTuple):
    """A labelled span: `text` is the input's characters from `start` to `end` (exclusive).

    `probability` is that of its least certain word.
    """

    text: str
    label: str
    start: int
    end: int
    probability: float


class Token(NamedTuple):
    """A tagged word: `text` is the input's characters from `start` to `end` (exclusive)."""

    text: str
    label: str
    start: int
    end: int
    probability: float


class LabelDict(TypedDict):
    """A label with its probability in JSON."""

    label: str
    probability: float


class SpanDict(LabelDict):
    """An `Entity` or a `Token` in JSON."""

    text: str
    start: int
    end: int


class AnswerDict(TypedDict, total=False):
    """A `Prediction` in JSON; the task decides which fields are present."""

    label: str | None
    probability: float
    top_k: list[LabelDict]
    entities: list[SpanDict]
    tokens: list[SpanDict]
    confidence: float
    threshold: float | None
    abstained: bool
    reason: str | None
    lang: str | None
    truncated: bool


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one text.

    Attributes:
        text: the text as given.
        lang: the language as given.
        label: the text's label; None for `ner` and `pos`.
        probability: probability of the label; for `ner` and `pos`, of the least certain word (1.0
            without words).
        top_k: the best labels with their probabilities, best first; empty for `ner` and `pos`.
        entities: entities for `ner` and `joint`, in the order of the text.
        tokens: tokens for `pos`, one for each word.
        confidence: value that is compared with the threshold: the probability, alone or combined
            with the text's familiarity (`saarthi_lib.bundle.Calibration`). It does not depend on
            the threshold.
        threshold: threshold that was applied: that of the request, or else the bundle's for the
            text's language; None: the bundle answers every text.
        abstained: whether the confidence is below the threshold, or the out-of-scope class, if the
            network has it, is likelier than any answer.
        reason: reason for abstention, `low_probability`, `unfamiliar_text` or `out_of_scope`; None
            without abstention.
        truncated: whether the text exceeds the model's maximum length; the rest gets no entities
            or tokens.
        task: the bundle's task, which decides the fields that are filled.
    """

    text: str
    lang: str | None
    label: str | None
    probability: float
    top_k: list[tuple[str, float]]
    entities: list[Entity]
    tokens: list[Token]
    confidence: float
    threshold: float | None
    abstained: bool
    reason: str | None
    truncated: bool
    task: str

    def to_dict(self) -> AnswerDict:
        """The fields that the task has, ready for JSON."""
        answer: AnswerDict = {}
        if has_sequence_head(self.task):
            answer["label"] = self.label
            answer["probability"] = self.probability
            if len(self.top_k) > 1:
                answer["top_k"] = [
                    {"label": label, "probability": probability}
                    for label, probability in self.top_k
                ]
        if uses_bio(self.task):
            answer["entities"] = [_span_dict(entity) for entity in self.entities]
        elif has_token_head(self.task):
            answer["tokens"] = [_span_dict(token) for token in self.tokens]
        answer["confidence"] = self.confidence
        answer["threshold"] = self.threshold
        answer["abstained"] = self.abstained
        answer["reason"] = self.reason
        answer["lang"] = self.lang
        if self.truncated:
            answer["truncated"] = True
        return answer


def _span_dict(span: Entity | Token) -> SpanDict:
    text, label, start, end, probability = span
    return {"text": text, "label": label, "start": start, "end": end, "probability": probability}
