"""Sentences, random draws, and the base of all methods."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Words = tuple[str, ...]

# Bounds memory; more sentences hardly add variety.
SENTENCES_PER_LANGUAGE = 50_000


@dataclass(frozen=True, slots=True)
class Sentence:
    """A training sentence; `tags` has a BIO tag or a part of speech for each word."""

    words: Words
    lang: str
    label: str | None = None
    tags: Words | None = None


@dataclass(frozen=True, slots=True)
class Augmented:
    """A new sentence, the language of its source sentence, and the method."""

    words: Words
    lang: str
    method: str


class Draws:
    """Random numbers from a seed, the same on every machine.

    A numpy generator is slow for single numbers, so they are drawn in blocks.
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._numbers: list[float] = []

    def uniform(self) -> float:
        """Draw from [0, 1)."""
        if not self._numbers:
            self._numbers = self._generator.random(8192).tolist()
        return self._numbers.pop()

    def below(self, bound: int) -> int:
        """Draw from 0 … bound - 1."""
        return int(self.uniform() * bound)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform() < probability

    def choice(self, options: Sequence[T]) -> T:
        """Draw one of the options, which must not be empty."""
        return options[int(self.uniform() * len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Draw at most `count` options without replacement, in their order."""
        if len(options) <= count:
            return list(options)
        places = self._generator.choice(len(options), count, replace=False)
        return [options[place] for place in np.sort(places)]


class Corpus:
    """Training text by language, at most `SENTENCES_PER_LANGUAGE` sentences each."""

    def __init__(self, sentences: Iterable[Sentence], draws: Draws) -> None:
        every: dict[str, list[Sentence]] = {}
        for sentence in sentences:
            if sentence.words and all(sentence.words):
                every.setdefault(sentence.lang, []).append(sentence)
        self.by_language = {
            language: draws.sample(every[language], SENTENCES_PER_LANGUAGE)
            for language in sorted(every)
        }

    @cached_property
    def by_label(self) -> dict[str, dict[str, list[Sentence]]]:
        """Labelled sentences by label and language."""
        found: dict[str, dict[str, list[Sentence]]] = {}
        for language, sentences in self.by_language.items():
            for sentence in sentences:
                if sentence.label is not None:
                    by_language = found.setdefault(sentence.label, {})
                    by_language.setdefault(language, []).append(sentence)
        return found


class Method(ABC):
    """One way to make new sentences from a corpus."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def candidates(self, language: str) -> Sequence[Sentence]:
        """Sentences of a language that the method can change."""
        return self.corpus.by_language[language]

    @abstractmethod
    def change(self, sentence: Sentence, draws: Draws) -> Words:
        """Make a new sentence; returns no words, or the same words, if nothing can change."""
