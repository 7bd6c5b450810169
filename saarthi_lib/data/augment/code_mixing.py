"""Two languages in one sentence, without a dictionary."""

from collections.abc import Sequence

from saarthi_lib.data.augment.corpus import Corpus, Draws, Method, Sentence, Words
from saarthi_lib.data.augment.slots import slot_values, slots, swap_slots

_LONGEST_SPAN = 3


class CodeMixing(Method):
    """Spans and slot values of another language put into a sentence.

    Spans come from sentences of the same label ("parallel intents"), which say the like in other
    words: in the middle of a clause (insertion) or all that follows (alternation), the two kinds
    of Muysken, "Bilingual Speech" (2000). Slot values come from entities of the same type.
    """

    def __init__(self, corpus: Corpus) -> None:
        super().__init__(corpus)
        values = {
            language: slot_values(sentences) for language, sentences in corpus.by_language.items()
        }
        # By language: the values of each type of slot in each of the other languages.
        self._foreign_values = {
            language: [values[other] for other in values if other != language and values[other]]
            for language in values
        }

    def candidates(self, language: str) -> Sequence[Sentence]:
        """Return the sentences of a language that the method can change."""
        return [
            sentence
            for sentence in self.corpus.by_language[language]
            if self._parallel(sentence) or self._values_for(sentence)
        ]

    def change(self, sentence: Sentence, draws: Draws) -> Words:
        """Make a sentence of this one; see `Method.change`."""
        parallel, values = self._parallel(sentence), self._values_for(sentence)
        if values and (not parallel or draws.chance(0.5)):
            return swap_slots(sentence, draws.choice(values), draws)
        other = draws.choice(draws.choice(parallel)).words
        mix = _inserted if draws.chance(0.5) else _alternated
        return mix(sentence.words, other, draws)

    def _parallel(self, sentence: Sentence) -> list[list[Sentence]]:
        """Return the sentences of the same label, by language, of other languages."""
        by_language = self.corpus.by_label[sentence.label] if sentence.label is not None else {}
        return [those for language, those in by_language.items() if language != sentence.lang]

    def _values_for(self, sentence: Sentence) -> list[dict[str, list[Words]]]:
        """Return the slot values of those other languages that share a slot with the sentence."""
        kinds = {kind for _, _, kind in slots(sentence)}
        return [
            values for values in self._foreign_values[sentence.lang] if not kinds.isdisjoint(values)
        ]


def _inserted(words: Words, other: Words, draws: Draws) -> Words:
    """Replace a span by one of the other sentence of about the same length and place."""
    length = 1 + draws.below(min(_LONGEST_SPAN, max(1, len(words) - 1)))
    start = draws.below(len(words) - length + 1)
    foreign_length = min(length, len(other))
    middle = (start + length / 2) / len(words) * len(other)
    foreign = min(max(0, round(middle - foreign_length / 2)), len(other) - foreign_length)
    return words[:start] + other[foreign : foreign + foreign_length] + words[start + length :]


def _alternated(words: Words, other: Words, draws: Draws) -> Words:
    """Begin in one language and end in the other, at about the same part of both."""
    share = draws.uniform()
    return words[: 1 + int(share * (len(words) - 1))] + other[int(share * len(other)) :]
