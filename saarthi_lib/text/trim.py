"""Trim a pretrained tokenizer's vocabulary to the languages of a task.

A multilingual vocabulary of 250,000 tokens is most of a small student's size, and a task in two
languages uses a few thousand of them. The trimmed tokenizer gives the same tokens as the full one
for its source texts. Other texts of the same scripts get shorter tokens, down to single characters,
before a token is unknown.

The tokens stay the same because all three algorithms choose a best candidate (Unigram the most
probable path, WordPiece the longest match, BPE the merge of lowest rank), and the best candidate
is kept.
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
# Signs without a script: Latin-1 signs, general punctuation and currency signs.
_SIGNS = frozenset((*range(0xA0, 0xC0), *range(0x2000, 0x20D0)))
_NOT_TEXT = re.compile(r"[\[<].+[\]>]")  # [unused7], <unk>

# Sorts the ids of other tokens by likeness to the used tokens; arguments: used ids, other ids.
Likeness = Callable[[Sequence[int], Sequence[int]], list[int]]


@dataclass(frozen=True)
class TrimmedTokenizer:
    """A trimmed tokenizer and the origin of its ids.

    Attributes:
        tokenizer: content of `tokenizer.json`, without post-processor, padding, truncation.
        kept_ids: ids in the full tokenizer, ascending; the index of a token is its new id.
        special: new ids of "begin", "end", "pad" and "unknown", if they exist.
    """

    tokenizer: dict[str, Any]
    kept_ids: list[int]
    special: dict[str, int]


def trim_tokenizer(
    tokenizer: dict[str, Any],
    texts: Iterable[str],
    words: Iterable[Sequence[str]] = (),
    extra_tokens: int = 0,
    likeness: Likeness | None = None,
) -> TrimmedTokenizer:
    """Trim a tokenizer to the tokens that a task needs.

    It keeps special and added tokens; all tokens of the texts; single characters of the texts'
    scripts, of ASCII and of common signs; and up to `extra_tokens` extra tokens of the texts'
    scripts. Extra tokens are sorted by `likeness`, or else by frequency (Unigram score, WordPiece
    order or BPE merge rank). Parts of a BPE token are kept with it.

    Args:
        tokenizer: content of a `tokenizer.json` of a Unigram, WordPiece or BPE model.
        texts: texts that are encoded whole.
        words: texts that are split into words.
        extra_tokens: most extra tokens.
        likeness: sorts extra tokens.

    Raises:
        TeacherError: the tokenizer has another kind of model.
    """
    bare = tokenizer | {"post_processor": None, "padding": None, "truncation": None}
    vocabulary = _Vocabulary(bare)
    used, characters = _used(bare, texts, words)
    characters.update(*(vocabulary.surface(index) for index in used if index in vocabulary.tokens))
    scripts = {name_begin(c) for c in characters if unicodedata.category(c)[0] in "LMN"}

    wanted = used | vocabulary.always_kept()
    wanted.update(
        index
        for index in vocabulary.tokens
        if vocabulary.is_single(index)
        and all(
            c in characters or name_begin(c) in scripts or _is_common(c)
            for c in vocabulary.surface(index)
        )
    )
    kept = vocabulary.closed(wanted)
    extra = _of_scripts(vocabulary, kept, scripts) if extra_tokens else []
    if likeness is not None:
        extra = likeness(sorted(used & vocabulary.tokens.keys()), extra)
    kept_ids = sorted(_with_extra(vocabulary, kept, extra, extra_tokens))
    special = {role: kept_ids.index(old) for role, old in vocabulary.special.items()}
    return TrimmedTokenizer(vocabulary.trimmed(kept_ids), kept_ids, special)


def _of_scripts(vocabulary: "_Vocabulary", kept: set[int], scripts: set[str]) -> list[int]:
    """Tokens of the scripts that are not kept yet, the most frequent first."""
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
    """Add up to `count` extra tokens, with their parts."""
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
    """Ids of the texts' tokens in the full tokenizer, and the texts' characters."""
    full = Tokenizer.from_str(json.dumps(tokenizer))
    used: set[int] = set()
    characters: set[str] = set()
    for batch in _batches(texts):
        characters.update(*batch)
        for encoding in full.encode_batch_fast(batch, add_special_tokens=False):
            used.update(encoding.ids)
    # The tokens of a word do not depend on its neighbours, so each word is encoded once.
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
    """Tokens of a model of any of the three kinds."""

    def __init__(self, tokenizer: dict[str, Any]) -> None:
        self._tokenizer = tokenizer
        self._model: dict[str, Any] = tokenizer["model"]
        self.kind = _kind_of(self._model)
        if self.kind == "Unigram":
            self.tokens = {index: token for index, (token, _) in enumerate(self._model["vocab"])}
        elif self.kind in ("WordPiece", "BPE"):
            self.tokens = {index: token for token, index in self._model["vocab"].items()}
        else:
            raise TeacherError(
                f"a tokenizer of the kind {self.kind} cannot be trimmed: take a teacher with a "
                "Unigram, WordPiece or BPE tokenizer, or set no trimming"
            )
        self.ids = {token: index for index, token in self.tokens.items()}
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
        self._bytes = _byte_alphabet() if _is_byte_level(tokenizer) else None
        self._merges = list(self._read_merges())
        self._parts: dict[int, list[tuple[int, int]]] = {}
        for left, right, whole in self._merges:
            self._parts.setdefault(whole, []).append((left, right))

    def _read_merges(self) -> Iterator[tuple[int, int, int]]:
        """Yield the ids of left part, right part and whole of each BPE merge."""
        for merge in self._model.get("merges", []):
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            whole = left + right.removeprefix(self._prefix)
            yield self.ids[left], self.ids[right], self.ids[whole]

    def surface(self, index: int) -> str:
        """Text of a token, without the mark of a word's beginning."""
        token = self.tokens[index]
        if self._bytes is not None:
            known = bytes(self._bytes[c] for c in token if c in self._bytes)
            return known.decode("utf-8", "ignore").strip()
        if self._prefix and len(token) > len(self._prefix):
            token = token.removeprefix(self._prefix)
        return token.removeprefix(_WORD_BEGIN).removesuffix(self._suffix)

    def is_single(self, index: int) -> bool:
        """Whether a token is one character, or one byte of the byte-level alphabet."""
        if self._bytes is not None:
            return len(self.tokens[index]) == 1
        return len(self.surface(index)) <= 1

    def always_kept(self) -> set[int]:
        """Ids of added tokens, of the unknown token and of byte tokens."""
        kept = {token["id"] for token in self._tokenizer["added_tokens"]}
        kept.update(self.special.values())
        if self.kind == "Unigram":
            vocab = self._model["vocab"]
            if self._model["unk_id"] is not None:
                kept.add(self._model["unk_id"])
            # The score of unknown characters depends on the lowest score of all tokens: keep it.
            kept.add(min(range(len(vocab)), key=lambda index: vocab[index][1]))
        elif self._model.get("unk_token") in self.ids:
            kept.add(self.ids[self._model["unk_token"]])
        if self._model.get("byte_fallback"):
            names = (f"<0x{byte:02X}>" for byte in range(256))
            kept.update(self.ids[name] for name in names if name in self.ids)
        return kept

    def closed(self, kept: set[int]) -> set[int]:
        """Add all parts of the given tokens."""
        closed, waiting = set(kept), list(kept)
        while waiting:
            parts = {part for pair in self._parts.get(waiting.pop(), []) for part in pair} - closed
            closed |= parts
            waiting += parts
        return closed

    def by_frequency(self) -> Iterable[int]:
        """Ids of all tokens, the most frequent first."""
        if self.kind == "Unigram":
            vocab = self._model["vocab"]
            return sorted(self.tokens, key=lambda index: -vocab[index][1])
        if self.kind == "BPE":
            return (whole for _, _, whole in self._merges)
        return sorted(self.tokens)

    def trimmed(self, kept_ids: list[int]) -> dict[str, Any]:
        """Content of the tokenizer with only these tokens, numbered from zero."""
        new = {old: index for index, old in enumerate(kept_ids)}
        model = dict(self._model)
        if self.kind == "Unigram":
            model["vocab"] = [self._model["vocab"][old] for old in kept_ids if old in self.tokens]
            if model["unk_id"] is not None:
                model["unk_id"] = new[model["unk_id"]]
        else:
            model["vocab"] = {self.tokens[old]: new[old] for old in kept_ids if old in self.tokens}
        if self._merges:
            model["merges"] = [
                merge
                for merge, ids in zip(self._model["merges"], self._merges, strict=True)
                if all(index in new for index in ids)
            ]
        added = [token | {"id": new[token["id"]]} for token in self._tokenizer["added_tokens"]]
        return self._tokenizer | {"model": model, "added_tokens": added}


def _kind_of(model: dict[str, Any]) -> str:
    """Kind of a model; older files do not name it."""
    kind: str | None = model.get("type")
    if kind:
        return kind
    if isinstance(model.get("vocab"), list):
        return "Unigram"
    return "BPE" if "merges" in model else "WordPiece"


def _is_byte_level(tokenizer: dict[str, Any]) -> bool:
    """Whether the pre-tokenizer, the decoder or a part of them works on bytes."""
    parts = json.dumps([tokenizer.get("pre_tokenizer"), tokenizer.get("decoder")])
    return '"type": "ByteLevel"' in parts


def _byte_alphabet() -> dict[str, int]:
    """Byte of each character of byte-level BPE (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + index): byte for index, byte in enumerate(others)
    }


def _is_common(character: str) -> bool:
    """Whether a character is ASCII, or a sign without a script."""
    return character.isascii() or ord(character) in _SIGNS
