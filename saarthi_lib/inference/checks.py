"""Checks of a predictor's input, and of a network when it is loaded."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from saarthi_lib.bundle.limits import check_names
from saarthi_lib.bundle.manifest import HOW_TO_FIX
from saarthi_lib.errors import BundleError, InputError, NetworkError
from saarthi_lib.inference.engine import Engine, Ids, Logits
from saarthi_lib.tasks import (
    OUT_OF_SCOPE,
    OUTSIDE,
    Labels,
    has_sequence_head,
    has_token_head,
    uses_bio,
)

MOST_ROWS = 32  # texts in a batch
_WARM_LENGTHS = 64  # number of tokens up to which each length is run when warming up
_MOST_TOKENS = 2048  # of a batch that is tried
_OTHERS_SECONDS = 0.4  # for shapes that are tried only if there is time


def check_input(
    texts: Sequence[str], langs: Sequence[str | None] | None = None, top_k: int = 1
) -> Sequence[str | None]:
    """Check the input of `Predictor.predict`; returns a language, or None, for each text.

    Raises:
        InputError: a text or language cannot be used; the message has its index.
    """
    if isinstance(texts, str):
        raise InputError("texts must be a list of strings, not one string: wrap it in a list")
    if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1:
        raise InputError(f"top_k must be a whole number above 0, not {top_k!r}")
    langs = [None] * len(texts) if langs is None else langs
    if len(langs) != len(texts):
        raise InputError(f"there are {len(langs)} langs for {len(texts)} texts: give one for each")
    for index, (text, lang) in enumerate(zip(texts, langs, strict=True)):
        if not isinstance(text, str):
            raise InputError(f"texts[{index}] must be a string, not {type(text).__name__}")
        if not text.strip():
            raise InputError(f"texts[{index}] is empty: give it at least one word")
        if not text.isascii() and not _is_unicode(text):
            raise InputError(f"texts[{index}] is not valid Unicode: decode it as UTF-8 first")
        if lang is not None and not isinstance(lang, str):
            raise InputError(f"langs[{index}] must be a string or null, not {type(lang).__name__}")
    return langs


def check_threshold(value: object, name: str = "threshold") -> float:
    """Check a threshold; `name` names it in errors.

    Raises:
        InputError: it is not a number from 0 to 1.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise InputError(f"{name} must be a number from 0 to 1, not {str(value)[:100]!r}")
    return float(value)


def check_thresholds(given: object, texts: int) -> Sequence[float | None]:
    """Check thresholds of a call; returns one, or None, for each text.

    Args:
        given: a threshold for all texts, a sequence with one or None for each, or None.
        texts: number of texts.

    Raises:
        InputError: a threshold is not a number from 0 to 1, or there is not one for each text.
    """
    if given is None or not isinstance(given, Sequence) or isinstance(given, str):
        return [None if given is None else check_threshold(given)] * texts
    if len(given) != texts:
        raise InputError(f"there are {len(given)} thresholds for {texts} texts: give one for each")
    return [
        None if value is None else check_threshold(value, f"threshold[{index}]")
        for index, value in enumerate(given)
    ]


def check_top_k(task: str, top_k: int) -> None:
    """Check that a task gives labels, if several are wanted.

    Raises:
        InputError: it gives texts no label.
    """
    if top_k > 1 and not has_sequence_head(task):
        raise InputError(
            f"--top-k {top_k}: a bundle of the task {task} gives texts no label; leave the option "
            "out"
        )


def check_visible(normalized: Sequence[str]) -> None:
    """Check that texts are not empty after normalization.

    Raises:
        InputError: a text holds only invisible characters; the message has its index.
    """
    for index, text in enumerate(normalized):
        if not text:
            raise InputError(
                f"texts[{index}] is empty: it holds only invisible characters; give it at least "
                "one word"
            )


def check_labels(labels: Labels, task: str, path: Path) -> None:
    """Check that a bundle has the labels that its task needs.

    Raises:
        BundleError: a list of labels is empty, or a label is one that no bundle may have.
    """
    heads = {"sequence": labels.sequence, "token": labels.token}
    check_names(heads, path, bio=uses_bio(task))
    for head, names, needed in (
        ("sequence", labels.sequence, has_sequence_head(task)),
        ("token", labels.token, has_token_head(task)),
    ):
        if needed and not names:
            raise BundleError(f"{path}: has no {head} labels, which {task} needs; {HOW_TO_FIX}")
    if has_sequence_head(task) and (OUT_OF_SCOPE in labels.answers or not labels.answers):
        raise BundleError(
            f"{path}: the label {OUT_OF_SCOPE!r} must be the last one of several, because it is "
            f"never an answer; {HOW_TO_FIX}"
        )
    for tag in labels.token if uses_bio(task) else ():
        if tag != OUTSIDE and tag[:2] not in ("B-", "I-"):
            raise BundleError(
                f"{path}: the tag {tag[:80]!r} is not O, B-NAME or I-NAME, which {task} needs; "
                f"{HOW_TO_FIX}"
            )


