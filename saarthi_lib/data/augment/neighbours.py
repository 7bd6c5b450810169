"""Words replaced by their neighbours in the teacher's own table of embeddings."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from saarthi_lib.data.alike import most_alike
from saarthi_lib.data.augment.corpus import Corpus, Draws, Method, Sentence, Words
from saarthi_lib.errors import TeacherError
from saarthi_lib.text.scripts import is_letter, is_sign, name_begin

_NEAREST = 8
_LOWEST_COSINE = 0.4
# Characters of a word that is replaced, or replaces. Short Latin words mean another thing in each
# language ("mei"); a vowel sign counts as a character of its own.
_SHORTEST = 2
_SHORTEST_LATIN = 4
# Of each script and capitalization, the most frequent pieces: rarer ones are mostly of other
# languages, and more of them would cost time and memory.
_MOST_PIECES = 30_000
_LANGUAGE_SAMPLE = 50  # words that tell which pieces are of their language
_QUERIES = 3_000  # of a language's words, the most frequent
_QUERIES_AT_ONCE = 256  # at 30,000 pieces, 30 MB of cosines
_MOST_REPLACED = 2
_USUAL = 0.1  # of a language's words, those in a script that it is usually written in

_Group = tuple[str, str]  # script and capitalization


class Neighbours:
    """The words that stand nearest to others in a teacher's table of embeddings.

    A neighbour is a whole word that the tokenizer has a piece for, in the same script and
    capitalization; words of several pieces have none. Vectors are centred on the mean of their
    script before they are compared, since a table's rows all point much the same way (Mu and
    Viswanath 2018, "All-but-the-top", arXiv 1702.01417).
    """

    def __init__(
        self,
        tokenizer: dict[str, Any] | Path,
        table: NDArray[np.floating],
        nearest: int = _NEAREST,
        lowest_cosine: float = _LOWEST_COSINE,
    ) -> None:
        """Keep what is given; it is read when words are first asked for.

        Args:
            tokenizer: the teacher's `tokenizer.json`, its content or its path.
            table: the teacher's embeddings, [vocabulary, width], by the tokenizer's ids.
            nearest: neighbours of a word, at most.
            lowest_cosine: of a word and its neighbour.
        """
        self._source = tokenizer
        self._table = table
        self._nearest = nearest
        self._lowest_cosine = lowest_cosine
        self._single_of: dict[_Group, dict[str, int]] = {}
        self._pieces_of: dict[_Group, _Pieces] = {}

    def of(self, words: Iterable[str]) -> dict[str, list[str]]:
        """Find the neighbours of words, the nearest first; words without any are left out.

        Args:
            words: of one language; many of them tell which pieces are of it too.

        Raises:
            TeacherError: the tokenizer cannot be read, or is another one than the table's.
        """
        plain = [word for word in dict.fromkeys(words) if _is_plain(word)]
        pieces = self._single_pieces(plain)
        groups: dict[_Group, list[tuple[str, int]]] = {}
        for word, piece in zip(plain, pieces, strict=True):
            # What the tokenizer reads may have lost its case, or be the piece of unknown words.
            read = "" if piece is None else self._tokenizer.decode([piece]).strip()
            if piece is not None and _is_plain(read):
                groups.setdefault(_group(read), []).append((word, piece))
        found = {
            word: near
            for group, members in groups.items()
            if group in self._words_of
            for word, near in self._search(group, members)
        }
        return {word: found[word] for word in plain if found.get(word)}

    def more_words(self, words: Iterable[str], count: int) -> list[str]:
        """Find words of the same language and matters as these, and not among them.

        Args:
            words: of one language; the more, the better they tell what else is of it.
            count: how many at most, the most alike first.

        Raises:
            TeacherError: the tokenizer cannot be read, or is another one than the table's.
        """
        given = list(dict.fromkeys(words))
        scripts = Counter(_group(word)[0] for word in given if _is_plain(word))
        usual = {script for script, many in scripts.items() if many >= _USUAL * scripts.total()}
        used = {piece for piece in self._single_pieces(given) if piece is not None}
        others = {
            piece: word
            for group in self._words_of
            if group[0] in usual
            for word, piece in self._single(group).items()
            if piece not in used
        }
        ranked = most_alike(self._table, sorted(used), sorted(others))
        return [others[piece] for piece in ranked[:count]]

    def _search(
        self, group: _Group, members: list[tuple[str, int]]
    ) -> Iterator[tuple[str, list[str]]]:
        """Yield the neighbours of words (with their pieces) among the pieces of their group."""
        pieces = self._pieces(group)
        queries = pieces.unit(self._table[[piece for _, piece in members]])
        names, vectors = pieces.of_language(queries)
        count = min(2 * self._nearest, len(names))
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
        # Rounded, so that the order does not hang on a machine's arithmetic.
        ordered = sorted((-round(float(cosines[index]), 3), int(index)) for index in near)
        others = [
            _recased(names[index], word)
            for cosine, index in ordered
            if -cosine >= self._lowest_cosine and names[index].casefold() != word.casefold()
        ]
        return others[: self._nearest]

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        try:
            if isinstance(self._source, Path):
                tokenizer = Tokenizer.from_file(str(self._source))
            else:
                tokenizer = Tokenizer.from_str(json.dumps(self._source))
        except Exception as error:  # tokenizers raises nothing narrower
            raise TeacherError(f"the teacher's tokenizer cannot be read: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _words_of(self) -> dict[_Group, list[str]]:
        """Plain words that the pieces spell, by group; in the order of ids, frequent ones first."""
        ids = sorted(self._tokenizer.get_vocab(with_added_tokens=False).values())
        if ids[-1] >= len(self._table):
            raise TeacherError(
                f"the teacher's tokenizer has the piece {ids[-1]}, but its table of embeddings "
                f"has {len(self._table)} rows: take both from the same teacher"
            )
        groups: dict[_Group, list[str]] = {}
        spelt = self._tokenizer.decode_batch([[piece] for piece in ids])
        for word in dict.fromkeys(text.strip() for text in spelt):
            if _is_plain(word):
                groups.setdefault(_group(word), []).append(word)
        return groups

    def _pieces(self, group: _Group) -> "_Pieces":
        """Return the group's words that are one piece, with their vectors."""
        if group not in self._pieces_of:
            single = self._single(group)
            words = [word for word in self._words_of[group][:_MOST_PIECES] if word in single]
            vectors = self._table[[single[word] for word in words]].astype(np.float32)
            self._pieces_of[group] = _Pieces.of(words, vectors)
        return self._pieces_of[group]

    def _single(self, group: _Group) -> dict[str, int]:
        """Return the group's words that are one piece, and which."""
        if group not in self._single_of:
            words = self._words_of[group]
            pairs = zip(words, self._single_pieces(words), strict=True)
            self._single_of[group] = {word: piece for word, piece in pairs if piece is not None}
        return self._single_of[group]

    def _single_pieces(self, words: Sequence[str]) -> list[int | None]:
        """Return the piece that is all of a word, or None."""
        # After a space, as words stand in a text: some tokenizers make a piece of both.
        texts = [f" {word}" for word in words]
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [each.ids[0] if len(each.ids) == 1 else None for each in encodings]


