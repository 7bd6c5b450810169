"""Replace words by words of the language that the teacher knows and the training text lacks."""

from collections.abc import Sequence

from saarthi_lib.data.augment.corpus import Corpus, Draws, Method, Sentence, Words
from saarthi_lib.data.augment.neighbours import Neighbours
from saarthi_lib.data.augment.words import some_places

_WORDS = 4_000  # of each language


class VocabularyWords(Method):
    """Replaces a share of the words by other words of the language, drawn uniformly.

    From these sentences the student learns the teacher's tags for words that no labelled sentence
    contains. Sentences without tags stay as they are: for the label of a text, an unfamiliar word
    is a sign that it is out of scope.
    """

    def __init__(self, corpus: Corpus, neighbours: Neighbours) -> None:
        super().__init__(corpus)
        self._words = {
            language: neighbours.more_words(
                (word for sentence in sentences if sentence.tags for word in sentence.words), _WORDS
            )
            for language, sentences in corpus.by_language.items()
        }

    def candidates(self, language: str) -> Sequence[Sentence]:
        """Sentences of a language that has tags and other words."""
        return self.corpus.by_language[language] if self._words[language] else ()

    def change(self, sentence: Sentence, draws: Draws) -> Words:
        """Change a sentence; see `Method.change`."""
        changed = list(sentence.words)
        others = self._words[sentence.lang]
        for place in some_places(changed, draws) if others else ():
            changed[place] = draws.choice(others)
        return tuple(changed)
