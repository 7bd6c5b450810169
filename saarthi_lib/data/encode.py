"""Encode a split as ragged token ids and labels; all later steps read them from disk."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.data.alignment import Span, tags_of_words
from saarthi_lib.data.expansion import Budget
from saarthi_lib.tasks import Labels, has_sequence_head, has_token_head, uses_bio
from saarthi_lib.text.tokenizer import Encoding, SubwordTokenizer
from saarthi_lib.text.words import split_words

IGNORE = -100  # label that cross-entropy ignores


@dataclass(frozen=True)
class Encoded:
    """Sentences of one split.

    Attributes:
        ids: ids of all subword tokens, sentences concatenated, int32 [tokens].
        offsets: start of each sentence, then the total length, int64 [sentences + 1].
        first: whether a token is the first of its word, bool [tokens].
        sequence_labels: label of each sentence or `IGNORE`, int64 [sentences].
        token_labels: tag at the first token of each word, else `IGNORE`, int64 [tokens].
        whole_lengths: tokens of each sentence before truncation to the maximum length, int64
            [sentences].
    """

    ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    first: npt.NDArray[np.bool_]
    sequence_labels: npt.NDArray[np.int64]
    token_labels: npt.NDArray[np.int64]
    whole_lengths: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each sentence, [sentences]."""
        return np.diff(self.offsets)

    @property
    def truncated(self) -> int:
        """Number of sentences truncated to the maximum length."""
        return int((self.whole_lengths > self.lengths).sum())

    def save(self, path: str | Path) -> None:
        """Write as an .npz archive."""
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read an archive written by `save`.

        Raises:
            DataError: it expands to far more than its size.
        """
        with ZipFile(path) as archive:
            Budget(Path(path)).spend(sum(entry.file_size for entry in archive.infolist()))
        with np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})

    def pieces_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Indices of the sentences' tokens in the per-token arrays, in the order of `rows`."""
        spans = [np.arange(self.offsets[row], self.offsets[row + 1]) for row in rows]
        return np.concatenate([np.zeros(0, dtype=np.int64), *spans])

    def take(self, rows: npt.NDArray[np.int64]) -> Self:
        """Select sentences, in the order of `rows`."""
        return self._select(self.pieces_of(rows), self.lengths[rows], rows)

    def cut(self, length: int) -> Self:
        """Cut longer sentences to `length` tokens."""
        positions = np.arange(len(self.ids)) - np.repeat(self.offsets[:-1], self.lengths)
        return self._select(positions < length, np.minimum(self.lengths, length), slice(None))

    def _select(
        self,
        tokens: npt.NDArray[np.int64] | npt.NDArray[np.bool_],
        lengths: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64] | slice,
    ) -> Self:
        return type(self)(
            ids=self.ids[tokens],
            offsets=_offsets(lengths),
            first=self.first[tokens],
            sequence_labels=self.sequence_labels[rows],
            token_labels=self.token_labels[tokens],
            whole_lengths=self.whole_lengths[rows],
        )

    def last_entity(self) -> int:
        """Tokens up to the end of the last entity in any sentence; 0 without entities.

        Only for BIO tags, in which label 0 is the tag outside entities.
        """
        inside = np.where(self.first, self.token_labels > 0, False)
        # The tag of a word holds for all its tokens.
        word = np.maximum.accumulate(np.where(self.first, np.arange(len(self.first)), -1))
        covered = np.flatnonzero((word >= 0) & inside[np.maximum(word, 0)])
        if not len(covered):
            return 0
        sentence = np.searchsorted(self.offsets, covered, side="right") - 1
        return int((covered - self.offsets[sentence]).max()) + 1

    def padded(
        self, values: npt.NDArray[Any], rows: npt.NDArray[np.int64], fill: float
    ) -> npt.NDArray[Any]:
        """Pad sentences of a per-token array to a rectangle.

        Args:
            values: per-token array, [tokens, …].
            rows: indices of the sentences, [batch].
            fill: padding value.

        Returns:
            The padded array, [batch, longest length, …].
        """
        starts, lengths = self.offsets[rows], self.lengths[rows]
        width = int(lengths.max())
        out = np.full((len(rows), width, *values.shape[1:]), fill, dtype=values.dtype)
        for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            out[row, :length] = values[start : start + length]
        return out


