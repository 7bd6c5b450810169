"""Words replaced by others of the language that the training text lacks and the teacher knows."""

from collections.abc import Sequence

from saarthi_lib.data.augment.corpus import Corpus, Draws, Method, Sentence, Words
from saarthi_lib.data.augment.neighbours import Neighbours
from saarthi_lib.data.augment.words import some_places

_WORDS = 4_000  # of each language


class VocabularyWords(Method):
    """A share of the words replaced by other words of the language, each of them as likely.

    Where words are tagged, the student is to know what the teacher knows of words that no labelled
    sentence holds, and learns it from what the teacher says of them here. A text as a whole is
    named by the words that the labels have seen, and an unfamiliar one is a sign that it is out of
    scope: there is nothing to do for sentences without tags.
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
        """Return the sentences of a language, where they are tagged and it has other words."""
        return self.corpus.by_language[language] if self._words[language] else ()

    def change(self, sentence: Sentence, draws: Draws) -> Words:
        """Make a sentence of this one; see `Method.change`."""
        changed = list(sentence.words)
        others = self._words[sentence.lang]
        for place in some_places(changed, draws) if others else ():
            changed[place] = draws.choice(others)
        return tuple(changed)
