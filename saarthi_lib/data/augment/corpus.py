"""What all methods share: sentences, random draws, and the text to draw from."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Words = tuple[str, ...]

# Bounds the memory of a large input; more sentences would hardly make the made text more varied.
SENTENCES_PER_LANGUAGE = 50_000


@dataclass(frozen=True, slots=True)
class Sentence:
    """A training sentence. `tags` has a tag for each word: BIO, or one class a word (POS)."""

    words: Words
    lang: str
    label: str | None = None
    tags: Words | None = None


@dataclass(frozen=True, slots=True)
class Augmented:
    """A made sentence, the language of the sentence that it was made from, and the method."""

    words: Words
    lang: str
    method: str


class Draws:
    """Random numbers of a seed, the same on every machine.

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
        """Whether something of this probability happens."""
        return self.uniform() < probability

    def choice(self, options: Sequence[T]) -> T:
        """Draw one of the options, of which there must be one."""
        return options[int(self.uniform() * len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Draw at most `count` different places of the options, in their order."""
        if len(options) <= count:
            return list(options)
        places = self._generator.choice(len(options), count, replace=False)
        return [options[place] for place in np.sort(places)]


class Corpus:
    """The training text by language; of each, at most `SENTENCES_PER_LANGUAGE` sentences."""

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
        """Sentences by label and then by language; those without a label are left out."""
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
        """Return the sentences of a language that the method can change."""
        return self.corpus.by_language[language]

    @abstractmethod
    def change(self, sentence: Sentence, draws: Draws) -> Words:
        """Make a sentence of this one; none, or the same words, where there is nothing to do."""
