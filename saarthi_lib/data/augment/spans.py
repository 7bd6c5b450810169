"""N-gram and span sampling: combine parts of sentences."""

from saarthi_lib.data.augment.corpus import Draws, Method, Sentence, Words

_PARTNERS = 4  # most sentences that are tried for a shared word


class SpanSampling(Method):
    """Inserts or appends a span, takes a part, or crosses two sentences."""

    def change(self, sentence: Sentence, draws: Draws) -> Words:
        """Change a sentence; see `Method.change`."""
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
    """Draw a span, from a few words to two thirds of the sentence."""
    shortest = min(shortest, len(words))
    length = shortest + draws.below(max(1, 2 * len(words) // 3 - shortest + 1))
    start = draws.below(len(words) - length + 1)
    return words[start : start + length]


def _crossed(words: Words, other: Words, draws: Draws) -> Words:
    """Change from one sentence to the other at a shared word (n-gram crossover)."""
    in_other = set(other)
    shared = [place for place, word in enumerate(words) if word in in_other]
    if not shared:
        return ()
    place = draws.choice(shared)
    return words[:place] + other[other.index(words[place]) :]
