"""N-gram and span sampling: parts of sentences put together in another way."""

from saarthi_lib.data.augment.corpus import Draws, Method, Sentence, Words

_PARTNERS = 4  # sentences that are tried for a word that two sentences share


class SpanSampling(Method):
    """A span of another sentence put in or appended, a part alone, two sentences crossed over."""

    def change(self, sentence: Sentence, draws: Draws) -> Words:
        """Make a sentence of this one; see `Method.change`."""
        words = sentence.words
        others = self.corpus.by_language[sentence.lang]
        kind = draws.below(4)
        if kind == 0:
            place = draws.below(len(words) + 1)
            return words[:place] + _span(draws.choice(others).words, draws) + words[place:]
        if kind == 1:
            return words + _span(draws.choice(others).words, draws)
        if kind == 2:
            return _span(words, draws, shortest=2)
        for _ in range(_PARTNERS):
            crossed = _crossed(words, draws.choice(others).words, draws)
            if crossed:
                return crossed
        return words


def _span(words: Words, draws: Draws, shortest: int = 1) -> Words:
    """Draw a run of a few words to two thirds of the sentence."""
    shortest = min(shortest, len(words))
    length = shortest + draws.below(max(1, 2 * len(words) // 3 - shortest + 1))
    start = draws.below(len(words) - length + 1)
    return words[start : start + length]


def _crossed(words: Words, other: Words, draws: Draws) -> Words:
    """Go from one sentence to the other at a word that both hold (n-gram crossover)."""
    in_other = set(other)
    shared = [place for place, word in enumerate(words) if word in in_other]
    if not shared:
        return ()
    place = draws.choice(shared)
    return words[:place] + other[other.index(words[place]) :]