@dataclass(frozen=True)
class Demand:
    """Inputs that a network must take, and logits that it must give.

    Attributes:
        max_seq_len: maximum number of tokens of a text.
        highest_id: highest token id.
        sequence_labels: number of labels of a text; 0: no such head.
        token_labels: number of tags of a token; 0: no such head.
    """

    max_seq_len: int
    highest_id: int
    sequence_labels: int
    token_labels: int

    def shapes(self, rows: int, longest: int) -> list[tuple[int, ...] | None]:
        """Shapes of the logits for a batch."""
        return [
            (rows, self.sequence_labels) if self.sequence_labels else None,
            (rows, longest, self.token_labels) if self.token_labels else None,
        ]

    def batches(self, *, warm: bool) -> Iterator[tuple[Ids, list[int]]]:
        """Batches of all kinds: token ids, [rows, time], and the lengths of the rows.

        The ids run through the vocabulary.

        Args:
            warm: whether to give other batches: each number of rows, those of `warm_up`, a large
                one, and, for a limited time, other shapes.
        """
        if warm:
            for ids in warm_up_ids(self.max_seq_len):
                yield ids, [ids.shape[1]]
        used = 0
        for lengths in self._lengths(warm=warm):
            rows, longest = len(lengths), max(lengths)
            real = np.arange(longest) < np.array(lengths)[:, None]
            ids = (self.highest_id - used - np.arange(rows * longest)) % (self.highest_id + 1)
            yield np.where(real, ids.reshape(rows, longest), 0), lengths
            used += rows * longest

    def _lengths(self, *, warm: bool) -> Iterator[list[int]]:
        most = self.max_seq_len
        if not warm:
            yield from ([1], [min(2, most)], [most], [most, 1])
            yield [min(1 + row % 3, most) for row in range(MOST_ROWS)]
            return
        yield from ([1] * rows for rows in range(3, MOST_ROWS))
        start = time.monotonic()
        yield [most] + [1] * (max(1, min(MOST_ROWS, _MOST_TOKENS // most)) - 1)
        now = time.monotonic()
        if now - start > _OTHERS_SECONDS / 10:  # a large network: the others would take too long
            return
        others = [(row, length) for row in range(1, MOST_ROWS + 1) for length in range(2, most)]
        for rows, length in Random(0).sample(others, len(others)):
            if rows * length <= _MOST_TOKENS and time.monotonic() < now + _OTHERS_SECONDS:
                yield [length] + [1 + row % length for row in range(rows - 1)]


def warm_up_ids(most: int) -> Iterator[Ids]:
    """Batches of one row that a server runs before its first request; `most` is the longest."""
    for length in (most, *range(1, min(most, _WARM_LENGTHS) + 1)):
        yield np.zeros((1, length), np.int64)


def check_network(engine: Engine, demand: Demand, folder: Path, *, warm: bool = False) -> None:
    """Check that the network gives finite logits of all labels for batches of all kinds.

    Args:
        engine: the network.
        demand: its inputs and logits.
        folder: the bundle, for the message.
        warm: see `Demand.batches`.

    Raises:
        NetworkError: the network does not run, or its outputs do not match the labels.
    """
    for ids, lengths in demand.batches(warm=warm):
        rows, longest = ids.shape
        real = np.arange(longest) < np.array(lengths)[:, None]
        outputs = _outputs(engine, ids, np.array(lengths), folder)
        found = [None if logits is None else (*logits.shape,) for logits in outputs]
        wanted = demand.shapes(rows, longest)
        where = f"for {rows} {'row' if rows == 1 else 'rows'} of up to {longest} tokens"
        if found != wanted:
            raise NetworkError(
                f"{folder}: the network's outputs have the shapes {str(found)[:200]} {where}, "
                f"where the bundle's labels need {wanted}; {HOW_TO_FIX}"
            )
        sequence, token = outputs
        for logits in (sequence, None if token is None else token[real]):
            if logits is None:
                continue
            if logits.dtype != np.float32:
                raise NetworkError(
                    f"{folder}: the network's outputs are {logits.dtype}, not float32; {HOW_TO_FIX}"
                )
            if not np.isfinite(logits).all():
                raise NetworkError(
                    f"{folder}: the network's outputs contain NaN or Inf {where}; {HOW_TO_FIX}"
                )


def _outputs(
    engine: Engine, ids: Ids, lengths: Ids, folder: Path
) -> tuple[Logits | None, Logits | None]:
    try:
        sequence, token = engine.run(ids, lengths)
        for logits in (sequence, token):
            if not isinstance(logits, np.ndarray | None):
                raise TypeError(f"an output is a {type(logits).__name__}")
    except Exception as error:  # each runtime raises its own type
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise NetworkError(
            f"{folder}: the network does not run on {len(lengths)} x {ids.shape[1]} tokens "
            f"({reason[0][:300]}); {HOW_TO_FIX}"
        ) from error
    return sequence, token


def _is_unicode(text: str) -> bool:
    """Whether the text is free of lone surrogates, which no encoding can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
