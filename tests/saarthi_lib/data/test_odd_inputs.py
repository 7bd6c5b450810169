"""Inputs that people bring, and errors that say what to do with them."""

from pathlib import Path

import pytest

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.detect import with_task
from saarthi_lib.data.gather import gather
from saarthi_lib.data.read import Problem, find_splits, read_table
from saarthi_lib.errors import DataError
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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl", '{"text": "open the door", "label": ["a", "b"]}\n' * 9),
        ("train.csv", "text,label\n" + "open the door,\"['a', 'b']\"\n" * 9),
    ],
)
def test_rows_with_several_labels_give_the_reason(tmp_path: Path, name: str, content: str) -> None:
    write(tmp_path / name, content)

    with pytest.raises(DataError, match=r"row \d: the row has 2 labels, \['a', 'b'\]; give one"):
        with_task(TrainConfig.from_mapping({"input_path": str(tmp_path)}))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("test.csv", "id,text\n1,open it\n2,shut it\n"),
        ("test.csv", "text,label\nopen it,\nshut it,\n"),
        ("validation.jsonl", '{"text": "open it"}\n{"text": "shut it"}\n'),
    ],
)
def test_unlabelled_test_may_become_transfer(tmp_path: Path, name: str, content: str) -> None:
    write(tmp_path / "train.csv", "text,label\n" + "open it,a\nshut it,b\n" * 9)
    path = write(tmp_path / name, content)
    config = reading(INTENT).model_copy(update={"input_path": str(tmp_path)})

    with pytest.raises(DataError, match=f"rename it to transfer{path.suffix}, or remove it"):
        gather(tmp_path, config)


def test_other_faults_of_a_test_keep_their_error(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "text,label\n" + "open it,a\nshut it,b\n" * 9)
    write(tmp_path / "test.csv", "text,label\n,a\n,b\n")

    with pytest.raises(DataError, match=r"test\.csv: row 2: .*the text is") as caught:
        gather(tmp_path, reading(INTENT))
    assert "transfer" not in str(caught.value)


@pytest.mark.parametrize("base", ["train", ".", "films/train"])
def test_folder_of_texts_for_each_label_is_named(tmp_path: Path, base: str) -> None:
    for label in ("good", "poor"):
        (tmp_path / base / label).mkdir(parents=True)
        write(tmp_path / base / label / "0_9.txt", "A film.<br />I saw it, twice.")
        write(tmp_path / base / label / "1_3.txt", "Two lines\nof a text, with commas")

    with pytest.raises(DataError, match=r"\((good, poor|poor, good)\); write one table instead"):
        find_splits(tmp_path)


def test_tables_in_folders_are_read(tmp_path: Path) -> None:
    for number, content in enumerate(("text\tlabel\nopen it\ta\n", "a O\nb B-x\n\nc O\nd O\n")):
        for part in ("one", "two"):
            (tmp_path / f"{number}/train" / part).mkdir(parents=True)
            for name in ("1.txt", "2.txt"):
                write(tmp_path / f"{number}/train" / part / name, content)

        assert len(find_splits(tmp_path / str(number))["train"]) == 4
