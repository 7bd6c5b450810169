"""Tables with two usual columns of one kind, and with columns that the task does not read."""

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.detect import with_task
from saarthi_lib.data.gather import gather
from saarthi_lib.data.read import Problem, read_table
from saarthi_lib.data.split import units_of
from saarthi_lib.errors import DataError
from saarthi_lib.evaluation.tabular import predict_file
from saarthi_lib.inference.predictor import Predictor
from tests.conftest import reading
from tests.tiny_bundle import write_tiny_bundle

INTENT = "intent_classification"
Rows = list[dict[str, Any]]
TEXTS = ["turn it on", "turn it off", "play it", "stop now"] * 3
COARSE = ["on", "off", "on", "off"] * 3
FINE = ["light", "light", "music", "music"] * 3


def table(path: Path, columns: dict[str, list[Any]]) -> Path:
    frame = pd.DataFrame(columns)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    return path


def detected(path: Path, **fields: Any) -> TrainConfig:
    return with_task(TrainConfig.from_mapping({"input_path": str(path), **fields}))


DIFFERENT: dict[str, tuple[dict[str, list[Any]], str]] = {
    "labels": ({"text": TEXTS, "label": COARSE, "intent": FINE}, "label_column"),
    "numbers and names": ({"text": TEXTS, "label": [0, 1, 0, 1] * 3, "intent": FINE}, "label_col"),
    "other labels": ({"Tweet": TEXTS, "Topic": FINE, "Category": COARSE}, "label_column"),
    "texts": ({"text": TEXTS, "query": [f"{t} ok" for t in TEXTS], "label": FINE}, "text_column"),
    "languages": (
        {"text": TEXTS, "label": FINE, "lang": ["hi", "en"] * 6, "locale": ["en-US", "hi-IN"] * 6},
        "language_column",
    ),
}


@pytest.mark.parametrize("case", DIFFERENT)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_two_columns_that_differ_need_a_setting(tmp_path: Path, case: str, suffix: str) -> None:
    columns, field = DIFFERENT[case]
    path = table(tmp_path / f"train{suffix}", columns)
    for read in (lambda: detected(path), lambda: read_table(path, reading(INTENT))):
        with pytest.raises(
            DataError, match=rf"hold different values \(.* in one row\); set {field}"
        ):
            read()


def test_the_setting_chooses_one_of_two_columns(tmp_path: Path) -> None:
    path = table(tmp_path / "train.csv", {"text": TEXTS, "label": COARSE, "intent": FINE})
    config = detected(path, label_column="intent")
    assert config.task == INTENT
    assert list(read_table(path, config)["label"]) == FINE


CERTAIN: dict[str, tuple[dict[str, list[Any]], str, str]] = {
    "the same labels": ({"text": TEXTS, "label": FINE, "intent": FINE}, "label", "same values"),
    "one label only": (
        {"text": TEXTS, "label": ["x"] * 12, "intent": FINE},
        "intent",
        "always 'x'",
    ),
    "no label": ({"text": TEXTS, "label": [None] * 12, "intent": FINE}, "intent", "empty"),
    "another constant": ({"text": TEXTS, "intent": FINE, "topic": ["y"] * 12}, "intent", "always"),
    "gaps": ({"text": TEXTS, "label": ["light", *[None] * 11], "intent": FINE}, "intent", "always"),
    "more gaps": (
        {"text": TEXTS, "label": [*FINE[:6], *[None] * 6], "intent": FINE},
        "intent",
        "the same values",
    ),
    "numbers of sentences": (
        {"sentence": [*range(12)], "query": TEXTS, "label": FINE},
        "",
        "'query'",
    ),
    "the same texts": ({"text": TEXTS, "review": TEXTS, "label": FINE}, "", "the same values"),
    "the same languages": (
        {"text": TEXTS, "label": FINE, "lang": ["hi"] * 12, "locale": ["hi-IN"] * 12},
        "",
        "the same values",
    ),
}


@pytest.mark.parametrize("case", CERTAIN)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_the_certain_column_of_two_is_read_and_named(
    tmp_path: Path, case: str, suffix: str, told: pytest.LogCaptureFixture
) -> None:
    columns, label, reason = CERTAIN[case]
    path = table(tmp_path / f"train{suffix}", columns)
    with told.at_level(logging.INFO, "saarthi"):
        config = detected(path)
    assert (config.task, config.label_column) == (INTENT, label)
    assert "is read, and" in told.text and reason in told.text
    for options in (config, reading(INTENT)):
        found = read_table(path, options)
        assert (list(found["text"]), list(found["label"])) == (TEXTS, FINE)


def test_rows_with_one_of_two_columns_each_are_read(tmp_path: Path) -> None:
    rows = [{"text": t, ("label", "intent")[i % 2]: FINE[i]} for i, t in enumerate(TEXTS)]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    assert list(read_table(path, detected(path))["label"]) == FINE


