"""Cuts a pretrained tokenizer's vocabulary down to what a task's languages need.

A multilingual vocabulary of 250,000 pieces is most of a small student's size, and a task in two
languages uses a few thousand of them. The trimmed tokenizer gives the very same pieces as the full
one for the texts it was made from; for other texts of the same scripts it falls back on shorter
pieces, down to single characters, before anything is unknown.

Why the pieces stay the same: all three algorithms choose a best candidate (Unigram the most
probable path, WordPiece the longest match, BPE the merge of lowest rank), and what they chose
before is still there, among fewer rivals.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tokenizers import Tokenizer

from saarthi_lib.errors import TeacherError
from saarthi_lib.text.scripts import name_begin

_SPECIAL = {
    "begin": ("<s>", "[CLS]"),
    "end": ("</s>", "[SEP]"),
    "pad": ("<pad>", "[PAD]"),
    "unknown": ("<unk>", "[UNK]"),
}
_WORD_BEGIN = "▁"
# Latin-1 signs; general punctuation and currency signs. They belong to no script.
_SIGNS = frozenset((*range(0xA0, 0xC0), *range(0x2000, 0x20D0)))
_NOT_TEXT = re.compile(r"[\[<].+[\]>]")  # [unused7], <unk>

# Of the ids of used and of other pieces it makes the others, the most alike first.
Likeness = Callable[[Sequence[int], Sequence[int]], list[int]]


@dataclass(frozen=True)
class TrimmedTokenizer:
    """A trimmed tokenizer and where its ids came from.

    Attributes:
        tokenizer: the content of `tokenizer.json`, without post-processor, padding, truncation.
        kept_ids: the full tokenizer's ids, ascending; a piece's new id is its index here.
        special: new ids of "begin", "end", "pad" and "unknown", those that there are.
    """

    tokenizer: dict[str, Any]
    kept_ids: list[int]
    special: dict[str, int]


def trim_tokenizer(
    tokenizer: dict[str, Any],
    texts: Iterable[str],
    words: Iterable[Sequence[str]] = (),
    extra_pieces: int = 0,
    likeness: Likeness | None = None,
) -> TrimmedTokenizer:
    """Keep of a tokenizer what a task needs.

    Kept are the special and added tokens; every piece that the full tokenizer gives for the
    texts; single-character pieces of the texts' scripts, of ASCII and of common signs; and up to
    `extra_pieces` further pieces of the texts' scripts, those most like the texts' pieces or, where
    nothing tells, the most frequent (by Unigram score, WordPiece order or BPE merge rank). Each BPE
    piece brings the pieces it is merged from.

    Args:
        tokenizer: the content of a `tokenizer.json` of a Unigram, WordPiece or BPE model.
        texts: texts that are encoded whole.
        words: texts that are split into words already.
        extra_pieces: how many further pieces to keep at most.
        likeness: tells which further pieces are like the texts'.

    Raises:
        TeacherError: the tokenizer's model is of another kind.
    """
    bare = tokenizer | {"post_processor": None, "padding": None, "truncation": None}
    vocabulary = _Vocabulary(bare)
    used, characters = _used(bare, texts, words)
    characters.update(*(vocabulary.surface(index) for index in used if index in vocabulary.pieces))
    scripts = {name_begin(c) for c in characters if unicodedata.category(c)[0] in "LMN"}

    wanted = used | vocabulary.always_kept()
    wanted.update(
        index
        for index in vocabulary.pieces
        if vocabulary.is_single(index)
        and all(
            c in characters or name_begin(c) in scripts or _is_common(c)
            for c in vocabulary.surface(index)
        )
    )
    kept = vocabulary.closed(wanted)
    extra = _of_scripts(vocabulary, kept, scripts) if extra_pieces else []
    if likeness is not None:
        extra = likeness(sorted(used & vocabulary.pieces.keys()), extra)
    kept_ids = sorted(_with_extra(vocabulary, kept, extra, extra_pieces))
    special = {role: kept_ids.index(old) for role, old in vocabulary.special.items()}
    return TrimmedTokenizer(vocabulary.trimmed(kept_ids), kept_ids, special)


def _of_scripts(vocabulary: "_Vocabulary", kept: set[int], scripts: set[str]) -> list[int]:
    """Return the pieces of the scripts that are not kept yet, the most frequent first."""
    return [
        index
        for index in vocabulary.by_frequency()
        if index not in kept
        and (surface := vocabulary.surface(index))
        and not _NOT_TEXT.fullmatch(surface)
        and all(name_begin(c) in scripts or (_is_common(c) and not c.isalpha()) for c in surface)
    ]


def _with_extra(
    vocabulary: "_Vocabulary", kept: set[int], extra: Iterable[int], count: int
) -> set[int]:
    """Add up to `count` more pieces, with what they are merged from."""
    known = set(kept)
    for index in extra:
        if len(known) == len(kept) + count:
            break
        needed = vocabulary.closed({index}) - known
        if len(known) + len(needed) <= len(kept) + count:
            known |= needed
    return known


def _used(
    tokenizer: dict[str, Any], texts: Iterable[str], words: Iterable[Sequence[str]]
) -> tuple[set[int], set[str]]:
    """Ids of the pieces that the full tokenizer gives, and the texts' characters."""
    full = Tokenizer.from_str(json.dumps(tokenizer))
    used: set[int] = set()
    characters: set[str] = set()
    for batch in _batches(texts):
        characters.update(*batch)
        for encoding in full.encode_batch_fast(batch, add_special_tokens=False):
            used.update(encoding.ids)
    # A word's pieces do not depend on its neighbours, so that each needs to be seen once only.
    distinct = {word for text in words for word in text}
    for batch in _batches(sorted(distinct)):
        characters.update(*batch)
        for encoding in full.encode_batch_fast(
            [[word] for word in batch], is_pretokenized=True, add_special_tokens=False
        ):
            used.update(encoding.ids)
    return used, characters


