from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from saarthi_lib.errors import BundleError, InputError
from saarthi_lib.text.tokenizer import SubwordTokenizer
from tests.tiny_bundle import SENTENCES, make_tokenizer

PIECES = ["[PAD]", "[UNK]", "[CLS]", "turn", "on", "light", "##s", "##ing", "रस", "##ोई", "की"]


@pytest.fixture
def wordpiece(tmp_path: Path) -> SubwordTokenizer:
    """As downloaded tokenizers come: with special tokens, padding and truncation switched on."""
    tokenizer = Tokenizer(
        models.WordPiece({piece: index for index, piece in enumerate(PIECES)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A", special_tokens=[("[CLS]", 2)]
    )
    tokenizer.enable_padding(length=20)
    tokenizer.enable_truncation(max_length=3)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return SubwordTokenizer.load(tmp_path / "tokenizer.json")


def with_added_tokens(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens(["<s>", AddedToken("<mask>", lstrip=True)])
    return tokenizer


def make_sentencepiece() -> Tokenizer:
    """White space is made plain, and many spaces one."""
    tokenizer = make_tokenizer()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"\s"), " "), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    return tokenizer


def make_wordpiece() -> Tokenizer:
    letters = [f"{mark}{letter}" for letter in "aeilmnorstुरसकी" for mark in ("", "##")]
    pieces = {piece: index for index, piece in enumerate(["[UNK]", *letters])}
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def make_bytelevel() -> Tokenizer:
    """A word with a space before it has other pieces than one without."""
    pieces = ["<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "in", "Ġt", "Ġth"]
    tokenizer = Tokenizer(
        models.BPE(
            {piece: index for index, piece in enumerate(pieces)},
            [("i", "n"), ("Ġ", "t"), ("Ġt", "h")],
            unk_token="<unk>",
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


KINDS = [make_tokenizer, make_sentencepiece, make_wordpiece, make_bytelevel]
RAW = [with_added_tokens(make()) for make in KINDS]
TOKENIZERS = [SubwordTokenizer(with_added_tokens(make())) for make in KINDS]
# White space, invisible and combining characters, such as stand for others, added tokens.
ODD = "\t\n\u00a0\u200b\u200d\u3000\u0301\u00b4\u037a\ufb01\ufe0f\u0958\u093c▁क्षé한🙂!"
fragments = st.one_of(
    st.sampled_from([" ", " ", " ", "<s>", "<mask>", "x" * 70, *" ".join(SENTENCES).split()]),
    st.sampled_from(ODD),
    st.text(max_size=3),
)


@given(st.lists(fragments, max_size=8).map("".join))
@example("turn  on ")
@example("turn\t on")
@example("turn \u00b4on")
@example("turn <s> on")
@example("turn ▁on")
@example("in the kitchen")
def test_texts_have_the_tokens_of_the_full_tokenizer(text: str) -> None:
    for raw, tokenizer in zip(RAW, TOKENIZERS, strict=True):
        expected = raw.encode(text, add_special_tokens=False).ids or [tokenizer.unknown_id]

        assert tokenizer.encode_text(text, 1000).ids == expected
        assert tokenizer.encode_text(text, 1000).ids == expected  # as it is remembered


@given(st.lists(fragments, max_size=8))
def test_words_have_the_tokens_of_the_full_tokenizer(words: list[str]) -> None:
    for raw, tokenizer in zip(RAW, TOKENIZERS, strict=True):
        encoding = tokenizer.encode_words(words, 1000)
        ends = [*encoding.first_piece[1:], len(encoding.ids)]
        expected = raw.encode(words, is_pretokenized=True, add_special_tokens=False)

        for number, (start, end) in enumerate(zip(encoding.first_piece, ends, strict=False)):
            own = [i for i, w in zip(expected.ids, expected.word_ids, strict=True) if w == number]
            assert encoding.ids[start:end] == (own or [tokenizer.unknown_id])
        assert len(encoding.first_piece) == len(words)


@pytest.fixture(scope="module")
def unigram() -> SubwordTokenizer:
    return SubwordTokenizer(make_tokenizer())


def pieces(ids: list[int]) -> list[str]:
    return [PIECES[index] for index in ids]


def test_encoding_has_no_special_tokens(wordpiece: SubwordTokenizer) -> None:
    encoding = wordpiece.encode_text("Turn on lights", 26)

    assert pieces(encoding.ids) == ["turn", "on", "light", "##s"]
    assert encoding.first_piece == []
    assert not encoding.truncated


def test_first_token_of_each_word_is_marked(wordpiece: SubwordTokenizer) -> None:
    encoding = wordpiece.encode_words(["रसोई", "की", "lighting", "on"], 26)

    assert pieces(encoding.ids) == ["रस", "##ोई", "की", "light", "##ing", "on"]
    assert encoding.first_piece == [0, 2, 3, 5]


@pytest.mark.parametrize(("max_length", "first_piece"), [(5, [0, 2, 3]), (3, [0, 2]), (1, [0])])
def test_words_beyond_the_maximum_length_are_left_out(
    wordpiece: SubwordTokenizer, max_length: int, first_piece: list[int]
) -> None:
    encoding = wordpiece.encode_words(["रसोई", "की", "lighting", "on"], max_length)

    assert len(encoding.ids) == max_length
    assert encoding.first_piece == first_piece
    assert encoding.truncated


def test_text_of_maximum_length_is_not_truncated(wordpiece: SubwordTokenizer) -> None:
    assert not wordpiece.encode_text("turn on", 2).truncated
    assert wordpiece.encode_text("turn on", 1).truncated


def test_empty_text_becomes_the_unknown_token(wordpiece: SubwordTokenizer) -> None:
    assert pieces(wordpiece.encode_text(" ", 26).ids) == ["[UNK]"]
    assert pieces(wordpiece.encode_words([], 26).ids) == ["[UNK]"]


def test_word_without_tokens_becomes_unknown(wordpiece: SubwordTokenizer) -> None:
    encoding = wordpiece.encode_words(["\u200d", "turn", "\u200d", "on", "\u200d"], 26)

    assert pieces(encoding.ids) == ["[UNK]", "turn", "[UNK]", "on", "[UNK]"]
    assert encoding.first_piece == [0, 1, 2, 3, 4]


def test_batch_equals_single_texts(unigram: SubwordTokenizer) -> None:
    word_lists = [sentence.split() for sentence in SENTENCES]

    assert unigram.encode_texts(SENTENCES, 8) == [unigram.encode_text(s, 8) for s in SENTENCES]
    assert unigram.encode_word_lists(word_lists, 8) == [
        unigram.encode_words(words, 8) for words in word_lists
    ]


def test_vocabulary_has_the_ids_of_encodings(unigram: SubwordTokenizer) -> None:
    vocabulary = unigram.vocabulary()

    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert set(unigram.encode_text(SENTENCES[0], 26).ids) <= set(vocabulary.values())
    assert vocabulary["<unk>"] == unigram.unknown_id


@pytest.mark.parametrize("word", ["\ud800", None, 3])
def test_invalid_text_is_refused(unigram: SubwordTokenizer, word: Any) -> None:
    with pytest.raises(InputError, match="string"):
        unigram.encode_words(["turn", word], 26)
    with pytest.raises(InputError, match="string"):
        unigram.encode_text(word, 26)


@pytest.mark.parametrize("content", [None, "", "{}", "not json"])
def test_unreadable_file_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        SubwordTokenizer.load(path)


def test_tokenizer_without_an_unknown_token_is_refused() -> None:
    with pytest.raises(BundleError, match="unknown token"):
        SubwordTokenizer(Tokenizer(models.BPE({"a": 0}, [])))
