"""The one trimmed tokenizer that teacher, student and predictor share.

Ids are those of the inner pieces, without special tokens: a teacher's network adds its own.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import BertPreTokenizer, Metaspace

from saarthi_lib.errors import BundleError, InputError

_REMEMBERED_WORDS = 2**14
_LONGEST_REMEMBERED = 64  # characters, so that what is remembered stays within a few megabytes
_WORD_BEGIN = "▁"  # SentencePiece writes it for a space
_UNKNOWN_PIECES = ("<unk>", "[UNK]")  # SentencePiece's and WordPiece's names


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text as the network reads it.

    Attributes:
        ids: piece ids, at least one and at most the maximum length.
        first_piece: for each word the index in `ids` of its first piece, in the order of the words;
            words that begin beyond the maximum length are left out. Empty when the text was
            encoded whole.
        whole_length: how many pieces there were before the cut.
    """

    ids: list[int]
    first_piece: list[int]
    whole_length: int

    @property
    def truncated(self) -> bool:
        """Whether pieces were cut off."""
        return self.whole_length > len(self.ids)


class SubwordTokenizer:
    """Encodes texts, whole or by word. Safe to use from several threads.

    The pieces of a word do not depend on the words around it. Those of the words met last are
    remembered, for the library takes ten times as long to find them again.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        known = (tokenizer.token_to_id(piece) for piece in _UNKNOWN_PIECES)
        unknown = next((index for index in known if index is not None), None)
        if unknown is None:
            raise BundleError(
                f"the tokenizer has no unknown piece ({' or '.join(_UNKNOWN_PIECES)}): "
                "use the tokenizer of a WordPiece or SentencePiece model"
            )
        self.unknown_id: int = unknown
        self._remembered = lru_cache(maxsize=_REMEMBERED_WORDS)(self._encode_word)
        self._splits_at_spaces = _splits_at_spaces(tokenizer)
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self._marks = (_WORD_BEGIN, *added)

    @classmethod
    def load(cls, path: str | Path) -> "SubwordTokenizer":
        """Read a `tokenizer.json`.

        Raises:
            BundleError: the file cannot be read as a tokenizer or has no unknown piece.
        """
        try:
            return cls.parse(Path(path).read_bytes(), path)
        except OSError as error:
            raise BundleError(
                f"{path}: cannot be read as a tokenizer ({error}); write the bundle again"
            ) from error

    @classmethod
    def parse(cls, content: bytes, path: str | Path) -> "SubwordTokenizer":
        """Read the content of a `tokenizer.json`; `path` is for the error's message.

        Raises:
            BundleError: it is no tokenizer or has no unknown piece.
        """
        try:
            return cls(Tokenizer.from_buffer(content))
        except (BundleError, KeyboardInterrupt):
            raise
        except BaseException as error:  # tokenizers raises nothing narrower, and panics
            raise BundleError(
                f"{path}: cannot be read as a tokenizer ({error}); write the bundle again"
            ) from error

    def vocabulary(self) -> dict[str, int]:
        """Every piece and its id."""
        return self._tokenizer.get_vocab()

    def encode_text(self, text: str, max_length: int) -> Encoding:
        """Encode a text whole, cut to `max_length` pieces.

        Raises:
            InputError: the text is not a string of valid Unicode.
        """
        return self.encode_texts([text], max_length)[0]

    def encode_words(self, words: Sequence[str], max_length: int) -> Encoding:
        """Encode a text that is already split into words, cut to `max_length` pieces.

        A word that the normalizer empties (a lone zero-width character) becomes the unknown piece,
        so that each word has a piece to be labelled at.

        Raises:
            InputError: a word is not a string of valid Unicode.
        """
        return self.encode_word_lists([words], max_length)[0]

    def encode_texts(self, texts: Sequence[str], max_length: int) -> list[Encoding]:
        """`encode_text` for many texts."""
        return [self._cut(self._whole(text), [], max_length) for text in texts]

    def encode_word_lists(
        self, word_lists: Sequence[Sequence[str]], max_length: int
    ) -> list[Encoding]:
        """`encode_words` for many texts."""
        return [self._by_word(words, max_length) for words in word_lists]

    def piece_spans(self, text: str) -> list[tuple[int, int]]:
        """The characters `(start, end)` that each piece of `encode_text` stands for, uncut."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        spans: list[tuple[int, int]] = encoding.offsets
        return spans

    def _whole(self, text: str) -> list[int]:
        if self._splits_at_spaces and self._is_plain(text):
            words = [self._pieces(word) for word in text.split(" ")]
            if all(words):
                return list(chain.from_iterable(words))
        return self._encode(text, is_pretokenized=False)

    def _is_plain(self, text: str) -> bool:
        """Whether each space stands for itself and no other character can become one.

        So there are no white space and no invisible characters but the plain space; none that stand
        for others, some of which are a space with a mark above; and no added tokens.
        """
        return (
            isinstance(text, str)
            and text.isprintable()
            and unicodedata.is_normalized("NFKC", text)
            and not any(map(text.__contains__, self._marks))
        )

    def _by_word(self, words: Sequence[str], max_length: int) -> Encoding:
        ids: list[int] = []
        first_piece: list[int] = []
        for word in words:
            first_piece.append(len(ids))
            ids += self._pieces(word) or (self.unknown_id,)
        return self._cut(ids, [index for index in first_piece if index < max_length], max_length)

    def _cut(self, ids: list[int], first_piece: list[int], max_length: int) -> Encoding:
        ids = ids or [self.unknown_id]
        return Encoding(ids[:max_length], first_piece, len(ids))

    def _pieces(self, word: str) -> tuple[int, ...]:
        if isinstance(word, str) and len(word) <= _LONGEST_REMEMBERED:
            return self._remembered(word)
        return self._encode_word(word)

    def _encode_word(self, word: str) -> tuple[int, ...]:
        return tuple(self._encode([word], is_pretokenized=True))

    def _encode(self, text: str | list[str], is_pretokenized: bool) -> list[int]:
        try:
            # The fast form leaves out offsets, which nobody needs.
            [pieces] = self._tokenizer.encode_batch_fast(
                [text], is_pretokenized=is_pretokenized, add_special_tokens=False
            )
        except TypeError as error:
            raise InputError(
                "a text is not a string of valid Unicode (a lone surrogate?): "
                "decode it as UTF-8 first"
            ) from error
        return pieces.ids


def _splits_at_spaces(tokenizer: Tokenizer) -> bool:
    """Whether the pieces of words with single spaces between them are those of the whole text."""
    split = tokenizer.pre_tokenizer
    if isinstance(split, Metaspace):
        return split.prepend_scheme == "always" and split.split
    return isinstance(split, BertPreTokenizer)
