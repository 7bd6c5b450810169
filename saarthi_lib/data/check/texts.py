"""Check texts: duplicates, leakage, characters and scripts."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from saarthi_lib.data.check.characters import (
    LANGUAGE_SCRIPTS,
    SCRIPTS,
    Characters,
    describe_damage,
    describe_hidden,
    describe_mixed,
    scan,
)
from saarthi_lib.data.check.findings import Finding, shortened
from saarthi_lib.data.check.near_duplicates import THRESHOLD, find_near_duplicates
from saarthi_lib.data.check.tables import Split, normalized

LEAKED_SHARE = 0.5  # short commands repeat: up to a third of a voice bot's test
DUPLICATE_SHARE = 0.2

# By check: field of `Characters`, description of a text, and what to do.
_CHARACTERS = {
    "hidden-characters": (
        "hidden",
        describe_hidden,
        "with invisible, control or private-use characters; delete them, or set normalization: "
        "standard",
    ),
    "damaged-text": (
        "damaged",
        describe_damage,
        "with damaged letters (written or read in a wrong encoding); export the text again as "
        "UTF-8",
    ),
    "mixed-scripts": (
        "mixed",
        describe_mixed,
        "with letters of two scripts in one word; write each word in one, or put a space between",
    ),
}


def leakage(splits: Mapping[str, Split], seed: int) -> Iterator[Finding]:
    """Find texts of test and validation in train, exact and near; texts of test also in clean."""
    held_out = [splits[name] for name in ("test", "validation") if name in splits]
    for split in held_out:
        yield from _exact_leakage(split, splits["train"])
        if split.name == "test" and "clean" in splits:
            yield from _exact_leakage(split, splits["clean"])
    yield from _near_leakage(held_out, splits["train"], seed)


def _exact_leakage(split: Split, source: Split) -> Iterator[Finding]:
    keys, first = np.unique(source.keys, return_index=True)
    rows = np.flatnonzero(np.isin(split.keys, keys))
    error = split.name == "test" and len(rows) > LEAKED_SHARE * len(split)
    yield from split.found(
        "leakage",
        "error" if error else "warning",
        rows,
        f"also in {source.name}: scores on them measure memory; remove them from {source.name}",
        lambda row, _: source.where(int(first[np.searchsorted(keys, split.keys[row])])),
    )


def _near_leakage(held_out: Sequence[Split], train: Split, seed: int) -> Iterator[Finding]:
    if not held_out:
        return
    train_keys, train_first = np.unique(train.keys, return_index=True)
    train_first.sort()  # in the order of the rows: the first similar row is reported
    keys, first = np.unique(np.concatenate([split.keys for split in held_out]), return_index=True)
    fresh = ~np.isin(keys, train_keys)
    keys, first = keys[fresh], first[fresh]
    texts = pa.chunked_array([chunk for split in held_out for chunk in split.texts.chunks])
    near = find_near_duplicates(
        normalized(train.texts.take(pa.array(train_first))).combine_chunks(),
        normalized(texts.take(pa.array(first))).combine_chunks(),
        seed=seed,
    )
    like = {
        int(keys[query]): (int(train_first[text]), similarity)
        for query, (text, similarity) in near.found.items()
    }
    sampled = ""
    if near.queries < len(keys) or near.texts < len(train_first):
        sampled = (
            f" (of a sample: {near.queries:,} of {len(keys):,} texts were compared with "
            f"{near.texts:,} of {len(train_first):,})"
        )
    for split in held_out:
        yield from _nearly_in_train(split, train, like, sampled)


def _nearly_in_train(
    split: Split, train: Split, like: Mapping[int, tuple[int, float]], sampled: str
) -> Iterator[Finding]:
    def detail(row: int, _: str) -> str:
        place, similarity = like[int(split.keys[row])]
        return f"{similarity:.2f} like {train.where(place)}: {shortened(str(train.texts[place]))}"

    yield from split.found(
        "near-leakage",
        "warning",
        np.flatnonzero(np.isin(split.keys, list(like))),
        f"nearly in train, with {THRESHOLD:.0%} of all character trigrams in common or more"
        f"{sampled}: scores on them may be too high; if such rows have one origin, split by it "
        "(group_column)",
        detail,
    )


def duplicates(split: Split) -> Iterator[Finding]:
    """Find rows that repeat an earlier text of their split."""
    _, first, number = np.unique(split.keys, return_index=True, return_inverse=True)
    original = first[number]
    rows = np.flatnonzero(original != np.arange(len(split)))
    yield from split.found(
        "duplicates",
        "warning" if len(rows) > DUPLICATE_SHARE * len(split) else "note",
        rows,
        "repeat an earlier text; keep them if people repeat such texts, else keep one of each",
        lambda row, _: f"as {split.where(int(original[row]), row)}",
    )


def characters(split: Split) -> Iterator[Finding]:
    """Find hidden and damaged characters, and texts in an unexpected script."""
    found = scan(split.texts)
    for check, (name, describe, message) in _CHARACTERS.items():
        rows = np.flatnonzero(getattr(found, name))
        yield from split.found(check, "warning", rows, message, _detail(describe))
    yield from _scripts(split, found)


def _detail(describe: Callable[[str], str]) -> Callable[[int, str], str]:
    return lambda _, text: describe(text)


def _scripts(split: Split, found: Characters) -> Iterator[Finding]:
    """Find texts in another script than that of their language."""
    other = np.zeros(len(split), bool)
    for language in split.counts_by_language():
        if language in LANGUAGE_SCRIPTS:
            expected = [0, *(SCRIPTS.index(name) for name in LANGUAGE_SCRIPTS[language])]
            other |= (split.languages == language) & ~np.isin(found.script, expected)
    latin = found.script == SCRIPTS.index("latin")

    def detail(row: int, _: str) -> str:
        return f"{split.languages[row]}, in {SCRIPTS[found.script[row]]}"

    yield from split.found(
        "wrong-script",
        "warning",
        np.flatnonzero(other & ~latin),
        "in another script than their language's; correct the language or the text",
        detail,
    )
    yield from split.found(
        "romanized",
        "note",
        np.flatnonzero(other & latin),
        "in Latin letters, which their language does not use; if people type so, set "
        "normalization: romanized, else correct the language",
        detail,
    )
