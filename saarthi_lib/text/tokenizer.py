"""The trimmed tokenizer that teacher, student and predictor share.

Encodings have no special tokens; a teacher's network adds its own.
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
from saarthi_lib.text.normalization_rules import has_long_mark_run
from saarthi_lib.text.tokenizer_check import check_tokenizer

_REMEMBERED_WORDS = 2**14
_LONGEST_REMEMBERED = 64  # characters; bounds the cache to a few megabytes
_WORD_BEGIN = "▁"  # SentencePiece's mark of a space
_RARE = "a \uffff\U0010fffe"  # fails if the model itself has no unknown token
_UNKNOWN_TOKENS = ("<unk>", "[UNK]")  # names in SentencePiece and WordPiece


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text as subword tokens.

    Attributes:
        ids: token ids, at least one and at most the maximum length.
        first_piece: index in `ids` of the first token of each word, without words beyond the
            maximum length; empty if the text was encoded whole.
        whole_length: number of tokens before truncation.
    """

    ids: list[int]
    first_piece: list[int]
    whole_length: int

    @property
    def truncated(self) -> bool:
        """Whether tokens were cut off."""
        return self.whole_length > len(self.ids)


class SubwordTokenizer:
    """Encodes texts, whole or by word. Safe to use from several threads.

    The tokens of a word do not depend on the words around it. A cache holds the tokens of recent
    words; the library takes ten times as long.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        known = (tokenizer.token_to_id(token) for token in _UNKNOWN_TOKENS)
        unknown = next((index for index in known if index is not None), None)
        if unknown is None:
            raise BundleError(
                f"the tokenizer has no unknown token ({' or '.join(_UNKNOWN_TOKENS)}): "
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
            BundleError: the file is not a tokenizer, or lacks an unknown token.
        """
        try:
            return cls.parse(Path(path).read_bytes(), path)
        except OSError as error:
            raise BundleError(
                f"{path}: cannot be read as a tokenizer ({error}); write the bundle again"
            ) from error

    @classmethod
    def parse(cls, content: bytes, path: str | Path) -> "SubwordTokenizer":
        """Read the content of a `tokenizer.json`; error messages name `path`.

        Raises:
            BundleError: the content is not a tokenizer, or lacks an unknown token.
        """
        try:
            check_tokenizer(content)
            made = cls(Tokenizer.from_buffer(content))
            made.encode_text(_RARE, 1)
            return made
        except (BundleError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # tokenizers raises nothing narrower, and panics
            raise BundleError(
                f"{path}: cannot be read as a tokenizer ({error}); write the bundle again"
            ) from error

    def vocabulary(self) -> dict[str, int]:
        """All tokens with their ids."""
        return self._tokenizer.get_vocab()

    def encode_text(self, text: str, max_length: int) -> Encoding:
        """Encode a text whole, cut to `max_length` tokens.

        Raises:
            InputError: the text is not a string of valid Unicode.
        """
        return self.encode_texts([text], max_length)[0]

    def encode_words(self, words: Sequence[str], max_length: int) -> Encoding:
        """Encode a text that is already split into words, cut to `max_length` tokens.

        A word that the normalizer empties (a lone zero-width character) becomes the unknown token,
        so that each word has a token for its tag.

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
        """Character span `(start, end)` of each token of `encode_text`, not cut."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        spans: list[tuple[int, int]] = encoding.offsets
        return spans

    def _whole(self, text: str) -> list[int]:
        if self._splits_at_spaces and self._is_plain(text):
            words = [self._tokens(word) for word in text.split(" ")]
            if all(words):
                return list(chain.from_iterable(words))
        return self._encode(text, is_pretokenized=False)

    def _is_plain(self, text: str) -> bool:
        """Whether each space is a word boundary, and no other character can become a space.

        Such a text has only plain spaces, visible characters in NFKC (other forms may contain a
        space) and no added tokens.
        """
        return (
            isinstance(text, str)
            and text.isprintable()
            and not has_long_mark_run(text)  # the next check would take long
            and unicodedata.is_normalized("NFKC", text)
            and not any(map(text.__contains__, self._marks))
        )

    def _by_word(self, words: Sequence[str], max_length: int) -> Encoding:
        ids: list[int] = []
        first_piece: list[int] = []
        for word in words:
            first_piece.append(len(ids))
            ids += self._tokens(word) or (self.unknown_id,)
        return self._cut(ids, [index for index in first_piece if index < max_length], max_length)

    def _cut(self, ids: list[int], first_piece: list[int], max_length: int) -> Encoding:
        ids = ids or [self.unknown_id]
        return Encoding(ids[:max_length], first_piece, len(ids))

    def _tokens(self, word: str) -> tuple[int, ...]:
        if isinstance(word, str) and len(word) <= _LONGEST_REMEMBERED:
            return self._remembered(word)
        return self._encode_word(word)

    def _encode_word(self, word: str) -> tuple[int, ...]:
        return tuple(self._encode([word], is_pretokenized=True))

    def _encode(self, text: str | list[str], is_pretokenized: bool) -> list[int]:
        try:
            # The fast method omits offsets, which are not needed.
            [encoding] = self._tokenizer.encode_batch_fast(
                [text], is_pretokenized=is_pretokenized, add_special_tokens=False
            )
        except TypeError as error:
            raise InputError(
                "a text is not a string of valid Unicode (a lone surrogate?): "
                "decode it as UTF-8 first"
            ) from error
        return encoding.ids


def _splits_at_spaces(tokenizer: Tokenizer) -> bool:
    """Whether a text has the same tokens as its words, if single spaces separate them."""
    split = tokenizer.pre_tokenizer
    if isinstance(split, Metaspace):
        return split.prepend_scheme == "always" and split.split
    return isinstance(split, BertPreTokenizer)
