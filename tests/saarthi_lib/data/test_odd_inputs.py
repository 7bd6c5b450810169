"""Inputs that people bring, and errors that say what to do with them."""

from pathlib import Path

import pytest

from saarthi_lib.data.read import Problem, read_table
from tests.conftest import reading
from tests.saarthi_lib.data.test_odd_tables import INTENT, write


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.csv", "text,label\nopen it,a\n,,\nshut it,b\n,,,\n , ,\n"),
        ("train.csv", ";;;\ntext;label\nopen it;a\n;;\nshut it;b\n;;;\n"),
        ("train.tsv", "\t\t\t\ntext\tlabel\nopen it\ta\n\t\t\t\nshut it\tb\n"),
        ("train.csv", "text,label\nopen it,a,\n,\nshut it,b,\n"),
    ],
)
def test_rows_of_separators_only_are_blank(tmp_path: Path, name: str, content: str) -> None:
    problems: list[Problem] = []

    table = read_table(write(tmp_path / name, content), reading(INTENT), problems=problems)

    assert [*zip(table["text"], table["label"], strict=True)] == [
        ("open it", "a"),
        ("shut it", "b"),
    ]
    assert problems == []
