"""New sentences for the transfer set, made from the training text; the teacher labels them.

Unlabelled text is what a student learns most from (XtremeDistil, section 5). Nothing here needs to
keep a sentence's meaning: it needs to stay near the text that the student will meet.
"""

from collections.abc import Sequence

import numpy as np


def augment(
    sentences: Sequence[Sequence[str]],
    languages: Sequence[str],
    size: int,
    seed: int,
) -> list[tuple[list[str], str]]:
    """Make sentences that stand neither in the input nor twice in the output.

    Each takes a training sentence, drawn evenly over the languages, and changes it by one or two
    of: words dropped, words replaced by words of the same language, a span of another sentence put
    in or appended, neighbours swapped, a part of it alone.

    Args:
        sentences: the training sentences, as words.
        languages: the language of each.
        size: how many to make; fewer come back when the text is too small to yield so many.
        seed: the same seed gives the same sentences.

    Returns:
        Words and language of each new sentence.
    """
    generator = np.random.default_rng(seed)
    by_language: dict[str, list[Sequence[str]]] = {}
    for words, language in zip(sentences, languages, strict=True):
        by_language.setdefault(language, []).append(words)
    names = sorted(by_language)
    seen = {tuple(words) for words in sentences}
    made: list[tuple[list[str], str]] = []
    for attempt in range(size * 3):
        if len(made) == size:
            break
        language = names[attempt % len(names)]
        pool = by_language[language]
        words = list(pool[generator.integers(len(pool))])
        for _ in range(generator.integers(1, 3)):
            other = pool[generator.integers(len(pool))]
            words = _CHANGES[generator.integers(len(_CHANGES))](words, other, generator)
        if words and tuple(words) not in seen:
            seen.add(tuple(words))
            made.append((words, language))
    return made


def _drop(words: list[str], other: Sequence[str], generator: np.random.Generator) -> list[str]:
    kept = generator.random(len(words)) > 0.2
    return [word for word, keep in zip(words, kept, strict=True) if keep]


def _replace(words: list[str], other: Sequence[str], generator: np.random.Generator) -> list[str]:
    chosen = generator.random(len(words)) < 0.2
    return [
        other[int(generator.integers(len(other)))] if change else word
        for word, change in zip(words, chosen, strict=True)
    ]


def _insert(words: list[str], other: Sequence[str], generator: np.random.Generator) -> list[str]:
    place = int(generator.integers(len(words) + 1))
    return words[:place] + _span(other, generator) + words[place:]


def _append(words: list[str], other: Sequence[str], generator: np.random.Generator) -> list[str]:
    return words + _span(other, generator)


def _swap(words: list[str], other: Sequence[str], generator: np.random.Generator) -> list[str]:
    if len(words) < 2:
        return words
    place = int(generator.integers(len(words) - 1))
    return [*words[:place], words[place + 1], words[place], *words[place + 2 :]]


def _part(words: list[str], other: Sequence[str], generator: np.random.Generator) -> list[str]:
    return _span(words, generator)


def _span(words: Sequence[str], generator: np.random.Generator) -> list[str]:
    """A run of one word to two thirds of the sentence."""
    if not words:
        return []
    length = int(generator.integers(1, max(2, 2 * len(words) // 3 + 1)))
    start = int(generator.integers(len(words) - length + 1))
    return list(words[start : start + length])


_CHANGES = (_drop, _replace, _insert, _append, _swap, _part)
