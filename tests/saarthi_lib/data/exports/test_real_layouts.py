"""Details of real exports that differ from a first guess; the inputs are our own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from saarthi_lib.data.conversion import convert
from saarthi_lib.data.exports.registry import kind_of
from saarthi_lib.errors import DataError
from tests.saarthi_lib.data.exports.test_exports import converted
from tests.saarthi_lib.data.exports.writers import (
    TAGS,
    base_rows,
    dialogflow_cx,
    write,
    write_lines,
)


def counts(left: dict[str, Any]) -> dict[str, int]:
    return {kind: found["count"] for kind, found in left.items()}


def texts_of(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Labels and texts of a row's entities."""
    for each in row["entities"]:
        yield each["label"], row["text"][each["start"] : each["end"]]


def test_massive_without_spaces_between_words(tmp_path: Path) -> None:
    about = {"locale": "zh-CN", "partition": "train", "intent": "alarm_set"}
    utterances = [
        ("明天七点提醒我", "[date : 明天] [time : 七点] 提醒我"),
        ("提醒我 明天", "提醒我[date : 明天]"),
    ]
    path = write_lines(
        tmp_path / "zh-CN.jsonl",
        [{**about, "utt": text, "annot_utt": annotated} for text, annotated in utterances],
    )

    rows, made = converted(path)

    assert made.refused_count == 0
    assert [row["text"] for row in rows["train"]] == [text for text, _ in utterances]
    assert [[*texts_of(row)] for row in rows["train"]] == [
        [("date", "明天"), ("time", "七点")],
        [("date", "明天")],
    ]


@pytest.mark.parametrize("column", ["slot-labels", "slot_labels"])
def test_multiatis_spells_its_column_in_two_ways(tmp_path: Path, column: str) -> None:
    text = f"u_id\tutterance\t{column}\tintent\n7\tto Rome\tO B-toloc.city_name\tatis_flight\n"

    rows, _ = converted(write(tmp_path / "train_EN.tsv", text))

    (row,) = rows["train"]
    assert (row["words"], row["tags"]) == (["to", "Rome"], ["O", "B-toloc.city_name"])
    assert row["intent"] == "atis_flight"


def test_wit_rows_have_the_language_of_their_app(tmp_path: Path) -> None:
    source = tmp_path / "app"
    about = {"version": 20200513, "zip-command": "zip a.zip a/app.json", "name": "a", "lang": "es"}
    write(source / "app.json", about)
    write(source / "intents/greet.json", {"name": "greet", "entities": []})
    keyword = {"keyword": "Roma", "synonyms": ["Roma", "roma"]}
    city = {"name": "city", "roles": ["city"], "lookups": ["keywords"], "keywords": [keyword]}
    write(source / "entities/city.json", city)
    row = {"text": "hola", "entities": [], "traits": [], "intent": "greet"}
    write(source / "utterances/utterances-1.json", {"utterances": [row]})

    rows, made = converted(source)

    assert rows["train"] == [{"text": "hola", "intent": "greet", "entities": [], "lang": "es"}]
    assert made.synonyms == {"roma": "Roma"}
    assert kind_of(source / "app.json") == ("wit", "aside")


def test_wit_expressions_without_places_are_counted(tmp_path: Path) -> None:
    entities = [
        {"entity": "intent", "value": '"pay"'},
        {"entity": "mood", "value": '"happy"'},
        {"entity": "thing", "value": '"fine"', "start": 7, "end": 12},
    ]
    data = [{"text": "hello"}, {"text": "pay my fines", "entities": entities}]

    rows, made = converted(write(tmp_path / "expressions.json", {"data": data}))

    assert [row.get("intent") for row in rows["train"]] == [None, "pay"]
    assert [*texts_of(rows["train"][1])] == [("thing", "fines")]
    assert counts(made.left) == {"entity of the whole text": 1}