def test_label_beside_entities_under_label_is_joint(tmp_path: Path) -> None:
    spans = [[[0, 4, "verb"]]] * 12
    path = table(tmp_path / "train.jsonl", {"text": TEXTS, "label": spans, "intent": FINE})
    config = detected(path)
    found = read_table(path, config)
    assert (config.task, config.label_column) == ("joint", "intent")
    assert (found["label"][0], found["tags"][0][0]) == ("light", "B-verb")


WORDS = [["play", "Lata"], ["stop", "it"]]
TAGS: dict[str, tuple[dict[str, Any], str]] = {
    "tags and slots": ({"tags": [["O", "B-x"]] * 2, "slots": [["O", "O"]] * 2}, "label_column"),
    "two of the task": ({"ner_tags": [["O", "B-x"]] * 2, "ner": [["O", "O"]] * 2}, "label_column"),
    "words": ({"words": [["Play", "lata"]] * 2, "tags": [["O", "B-x"]] * 2}, "remove one"),
    "the same tags": ({"tags": [["O", "B-x"]] * 2, "slots": [["O", "B-x"]] * 2}, ""),
    "a column of the task": ({"ner_tags": [["O", "B-x"]] * 2, "tags": [["O", "O"]] * 2}, ""),
    "labels of texts": ({"tags": [["O", "B-x"]] * 2, "label": ["sport", "news"]}, ""),
}


@pytest.mark.parametrize("case", TAGS)
def test_two_columns_of_tags_or_words_must_agree(tmp_path: Path, case: str) -> None:
    columns, remedy = TAGS[case]
    path = table(tmp_path / "train.jsonl", {"tokens": WORDS, **columns})
    if remedy:
        with pytest.raises(DataError, match=rf"hold different values .*; (set )?{remedy}"):
            read_table(path, reading("ner"))
        return
    assert [list(tags) for tags in read_table(path, reading("ner"))["tags"]] == [["O", "B-x"]] * 2


def test_texts_of_predict_are_chosen_as_in_training(tmp_path: Path) -> None:
    predictor = Predictor.load(write_tiny_bundle(tmp_path / "bundle"))
    path = table(tmp_path / "rows.csv", {"text": TEXTS[:2], "query": TEXTS[1:3]})
    with pytest.raises(DataError, match=r"'text' and 'query' hold different values .* text_column"):
        predict_file(predictor, path, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    assert predict_file(predictor, path, tmp_path / "out.csv", text_column="query").rows == 2
    path = table(tmp_path / "own.csv", {"sentence": [1, 2], "query": TEXTS[:2]})
    predict_file(predictor, path, tmp_path / "own-out.csv")
    found = pd.read_csv(tmp_path / "own-out.csv")
    expected = [answer.label for answer in predictor.predict(TEXTS[:2])]
    assert list(found["prediction"]) == expected


FREE = ["sport, news", "(a)", "['x'", "[{'start': 0", "{'a': 1}"]


@pytest.mark.parametrize("value", FREE)
@pytest.mark.parametrize("column", ["tags", "words", "entities", "spans"])
def test_columns_that_a_task_does_not_read_do_not_matter(
    tmp_path: Path, value: str, column: str
) -> None:
    path = table(tmp_path / "train.csv", {"text": TEXTS, "label": FINE, column: [value] * 12})
    assert list(read_table(path, reading(INTENT))["label"]) == FINE


@pytest.mark.parametrize("value", ["sport, news", "(a)", "urgent", "a; b"])
def test_topics_of_texts_are_not_tags_of_words(tmp_path: Path, value: str) -> None:
    path = table(tmp_path / "train.csv", {"text": TEXTS, "label": FINE, "tags": [value] * 12})
    config = detected(path)
    assert (config.task, list(read_table(path, config)["label"])) == (INTENT, FINE)


def test_one_row_with_two_labels_does_not_stop_a_run(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", {"text": TEXTS, "label": FINE, "intent": FINE})
    table(tmp_path / "dev.csv", {"text": TEXTS[:4], "label": FINE[:4]})
    table(tmp_path / "test.csv", {"text": TEXTS[:1], "label": FINE[:1], "intent": ["other"]})
    found = gather(tmp_path, detected(tmp_path))
    assert list(found.tables["test"]["label"]) == FINE[:1]


@pytest.mark.parametrize("empty", ["", "  "])
def test_row_without_a_group_is_a_group_of_its_own(tmp_path: Path, empty: str) -> None:
    groups = [empty, empty, "a", "a"]
    rows = "".join(f"text {at},x,{group}\n" for at, group in enumerate(groups))
    (path := tmp_path / "train.csv").write_text("text,label,talk\n" + rows, encoding="utf-8")
    problems: list[Problem] = []
    config = reading("intent_classification", group_column="talk")
    table = read_table(path, config, problems=problems)
    assert len(set(units_of(table))) == 3
    assert [(each.row, each.kind) for each in problems] == [
        (2, "missing-group"),
        (3, "missing-group"),
    ]
