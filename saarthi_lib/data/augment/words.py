"""Drop, replace and swap words."""

from collections.abc import Sequence

from saarthi_lib.data.augment.corpus import Draws, Method, Sentence, Words

_SHARE = 0.2  # share of a sentence's words that are dropped or replaced


class WordChanges(Method):
    """Drops words, replaces words, or swaps two adjacent words; once or twice."""

    def change(self, sentence: Sentence, draws: Draws) -> Words:
        """Change a sentence; see `Method.change`."""
        words = sentence.words
        for _ in range(1 + draws.below(2)):
            kind = draws.below(3)
            if kind == 0:
                words = _dropped(words, draws)
            elif kind == 1:
                words = self._replaced(words, sentence.lang, draws)
            else:
                words = _swapped(words, draws)
        return words

    def _replaced(self, words: Words, language: str, draws: Draws) -> Words:
        """Replace words by others, drawn by their frequency in the language."""
        others = self.corpus.by_language[language]
        changed = list(words)
        for place in some_places(words, draws):
            changed[place] = draws.choice(draws.choice(others).words)
        return tuple(changed)


def _dropped(words: Words, draws: Draws) -> Words:
    dropped = some_places(words, draws)
    return tuple(word for place, word in enumerate(words) if place not in dropped)


def _swapped(words: Words, draws: Draws) -> Words:
    if len(words) < 2:
        return words
    place = draws.below(len(words) - 1)
    return (*words[:place], words[place + 1], words[place], *words[place + 2 :])


def some_places(words: Sequence[str], draws: Draws) -> list[int]:
    """Draw positions of a share of the words; at least one, unless there are no words."""
    places = [place for place in range(len(words)) if draws.chance(_SHARE)]
    return places or [draws.below(len(words))] if words else []
