from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saarthi_lib.data.encode import IGNORE, Encoded, batches, concatenate, encode
from saarthi_lib.tasks import Labels
from saarthi_lib.text.tokenizer import SubwordTokenizer
from saarthi_lib.text.words import split_words
from tests.tiny_bundle import SENTENCES, make_tokenizer, word_columns

LABELS = Labels(sequence=("off", "on"), token=("O", "B-area", "I-area"))
TABLE = pd.DataFrame(
    {
        "text": SENTENCES,
        **word_columns(SENTENCES),
        "label": ["on", "off"] * 5,
        "tags": [["B-area", "I-area", *["O"] * (len(split_words(text)) - 2)] for text in SENTENCES],
    }
)
any_lengths = st.lists(st.integers(1, 40), min_size=1, max_size=200).map(
    lambda values: np.array(values, dtype=np.int64)
)


@pytest.fixture(scope="module")
def tokenizer() -> SubwordTokenizer:
    return SubwordTokenizer(make_tokenizer())


@pytest.fixture(scope="module")
def joint(tokenizer: SubwordTokenizer) -> Encoded:
    return encode(TABLE, "joint", tokenizer, LABELS, 26)


def sentence(encoded: Encoded, row: int) -> slice:
    return slice(encoded.offsets[row], encoded.offsets[row + 1])


def same(one: Encoded, other: Encoded) -> bool:
    return all(
        np.array_equal(value, getattr(other, name))
        and np.asarray(value).dtype == np.asarray(getattr(other, name)).dtype
        for name, value in vars(one).items()
    )


def test_whole_texts_are_encoded_for_classification(tokenizer: SubwordTokenizer) -> None:
    encoded = encode(TABLE, "intent_classification", tokenizer, LABELS, 26)

    assert len(encoded) == len(SENTENCES)
    for row, text in enumerate(SENTENCES):
        ids = tokenizer.encode_text(text, 26).ids
        assert encoded.ids[sentence(encoded, row)].tolist() == ids
    assert encoded.sequence_labels.tolist() == [1, 0] * 5
    assert (encoded.token_labels == IGNORE).all()
    assert not encoded.first.any()


def test_tag_is_at_the_first_token_of_its_word(joint: Encoded, tokenizer: SubwordTokenizer) -> None:
    for row, words in enumerate(TABLE["words"]):
        encoding = tokenizer.encode_words(words, 26)
        tags = joint.token_labels[sentence(joint, row)]
        first = joint.first[sentence(joint, row)]

        assert joint.ids[sentence(joint, row)].tolist() == encoding.ids
        assert np.flatnonzero(first).tolist() == encoding.first_piece
        assert [LABELS.token[tag] for tag in tags[first]] == TABLE["tags"][row][: first.sum()]
        assert (tags[~first] == IGNORE).all()


def test_long_texts_are_cut_and_counted(tokenizer: SubwordTokenizer) -> None:
    encoded = encode(TABLE, "joint", tokenizer, LABELS, 6)
    long = [len(tokenizer.encode_words(words, 1000).ids) > 6 for words in TABLE["words"]]

    assert encoded.lengths.max() == 6
    assert encoded.truncated == sum(long) > 0


def test_unlabelled_rows_have_no_labels(tokenizer: SubwordTokenizer) -> None:
    encoded = encode(TABLE[["text"]], "joint", tokenizer, LABELS, 26)

    assert (encoded.sequence_labels == IGNORE).all()
    assert (encoded.token_labels == IGNORE).all()
    assert encoded.first.sum() > len(TABLE)


def test_saved_splits_load_unchanged(joint: Encoded, tmp_path: Path) -> None:
    joint.save(tmp_path / "joint.npz")

    assert same(Encoded.load(tmp_path / "joint.npz"), joint)


def test_padding_fits_the_longest_sentence(joint: Encoded) -> None:
    rows = np.array([7, 0, 3])
    ids = joint.padded(joint.ids, rows, 0)
    wide = joint.padded(np.stack([joint.ids, joint.ids], axis=1), rows, -1)

    assert ids.shape == (3, joint.lengths[rows].max())
    assert wide.shape == (*ids.shape, 2)
    for place, row in enumerate(rows):
        length = joint.lengths[row]
        assert ids[place, :length].tolist() == joint.ids[sentence(joint, row)].tolist()
        assert (ids[place, length:] == 0).all()
        assert (wide[place, length:] == -1).all()


def test_concatenate_keeps_the_order_of_splits(tokenizer: SubwordTokenizer, joint: Encoded) -> None:
    parts = [
        encode(TABLE.iloc[start:end], "joint", tokenizer, LABELS, 26)
        for start, end in ((0, 3), (3, 4), (4, 10))
    ]

    assert same(concatenate(parts), joint)
    assert same(concatenate([joint]), joint)


@given(any_lengths, st.integers(1, 60), st.one_of(st.none(), st.integers(0, 5)))
@settings(max_examples=100)
def test_batches_contain_every_row_once(
    lengths: np.ndarray, batch_size: int, seed: int | None
) -> None:
    generator = None if seed is None else np.random.default_rng(seed)
    groups = list(batches(lengths, batch_size, generator))

    assert sorted(row for rows in groups for row in rows) == list(range(len(lengths)))
    assert all(0 < len(rows) <= batch_size for rows in groups)
    assert len(groups) == -(-len(lengths) // batch_size)


def order(lengths: np.ndarray, seed: int) -> list[list[int]]:
    return [rows.tolist() for rows in batches(lengths, 16, np.random.default_rng(seed))]


def test_seed_determines_the_order_of_batches() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 500)

    assert order(lengths, 1) == order(lengths, 1) != order(lengths, 2)


def test_shuffled_batches_are_not_sorted_by_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 500)
    longest = [lengths[rows].max() for rows in order(lengths, 1)]

    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


@pytest.mark.parametrize("seed", [None, 0])
def test_grouping_by_length_pads_little(seed: int | None) -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 3000)
    generator = None if seed is None else np.random.default_rng(seed)

    def padding(groups: list[np.ndarray]) -> int:
        return sum(int((lengths[rows].max() - lengths[rows]).sum()) for rows in groups)

    random = np.array_split(np.random.default_rng(1).permutation(3000), 3000 // 32)
    assert padding(list(batches(lengths, 32, generator))) < padding(random) / 4


def test_take_selects_sentences_in_the_given_order(joint: Encoded) -> None:
    rows = np.array([7, 2, 2])
    taken = joint.take(rows)

    assert taken.whole_lengths.tolist() == joint.whole_lengths[rows].tolist()
    for place, row in enumerate(rows):
        for name in ("ids", "first", "token_labels"):
            old, new = getattr(joint, name), getattr(taken, name)
            assert new[sentence(taken, place)].tolist() == old[sentence(joint, row)].tolist()
    assert len(joint.take(rows[:0])) == 0
