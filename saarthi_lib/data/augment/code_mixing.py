"""Two languages in one sentence, without a dictionary."""

from collections.abc import Sequence

from saarthi_lib.data.augment.corpus import Corpus, Draws, Method, Sentence, Words
from saarthi_lib.data.augment.slots import slot_values, slots, swap_slots

_LONGEST_SPAN = 3


class CodeMixing(Method):
    """Puts spans and slot values of another language into a sentence.

    Spans come from sentences of the same label ("parallel intents"). They replace the middle of a
    sentence (insertion) or its end (alternation), the two kinds of Muysken, "Bilingual Speech"
    (2000). Slot values come from entities of the same type.
    """

    def __init__(self, corpus: Corpus) -> None:
        super().__init__(corpus)
        values = {
            language: slot_values(sentences) for language, sentences in corpus.by_language.items()
        }
        # By language: values of each slot type in each other language.
        self._foreign_values = {
            language: [values[other] for other in values if other != language and values[other]]
            for language in values
        }

    def candidates(self, language: str) -> Sequence[Sentence]:
        """Sentences of a language that the method can change."""
        return [
            sentence
            for sentence in self.corpus.by_language[language]
            if self._parallel(sentence) or self._values_for(sentence)
        ]

    def change(self, sentence: Sentence, draws: Draws) -> Words:
        """Change a sentence; see `Method.change`."""
        parallel, values = self._parallel(sentence), self._values_for(sentence)
        if values and (not parallel or draws.chance(0.5)):
            return swap_slots(sentence, draws.choice(values), draws)
        other = draws.choice(draws.choice(parallel)).words
        mix = _inserted if draws.chance(0.5) else _alternated
        return mix(sentence.words, other, draws)

    def _parallel(self, sentence: Sentence) -> list[list[Sentence]]:
        """Sentences of the same label, for each other language."""
        by_language = self.corpus.by_label[sentence.label] if sentence.label is not None else {}
        return [those for language, those in by_language.items() if language != sentence.lang]

    def _values_for(self, sentence: Sentence) -> list[dict[str, list[Words]]]:
        """Slot values of the other languages that share a slot with the sentence."""
        kinds = {kind for _, _, kind in slots(sentence)}
        return [
            values for values in self._foreign_values[sentence.lang] if not kinds.isdisjoint(values)
        ]


def _inserted(words: Words, other: Words, draws: Draws) -> Words:
    """Replace a span by a span of the other sentence with similar length and position."""
    length = 1 + draws.below(min(_LONGEST_SPAN, max(1, len(words) - 1)))
    start = draws.below(len(words) - length + 1)
    foreign_length = min(length, len(other))
    middle = (start + length / 2) / len(words) * len(other)
    foreign = min(max(0, round(middle - foreign_length / 2)), len(other) - foreign_length)
    return words[:start] + other[foreign : foreign + foreign_length] + words[start + length :]


def _alternated(words: Words, other: Words, draws: Draws) -> Words:
    """Begin in one language and end in the other, with the change at a similar position."""
    share = draws.uniform()
    return words[: 1 + int(share * (len(words) - 1))] + other[int(share * len(other)) :]