def encode(
    table: pd.DataFrame,
    task: str,
    tokenizer: SubwordTokenizer,
    labels: Labels,
    max_length: int,
    word_splitting: str = "punctuation",
) -> Encoded:
    """Encode a table; rows without labels (a transfer set) get `IGNORE`.

    Args:
        table: table returned by `read_table`.
        task: task; determines how text is split and which labels are kept.
        tokenizer: tokenizer that returns subword tokens without special tokens.
        labels: known labels; other labels in the table become `IGNORE`.
        max_length: longest sentence, in subword tokens.
        word_splitting: rule for the words that get tags.
    """
    spans: list[list[Span]] = []
    if has_token_head(task):
        texts = list(table["text"])
        spans = [split_words(text, word_splitting) for text in texts]
        word_lists = [[t[a:b] for a, b in row] for t, row in zip(texts, spans, strict=True)]
        encodings = tokenizer.encode_word_lists(word_lists, max_length)
    else:
        encodings = tokenizer.encode_texts(list(table["text"]), max_length)
    offsets = _offsets([len(encoding.ids) for encoding in encodings])
    first = np.zeros(offsets[-1], dtype=bool)
    for start, encoding in zip(offsets, encodings, strict=False):
        first[start + np.asarray(encoding.first_piece, dtype=np.int64)] = True
    sequence_labels = np.full(len(table), IGNORE, dtype=np.int64)
    if has_sequence_head(task) and "label" in table:
        index = {name: position for position, name in enumerate(labels.sequence)}
        sequence_labels[:] = [index.get(name, IGNORE) for name in table["label"]]
    token_labels = np.full(offsets[-1], IGNORE, dtype=np.int64)
    if has_token_head(task) and "tags" in table:
        rows = zip(spans, file_words(table), table["tags"], strict=True)
        tags = [
            tags_of_words(words, given, list(row_tags), bio=uses_bio(task))
            for words, given, row_tags in rows
        ]
        _place_tags(token_labels, offsets, encodings, tags, labels)
    return Encoded(
        ids=np.fromiter((i for e in encodings for i in e.ids), dtype=np.int32, count=offsets[-1]),
        offsets=offsets,
        first=first,
        sequence_labels=sequence_labels,
        token_labels=token_labels,
        whole_lengths=np.array([encoding.whole_length for encoding in encodings], dtype=np.int64),
    )


def _place_tags(
    token_labels: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    encodings: Sequence[Encoding],
    tag_lists: Sequence[Sequence[str | None]],
    labels: Labels,
) -> None:
    index = {name: position for position, name in enumerate(labels.token)}
    for start, encoding, tags in zip(offsets, encodings, tag_lists, strict=False):
        # Words beyond the maximum length lack subword tokens.
        for token, tag in zip(encoding.first_piece, tags, strict=False):
            token_labels[start + token] = IGNORE if tag is None else index.get(tag, IGNORE)


def file_words(table: pd.DataFrame) -> list[list[Span]]:
    """Character spans of the words in a table returned by `read_table`."""
    rows = zip(table["starts"], table["ends"], strict=True)
    return [list(zip(map(int, starts), map(int, ends), strict=True)) for starts, ends in rows]


def concatenate(parts: Sequence[Encoded]) -> Encoded:
    """Concatenate splits."""
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in Encoded.__dataclass_fields__
        if name != "offsets"
    }
    lengths = np.concatenate([part.lengths for part in parts])
    return Encoded(offsets=_offsets(lengths), **arrays)


def _offsets(lengths: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Start of each sentence, then the total length."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def batches(
    lengths: npt.NDArray[np.int64],
    batch_size: int,
    generator: np.random.Generator | None = None,
    weights: npt.NDArray[np.float64] | None = None,
) -> Iterator[npt.NDArray[np.int64]]:
    """Group sentences of similar length, to limit padding.

    With a generator, sentences are shuffled, grouped by length within windows of 50 batches, and
    the batches come in random order. Without one, the order is by length. With weights, which need
    a generator, as many sentences are drawn with replacement, by probability.

    Yields:
        Row indices of a batch, [at most batch_size].
    """
    if generator is None:
        order = np.argsort(lengths, kind="stable")
    else:
        rows = len(lengths)
        if weights is None:
            shuffled = generator.permutation(rows)
        else:
            shuffled = generator.choice(rows, rows, p=weights / weights.sum())
        window = batch_size * 50
        parts = [shuffled[i : i + window] for i in range(0, len(shuffled), window)]
        order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts])
    starts = np.arange(0, len(order), batch_size)
    if generator is not None:
        generator.shuffle(starts)
    for start in starts:
        yield order[start : start + batch_size]
