"""Attribute the log-probability of a network's answer to the words of the text.

A word is removed by replacing each of its subword tokens with the unknown token. Teacher and
student both have this token. The other words keep their positions, so the method works for tags as
well as for labels.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from saarthi_lib.data.encode import IGNORE
from saarthi_lib.inference.predictor import Span
from saarthi_lib.tasks import Labels, decode, has_token_head
from saarthi_lib.text.tokenizer import SubwordTokenizer
from saarthi_lib.text.words import split_words

Method = Literal["integrated_gradients", "leave_one_out"]
METHODS: tuple[Method, ...] = ("integrated_gradients", "leave_one_out")
STEPS = 24  # of the integral, by Gauss-Legendre quadrature; `incomplete` measures the error
BATCH = 16  # questions at a time
ROWS = 128  # sentences that the network runs at a time

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
    spans: list[Span]
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

    def without(self, words: Sequence[int], unknown: int) -> list[int]:
        """Token ids, with the tokens of `words` replaced by the unknown token."""
        gone = set(words)
        pairs = zip(self.ids, self.word_of, strict=True)
        return [unknown if word in gone else piece for piece, word in pairs]


@dataclass(frozen=True)
class Target:
    """An answer to explain: a label of the text, or the tags of some words.

    Attributes:
        label: column of the sequence head, or None.
        tags: pairs of a word and its column of the token head.
    """

    label: int | None = None
    tags: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Answer:
    """A network's answer: a label or None, and a tag for each word that it reads.

    `certainty` is the probability of each tag.
    """

    label: int | None
    tags: list[int]
    certainty: list[float]


@dataclass(frozen=True)
class Attribution:
    """Contribution of each word to the log-probability of an answer, in nats.

    Attributes:
        words: contributions, positive for words that support the answer, [words].
        total: log-probability of the answer minus its log-probability with all words unknown.
    """

    words: Floats
    total: float


Question = tuple[Reading, Target]


class Explainer:
    """A network whose answers can be explained.

    Args:
        network: module that returns `(sequence logits, token logits)` for ids and lengths.
        embeddings: embedding modules of the network; an ensemble has one per member.
        tokenizer: tokenizer of the network.
        labels: labels of its heads.
        task: task of the run.
        max_length: longest text, in subword tokens.
        word_splitting: rule that splits text into words.
    """

    def __init__(
        self,
        network: nn.Module,
        embeddings: Sequence[nn.Module],
        tokenizer: SubwordTokenizer,
        labels: Labels,
        task: str,
        max_length: int,
        word_splitting: str = "punctuation",
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.embeddings = list(embeddings)
        self.labels = labels
        self.task = task
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._splitting = word_splitting

    def read(self, text: str) -> Reading:
        """Split a normalized text into words and subword tokens."""
        spans = split_words(text, self._splitting)
        if has_token_head(self.task):
            words = [text[start:end] for start, end in spans]
            encoding = self._tokenizer.encode_words(words, self._max_length)
            ends = [*encoding.first_piece[1:], len(encoding.ids)]
            pairs = enumerate(zip(encoding.first_piece, ends, strict=True))
            word_of = [word for word, (start, end) in pairs for _ in range(start, end)]
            return Reading(text, spans, encoding.ids, word_of)
        ids = self._tokenizer.encode_text(text, self._max_length).ids
        pieces = self._tokenizer.piece_spans(text)[: len(ids)] or [(0, len(text))]
        return Reading(text, spans, ids, [_word_at(piece, spans) for piece in pieces])

    def answer(self, readings: Sequence[Reading]) -> list[Answer]:
        """Return the network's answers."""
        answers: list[Answer] = []
        for part in _chunks(readings, ROWS):
            ids, lengths = _padded([reading.ids for reading in part])
            with torch.inference_mode():
                sequence, token = self.network(ids, lengths)
            for row, reading in enumerate(part):
                label = int(sequence[row].argmax()) if sequence.size(1) else None
                tags, certainty = list[int](), list[float]()
                if token.size(-1):
                    first = [reading.word_of.index(word) for word in reading.read]
                    log_probs = token[row, first].float().log_softmax(-1).numpy()
                    scores = None
                    if label is not None:
                        scores = sequence[row].float().log_softmax(-1).numpy()
                    label, tags = decode(self.task, self.labels, scores, log_probs)
                    certainty = np.exp(log_probs[np.arange(len(tags)), tags]).tolist()
                answers.append(Answer(label, tags, certainty))
        return answers

    def attribute(
        self, questions: Sequence[Question], method: Method, steps: int = STEPS
    ) -> list[Attribution]:
        """Attribute answers to words.

        `integrated_gradients` (Sundararajan et al., arXiv 1703.01365) integrates from the embedding
        of the unknown token to the embeddings of the text. Its scores add up to `total`; a word's
        score is the sum over its tokens. `leave_one_out` is the drop in log-probability when the
        word is unknown.

        Args:
            questions: texts and the answers to explain.
            method: attribution method.
            steps: steps of the integral; more steps bring the sum closer to `total`.
        """
        found: list[Attribution] = []
        for part in _chunks(questions, BATCH):
            if method == "integrated_gradients":
                pieces = self._integrated(part, steps)
            else:
                pieces = self._ablated(part)
            with torch.inference_mode():
                whole = self._log_probability(*self._tensors(part)).numpy()
                gone = [reading.without(reading.read, self._unknown) for reading, _ in part]
                nothing = self._log_probability(*self._tensors(part, gone)).numpy()
            for row, (reading, _) in enumerate(part):
                of_words = np.zeros(len(reading.spans))
                for word, value in zip(reading.word_of, pieces[row], strict=False):
                    if method == "integrated_gradients":
                        of_words[word] += value
                    else:  # a word's tokens are removed together; each carries the whole effect
                        of_words[word] = value
                found.append(Attribution(of_words, float(whole[row] - nothing[row])))
        return found

    def probabilities(
        self, question: Question, deletions: Sequence[Sequence[int]] = ((),)
    ) -> Floats:
        """Probability of an answer after each deletion of words, [deletions]."""
        reading, _ = question
        values = []
        for part in _chunks(deletions, ROWS):
            ids = [reading.without(words, self._unknown) for words in part]
            with torch.inference_mode():
                tensors = self._tensors([question] * len(part), ids)
                values.append(self._log_probability(*tensors).exp().double().numpy())
        return np.concatenate(values)

    @property
    def _unknown(self) -> int:
        return self._tokenizer.unknown_id

    def _integrated(self, questions: Sequence[Question], steps: int) -> npt.NDArray[np.float32]:
        from captum.attr import LayerIntegratedGradients

        ids, *rest = self._tensors(questions)
        with warnings.catch_warnings():
            # Captum warns that layers must be independent; an ensemble's embeddings are.
            warnings.filterwarnings("ignore", message="Multiple layers provided")
            method = LayerIntegratedGradients(self._log_probability, self.embeddings)
            by_embedding = method.attribute(
                ids,
                baselines=torch.full_like(ids, self._unknown),
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

    def _ablated(self, questions: Sequence[Question]) -> npt.NDArray[np.float32]:
        from captum.attr import FeatureAblation

        ids, *rest = self._tensors(questions)
        words = max(len(reading.spans) for reading, _ in questions)
        word_of = torch.full_like(ids, words)  # padding is one extra word without effect
        for row, (reading, _) in enumerate(questions):
            word_of[row, : len(reading.ids)] = torch.tensor(reading.word_of)
        with torch.inference_mode():
            result = FeatureAblation(self._log_probability).attribute(
                ids,
                baselines=self._unknown,
                additional_forward_args=tuple(rest),
                feature_mask=word_of,
                perturbations_per_eval=max(1, ROWS // len(ids)),
            )
        values: npt.NDArray[np.float32] = result.numpy()
        return values

    def _tensors(
        self, questions: Sequence[Question], ids: Sequence[list[int]] | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Ids, lengths and targets: labels [batch] and tags [batch, time], else `IGNORE`."""
        pieces, lengths = _padded(ids or [reading.ids for reading, _ in questions])
        labels = torch.full_like(lengths, IGNORE)
        tags = torch.full_like(pieces, IGNORE)
        for row, (reading, target) in enumerate(questions):
            if target.label is not None:
                labels[row] = target.label
            for word, tag in target.tags:
                tags[row, reading.word_of.index(word)] = tag
        return pieces, lengths, labels, tags

    def _log_probability(
        self, ids: Tensor, lengths: Tensor, labels: Tensor, tags: Tensor
    ) -> Tensor:
        """Log-probability of the targets, [batch]; several tags add up."""
        sequence, token = self.network(ids, lengths)
        total = _log_probability_of(token, tags).sum(dim=1) if token.size(-1) else 0.0
        if sequence.size(-1):
            total = total + _log_probability_of(sequence, labels)
        return torch.as_tensor(total)


def _log_probability_of(logits: Tensor, columns: Tensor) -> Tensor:
    """Log-probabilities [...] of the chosen columns of logits [..., columns]; 0 at `IGNORE`."""
    chosen = logits.log_softmax(-1).gather(-1, columns.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(columns == IGNORE, torch.zeros_like(chosen), chosen)


def _padded(rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return ids, torch.tensor([len(row) for row in rows])


def _word_at(piece: Span, spans: Sequence[Span]) -> int:
    """First word that shares a character with a token; a lone space belongs to the next word."""
    for word, (_, end) in enumerate(spans):
        if piece[0] < end:
            return word
    return len(spans) - 1


def _chunks(items: Sequence[Any], size: int) -> Iterator[Any]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
