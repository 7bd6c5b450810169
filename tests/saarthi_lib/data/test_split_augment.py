import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saarthi_lib.data.augment import augment
from saarthi_lib.data.split import cut
from saarthi_lib.errors import DataError

groups = st.dictionaries(
    st.tuples(st.sampled_from(["en", "hi", "ta"]), st.sampled_from(["on", "off", "play"])),
    st.integers(1, 12),
    min_size=1,
)


def table_of(sizes: dict[tuple[str, str], int]) -> pd.DataFrame:
    keys = [key for key, size in sizes.items() for _ in range(size)]
    table = pd.DataFrame(
        {
            "text": [f"text {row}" for row in range(len(keys))],
            "lang": [lang for lang, _ in keys],
            "label": [label for _, label in keys],
        }
    )
    return table.sample(frac=1, random_state=0).reset_index(drop=True)


@given(groups, st.sampled_from([0.1, 0.25, 0.4]), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_cut_parts_the_rows_and_no_label_is_lost(
    sizes: dict[tuple[str, str], int], fraction: float, seed: int
) -> None:
    table = table_of(sizes)
    try:
        stay, out = cut(table, fraction, seed)
    except DataError:
        assert fraction * len(table) < 1 or max(sizes.values()) == 1
        return

    assert sorted([*stay["text"], *out["text"]]) == sorted(table["text"])
    assert set(zip(stay["lang"], stay["label"], strict=True)) == set(sizes)
    assert len(out) <= fraction * len(table) + 1e-9
    for part in (stay, out):  # in their old order
        assert list(part["text"]) == [text for text in table["text"] if text in set(part["text"])]


def test_a_cut_takes_a_like_share_of_each_language_and_label() -> None:
    sizes = {("en", "on"): 100, ("en", "off"): 50, ("hi", "on"): 20, ("hi", "off"): 10}
    _, out = cut(table_of(sizes), 0.2, seed=0)

    assert {tuple(key): len(rows) for key, rows in out.groupby(["lang", "label"])} == {
        key: size // 5 for key, size in sizes.items()
    }


def test_many_small_groups_still_fill_a_split() -> None:
    sizes = {("en", f"label {number}"): 4 for number in range(50)}
    _, out = cut(table_of(sizes), 0.1, seed=0)

    assert len(out) == 20


def test_the_same_seed_cuts_the_same_rows() -> None:
    table = table_of({("en", "on"): 30, ("hi", "off"): 30})

    first, second, other = (set(cut(table, 0.2, seed)[1]["text"]) for seed in (1, 1, 2))
    assert first == second != other


def test_tables_without_labels_are_cut_too() -> None:
    table = table_of({("en", "on"): 20, ("hi", "on"): 10}).drop(columns="label")

    assert cut(table, 0.1, seed=0)[1]["lang"].value_counts().to_dict() == {"en": 2, "hi": 1}


def test_too_few_rows_say_what_to_do() -> None:
    with pytest.raises(DataError, match=r"3 training rows are too few .* file of its own"):
        cut(table_of({("en", "on"): 3}), 0.1, seed=0)


ENGLISH = [
    f"turn {state} the {room} lights".split() for state in ("on", "off") for room in "abcdef"
]
HINDI = [
    f"{room} की बत्ती {act} दो".split() for room in ("रसोई", "कमरे", "छत") for act in ("जला", "बुझा")
]
SENTENCES = [*ENGLISH, *HINDI]
LANGUAGES = ["english"] * len(ENGLISH) + ["hindi"] * len(HINDI)


def test_augmented_sentences_are_new_and_in_their_languages_words() -> None:
    made = augment(SENTENCES, LANGUAGES, 500, seed=1)
    sentences = [tuple(words) for words, _ in made]
    words_of = {
        "english": {word for words in ENGLISH for word in words},
        "hindi": {word for words in HINDI for word in words},
    }

    assert len(made) == 500
    assert len(set(sentences)) == 500
    assert not set(sentences) & {tuple(words) for words in SENTENCES}
    assert all(words and set(words) <= words_of[language] for words, language in made)


def test_augmented_languages_are_balanced_though_the_input_is_not() -> None:
    made = augment(SENTENCES, LANGUAGES, 400, seed=1)
    hindi = sum(language == "hindi" for _, language in made)

    assert 180 <= hindi <= 220


def test_augmented_sentences_stay_of_a_natural_length() -> None:
    longest = max(len(words) for words in SENTENCES)

    assert all(len(words) <= 3 * longest for words, _ in augment(SENTENCES, LANGUAGES, 500, 1))


def test_the_same_seed_augments_alike() -> None:
    first, second, other = (augment(SENTENCES, LANGUAGES, 50, seed) for seed in (1, 1, 2))

    assert first == second != other


def test_text_too_small_to_vary_yields_fewer() -> None:
    assert augment([["hello"]], ["english"], 1000, seed=0) != []
    assert len(augment([["hello"]], ["english"], 1000, seed=0)) < 10
    assert augment(SENTENCES, LANGUAGES, 0, seed=0) == []


@given(
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=5), min_size=1, max_size=8),
    st.integers(0, 30),
    st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_augmentation_is_bounded_and_never_repeats(
    sentences: list[list[str]], size: int, seed: int
) -> None:
    made = augment(sentences, ["english"] * len(sentences), size, seed)
    given_and_made = [tuple(words) for words, _ in made] + list(map(tuple, sentences))

    assert len(made) <= size
    assert len(set(given_and_made)) == len(made) + len(set(map(tuple, sentences)))
