"""From logits to answers: labels, tags, probabilities and abstention."""

from collections.abc import Sequence
from math import exp

import numpy as np

from saarthi_lib.bundle import BundleManifest
from saarthi_lib.errors import NetworkError
from saarthi_lib.inference.answers import (
    LOW_PROBABILITY,
    NO_ANSWER_FITS,
    UNFAMILIAR_TEXT,
    Entity,
    Prediction,
    RowLogits,
    Span,
    Token,
)
from saarthi_lib.inference.engine import Logits
from saarthi_lib.inference.familiarity import Familiarity
from saarthi_lib.tasks import Labels, bio_spans, decode, uses_bio
from saarthi_lib.text.tokenizer import Encoding

_NEARLY_ALL = np.float32(80)  # nats; a logit so far above leaves the tag no probability


class Decoder:
    """Decodes the logits of a bundle's network."""

    def __init__(
        self, manifest: BundleManifest, labels: Labels, familiarity: Familiarity | None
    ) -> None:
        self._bundle = f"{manifest.name}, version {manifest.version}"
        self._task = manifest.task
        self._labels = labels
        self._threshold_of = manifest.threshold_of
        self._calibration = manifest.calibration
        self._answers = len(labels.answers)
        self._temperature = np.float32(manifest.calibration.temperature)
        self._token_temperature = np.float32(manifest.calibration.token_temperature)
        # Familiarity is not computed if its weight is 0.
        self._familiarity = familiarity if manifest.calibration.familiarity_weight else None

    def scale(self, encoding: Encoding, logits: RowLogits) -> RowLogits:
        """Divide a text's logits by the temperatures; words get the logits of their first token."""
        sequence, token = logits
        return (
            None if sequence is None else sequence / self._temperature,
            None if token is None else token[encoding.first_piece] / self._token_temperature,
        )

    def answer(
        self,
        text: str,
        lang: str | None,
        spans: Sequence[Span],
        encoding: Encoding,
        logits: RowLogits,
        top_k: int,
        threshold: float | None,
    ) -> Prediction:
        """Decode the logits of one text; without a threshold, that of its language applies."""
        sequence, token = logits
        tags, probabilities, best = list[str](), list[float](), None
        if token is not None:
            tags, probabilities, best = self._tags(token[encoding.first_piece], sequence)
        if sequence is None:
            label, top = None, list[tuple[str, float]]()
            probability = min(probabilities, default=1.0)
            odds = probability / max(1e-9, 1 - probability)
        else:
            top, odds = self._top_labels(sequence, top_k, best)
            label, probability = top[0]
        confidence = probability
        if self._familiarity is not None:
            calibration = self._calibration
            unlike = calibration.familiarity_mean - self._familiarity(encoding.ids)
            confidence = odds / (odds + exp(min(500.0, calibration.familiarity_weight * unlike)))
        if threshold is None:
            threshold = self._threshold_of(lang)
        reason = self._reason(sequence, probability, confidence, threshold)
        words = (text, spans, tags, probabilities)
        bio = uses_bio(self._task)
        return Prediction(
            text=text,
            lang=lang,
            label=label,
            probability=probability,
            top_k=top,
            entities=_entities(*words) if bio else [],
            tokens=[] if bio else _tokens(*words),
            confidence=confidence,
            threshold=threshold,
            abstained=reason is not None,
            reason=reason,
            truncated=encoding.truncated,
            task=self._task,
        )

    def _reason(
        self,
        sequence: Logits | None,
        probability: float,
        confidence: float,
        threshold: float | None,
    ) -> str | None:
        """Reason for abstention, if any."""
        if (
            sequence is not None
            and len(sequence) > self._answers
            and sequence[-1] >= sequence[: self._answers].max()
        ):
            return NO_ANSWER_FITS
        if threshold is not None and confidence < threshold:
            return LOW_PROBABILITY if probability < threshold else UNFAMILIAR_TEXT
        return None

    def _top_labels(
        self, logits: Logits, top_k: int, first: int | None
    ) -> tuple[list[tuple[str, float]], float]:
        """Best labels with their probabilities, and the odds of the best label.

        `first` is the label from joint decoding with the words' tags, if the task has both.
        """
        # Few array operations: each takes a hundredth of the time of an answer.
        known = logits[: self._answers]
        best = [known.argmax() if first is None else first]
        if top_k > 1:
            ranked = (-known).argsort(kind="stable")
            best = [best[0], *ranked[ranked != best[0]][: top_k - 1]]
        weights = np.exp((logits - logits[best[0]]) / self._temperature)
        total = float(np.add.reduce(weights))  # called by sum(), at a third of its time
        if total != total:
            raise self._is_nan()
        top = [(self._labels.sequence[i], float(weights[i]) / total) for i in best]
        return top, 1 / max(1e-9, total - 1)

    def _tags(
        self, logits: Logits, sequence: Logits | None
    ) -> tuple[list[str], list[float], int | None]:
        """Tag the words that the network has read, and choose the text's label with them.

        Args:
            logits: logits of the words, [words, tags].
            sequence: logits of the text, [labels], if the task gives it a label.

        Returns:
            The tag of each word and its probability, and the index of the label.
        """
        logits = logits / self._token_temperature
        of_label = None if sequence is None else sequence[: self._answers] / self._temperature
        label, tags = decode(self._task, self._labels, of_label, logits)
        above = np.minimum(logits - logits[np.arange(len(tags)), tags][:, None], _NEARLY_ALL)
        probabilities = (1 / np.add.reduce(np.exp(above), axis=-1)).tolist()
        total = sum(probabilities)
        if total != total:
            raise self._is_nan()
        return [self._labels.token[tag] for tag in tags], probabilities, label

    def _is_nan(self) -> NetworkError:
        return NetworkError(
            f"{self._bundle}: the network gives NaN or Inf for a text; use another version"
        )


def _tokens(
    text: str, spans: Sequence[Span], tags: Sequence[str], probabilities: Sequence[float]
) -> list[Token]:
    """The tagged words; words beyond the maximum length are left out."""
    return [
        Token(text[start:end], tag, start, end, probability)
        for (start, end), tag, probability in zip(spans, tags, probabilities, strict=False)
    ]


def _entities(
    text: str, spans: Sequence[Span], tags: Sequence[str], probabilities: Sequence[float]
) -> list[Entity]:
    entities = []
    for first, after, label in bio_spans(tags):
        start, end = spans[first][0], spans[after - 1][1]
        probability = min(probabilities[first:after])
        entities.append(Entity(text[start:end], label, start, end, probability))
    return entities
