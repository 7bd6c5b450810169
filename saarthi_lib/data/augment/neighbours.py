"""Replace words by their neighbours in the teacher's embeddings."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from saarthi_lib.data.alike import most_alike, require_rows
from saarthi_lib.data.augment.corpus import Corpus, Draws, Method, Sentence, Words
from saarthi_lib.errors import TeacherError
from saarthi_lib.text.scripts import is_letter, is_sign, name_begin

_NEAREST = 8
_LOWEST_COSINE = 0.4
# Least characters of a word and its neighbours. Short Latin words have other meanings in other
# languages ("mei"); a vowel sign counts as a character.
_SHORTEST = 2
_SHORTEST_LATIN = 4
# Most tokens of each script and capitalization, by frequency: rarer tokens mostly belong to other
# languages, and cost time and memory.
_MOST_TOKENS = 30_000
_LANGUAGE_SAMPLE = 50  # least words to select the tokens of their language
_QUERIES = 3_000  # most frequent words of a language
_QUERIES_AT_ONCE = 256  # with 30,000 tokens, 30 MB of cosines
_MOST_REPLACED = 2
_USUAL = 0.1  # least share of a language's words in one of its usual scripts

_Group = tuple[str, str]  # script and capitalization


class Neighbours:
    """Nearest neighbours of words in a teacher's embeddings.

    A neighbour is one token, a whole word in the same script and capitalization; words of several
    tokens have no neighbours. Vectors are centred on the mean of their script, because all rows
    have a similar direction (Mu and Viswanath 2018, "All-but-the-top", arXiv 1702.01417).
    """

    def __init__(
        self,
        tokenizer: dict[str, Any],
        table: NDArray[np.floating],
        lowest_cosine: float = _LOWEST_COSINE,
    ) -> None:
        """Store the arguments; the tokenizer is read at the first use.

        Args:
            tokenizer: content of the teacher's `tokenizer.json`.
            table: the teacher's embeddings, [vocabulary, width], by the tokenizer's ids.
            lowest_cosine: least cosine between a word and a neighbour.
        """
        self._source = tokenizer
        self._table = table
        self._lowest_cosine = lowest_cosine
        self._single = cache(self._find_single)
        self._tokens = cache(self._find_tokens)

    def of(self, words: Iterable[str]) -> dict[str, list[str]]:
        """Find the neighbours of words, the nearest first; words without neighbours are left out.

        Args:
            words: words of one language; many words also select the tokens of the language.

        Raises:
            TeacherError: the tokenizer cannot be read, or does not fit the table.
        """
        plain = [word for word in dict.fromkeys(words) if _is_plain(word)]
        tokens = self._single_tokens(plain)
        groups: dict[_Group, list[tuple[str, int]]] = {}
        for word, token in zip(plain, tokens, strict=True):
            # The decoded token may have another case, or be the unknown token.
            read = "" if token is None else self._tokenizer.decode([token]).strip()
            if token is not None and _is_plain(read):
                groups.setdefault(_group(read), []).append((word, token))
        found = {
            word: near
            for group, members in groups.items()
            if group in self._words_of
            for word, near in self._search(group, members)
        }
        return {word: found[word] for word in plain if found.get(word)}

    def more_words(self, words: Iterable[str], count: int) -> list[str]:
        """Find other words of the same language and subject, the most similar first.

        Args:
            words: words of one language; more words select better.
            count: most words to return.

        Raises:
            TeacherError: the tokenizer cannot be read, or does not fit the table.
        """
        given = list(dict.fromkeys(words))
        scripts = Counter(_group(word)[0] for word in given if _is_plain(word))
        usual = {script for script, many in scripts.items() if many >= _USUAL * scripts.total()}
        used = {token for token in self._single_tokens(given) if token is not None}
        others = {
            token: word
            for group in self._words_of
            if group[0] in usual
            for word, token in self._single(group).items()
            if token not in used
        }
        ranked = most_alike(self._table, sorted(used), sorted(others))
        return [others[token] for token in ranked[:count]]

    def _search(
        self, group: _Group, members: list[tuple[str, int]]
    ) -> Iterator[tuple[str, list[str]]]:
        """Yield the neighbours of words (given with their tokens) in their group."""
        tokens = self._tokens(group)
        queries = tokens.unit(self._table[[token for _, token in members]])
        names, vectors = tokens.of_language(queries)
        count = min(2 * _NEAREST, len(names))
        if count == 0:
            return
        for start in range(0, len(members), _QUERIES_AT_ONCE):
            batch = slice(start, start + _QUERIES_AT_ONCE)
            cosines = queries[batch] @ vectors.T
            nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
            for (word, _), near, row in zip(members[batch], nearest, cosines, strict=True):
                yield word, self._best(word, names, near, row)

    def _best(
        self,
        word: str,
        names: Sequence[str],
        near: NDArray[np.int64],
        cosines: NDArray[np.float32],
    ) -> list[str]:
        # Rounding keeps the order independent of the machine's arithmetic.
        ordered = sorted((-round(float(cosines[index]), 3), int(index)) for index in near)
        others = [
            _recased(names[index], word)
            for cosine, index in ordered
            if -cosine >= self._lowest_cosine and names[index].casefold() != word.casefold()
        ]
        return others[:_NEAREST]

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        try:
            tokenizer = Tokenizer.from_str(json.dumps(self._source))
        except Exception as error:  # tokenizers raises nothing narrower
            raise TeacherError(f"the teacher's tokenizer cannot be read: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _words_of(self) -> dict[_Group, list[str]]:
        """Plain words of the tokens, by group; in the order of ids, the frequent ones first."""
        ids = sorted(self._tokenizer.get_vocab(with_added_tokens=False).values())
        require_rows(self._table, ids[-1])
        groups: dict[_Group, list[str]] = {}
        spelt = self._tokenizer.decode_batch([[token] for token in ids])
        for word in dict.fromkeys(text.strip() for text in spelt):
            if _is_plain(word):
                groups.setdefault(_group(word), []).append(word)
        return groups

    def _find_tokens(self, group: _Group) -> "_Tokens":
        """Words of the group that are one token, with their vectors."""
        single = self._single(group)
        words = [word for word in self._words_of[group][:_MOST_TOKENS] if word in single]
        return _Tokens.of(words, self._table[[single[word] for word in words]].astype(np.float32))

    def _find_single(self, group: _Group) -> dict[str, int]:
        """Words of the group that are one token, with this token."""
        words = self._words_of[group]
        pairs = zip(words, self._single_tokens(words), strict=True)
        return {word: token for word, token in pairs if token is not None}

    def _single_tokens(self, words: Sequence[str]) -> list[int | None]:
        """The only token of each word; None for words of several tokens."""
        # After a space, as in a text: some tokenizers join both in one token.
        texts = [f" {word}" for word in words]
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [each.ids[0] if len(each.ids) == 1 else None for each in encodings]


@dataclass(frozen=True)
class _Tokens:
    """Words of one token, their centred unit vectors [words, width], and the mean vector."""

    words: list[str]
    mean: NDArray[np.float32]
    vectors: NDArray[np.float32]

    @classmethod
    def of(cls, words: list[str], vectors: NDArray[np.float32]) -> "_Tokens":
        mean = vectors.mean(axis=0)
        return cls(words, mean, _unit(vectors - mean))

    def unit(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """Centre other vectors, and scale them to length 1."""
        return _unit(vectors.astype(np.float32) - self.mean)

    def of_language(self, sample: NDArray[np.float32]) -> tuple[list[str], NDArray[np.float32]]:
        """Words of the language (and the domain) of a sample of vectors.

        Words of a language lie on one side of a multilingual table. The result are the words as far
        in the direction of the sample's mean as three quarters of the sample.
        """
        if len(sample) < _LANGUAGE_SAMPLE:
            return self.words, self.vectors
        side = sample.mean(axis=0)
        near = np.flatnonzero(self.vectors @ side >= np.quantile(sample @ side, 0.25))
        return [self.words[index] for index in near], self.vectors[near]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)


class NeighbourWords(Method):
    """Replaces one or two words by neighbours."""

    def __init__(self, corpus: Corpus, neighbours: Neighbours) -> None:
        super().__init__(corpus)
        self._nearest: dict[str, dict[str, list[str]]] = {}
        for language, sentences in corpus.by_language.items():
            counts = Counter(word for sentence in sentences for word in sentence.words)
            words = [word for word, _ in counts.most_common(_QUERIES)]
            self._nearest[language] = neighbours.of(words)

    def candidates(self, language: str) -> Sequence[Sentence]:
        """Sentences of a language that the method can change."""
        return [each for each in self.corpus.by_language[language] if self._places(each)]

    def change(self, sentence: Sentence, draws: Draws) -> Words:
        """Change a sentence; see `Method.change`."""
        words = list(sentence.words)
        places = self._places(sentence)
        for _ in range(1 + draws.below(_MOST_REPLACED)):
            place = draws.choice(places)
            words[place] = draws.choice(self._nearest[sentence.lang][sentence.words[place]])
        return tuple(words)

    def _places(self, sentence: Sentence) -> list[int]:
        nearest = self._nearest[sentence.lang]
        return [place for place, word in enumerate(sentence.words) if word in nearest]


def _is_plain(word: str) -> bool:
    """Whether a word has only letters of one script, in lower case, capitalized or upper case."""
    if len(word) < _SHORTEST or not all(map(is_letter, word)):
        return False
    scripts = {name_begin(letter) for letter in word if not is_sign(letter)}
    return (
        len(scripts) == 1
        and (len(word) >= _SHORTEST_LATIN or scripts != {"latin"})
        and word in (word.lower(), word.capitalize(), word.upper())
    )


def _group(word: str) -> _Group:
    case = "lower" if word == word.lower() else "title" if word == word.capitalize() else "upper"
    return name_begin(word[0]), case


def _recased(word: str, like: str) -> str:
    """Give a word the capitalization of another; the tokenizer may have changed it."""
    case = _group(like)[1]
    return {"lower": word.lower, "title": word.capitalize, "upper": word.upper}[case]()
