"""Noise similar to that of speech recognition."""

import unicodedata
from collections.abc import Callable

from saarthi_lib.data.augment.confusion import confused_in_indic
from saarthi_lib.data.augment.corpus import Draws, Method, Sentence, Words
from saarthi_lib.text.scripts import is_letter, is_sign, name_begin

_PLAIN = 0.5  # share of sentences without capitals and punctuation, like recognized speech
_SHORT = 3  # most letters of a word that may be missed
_SPLIT = 5  # least characters of a word that may be split
_VIRAMA = 9  # combining class of the sign that removes a consonant's vowel
_PUNCTUATION = "".join(
    character for character in map(chr, range(0x2100)) if unicodedata.category(character)[0] == "P"
)
_FILLERS = {"latin": ("um", "uh", "er"), "devanagari": ("अं", "उम")}
# Spellings that sound alike in English or in romanized Indian languages.
_HEARD_AS = (
    ("ph", "f"), ("ee", "ea"), ("ea", "ee"), ("ee", "i"), ("oo", "u"), ("aa", "a"), ("th", "t"),
    ("sh", "s"), ("ck", "k"), ("kn", "n"), ("wh", "w"), ("v", "w"), ("w", "v"), ("z", "s"),
    ("z", "j"), ("tion", "shun"), ("ight", "ite"), ("ou", "ow"), ("ow", "ou"), ("ai", "ay"),
    ("ay", "ai"), ("er", "ar"), ("ar", "er"), ("ll", "l"), ("tt", "t"), ("ss", "s"), ("ca", "ka"),
    ("co", "ko"), ("ie", "y"), ("au", "o"), ("d", "t"), ("b", "p"),
)  # fmt: skip


class SpeechNoise(Method):
    """Merges, splits, repeats, begins, misses or mishears words, or adds fillers; once or twice."""

    def change(self, sentence: Sentence, draws: Draws) -> Words:
        """Change a sentence; see `Method.change`."""
        words = _plain(sentence.words) if draws.chance(_PLAIN) else sentence.words
        for _ in range(1 + draws.below(2)):
            if words:
                words = draws.choice(_NOISES)(words, draws.below(len(words)), draws)
        return words


def _is_word(text: str) -> bool:
    return any(map(is_letter, text))


def _plain(words: Words) -> Words:
    """Lower-case words without the punctuation at their edges."""
    bare = (word.lower().strip(_PUNCTUATION) for word in words)
    return tuple(word for word in bare if word)


def _merged(words: Words, place: int, draws: Draws) -> Words:
    pair = words[place : place + 2]
    if len(pair) < 2 or not all(map(_is_word, pair)):
        return words
    return (*words[:place], "".join(pair), *words[place + 2 :])


def _split(words: Words, place: int, draws: Draws) -> Words:
    word = words[place]
    points = [
        point
        for point in range(2, len(word) - 1)
        # A sign or virama joins a letter to the next; they are not split.
        if is_letter(word[point])
        and not is_sign(word[point])
        and unicodedata.combining(word[point - 1]) != _VIRAMA
    ]
    if len(word) < _SPLIT or not points or not all(map(is_letter, word)):
        return words
    point = draws.choice(points)
    return (*words[:place], word[:point], word[point:], *words[place + 1 :])


def _repeated(words: Words, place: int, draws: Draws) -> Words:
    """Repeat a word, or two."""
    end = place + 1 + draws.below(2)
    return words[:end] + words[place:end] + words[end:]


def _begun(words: Words, place: int, draws: Draws) -> Words:
    """Say the beginning of a word before the word."""
    word = words[place]
    ends = [end for end in range(1, len(word) // 2 + 1) if not is_sign(word[end])]
    if len(word) < _SPLIT or not ends or not all(map(is_letter, word)):
        return words
    return (*words[:place], word[: draws.choice(ends)], *words[place:])


def _missed(words: Words, place: int, draws: Draws) -> Words:
    """Drop a short word."""
    short = [each for each, word in enumerate(words) if len(word) <= _SHORT and _is_word(word)]
    if not short or len(words) < 2:
        return words
    place = draws.choice(short)
    return words[:place] + words[place + 1 :]


def _misheard(words: Words, place: int, draws: Draws) -> Words:
    word = words[place]
    changed = [
        word[:at] + other + word[at + len(sound) :]
        for sound, other in _HEARD_AS
        if (at := word.find(sound)) >= 0
    ]
    changed += [
        word[:at] + other + word[at + 1 :]
        for at, character in enumerate(word)
        for other in confused_in_indic(character)
    ]
    return (*words[:place], draws.choice(changed), *words[place + 1 :]) if changed else words


def _hesitated(words: Words, place: int, draws: Draws) -> Words:
    fillers = _FILLERS.get(name_begin(words[place][0]))
    return (*words[:place], draws.choice(fillers), *words[place:]) if fillers else words


_NOISES: tuple[Callable[[Words, int, Draws], Words], ...] = (
    *(_merged, _split, _repeated, _begun, _missed, _misheard) * 2,
    _hesitated,
)
