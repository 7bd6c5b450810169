"""Tags between the words of a file and the words of the service."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from saarthi_lib.data.alignment import Span, cut_at_entities, parts_of, tags_of_words
from saarthi_lib.tasks import bio_spans


def spans_of(bounds: set[int], kept: list[bool]) -> list[Span]:
    """Some of the stretches between bounds, in order."""
    found = pairwise(sorted(bounds))
    return [span for span, keep in zip(found, kept, strict=False) if keep]


some_bounds = st.sets(st.integers(0, 30), min_size=2, max_size=12)
some_spans = st.builds(spans_of, some_bounds, st.lists(st.booleans(), min_size=12, max_size=12))
all_spans = some_bounds.map(lambda bounds: list(pairwise(sorted({0, 30, *bounds}))))


@given(all_spans, some_spans)
def test_entities_keep_their_spans(words: list[Span], places: list[Span]) -> None:
    entities = [(start, end, f"T{at % 3}") for at, (start, end) in enumerate(places)]
    spans, tags = cut_at_entities(words, entities)

    found = [(spans[a][0], spans[b - 1][1], label) for a, b, label in bio_spans(tags)]
    assert found == entities
    assert {end for _, end in words} <= {end for _, end in spans}


def test_entity_without_characters_has_an_empty_word() -> None:
    spans, tags = cut_at_entities([(0, 3), (4, 8)], [(4, 4, "x"), (4, 8, "y")])
    assert spans == [(0, 3), (4, 4), (4, 8)]
    assert tags == ["O", "B-x", "B-y"]


@given(some_spans, some_spans)
def test_each_word_is_part_of_one_given_word(words: list[Span], given_words: list[Span]) -> None:
    parts = parts_of(given_words, words)
    for (start, end), numbers in zip(given_words, parts, strict=True):
        assert all(words[at][0] < end and start < words[at][1] for at in numbers)
        covered = any(start < right and left < end for left, right in words)
        assert bool(numbers) == covered


def test_entity_of_white_space_has_an_empty_word() -> None:
    spans, tags = cut_at_entities([(0, 2), (3, 7)], [(2, 2, "x"), (2, 3, "y"), (3, 7, "z")])
    assert spans == [(0, 2), (2, 2), (2, 2), (3, 7)]
    assert tags == ["O", "B-x", "B-y", "B-z"]


def test_parts_of_a_split_word_have_its_tag() -> None:
    words = [(0, 2), (2, 3), (3, 5), (6, 9)]
    tags = ["B-date", "I-money"]
    found = tags_of_words(words, [(0, 5), (6, 9)], tags, bio=True)
    assert found == ["B-date", "I-date", "I-date", "B-money"]
    assert tags_of_words(words, [(0, 5)], ["NUM"], bio=False) == ["NUM", "NUM", "NUM", None]


def test_word_across_two_given_words_has_the_first_tag() -> None:
    given_words, words = [(0, 2), (2, 5)], [(0, 3), (3, 4), (4, 5)]  # do|n't served as don ' t
    assert tags_of_words(words, given_words, ["AUX", "PART"], bio=False) == ["AUX", "PART", "PART"]
    assert parts_of(given_words, words) == [[0], [1, 2]]
    assert parts_of(given_words, [(0, 5)]) == [[0], [0]]
