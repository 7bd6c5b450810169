"""The one trimmed tokenizer that teacher, student and predictor share.

Ids are those of the inner pieces, without special tokens: a teacher's network adds its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tokenizers import Encoding as Pieces
from tokenizers import Tokenizer

from saarthi_lib.errors import BundleError, InputError

_UNKNOWN_PIECES = ("<unk>", "[UNK]")  # SentencePiece's and WordPiece's names


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text as the network reads it.

    Attributes:
        ids: piece ids, at least one and at most the maximum length.
        first_piece: for each word the index in `ids` of its first piece, in the order of the words;
            words that begin beyond the maximum length are left out. Empty when the text was
            encoded whole.
        truncated: whether pieces were cut off.
    """

    ids: list[int]
    first_piece: list[int]
    truncated: bool


class Tokeniser:
    """Encodes texts, whole or by word. Safe to use from several threads."""

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

    @classmethod
    def load(cls, path: str | Path) -> "Tokeniser":
        """Read a `tokenizer.json`.

        Raises:
            BundleError: the file cannot be read as a tokenizer or has no unknown piece.
        """
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises nothing narrower
            raise BundleError(
                f"{path}: cannot be read as a tokenizer ({error}); write the bundle again"
            ) from error
        return cls(tokenizer)

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

        A word that the normaliser empties (a lone zero-width character) becomes the unknown piece,
        so that each word has a piece to be labelled at.

        Raises:
            InputError: a word is not a string of valid Unicode.
        """
        return self.encode_word_lists([words], max_length)[0]

    def encode_texts(self, texts: Sequence[str], max_length: int) -> list[Encoding]:
        """`encode_text` for many texts, several times quicker for each."""
        # The fast form leaves out offsets and word indices, which whole texts don't need.
        encode = self._tokenizer.encode_batch_fast
        return [self._whole(pieces, max_length) for pieces in _encode(encode, texts, False)]

    def encode_word_lists(
        self, word_lists: Sequence[Sequence[str]], max_length: int
    ) -> list[Encoding]:
        """`encode_words` for many texts, several times quicker for each."""
        batch = _encode(self._tokenizer.encode_batch, [list(words) for words in word_lists], True)
        return [
            self._by_word(pieces, len(words), max_length)
            for pieces, words in zip(batch, word_lists, strict=True)
        ]

    def _whole(self, pieces: Pieces, max_length: int) -> Encoding:
        ids = pieces.ids or [self.unknown_id]
        return Encoding(ids[:max_length], [], len(ids) > max_length)

    def _by_word(self, pieces: Pieces, word_count: int, max_length: int) -> Encoding:
        ids: list[int] = []
        first_piece: list[int] = []
        word_ids = cast("list[int]", pieces.word_ids)  # None only at special tokens, left out here
        for piece, word in zip(pieces.ids, word_ids, strict=True):
            while len(first_piece) < word:  # words without a piece
                first_piece.append(len(ids))
                ids.append(self.unknown_id)
            if len(first_piece) == word:
                first_piece.append(len(ids))
            ids.append(piece)
        for _ in range(word_count - len(first_piece)):
            first_piece.append(len(ids))
            ids.append(self.unknown_id)
        ids = ids or [self.unknown_id]
        first_piece = [index for index in first_piece if index < max_length]
        return Encoding(ids[:max_length], first_piece, len(ids) > max_length)


def _encode(
    encode_batch: Callable[..., list[Pieces]], texts: Sequence[object], pretokenized: bool
) -> list[Pieces]:
    try:
        return encode_batch(texts, is_pretokenized=pretokenized, add_special_tokens=False)
    except TypeError as error:
        raise InputError(
            "a text is not a string of valid Unicode (a lone surrogate?): decode it as UTF-8 first"
        ) from error
