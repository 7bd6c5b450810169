"""Make new sentences in equal shares of languages and methods."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from saarthi_lib.data.augment.code_mixing import CodeMixing
from saarthi_lib.data.augment.corpus import Augmented, Corpus, Draws, Method, Sentence, Words
from saarthi_lib.data.augment.neighbours import Neighbours, NeighbourWords
from saarthi_lib.data.augment.slots import SlotSwaps
from saarthi_lib.data.augment.spans import SpanSampling
from saarthi_lib.data.augment.speech import SpeechNoise
from saarthi_lib.data.augment.typos import Typos
from saarthi_lib.data.augment.vocabulary import VocabularyWords
from saarthi_lib.data.augment.words import WordChanges
from saarthi_lib.errors import ConfigError

_METHODS: dict[str, Callable[[Corpus], Method]] = {
    "words": WordChanges,
    "spans": SpanSampling,
    "slots": SlotSwaps,
    "code_mixing": CodeMixing,
    "typos": Typos,
    "speech": SpeechNoise,
}
_OF_TEACHER: dict[str, Callable[[Corpus, Neighbours], Method]] = {
    "neighbours": NeighbourWords,
    "vocabulary": VocabularyWords,
}
# Methods that may follow another method; they need only words.
_AFTERWARDS = ("words", "typos", "speech")
_CHAINED = 0.2  # of the sentences
# The last method, so that a few thousand sentences contain the many words of a vocabulary.
_LAST = "vocabulary"
_CHANGED_LAST = 0.5  # of the sentences
_PATIENCE = 30  # attempts without a new sentence, after which a method ends


@dataclass(frozen=True)
class _Source:
    """A method, its sentences of one language, and the methods that may follow.

    One of `followers` may follow, and then `last`.
    """

    name: str
    method: Method
    sentences: Sequence[Sentence]
    followers: Sequence[Method]
    last: Method | None

    def draw(self, draws: Draws, seen: set[Words]) -> Augmented | None:
        """Make a new sentence; None if many attempts gave no new one."""
        for _ in range(_PATIENCE):
            sentence = draws.choice(self.sentences)
            words = self.method.change(sentence, draws)
            if words == sentence.words:
                continue
            if words and self.followers and draws.chance(_CHAINED):
                follower = draws.choice(self.followers)
                words = follower.change(Sentence(words, sentence.lang), draws)
            if words and self.last is not None and draws.chance(_CHANGED_LAST):
                words = self.last.change(Sentence(words, sentence.lang), draws)
            if words and words not in seen:
                seen.add(words)
                return Augmented(words, sentence.lang, self.name)
        return None


def augment(
    sentences: Sequence[Sentence],
    methods: Sequence[str],
    size: int,
    seed: int,
    neighbours: Neighbours | None = None,
) -> list[Augmented]:
    """Make distinct sentences that are not in the input.

    All languages have equal shares, and in a language all methods. A method that can make no more
    sentences leaves its share to the others. A second method changes one sentence in five, and
    "vocabulary", if given, changes half of all sentences at the end; a sentence keeps the name of
    its first method.

    Args:
        sentences: training sentences; at most 50,000 of a language are used.
        methods: names in `saarthi_lib.config.AugmentationMethod`; "neighbours" and "vocabulary"
            need `neighbours`.
        size: number of sentences; a small text gives fewer.
        seed: seed of all draws.
        neighbours: words of the teacher.

    Raises:
        ConfigError: a method is unknown.
    """
    draws = Draws(seed)
    corpus = Corpus(sentences, draws)
    made: list[Augmented] = []
    seen = {sentence.words for sentence in sentences}
    languages = deque(_sources(corpus, methods, neighbours) if size > 0 else ())
    while languages and len(made) < size:
        sources = languages.popleft()
        source = sources.popleft()
        new = source.draw(draws, seen)
        if new is not None:
            made.append(new)
            sources.append(source)
        if sources:
            # If a method has ended, its language has another turn at once.
            (languages.append if new is not None else languages.appendleft)(sources)
    return made


def _sources(
    corpus: Corpus, methods: Sequence[str], neighbours: Neighbours | None
) -> list[deque[_Source]]:
    """For each language, the methods that can change its sentences."""
    built: dict[str, Method] = {}
    for name in methods:
        if name in _OF_TEACHER:
            if neighbours is not None:
                built[name] = _OF_TEACHER[name](corpus, neighbours)
        elif name in _METHODS:
            built[name] = _METHODS[name](corpus)
        else:
            raise ConfigError(
                f"augmentation_methods: there is no method '{name}'; use one of "
                f"{', '.join([*_METHODS, *_OF_TEACHER])}"
            )
    followers = {
        name: [built[each] for each in _AFTERWARDS if each in built and each != name]
        for name in built
    }
    sources = [
        deque(
            _Source(
                name,
                method,
                candidates,
                followers[name],
                built.get(_LAST) if name != _LAST else None,
            )
            for name, method in built.items()
            if (candidates := method.candidates(language))
        )
        for language in corpus.by_language
    ]
    return [each for each in sources if each]
