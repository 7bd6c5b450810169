"""Checks of a predictor's input, and of a network when it is loaded."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from saarthi_lib.bundle import BundleManifest
from saarthi_lib.bundle.limits import check_names
from saarthi_lib.bundle.manifest import HOW_TO_FIX
from saarthi_lib.errors import BundleError, InputError
from saarthi_lib.inference.engine import Engine
from saarthi_lib.tasks import Labels, has_sequence_head, has_token_head, uses_bio


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


def check_network(
    engine: Engine, manifest: BundleManifest, labels: Labels, highest_id: int, folder: Path
) -> None:
    """Check that the network gives finite logits of all labels for the tokenizer's highest id.

    Raises:
        BundleError: the network does not run, or its outputs do not match the labels.
    """
    try:
        outputs = engine.run(np.array([[highest_id]]), np.array([1]))
        found = [None if logits is None else (*logits.shape,) for logits in outputs]
        finite = all(logits is None or bool(np.isfinite(logits).all()) for logits in outputs)
    except Exception as error:  # each runtime raises its own type
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise BundleError(
            f"{folder}: the network does not run ({reason[0][:300]}); {HOW_TO_FIX}"
        ) from error
    wanted = [
        (1, len(labels.sequence)) if has_sequence_head(manifest.task) else None,
        (1, 1, len(labels.token)) if has_token_head(manifest.task) else None,
    ]
    if found != wanted:
        raise BundleError(
            f"{folder}: the network's outputs have the shapes {found}, where {manifest.task} with "
            f"its labels needs {wanted}; {HOW_TO_FIX}"
        )
    if not finite:
        raise BundleError(f"{folder}: the network's outputs contain NaN or Inf; {HOW_TO_FIX}")


def _is_unicode(text: str) -> bool:
    """Whether the text is free of lone surrogates, which no encoding can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
