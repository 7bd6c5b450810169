"""Replace entities by other entities of their type."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from saarthi_lib.data.augment.corpus import Corpus, Draws, Method, Sentence, Words
from saarthi_lib.tasks import OUTSIDE, bio_spans

_MOST_SWAPS = 3
# Carrier phrases come from a part of the text; each sentence has many.
_CARRIER_SENTENCES = 5_000
_CARRIER_WORDS = 12
_LONGEST_MIDDLE = 3

Span = tuple[int, int, str]


class SlotSwaps(Method):
    """Replaces entities by others of the same type and language.

    In a language without tags, it swaps words that occur between the same words in two sentences
    of a label (Andreas 2020, "Good-enough compositional data augmentation", arXiv 1904.09545).
    """

    def __init__(self, corpus: Corpus) -> None:
        super().__init__(corpus)
        self._values = {
            language: slot_values(sentences) for language, sentences in corpus.by_language.items()
        }
        self._carriers = {
            language: _Carriers.of(sentences)
            for language, sentences in corpus.by_language.items()
            if not self._values[language]
        }

    def candidates(self, language: str) -> Sequence[Sentence]:
        """Sentences of a language that the method can change."""
        sentences = self.corpus.by_language[language]
        if language in self._carriers:
            carriers = self._carriers[language]
            return [each for each in sentences if carriers.middles(each.words)]
        values = self._values[language]
        return [
            each for each in sentences if any(len(values[kind]) > 1 for _, _, kind in slots(each))
        ]

    def change(self, sentence: Sentence, draws: Draws) -> Words:
        """Change a sentence; see `Method.change`."""
        if sentence.lang in self._carriers:
            return self._carriers[sentence.lang].change(sentence.words, draws)
        return swap_slots(sentence, self._values[sentence.lang], draws)


def slots(sentence: Sentence) -> list[Span]:
    """Entities of a sentence; with other tags than BIO (POS), each word is an entity."""
    tags = sentence.tags or ()
    if all(tag == OUTSIDE or tag[:2] in ("B-", "I-") for tag in tags):
        return bio_spans(tags)
    return [
        (place, place + 1, tag)
        for place, (word, tag) in enumerate(zip(sentence.words, tags, strict=True))
        if any(character.isalpha() for character in word)
    ]


def slot_values(sentences: Iterable[Sentence]) -> dict[str, list[Words]]:
    """Distinct values of each entity type, in the order of the text."""
    found: dict[str, dict[Words, None]] = {}
    for sentence in sentences:
        for start, end, kind in slots(sentence):
            found.setdefault(kind, {})[sentence.words[start:end]] = None
    return {kind: list(values) for kind, values in found.items()}


def swap_slots(sentence: Sentence, values: dict[str, list[Words]], draws: Draws) -> Words:
    """Replace some entities of a sentence by values of their types."""
    words = sentence.words
    spans = [span for span in slots(sentence) if span[2] in values]
    wanted = 1 + draws.below(min(len(spans), _MOST_SWAPS)) if spans else 0
    chosen = {draws.below(len(spans)) for _ in range(wanted)}
    # From the right, so that earlier positions stay valid.
    for index in sorted(chosen, reverse=True):
        start, end, kind = spans[index]
        words = words[:start] + draws.choice(values[kind]) + words[end:]
    return words


@dataclass(frozen=True)
class _Carriers:
    """Word sequences that share a carrier phrase, each with its alternatives."""

    rivals: dict[Words, list[list[Words]]] = field(default_factory=dict)

    @classmethod
    def of(cls, sentences: Sequence[Sentence]) -> "_Carriers":
        phrases: dict[tuple[str | None, Words, Words], dict[Words, None]] = {}
        for sentence in sentences[:_CARRIER_SENTENCES]:
            words = sentence.words
            for start, end in _middles(words):
                phrase = (sentence.label, words[:start], words[end:])
                phrases.setdefault(phrase, {})[words[start:end]] = None
        carriers = cls()
        for middles in phrases.values():
            if len(middles) > 1:
                group = list(middles)
                for middle in group:
                    carriers.rivals.setdefault(middle, []).append(group)
        return carriers

    def middles(self, words: Words) -> list[tuple[int, int]]:
        return [(start, end) for start, end in _middles(words) if words[start:end] in self.rivals]

    def change(self, words: Words, draws: Draws) -> Words:
        start, end = draws.choice(self.middles(words))
        rival = draws.choice(draws.choice(self.rivals[words[start:end]]))
        return words[:start] + rival + words[end:]


def _middles(words: Words) -> list[tuple[int, int]]:
    """Spans of a few words, with at least two other words around them."""
    if len(words) > _CARRIER_WORDS:
        return []
    return [
        (start, start + length)
        for length in range(1, min(_LONGEST_MIDDLE, len(words) - 2) + 1)
        for start in range(len(words) - length + 1)
    ]
