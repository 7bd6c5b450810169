"""Attribute a network's answer to the words of the text.

Integrated gradients (Sundararajan et al., arXiv 1703.01365) replace a word's subword tokens with
the unknown token, which teacher and student have. The other words keep their positions, so the
method works for tags as well as for labels. Leave one out is `saarthi_lib.inference.occlusion`.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from saarthi_lib.data.encode import IGNORE
from saarthi_lib.errors import InputError
from saarthi_lib.inference.occlusion import Target, explain_logits, plan
from saarthi_lib.inference.predictor import Predictor, Span
from saarthi_lib.tasks import has_token_head, uses_bio
from saarthi_lib.text.tokenizer import SubwordTokenizer

Method = Literal["integrated_gradients", "leave_one_out"]
METHODS: tuple[Method, ...] = ("integrated_gradients", "leave_one_out")
STEPS = 24  # steps of the integral, by Gauss-Legendre quadrature; `incomplete` measures the error
BATCH = 16  # questions in a batch
ROWS = 128  # texts in a batch of the network

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """A text as the network reads it.

    Attributes:
        text: normalized text.
        spans: character span of each word.
        ids: ids of its subword tokens.
        word_of: index of the word that each token belongs to; words beyond the maximum length are
            missing.
    """

    text: str
    spans: Sequence[Span]
    ids: list[int]
    word_of: list[int]

    @property
    def words(self) -> list[str]:
        """The words."""
        return [self.text[start:end] for start, end in self.spans]

    @property
    def read(self) -> list[int]:
        """Indices of the words that have a subword token."""
        return sorted(set(self.word_of))


@dataclass(frozen=True)
class Question:
    """An answer to explain: the label of a text, or the tags of some of its words.

    Attributes:
        reading: the text.
        label: the label, or None.
        tags: tags by word.
        probability: probability that the predictor gives the answer; None if it gives none, as for
            words of a missed entity.
    """

    reading: Reading
    label: str | None = None
    tags: dict[int, str] = field(default_factory=dict)
    probability: float | None = None

    @property
    def about(self) -> list[int] | None:
        """The words concerned; None for the label."""
        return None if self.label is not None else list(self.tags)

    @property
    def answer(self) -> str:
        """The explained label or tags."""
        return self.label if self.label is not None else " ".join(self.tags.values())


class Explainer:
    """A network whose answers can be explained.

    The predictor's temperatures divide the network's logits, so that both give the same
    probabilities, apart from quantization.

    Args:
        predictor: predictor of the network, or of the bundle that was made of it.
        network: module that returns `(sequence logits, token logits)` for ids and lengths.
        embeddings: embedding modules of the network; an ensemble has one per member.
        tokenizer: tokenizer of the network.
    """

    def __init__(
        self,
        predictor: Predictor,
        network: nn.Module,
        embeddings: Sequence[nn.Module],
        tokenizer: SubwordTokenizer,
    ) -> None:
        self.predictor = predictor
        self.network = network.eval().requires_grad_(False)
        self._embeddings = list(embeddings)
        calibration = predictor.manifest.calibration
        self._temperature = calibration.temperature
        self._token_temperature = calibration.token_temperature
        self._tokenizer = tokenizer

    def read(self, text: str) -> Reading:
        """Split a normalized text into words and subword tokens."""
        spans, longest = self.predictor.words(text), self.predictor.manifest.max_seq_len
        if has_token_head(self.predictor.task):
            words = [text[start:end] for start, end in spans]
            encoding = self._tokenizer.encode_words(words, longest)
            lengths = np.diff([*encoding.first_piece, len(encoding.ids)])
            word_of = np.repeat(np.arange(len(lengths)), lengths).tolist()
            return Reading(text, spans, encoding.ids, word_of)
        ids = self._tokenizer.encode_text(text, longest).ids
        tokens = self._tokenizer.piece_spans(text)[: len(ids)] or [(0, len(text))]
        return Reading(text, spans, ids, [_word_at(token, spans) for token in tokens])

    def attribute(
        self, questions: Sequence[Question], method: Method, steps: int = STEPS
    ) -> list[Floats]:
        """Score the words of each text; positive scores support the answer, [words] each.

        Scores of `integrated_gradients` add up to the answer's log-probability minus its
        log-probability with all words unknown. Scores of `leave_one_out` are the evidence of each
        word: the answer's log-odds minus its log-odds without the word.

        Args:
            questions: texts and the answers to explain.
            method: attribution method.
            steps: steps of the integral; more steps reduce its error.
        """
        if method == "leave_one_out":
            return self._leave_one_out(questions)
        found = []
        for part in _chunks(questions, BATCH):
            for question, values in zip(part, self._integrate(part, steps), strict=True):
                word_of = question.reading.word_of
                scores = np.zeros(len(question.reading.spans))
                np.add.at(scores, word_of, values[: len(word_of)])
                found.append(scores)
        return found

    def log_probabilities(
        self, question: Question, deletions: Sequence[Sequence[int]] = ((),)
    ) -> Floats:
        """Log-probability of an answer after each deletion of words, [deletions]."""
        unknown, reading = self._tokenizer.unknown_id, question.reading
        values = []
        for part in _chunks(deletions, ROWS):
            ids = [
                [
                    unknown if word in words else token
                    for token, word in zip(reading.ids, reading.word_of, strict=True)
                ]
                for words in map(set, part)
            ]
            with torch.inference_mode():
                tensors = self._tensors([question] * len(part), ids)
                values.append(self._log_probability(*tensors).double().numpy())
        return np.concatenate(values)

    def _leave_one_out(self, questions: Sequence[Question]) -> list[Floats]:
        predictor, found = self.predictor, []
        for text, group in groupby(questions, key=lambda question: question.reading.text):
            made = plan(predictor, text)
            logits = predictor.logits(made.texts, made.spans)
            for question in group:
                target, spans = self._target(question), question.reading.spans
                try:
                    shown = explain_logits(predictor.labels, predictor.task, made, logits, target)
                except InputError:  # a blank word can push the last words out of reach
                    found.append(np.zeros(len(spans)))
                    continue
                evidence = [
                    part.evidence
                    for part in shown.parts
                    for start, _ in spans
                    if part.start <= start < part.end
                ]
                found.append(np.array(evidence))
        return found

    def _target(self, question: Question) -> Target | str:
        if question.label is not None:
            return question.label
        spans = [question.reading.spans[word] for word in question.tags]
        tag = next(iter(question.tags.values()))
        kind = tag.partition("-")[2] if uses_bio(self.predictor.task) else tag
        return Target(spans[0][0], spans[-1][1], kind)

    def _integrate(self, questions: Sequence[Question], steps: int) -> npt.NDArray[np.float32]:
        """Scores of subword tokens, [questions, tokens]."""
        from captum.attr import LayerIntegratedGradients

        ids, *rest = self._tensors(questions, [question.reading.ids for question in questions])
        with warnings.catch_warnings():
            # Captum warns that layers must be independent; an ensemble's embeddings are.
            warnings.filterwarnings("ignore", message="Multiple layers provided")
            method = LayerIntegratedGradients(self._log_probability, self._embeddings)
            by_embedding = method.attribute(
                ids,
                baselines=torch.full_like(ids, self._tokenizer.unknown_id),
                additional_forward_args=tuple(rest),
                n_steps=steps,
                internal_batch_size=max(ROWS, len(ids)),
            )
        result = sum(part.sum(dim=2) for part in by_embedding)
        # A teacher's embedding also covers the special tokens around the text. They are never
        # removed, so their attribution is zero.
        around = (result.size(1) - ids.size(1)) // 2
        values: npt.NDArray[np.float32] = result[:, around : around + ids.size(1)].detach().numpy()
        return values

    def _tensors(
        self, questions: Sequence[Question], rows: Sequence[list[int]]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Ids, lengths and targets: labels [batch] and tags [batch, time], else `IGNORE`."""
        names = self.predictor.labels
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.tensor([row + [0] * (int(lengths.max()) - len(row)) for row in rows])
        labels, tags = torch.full_like(lengths, IGNORE), torch.full_like(ids, IGNORE)
        for row, question in enumerate(questions):
            if question.label is not None:
                labels[row] = names.sequence.index(question.label)
            for word, tag in question.tags.items():
                tags[row, question.reading.word_of.index(word)] = names.token.index(tag)
        return ids, lengths, labels, tags

    def _log_probability(
        self, ids: Tensor, lengths: Tensor, labels: Tensor, tags: Tensor
    ) -> Tensor:
        """Log-probability of the targets, [batch]; several tags add up."""
        sequence, token = self.network(ids, lengths)
        total: Tensor | float = 0.0
        if token.size(-1):
            total = _log_probability_of(token / self._token_temperature, tags).sum(dim=1)
        if sequence.size(-1):
            total = total + _log_probability_of(sequence / self._temperature, labels)
        return torch.as_tensor(total)


def _log_probability_of(logits: Tensor, columns: Tensor) -> Tensor:
    """Log-probabilities [...] of the chosen columns of logits [..., columns]; 0 at `IGNORE`."""
    chosen = logits.log_softmax(-1).gather(-1, columns.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(columns == IGNORE, torch.zeros_like(chosen), chosen)


def _word_at(token: Span, spans: Sequence[Span]) -> int:
    """First word that shares a character with a token; a lone space belongs to the next word."""
    found = (word for word, (_, end) in enumerate(spans) if token[0] < end)
    return next(found, len(spans) - 1)


def _chunks(items: Sequence[Any], size: int) -> Iterator[Any]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
