"""Typing errors, and letters that writers confuse."""

from saarthi_lib.data.augment.confusion import beside_on_keyboard, confused_in_indic
from saarthi_lib.data.augment.corpus import Draws, Method, Sentence, Words
from saarthi_lib.text.scripts import is_letter, is_sign

_SHORTEST = 3  # least letters of a changed word
_MOST_WORDS = 2
_CONFUSED = 0.7  # share of errors that confuse characters, if the word has such


class Typos(Method):
    """Makes one error in one or two words."""

    def candidates(self, language: str) -> list[Sentence]:
        """Sentences of a language that the method can change."""
        return [each for each in self.corpus.by_language[language] if _places(each.words)]

    def change(self, sentence: Sentence, draws: Draws) -> Words:
        """Change a sentence; see `Method.change`."""
        words = list(sentence.words)
        places = _places(sentence.words)
        if not places:
            return sentence.words
        for place in {draws.choice(places) for _ in range(1 + draws.below(_MOST_WORDS))}:
            words[place] = _mistyped(words[place], draws)
        return tuple(words)


def _places(words: Words) -> list[int]:
    return [
        place
        for place, word in enumerate(words)
        if len(word) >= _SHORTEST and all(map(is_letter, word[:_SHORTEST]))
    ]


def _mistyped(word: str, draws: Draws) -> str:
    """Change one character of a word, except the first."""
    letters = [place for place in range(1, len(word)) if is_letter(word[place])]
    confused = [place for place in letters if confused_in_indic(word[place])]
    if confused and draws.chance(_CONFUSED):
        place = draws.choice(confused)
        return word[:place] + draws.choice(confused_in_indic(word[place])) + word[place + 1 :]
    place = draws.choice(letters)
    if any(map(is_sign, word)):
        # In a script with signs, moved letters would form impossible clusters.
        signs = [place for place in letters if is_sign(word[place])]
        place = draws.choice(signs or letters)
        return word[:place] + word[place + 1 :]
    slip = draws.below(4)
    beside = beside_on_keyboard(word[place])
    if slip == 0 and beside:
        return word[:place] + draws.choice(beside) + word[place + 1 :]
    if slip == 1:
        return word[:place] + word[place] + word[place:]
    if slip == 2 and place + 1 in letters:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + word[place + 1 :]