def _batches(items: Iterable[str], size: int = 10_000) -> Iterator[list[str]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


class _Vocabulary:
    """The pieces of a tokenizer's model, whichever of the three kinds it is."""

    def __init__(self, tokenizer: dict[str, Any]) -> None:
        self._tokenizer = tokenizer
        self._model: dict[str, Any] = tokenizer["model"]
        self.kind = self._model.get("type") or _guessed_kind(self._model)
        if self.kind == "Unigram":
            self.pieces = {index: piece for index, (piece, _) in enumerate(self._model["vocab"])}
        elif self.kind in ("WordPiece", "BPE"):
            self.pieces = {index: piece for piece, index in self._model["vocab"].items()}
        else:
            raise TeacherError(
                f"a tokenizer of the kind {self.kind} cannot be trimmed: take a teacher with a "
                "Unigram, WordPiece or BPE tokenizer, or set no trimming"
            )
        self.ids = {piece: index for index, piece in self.pieces.items()}
        added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
        self.special = {
            role: ids[name]
            for role, names in _SPECIAL.items()
            for ids in (self.ids, added)
            for name in names
            if name in ids
        }
        self._prefix: str = self._model.get("continuing_subword_prefix") or ""
        self._suffix: str = self._model.get("end_of_word_suffix") or ""
        self._bytes = _byte_alphabet() if _has_part(tokenizer, "ByteLevel") else None
        self._merges = list(self._read_merges())
        self._parts: dict[int, list[tuple[int, int]]] = {}
        for left, right, whole in self._merges:
            self._parts.setdefault(whole, []).append((left, right))

    def _read_merges(self) -> Iterator[tuple[int, int, int]]:
        """Yield the ids of the left part, the right part and the whole of each BPE merge."""
        for merge in self._model.get("merges", []):
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            whole = left + right.removeprefix(self._prefix)
            yield self.ids[left], self.ids[right], self.ids[whole]

    def surface(self, index: int) -> str:
        """Return the text that a piece stands for, without the marks of where a word begins."""
        piece = self.pieces[index]
        if self._bytes is not None:
            known = bytes(self._bytes[c] for c in piece if c in self._bytes)
            return known.decode("utf-8", "ignore").strip()
        if self._prefix and len(piece) > len(self._prefix):
            piece = piece.removeprefix(self._prefix)
        return piece.removeprefix(_WORD_BEGIN).removesuffix(self._suffix)

    def is_single(self, index: int) -> bool:
        """Whether a piece is one character, or one byte of the byte-level alphabet."""
        if self._bytes is not None:
            return len(self.pieces[index]) == 1
        return len(self.surface(index)) <= 1

    def always_kept(self) -> set[int]:
        """Return the ids of added tokens, of the unknown piece and of the byte pieces."""
        kept = {token["id"] for token in self._tokenizer["added_tokens"]}
        kept.update(self.special.values())
        if self.kind == "Unigram":
            vocab = self._model["vocab"]
            if self._model["unk_id"] is not None:
                kept.add(self._model["unk_id"])
            # An unknown character's score is the lowest of all pieces less ten: keep the lowest.
            kept.add(min(range(len(vocab)), key=lambda index: vocab[index][1]))
        elif self._model.get("unk_token") in self.ids:
            kept.add(self.ids[self._model["unk_token"]])
        if self._model.get("byte_fallback"):
            names = (f"<0x{byte:02X}>" for byte in range(256))
            kept.update(self.ids[name] for name in names if name in self.ids)
        return kept

    def closed(self, kept: set[int]) -> set[int]:
        """Add all the pieces that the given ones are merged from."""
        closed, waiting = set(kept), list(kept)
        while waiting:
            parts = {part for pair in self._parts.get(waiting.pop(), []) for part in pair} - closed
            closed |= parts
            waiting += parts
        return closed

    def by_frequency(self) -> Iterable[int]:
        """Return the ids of all pieces, the most frequent first."""
        if self.kind == "Unigram":
            vocab = self._model["vocab"]
            return sorted(self.pieces, key=lambda index: -vocab[index][1])
        if self.kind == "BPE":
            return (whole for _, _, whole in self._merges)
        return sorted(self.pieces)

    def trimmed(self, kept_ids: list[int]) -> dict[str, Any]:
        """Return the tokenizer's content with these pieces only, numbered from zero."""
        new = {old: index for index, old in enumerate(kept_ids)}
        model = dict(self._model)
        if self.kind == "Unigram":
            model["vocab"] = [self._model["vocab"][old] for old in kept_ids if old in self.pieces]
            if model["unk_id"] is not None:
                model["unk_id"] = new[model["unk_id"]]
        else:
            model["vocab"] = {self.pieces[old]: new[old] for old in kept_ids if old in self.pieces}
        if self._merges:
            model["merges"] = [
                merge
                for merge, ids in zip(self._model["merges"], self._merges, strict=True)
                if all(index in new for index in ids)
            ]
        added = [token | {"id": new[token["id"]]} for token in self._tokenizer["added_tokens"]]
        return self._tokenizer | {"model": model, "added_tokens": added}


def _guessed_kind(model: dict[str, Any]) -> str:
    """Return the kind of a model that was written before files named it."""
    if isinstance(model.get("vocab"), list):
        return "Unigram"
    return "BPE" if "merges" in model else "WordPiece"


def _has_part(tokenizer: dict[str, Any], kind: str) -> bool:
    """Whether the tokenizer's pre-tokenizer or decoder is of this kind, or holds one that is."""

    def holds(part: Any) -> bool:
        if isinstance(part, list):
            return any(holds(item) for item in part)
        return isinstance(part, dict) and (
            part.get("type") == kind or any(holds(value) for value in part.values())
        )

    return holds(tokenizer.get("pre_tokenizer")) or holds(tokenizer.get("decoder"))


def _byte_alphabet() -> dict[str, int]:
    """Return the byte that each character of byte-level BPE stands for (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + index): byte for index, byte in enumerate(others)
    }


def _is_common(character: str) -> bool:
    """Whether a character is ASCII or one of the signs that belong to no script."""
    return character.isascii() or ord(character) in _SIGNS
