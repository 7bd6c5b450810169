from itertools import pairwise
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saarthi_lib.text.words import split_words

JOINERS = "\u200c\u200d"


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in split_words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("turn on the lights", ["turn", "on", "the", "lights"]),
        ("what's 21°C?", ["what", "'", "s", "21", "°", "C", "?"]),
        ("रसोई की बत्ती जलाओ", ["रसोई", "की", "बत्ती", "जलाओ"]),
        ("कल ७ बजे।", ["कल", "७", "बजे", "।"]),
        ("cafe\u0301 au lait", ["cafe\u0301", "au", "lait"]),
        ("क्\u200dष और می\u200cخواهم", ["क्\u200dष", "और", "می\u200cخواهم"]),
        ("a\u200d b", ["a", "\u200d", "b"]),
        (" \t\n", []),
        ("", []),
    ],
)
def test_example_texts_are_split_into_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text(alphabet=st.sampled_from("ab1é\u0301कीक्ष्" + JOINERS + " .,!\n\u00a0")) | st.text())
def test_spans_are_maximal_and_cover_all_but_spaces(text: str) -> None:
    spans = split_words(text)

    assert "".join(words(text)) == "".join(text.split())
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    runs = [category(text[start])[0] in "LMN" for start, _ in spans]
    for (start, end), is_run in zip(spans, runs, strict=True):
        inside = text[start:end]
        assert len(inside) == 1 or is_run
        assert all(category(c)[0] in "LMN" or c in JOINERS for c in inside[1:])
        assert inside[-1] not in JOINERS or len(inside) == 1
    for ((_, end), run), ((start, _), next_run) in pairwise(zip(spans, runs, strict=True)):
        assert not (run and next_run and end == start)
