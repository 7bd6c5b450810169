from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from saarthi_lib.errors import BundleError, InputError
from saarthi_lib.text.tokeniser import Tokeniser
from tests.tiny_bundle import SENTENCES, make_tokenizer

PIECES = ["[PAD]", "[UNK]", "[CLS]", "turn", "on", "light", "##s", "##ing", "रस", "##ोई", "की"]


@pytest.fixture
def wordpiece(tmp_path: Path) -> Tokeniser:
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
    return Tokeniser.load(tmp_path / "tokenizer.json")


@pytest.fixture(scope="module")
def unigram() -> Tokeniser:
    return Tokeniser(make_tokenizer())


def pieces(ids: list[int]) -> list[str]:
    return [PIECES[index] for index in ids]


def test_only_inner_pieces_are_given(wordpiece: Tokeniser) -> None:
    encoding = wordpiece.encode_text("Turn on lights", 26)

    assert pieces(encoding.ids) == ["turn", "on", "light", "##s"]
    assert encoding.first_piece == []
    assert not encoding.truncated


def test_a_word_is_labelled_at_its_first_piece(wordpiece: Tokeniser) -> None:
    encoding = wordpiece.encode_words(["रसोई", "की", "lighting", "on"], 26)

    assert pieces(encoding.ids) == ["रस", "##ोई", "की", "light", "##ing", "on"]
    assert encoding.first_piece == [0, 2, 3, 5]


@pytest.mark.parametrize(("max_length", "first_piece"), [(5, [0, 2, 3]), (3, [0, 2]), (1, [0])])
def test_words_beyond_the_maximum_are_left_out(
    wordpiece: Tokeniser, max_length: int, first_piece: list[int]
) -> None:
    encoding = wordpiece.encode_words(["रसोई", "की", "lighting", "on"], max_length)

    assert len(encoding.ids) == max_length
    assert encoding.first_piece == first_piece
    assert encoding.truncated


def test_an_exact_fit_is_not_truncated(wordpiece: Tokeniser) -> None:
    assert not wordpiece.encode_text("turn on", 2).truncated
    assert wordpiece.encode_text("turn on", 1).truncated


def test_nothing_becomes_the_unknown_piece(wordpiece: Tokeniser) -> None:
    assert pieces(wordpiece.encode_text(" ", 26).ids) == ["[UNK]"]
    assert pieces(wordpiece.encode_words([], 26).ids) == ["[UNK]"]


def test_a_word_without_pieces_keeps_its_place(wordpiece: Tokeniser) -> None:
    encoding = wordpiece.encode_words(["\u200d", "turn", "\u200d", "on", "\u200d"], 26)

    assert pieces(encoding.ids) == ["[UNK]", "turn", "[UNK]", "on", "[UNK]"]
    assert encoding.first_piece == [0, 1, 2, 3, 4]


def test_a_batch_is_encoded_as_its_texts_are(unigram: Tokeniser) -> None:
    word_lists = [sentence.split() for sentence in SENTENCES]

    assert unigram.encode_texts(SENTENCES, 8) == [unigram.encode_text(s, 8) for s in SENTENCES]
    assert unigram.encode_word_lists(word_lists, 8) == [
        unigram.encode_words(words, 8) for words in word_lists
    ]


def test_vocabulary_has_the_ids_that_encoding_gives(unigram: Tokeniser) -> None:
    vocabulary = unigram.vocabulary()

    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert set(unigram.encode_text(SENTENCES[0], 26).ids) <= set(vocabulary.values())
    assert vocabulary["<unk>"] == unigram.unknown_id


def test_lone_surrogates_are_refused(unigram: Tokeniser) -> None:
    with pytest.raises(InputError, match="Unicode"):
        unigram.encode_text("\ud800", 26)


@pytest.mark.parametrize("content", [None, "", "{}", "not json"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        Tokeniser.load(path)


def test_a_tokenizer_without_an_unknown_piece_is_refused() -> None:
    with pytest.raises(BundleError, match="unknown piece"):
        Tokeniser(Tokenizer(models.BPE({"a": 0}, [])))