def test_snips_slots_without_text_get_values_in_turn(tmp_path: Path) -> None:
    source = tmp_path / "set"
    write(
        source / "book.yaml",
        """type: intent
name: book
slots:
  - name: to
    entity: city
  - name: day
    entity: snips/datetime
utterances:
  - fly to [to](Rome)
  - fly from [from:city] to [to] now
  - fly from [from]
  - "[to] please"
  - fly on [day]
""",
    )
    write(
        source / "city.yml", "type: entity\nname: city\nvalues:\n  - Oslo\n  - [Riga, (riga), R]\n"
    )

    rows, made = converted(source)

    assert [(row["text"], [*texts_of(row)]) for row in rows["train"]] == [
        ("fly to Rome", [("to", "Rome")]),
        ("fly from Rome to Oslo now", [("from", "Rome"), ("to", "Oslo")]),
        ("fly from Riga", [("from", "Riga")]),
        ("R please", [("to", "R")]),
    ]
    assert made.left["utterance whose slot has no text, filled with values"]["count"] == 3
    assert made.left["utterance whose slot has no text or values"] == {
        "count": 1,
        "places": ["book.yaml: row 13"],
    }


def test_luis_counts_nested_children_and_older_phrase_lists(tmp_path: Path) -> None:
    inner = {"entity": "Topping", "startPos": 2, "endPos": 7, "children": []}
    pizza = {"entity": "Pizza", "startPos": 0, "endPos": 13, "children": [inner, inner]}
    order = {"entity": "Order", "startPos": 0, "endPos": 13, "children": [pizza]}
    content = {
        "luis_schema_version": "3.2.0",
        "culture": "en-us",
        "model_features": [{"name": "sizes", "mode": True, "words": "a,b", "activated": True}],
        "utterances": [{"text": "a cheese pizza", "intent": "order", "entities": [order]}],
    }

    rows, made = converted(write(tmp_path / "app.json", content))

    assert [*texts_of(rows["train"][0])] == [("Order", "a cheese pizza")]
    assert counts(made.left) == {"phrase list": 1, "child of an entity": 3}


def test_dialogflow_cx_counts_regular_expressions(tmp_path: Path) -> None:
    source = tmp_path / "agent"
    dialogflow_cx(source, base_rows())
    about = {"name": "0-2", "displayName": "code", "kind": "KIND_REGEXP"}
    write(source / "entityTypes/code/code.json", about)
    entry = {"value": "[A-Z]{5}", "synonyms": ["[A-Z]{5}"], "languageCode": "en"}
    write(source / "entityTypes/code/entities/en.json", {"entities": [entry]})
    city = {"name": "0-3", "displayName": "city", "kind": "KIND_MAP"}
    write(source / "entityTypes/city/city.json", city)

    rows, made = converted(source)

    assert len(rows["train"]) == len(base_rows()) and made.synonyms == {}
    assert made.left == {
        "regex": {"count": 1, "places": ["entityTypes/code/code.json: code"]},
    }


def test_hugging_face_rows_chosen_by_indices_are_an_error(tmp_path: Path) -> None:
    source = tmp_path / "set"
    TAGS["hugging_face"](source, base_rows())
    (source / "train/data-00000-of-00001.arrow").rename(source / "train/dataset.arrow")
    indices = pyarrow.table({"indices": pyarrow.array([0, 2], pyarrow.uint64())})
    path = source / "train/indices.arrow"
    with (
        pyarrow.OSFile(str(path), "wb") as sink,
        pyarrow.ipc.new_stream(sink, indices.schema) as out,
    ):
        out.write_table(indices)
    state = {
        "_data_files": [{"filename": "dataset.arrow"}],
        "_indices_data_files": [{"filename": "indices.arrow"}],
    }
    write(source / "train/state.json", state)

    with pytest.raises(DataError, match=r"only some rows of dataset.arrow .*flatten_indices"):
        convert(source, tmp_path / "out")

    write(source / "train/state.json", {**state, "_indices_data_files": None})
    assert len(converted(source)[0]["train"]) == len(base_rows())
