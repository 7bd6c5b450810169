"""Augmentation: new sentences from those of the training rows."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from saarthi_lib.config import AugmentationMethod
from saarthi_lib.data.augment import Augmented, Neighbours, Sentence, augment
from saarthi_lib.errors import ConfigError, TeacherError
from saarthi_lib.models.sources import resolve_teacher
from saarthi_lib.storage import read_json

METHODS = get_args(AugmentationMethod)

ENGLISH = [
    Sentence(tuple(f"Turn {act} the {room} lights".split()), "english", act, ("O",) * 3 + tags)
    for act in ("on", "off")
    for room, tags in (("kitchen", ("B-room", "O")), ("living room", ("B-room", "I-room", "O")))
] + [
    Sentence(tuple(f"play {song} now".split()), "english", "play", ("O", "B-song", "I-song", "O"))
    for song in ("blue moon", "summer rain", "hotel california")
]
HINDI = [
    Sentence(
        tuple(f"{room} की बत्ती {act} दो".split()), "hindi", label, ("B-room", "O", "O", "O", "O")
    )
    for room in ("रसोई", "कमरे", "छत")
    for act, label in (("जलवा", "on"), ("बुझा", "off"))
]
SENTENCES = [*ENGLISH, *HINDI]


def untagged(sentences: list[Sentence]) -> list[Sentence]:
    return [Sentence(each.words, each.lang, each.label) for each in sentences]


def words_of(sentences: Sequence[Sentence | Augmented]) -> set[str]:
    return {word for each in sentences for word in each.words}


@pytest.fixture(scope="module")
def neighbours() -> Neighbours:
    folder = resolve_teacher("minilm")
    assert isinstance(folder, Path)
    with safe_open(folder / "model.safetensors", "numpy") as weights:
        name = next(each for each in weights.keys() if each.endswith("word_embeddings.weight"))  # noqa: SIM118
        return Neighbours(read_json(folder / "tokenizer.json"), weights.get_tensor(name))


alphabet = st.text("abкшकशिर", min_size=1, max_size=6)
any_sentences = st.lists(
    st.builds(
        Sentence,
        st.lists(alphabet, min_size=1, max_size=6).map(tuple),
        st.sampled_from(["english", "hindi"]),
        st.sampled_from(["on", "off", None]),
    ),
    max_size=8,
)


@st.composite
def tagged_sentences(draw: st.DrawFn) -> list[Sentence]:
    """Sentences with BIO tags; an `I-` tag may open a span."""
    tags = st.sampled_from(["O", "B-room", "I-room", "B-song", "I-song"])
    return [
        Sentence(
            each.words,
            each.lang,
            each.label,
            tuple(draw(st.lists(tags, min_size=len(each.words), max_size=len(each.words)))),
        )
        for each in draw(any_sentences)
    ]


@given(
    any_sentences | tagged_sentences(),
    st.sets(st.sampled_from(METHODS), min_size=1).map(sorted),
    st.integers(0, 40),
    st.integers(0, 5),
)
@settings(max_examples=150)
def test_augmentation_is_bounded_reproducible_and_unique(
    sentences: list[Sentence], methods: list[str], size: int, seed: int
) -> None:
    made = augment(sentences, methods, size, seed)
    new = {each.words for each in made}

    assert made == augment(sentences, methods, size, seed)
    assert len(new) == len(made) <= size
    assert not new & {each.words for each in sentences}
    assert {each.method for each in made} <= set(methods)
    assert {each.lang for each in made} <= {each.lang for each in sentences}
    assert all(each.words and all(each.words) for each in made)


def test_languages_and_methods_have_equal_shares() -> None:
    many = untagged(ENGLISH) * 3 + untagged(HINDI)[:2]
    made = augment(many, ["words", "typos", "speech"], 300, seed=1)
    shares = Counter((each.lang, each.method) for each in made)

    assert len(shares) == 6
    assert set(shares.values()) == {50}


def test_share_of_an_exhausted_method_goes_to_others() -> None:
    english = untagged(ENGLISH)[:1]
    made = augment(english, METHODS, 60, seed=1)
    shares = Counter(each.method for each in made)

    assert len(made) == 60
    assert set(shares) == {"words", "spans", "typos", "speech"}


@pytest.mark.parametrize("method", ["slots", "code_mixing", "neighbours", "vocabulary"])
def test_method_without_usable_input_gives_nothing(method: str) -> None:
    one_language_without_tags_or_shared_phrases = [
        Sentence(("turn", "on", "the", "lights"), "english", "on"),
        Sentence(("play", "blue", "moon"), "english", "play"),
    ]
    assert augment(one_language_without_tags_or_shared_phrases, [method], 10, seed=1) == []
    assert augment([], [method], 10, seed=1) == []


def test_text_with_few_variations_gives_fewer_sentences() -> None:
    made = augment([Sentence(("hi",), "english")], METHODS, 1000, seed=0)

    assert 0 < len(made) < 200


def test_results_depend_on_the_seed_not_on_hashing() -> None:
    script = (
        "from tests.saarthi_lib.data.test_augment import METHODS, SENTENCES\n"
        "from saarthi_lib.data.augment import augment\n"
        "import sys; sys.stdout.buffer.write(repr(augment(SENTENCES, METHODS, 200, 1)).encode())"
    )
    root = Path(__file__).parents[3]
    other_hash_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    other = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": other_hash_seed, "PYTHONPATH": str(root)},
        capture_output=True,
        check=True,
    ).stdout.decode()
    assert other == repr(augment(SENTENCES, METHODS, 200, 1))
    assert other != repr(augment(SENTENCES, METHODS, 200, 2))


def test_unknown_method_error_names_it() -> None:
    with pytest.raises(ConfigError, match="no method 'magic'; use one of words, "):
        augment(SENTENCES, ["magic"], 10, seed=1)


@pytest.mark.parametrize("method", ["words", "spans"])
def test_words_and_spans_keep_language_and_usual_length(method: str) -> None:
    made = augment(SENTENCES, [method], 300, seed=1)
    longest = max(len(each.words) for each in SENTENCES)
    known = {"english": words_of(ENGLISH), "hindi": words_of(HINDI)}

    assert len(made) == 300
    assert all(set(each.words) <= known[each.lang] for each in made)
    assert all(len(each.words) <= 2 * longest for each in made)


def test_slots_get_values_of_the_same_entity_type() -> None:
    songs = ("B-song", "I-song")
    sing = Sentence(("sing", "blue", "moon", "twice"), "english", "play", ("O", *songs, "O"))
    made = augment([*ENGLISH[1:], sing], ["slots"], 50, seed=1)

    # All other swaps give sentences of the input.
    assert {" ".join(each.words) for each in made} == {
        "Turn on the kitchen lights",
        "sing summer rain twice",
        "sing hotel california twice",
    }
    assert augment(ENGLISH, ["slots"], 50, seed=1) == []


def test_part_of_speech_slots_get_words_of_the_same_tag() -> None:
    tags = ("NOUN", "VERB", "PUNCT")
    sentences = [
        Sentence(("dogs", "bark", "."), "english", None, tags),
        Sentence(("cats", "sleep", "!"), "english", None, tags),
    ]
    made = {each.words for each in augment(sentences, ["slots"], 50, seed=1)}

    assert made == {
        (noun, verb, end)
        for noun, verb, end in [
            ("dogs", "sleep", "."),
            ("cats", "bark", "."),
            ("cats", "sleep", "."),
            ("dogs", "sleep", "!"),
            ("cats", "bark", "!"),
            ("dogs", "bark", "!"),
        ]
    }


def test_untagged_slots_swap_words_of_the_same_context() -> None:
    sentences = [
        Sentence(("turn", "on", "the", "kitchen", "lights"), "english", "on"),
        Sentence(("turn", "on", "the", "living", "room", "lights"), "english", "on"),
        Sentence(("how", "warm", "is", "the", "kitchen"), "english", "ask"),
    ]
    made = [each.words for each in augment(sentences, ["slots"], 50, seed=1)]

    assert made == [("how", "warm", "is", "the", "living", "room")]


def test_code_mixing_adds_words_of_the_other_language() -> None:
    made = augment(untagged(SENTENCES), ["code_mixing"], 100, seed=1)
    english, hindi = words_of(ENGLISH), words_of(HINDI)
    mixed = [set(each.words) & english and set(each.words) & hindi for each in made]

    assert len(made) == 100
    assert all(set(each.words) <= english | hindi for each in made)
    assert sum(map(bool, mixed)) > 80
    # No Hindi sentence has the label "play".
    assert not any({"play", "now"} & set(each.words) for each in made)


def test_tagged_code_mixing_uses_foreign_slot_values() -> None:
    tagged = [Sentence(each.words, each.lang, None, each.tags) for each in SENTENCES]
    made = augment(tagged, ["code_mixing"], 100, seed=1)
    hindi_rooms = {each.words[0] for each in HINDI}

    assert {each.lang for each in made} == {"english", "hindi"}
    for each in made:
        if each.lang == "english":
            room, *others = each.words[3:]
            assert (each.words[0], room in hindi_rooms, others) == ("Turn", True, ["lights"])
        else:
            assert " ".join(each.words[:-4]) in ("kitchen", "living room")


def test_neighbours_are_words_of_similar_meaning(neighbours: Neighbours) -> None:
    found = neighbours.of(["lights", "Kitchen", "qzxqzx", "42", "monday"])

    assert {"light", "lighting", "lamps"} <= set(found["lights"])
    assert {"Cooking", "Stove"} & set(found["Kitchen"])
    assert {"tuesday", "sunday"} <= set(found["monday"])
    assert set(found) == {"lights", "Kitchen", "monday"}


def test_neighbours_keep_script_and_capitalization(neighbours: Neighbours) -> None:
    sentences = [
        Sentence(("Kitchen", "lights", "PLEASE", "रसोई", "7"), "english"),
        Sentence(("turn", "down", "the", "Music"), "english"),
    ]
    for each in augment(sentences, ["neighbours"], 60, seed=1, neighbours=neighbours):
        source = next(other.words for other in sentences if len(other.words) == len(each.words))
        for old, new in zip(source, each.words, strict=True):
            assert (new.islower(), new.istitle(), new.isascii()) == (
                old.islower(),
                old.istitle(),
                old.isascii(),
            )
            assert new == old or (old.isascii() and old.isalpha())


def two_languages() -> tuple[list[str], Neighbours]:
    """80 words of one language, and an embedding table of two languages, far from each other."""
    generator = np.random.default_rng(0)
    meanings = generator.normal(size=(80, 32))
    side = np.zeros(32)
    side[0] = 3.0
    letters = "abcdefghij"
    names = [f"{letters[number // 10]}{letters[number % 10]}" for number in range(80)]
    pieces = [f"east{name}" for name in names] + [f"west{name}" for name in names]
    close = meanings + 0.7 * generator.normal(size=meanings.shape)
    table = np.concatenate([meanings + side, close - side]).astype(np.float32)
    tokenizer = {
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {
            "type": "WordPiece",
            "vocab": {piece: number for number, piece in enumerate(pieces)},
            "unk_token": pieces[0],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
    }
    return pieces[:80], Neighbours(tokenizer, table, lowest_cosine=-1)


def test_neighbours_are_words_of_the_same_language() -> None:
    # Tables of multilingual teachers separate their languages in the same way.
    east, neighbours = two_languages()
    found = neighbours.of(east)

    assert len(found) == 80
    assert all(word.startswith("east") for near in found.values() for word in near)


def test_more_words_are_new_words_of_the_same_language() -> None:
    east, neighbours = two_languages()

    assert sorted(neighbours.more_words(east[:60], 20)) == east[60:]
    assert neighbours.more_words(east[:60], 100)[:20] == neighbours.more_words(east[:60], 20)
    assert neighbours.more_words(east[:60], 0) == neighbours.more_words(["रसोई", "7"], 5) == []


def tagged(words: list[str]) -> list[Sentence]:
    """Sentences of six words."""
    parts = [tuple(words[start : start + 6]) for start in range(0, len(words), 6)]
    return [Sentence(part, "eastern", None, ("X",) * len(part)) for part in parts]


def test_vocabulary_replaces_some_words_by_unseen_ones() -> None:
    east, neighbours = two_languages()
    sentences = tagged(east[:60])
    made = augment(sentences, ["vocabulary"], 200, seed=1, neighbours=neighbours)

    assert len(made) == 200
    known = words_of(sentences)
    for each in made:
        changed = min(
            (
                [new for old, new in zip(source.words, each.words, strict=True) if old != new]
                for source in sentences
            ),
            key=len,
        )
        assert 1 <= len(changed) <= 6
        assert not set(changed) & known
    assert words_of(made) - known <= {*east[60:], *neighbours.more_words(east, 100)}


def test_vocabulary_changes_half_of_other_sentences() -> None:
    east, neighbours = two_languages()
    sentences = tagged(east[:60])
    made = augment(sentences, ["words", "vocabulary"], 400, seed=1, neighbours=neighbours)
    known = words_of(sentences)
    with_new = [each for each in made if each.method == "words" and not set(each.words) <= known]

    assert Counter(each.method for each in made) == {"words": 200, "vocabulary": 200}
    assert 0.35 <= len(with_new) / 200 <= 0.65

    whole = untagged(sentences)
    made = augment(whole, ["words", "vocabulary"], 100, seed=1, neighbours=neighbours)
    assert {each.method for each in made} == {"words"} and words_of(made) <= known


def test_neighbours_reject_a_table_of_another_teacher() -> None:
    folder = resolve_teacher("minilm")
    assert isinstance(folder, Path)
    other = Neighbours(read_json(folder / "tokenizer.json"), np.zeros((10, 4), np.float32))

    with pytest.raises(TeacherError, match="take both from the same teacher"):
        other.of(["lights"])
    with pytest.raises(TeacherError, match="cannot be read"):
        Neighbours({}, np.zeros((10, 4), np.float32)).of(["lights"])


def distance(left: str, right: str) -> int:
    """Damerau-Levenshtein distance: a swap of two adjacent letters is one edit."""
    rows = [list(range(len(right) + 1))]
    for i, a in enumerate(left, 1):
        row = [i]
        for j, b in enumerate(right, 1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a != b)))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                row[-1] = min(row[-1], rows[-2][j - 2] + 1)
        rows.append(row)
    return rows[-1][-1]


def test_typos_change_each_word_by_one_edit() -> None:
    made = augment(SENTENCES, ["typos"], 300, seed=1)

    assert len(made) == 300
    for each in made:
        assert any(
            all(distance(old, new) <= 1 for old, new in zip(other.words, each.words, strict=True))
            for other in SENTENCES
            if len(other.words) == len(each.words)
        )


@pytest.mark.parametrize(
    ("word", "confused"),
    [
        ("किताब", "कीताब"),  # Hindi: i, ii
        ("विषय", "विशय"),  # s, ss
        ("বিষয়", "বীষয়"),  # Bengali
        ("ਕਿਤਾਬ", "ਕੀਤਾਬ"),  # Punjabi
        ("પુસ્તક", "પૂસ્તક"),  # Gujarati
        ("புத்தகம்", "பூத்தகம்"),  # Tamil
        ("పుస్తకం", "పూస్తకం"),  # Telugu
        ("ಪುಸ್ತಕ", "ಪೂಸ್ತಕ"),  # Kannada
        ("പുസ്തകം", "പൂസ്തകം"),  # Malayalam
    ],
)
def test_indic_typos_confuse_similar_letters(word: str, confused: str) -> None:
    made = {each.words for each in augment([Sentence((word,), "any")], ["typos"], 200, seed=1)}

    assert (confused,) in made
    # No letter of another script, and none that Unicode has not assigned.
    block = {ord(letter) // 128 for letter in word}
    assert {ord(letter) // 128 for (new,) in made for letter in new} == block


def test_speech_noise_keeps_most_of_a_sentence() -> None:
    made = augment(SENTENCES, ["speech"], 300, seed=1)
    said = ["".join(each.words).lower() for each in SENTENCES]

    assert len(made) == 300
    assert all(
        min(distance("".join(each.words).lower(), other) for other in said) <= 20 for each in made
    )
    assert any(each.words == tuple(word.lower() for word in each.words) for each in made)


def test_recognized_speech_has_no_punctuation() -> None:
    sentence = Sentence(("What", "is", "the", "price", "?"), "english")
    made = {each.words for each in augment([sentence], ["speech"], 200, seed=1)}

    assert ("what", "is", "the", "the", "price") in made


@pytest.mark.slow
def test_large_input_is_augmented_in_bounded_memory() -> None:
    script = """
import resource, sys, time
from saarthi_lib.data.augment import Sentence, augment
sentences = [
    Sentence(("play", f"song{row}", "by", f"artist{row % 1000}"), "english", f"label{row % 9}")
    for row in range(400_000)
]
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.perf_counter()
made = augment(sentences, ["words", "spans", "slots", "code_mixing", "typos", "speech"], 20_000, 1)
sys.stdout.write(f"{len(made)} {peak() - before} {time.perf_counter() - start}")
"""
    root = Path(__file__).parents[3]
    fresh = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root
    )
    made, megabytes, seconds = map(float, fresh.stdout.split())

    assert made == 20_000
    assert megabytes < 400
    assert seconds < 30


def test_two_methods_can_change_the_same_sentence() -> None:
    made: list[Augmented] = augment(HINDI, ["slots", "typos"], 300, seed=1)
    known = words_of(HINDI)
    slipped = [each for each in made if each.method == "slots" and not set(each.words) <= known]

    assert slipped
