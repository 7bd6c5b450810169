"""Readers of data, on files from hypothesis and on files of earlier findings."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saarthi_lib.data.read import read_table
from saarthi_lib.errors import DataError
from tests.conftest import reading
from tests.fuzz.readers import SOURCES, broken, check_read, some_options

FOUND = Path(__file__).parent / "found"


@given(
    draw=st.randoms(use_true_random=False),
    kind=st.sampled_from(sorted(SOURCES)),
    end=st.binary(max_size=20),
)
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_random_files_are_read_or_refused(draw: Random, kind: str, end: bytes) -> None:
    make, extensions = SOURCES[kind]
    content = broken(draw, make(draw)) + end
    check_read(content, draw.choice(extensions), some_options(draw), labelled=draw.random() < 0.8)


@pytest.mark.parametrize(
    ("file", "task", "words"),
    [
        ("open-quote-in-header.csv", "intent_classification", r"row 1: cannot be read .*quotes"),
        ("deep-first-line.bio", "ner", r"row 1: is not a word and a tag"),
        ("deep-list-in-a-text.jsonl", "pos", r"row 1: 2 words but 1 tags"),
        ("tokens-with-offsets.jsonl", "pos", r"row 1: the word 'kitchen' has the tag '_'"),
    ],
)
def test_files_of_earlier_findings_are_refused_with_their_row(
    file: str, task: str, words: str
) -> None:
    with pytest.raises(DataError, match=rf"{file}.*{words}"):
        read_table(FOUND / file, reading(task, max_malformed_share=0.0))