@dataclass(frozen=True)
class _Pieces:
    """Words of one piece, their centred unit vectors [words, width], and what they centre on."""

    words: list[str]
    mean: NDArray[np.float32]
    vectors: NDArray[np.float32]

    @classmethod
    def of(cls, words: list[str], vectors: NDArray[np.float32]) -> "_Pieces":
        mean = vectors.mean(axis=0)
        return cls(words, mean, _unit(vectors - mean))

    def unit(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """Centre other vectors, and give them length 1."""
        return _unit(vectors.astype(np.float32) - self.mean)

    def of_language(self, sample: NDArray[np.float32]) -> tuple[list[str], NDArray[np.float32]]:
        """Keep the words of the language (and the domain) that a sample of vectors is from.

        Words of a language lie on one side of a multilingual table: those are kept that lie as far
        to the side of the sample's mean as three quarters of the sample do.
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
    """One or two words replaced by neighbours."""

    def __init__(self, corpus: Corpus, neighbours: Neighbours) -> None:
        super().__init__(corpus)
        self._nearest: dict[str, dict[str, list[str]]] = {}
        for language, sentences in corpus.by_language.items():
            counts = Counter(word for sentence in sentences for word in sentence.words)
            words = [word for word, _ in counts.most_common(_QUERIES)]
            self._nearest[language] = neighbours.of(words)

    def candidates(self, language: str) -> Sequence[Sentence]:
        """Return the sentences of a language that the method can change."""
        return [each for each in self.corpus.by_language[language] if self._places(each)]

    def change(self, sentence: Sentence, draws: Draws) -> Words:
        """Make a sentence of this one; see `Method.change`."""
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
    """Whether a word is of letters only, of one script, in lower case, capitalized or capitals."""
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
    """Give a word another's capitalization (a tokenizer may have folded it)."""
    case = _group(like)[1]
    return {"lower": word.lower, "title": word.capitalize, "upper": word.upper}[case]()
