"""Answers of forms, words in rows, JSON that is not rows, and labels that are several others."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.conversion import convert
from saarthi_lib.data.detect import with_task
from saarthi_lib.data.gather import gather
from saarthi_lib.data.read import find_splits, read_table
from saarthi_lib.errors import DataError
from tests.conftest import reading

ANSWERS = ["please call my bank", "where is the bus stop", "call home for me", "find a taxi now"]
DAYS = ["2024/03/{:02} 09:10:00", "3/{}/2024 9:10:00 AM", "Mar {}, 2024, 9:10"]
GOALS = ["phone", "travel", "phone", "travel"]


def form(path: Path, header: list[str], *columns: list[str]) -> Path:
    path.parent.mkdir(exist_ok=True)
    rows = [header, *map(list, zip(*columns, strict=True))]
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def detected(path: Path, **fields: Any) -> TrainConfig:
    return with_task(TrainConfig.from_mapping({"input_path": str(path), **fields}))


@pytest.mark.parametrize("day", DAYS)
def test_times_are_not_taken_for_texts(tmp_path: Path, day: str) -> None:
    texts = [f"{text} {place}" for place in "abc" for text in ANSWERS]
    days = [day.format(at) for at in range(1, 13)]
    header = ["Timestamp", "What would you say to your phone?", "Intent"]
    path = form(tmp_path / "train.tsv", header, days, texts, GOALS * 3)

    with pytest.raises(DataError, match=r"no column of text among .*set text_column"):
        detected(path)
    assert detected(path, text_column=header[1]).task == "intent_classification"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["Note", "What would you say to your phone?", "Intent"], "texts: Note or What would"),
        (["text", "Which of these goals fits best?", "Priority"], "labels: Priority or Which of"),
    ],
)
def test_long_headings_make_a_choice_unclear(
    tmp_path: Path, header: list[str], message: str
) -> None:
    texts = [f"{text} {place}" for place in "abc" for text in ANSWERS]
    notes = [f"said by person {at} today" for at in range(12)]
    columns = [notes, texts, GOALS * 3]
    if header[0] == "text":
        columns = [texts, GOALS * 3, ["low", "low", "high"] * 4]
    with pytest.raises(DataError, match=message):
        detected(form(tmp_path / "train.tsv", header, *columns))


WORD_ROWS = [("Sentence: 1", "Lima", "NNP", "B-geo"), ("", "rains", "VBZ", "O")] * 6


@pytest.mark.parametrize("fields", [{}, {"text_column": "Word", "label_column": "Tag"}])
def test_rows_of_single_words_are_refused(tmp_path: Path, fields: dict[str, str]) -> None:
    lines = ["Sentence #,Word,POS,Tag", *(",".join(row) for row in WORD_ROWS)]
    (tmp_path / "train.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match="each row holds one word and its tag; write CoNLL"):
        detected(tmp_path, **fields)


def test_single_words_may_have_other_labels(tmp_path: Path) -> None:
    rows = "".join(f"{word},{label}\n" for word, label in [("Lima", "city"), ("Peru", "land")] * 6)
    (tmp_path / "train.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    assert detected(tmp_path).task == "intent_classification"


NOT_ROWS: dict[str, tuple[Any, str]] = {
    "columns": ({"text": ["a b", "c d"], "label": ["x", "y"]}, r"holds columns \(text, label\)"),
    "pairs by split": ({"train": [["a b", "x"]], "val": [["c d", "y"]]}, "under train, val, and"),
    "objects by split": ({"train": [{"text": "a b"}], "test": [{"text": "c"}]}, "train, test, and"),
    "texts by label": ({"x": ["a b", "c d"], "y": ["e f"]}, "under x, y, and no text"),
    "pandas split": ({"columns": ["text"], "index": [0], "data": [["a b"]]}, "columns, index, da"),
}


@pytest.mark.parametrize("case", NOT_ROWS)
def test_objects_that_are_no_rows_are_refused(tmp_path: Path, case: str) -> None:
    content, message = NOT_ROWS[case]
    (tmp_path / "train.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        detected(tmp_path)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "train.json", reading("intent_classification"))


def test_one_object_with_words_is_a_row(tmp_path: Path) -> None:
    row = {"tokens": ["in", "Lima"], "ner_tags": ["O", "B-city"]}
    path = tmp_path / "train.json"
    path.write_text(json.dumps(row), encoding="utf-8")
    assert len(read_table(path, reading("ner"))) == 1


def test_labels_that_are_objects_are_shown(tmp_path: Path) -> None:
    rows = [{"text": text, "label": {"name": "x", "score": 1}} for text in ANSWERS]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError, match=r"row 1: the label is the object .*write its name as text"):
        detected(tmp_path)


def test_names_of_all_configurations_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"tokens": ["in", "Lima"], "ner_tags": [0, 1]}] * 3
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError, match="tags are numbers without names"):
        convert(tmp_path, tmp_path / "before")

    names = {"feature": {"names": ["O", "B-city"], "_type": "ClassLabel"}, "_type": "Sequence"}
    info = {"default": {"features": {"ner_tags": names}}}
    (tmp_path / "dataset_infos.json").write_text(json.dumps(info), encoding="utf-8")
    [file] = find_splits(tmp_path)["train"]
    assert list(read_table(file.path, reading("ner"))["tags"].iloc[0]) == ["O", "B-city"]
    assert "ignored" not in caplog.text


TAGGED = [("in Lima now", "O,B-city,O"), ("to New Delhi", "O,B-city,I-city")] * 6


def test_tags_with_commas_are_no_labels(tmp_path: Path) -> None:
    rows = "".join(f'{text},"{tags}"\n' for text, tags in TAGGED)
    (tmp_path / "train.csv").write_text(f"sentence,word_labels\n{rows}", encoding="utf-8")
    with pytest.raises(DataError, match=r"row 2: the label is a tag for each word \(O, B-city, …"):
        detected(tmp_path)


def test_a_question_asked_of_all_is_no_text(tmp_path: Path) -> None:
    texts = [f"{text} {place}" for place in "abc" for text in ANSWERS]
    asked = ["What would you say?"] * len(texts)
    path = form(tmp_path / "train.tsv", ["question", "answer", "intent"], asked, texts, GOALS * 3)
    with pytest.raises(DataError, match="have one text in 'question', and others in answer; set"):
        detected(path)
    assert detected(path, text_column="answer").task == "intent_classification"


def test_names_beside_numbers_of_labels_need_a_choice(tmp_path: Path) -> None:
    columns = [ANSWERS, ["0", "1", "0", "1"], GOALS]
    path = form(tmp_path / "train.tsv", ["text", "label", "label_text"], *columns)
    with pytest.raises(DataError, match=r"'label' and 'label_text' hold different.*label_column"):
        detected(path)


def test_conversion_reads_the_columns_of_training(tmp_path: Path) -> None:
    form(tmp_path / "in/train.tsv", ["utterance", "intent"], ANSWERS, GOALS)
    columns = [ANSWERS, GOALS, ["z"] * 4]
    form(tmp_path / "in/dev.tsv", ["utterance", "intent", "text"], *columns)
    convert(tmp_path / "in", tmp_path / "out")
    lines = (tmp_path / "out/validation.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ANSWERS


def test_marks_of_open_workbooks_are_no_data(tmp_path: Path) -> None:
    form(tmp_path / "train.tsv", ["text", "intent"], ANSWERS, GOALS)
    (tmp_path / "~$train.xlsx").write_bytes(b"\x05owner")
    assert [file.path.name for file in find_splits(tmp_path)["train"]] == ["train.tsv"]


def test_old_workbooks_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    with pytest.raises(DataError, match=r"a workbook of the old form \(.xls\)"):
        detected(tmp_path)


def test_conversion_says_what_is_no_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": [b"call home"] * 3, "label": ["a", "b", "a"]})
    frame.to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="row 1: the text is binary"):
        convert(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(("name", "told"), [("travels", True), ("travel", False)])
def test_a_missing_label_of_out_of_scope_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, told: bool
) -> None:
    texts = [f"{text} {place}" for place in "abcdefg" for text in ANSWERS]
    labels = ["phone", "travel", "music", "travel"] * 7
    form(tmp_path / "train.tsv", ["text", "intent"], texts, labels)
    gather(tmp_path, detected(tmp_path, out_of_scope_label=name))
    assert (f"no row has the label '{name}'" in caplog.text) == told
