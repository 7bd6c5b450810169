"""Columns that are not read are named in the log, in the check and in `data.json`."""

import logging
from pathlib import Path

import pytest

from saarthi_lib.data.preprocess.prepare import CHECK
from saarthi_lib.storage import read_json
from tests.conftest import write_jsonl
from tests.saarthi_lib.data.test_preprocess import prepared, rows


def test_unread_columns_are_named_by_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    lines = [f"{n},{row['text']},{row['label']},{row['lang']}," for n, row in enumerate(rows(0, 6))]
    header = "id,text,label,lang,notes"
    (folder / "train.csv").write_text("\n".join([header, *lines]), encoding="utf-8")
    test = [{**row, "ner_tags": None} for row in rows(6, 8)]
    write_jsonl(folder / "test.jsonl", [*test, {**test[0], "prediction": "x", "text": "a door"}])
    write_jsonl(folder / "validation.jsonl", rows(8, 9))
    transfer = "text,label\nopen the shed,open\nshut the shed,shut\n"
    (folder / "transfer.csv").write_text(transfer, encoding="utf-8")
    caplog.set_level(logging.INFO)

    found = prepared(tmp_path)

    named = {"test.jsonl": "ner_tags, prediction", "train.csv": "id, notes"}
    named["transfer.csv"] = "label"
    logged = [line for line in caplog.messages if "columns that are not read" in line]
    assert sorted(logged) == [
        f"{file}: columns that are not read: {names}" for file, names in named.items()
    ]
    notes = [
        each["message"].partition(";")[0]
        for each in read_json(found.folder / CHECK)["findings"]
        if each["check"] == "unread-columns"
    ]
    assert sorted(notes) == sorted(logged)
    left = found.summary["not_carried_over"]
    assert left["column id"] == {"count": 1, "places": ["train.csv"]}
    assert left["column prediction"] == {"count": 1, "places": ["test.jsonl"]}
    assert {*left} == {f"column {n}" for n in ("id", "notes", "ner_tags", "prediction", "label")}


def test_columns_that_a_field_names_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", [{**r, "who": n % 9} for n, r in enumerate(rows())])

    found = prepared(tmp_path, group_column="who")

    assert found.summary["not_carried_over"] == {}
