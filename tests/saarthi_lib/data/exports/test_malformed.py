"""Damaged and hostile exports: errors and refused rows name file, place and remedy."""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.conversion import convert
from saarthi_lib.data.detect import with_task
from saarthi_lib.data.read import read_table
from saarthi_lib.errors import DataError
from tests.conftest import reading
from tests.saarthi_lib.data.exports.writers import write, write_lines

GOOD = "    - good\n"
NLU = "nlu:\n- intent: a\n  examples: |\n"


def refused(path: Path, **options: Any) -> list[str]:
    """The refused rows of a conversion."""
    return convert(path, path.parent / "out", **options).refused


def error_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        convert(path, path.parent / "out")
    assert not (path.parent / "out").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("    - go to [Rome](city\n", "the markup near"),
        ("    - go to [Rome]{city}\n", "is not JSON"),
        ('    - go to [Rome]{"role": "to"}\n', 'names no "entity"'),
        ("    - go to [[Rome](city)\n", "nested or escaped brackets"),
        ("    - go to \\[Rome](city)\n", "nested or escaped brackets"),
        ("    go to Rome\n", "does not begin with '-'"),
        ('    - [a][{"entity": "x"}, {"entity": "y"}]\n', "has 2 entities for one text"),
    ],
)
def test_rasa_row_that_is_not_certain_is_refused(tmp_path: Path, line: str, reason: str) -> None:
    (found,) = refused(write(tmp_path / "nlu.yml", NLU + GOOD + line))

    assert found.startswith("nlu.yml: row 5: ") and reason in found


def test_plain_brackets_stay_text(tmp_path: Path) -> None:
    source = write(tmp_path / "nlu.yml", NLU + "    - press [enter] (now)\n")
    convert(source, tmp_path / "out")

    row = json.loads((tmp_path / "out/train.jsonl").read_text(encoding="utf-8"))

    assert row["text"] == "press [enter] (now)" and row["entities"] == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (NLU + "  - bad: [\n", "row 4: cannot be read as YAML"),
        ("a: &x [1]\nnlu:\n- intent: *x\n", "row 3: the YAML alias *x is not supported"),
        ("nlu: " + "[" * 100 + "]" * 100, "row 1: is nested more than 50 levels deep"),
        (
            "nlu:\n- intent: a\n  examples: !!python/object/apply:os.system [ls]\n",
            "row 3: the YAML tag",
        ),
    ],
)
def test_hostile_yaml_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    found = error_of(write(tmp_path / "nlu.yml", content))

    assert str(tmp_path / "nlu.yml") in found and reason in found


def test_file_that_is_not_utf8_names_its_row(tmp_path: Path) -> None:
    path = tmp_path / "nlu.md"
    path.write_bytes(b"## intent:a\n- caf\xe9\n")

    assert "row 2: is not UTF-8" in error_of(path)


def _clu(**utterance: Any) -> Any:
    good = {"text": "good", "intent": "a", "entities": []}
    return {"assets": {"utterances": [good, {"text": "go to Rome", "intent": "a", **utterance}]}}


def _task(**value: Any) -> Any:
    labels = {"type": "labels", "from_name": "l", "value": {"start": 6, "end": 10, **value}}
    good = {"data": {"text": "good"}, "annotations": [{"result": []}]}
    return [good, {"data": {"text": "go to Rome"}, "annotations": [{"result": [labels]}]}]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_clu(entities=[{"category": "c", "offset": 6, "length": 9}]), "lies outside the text"),
        (_clu(entities=[{"category": "c", "offset": "6", "length": 4}]), "no valid offsets"),
        (_clu(entities=[{"category": "", "offset": 6, "length": 4}]), "has the label ''"),
        (_clu(dataset="Validate"), "the dataset 'Validate' is not Train or Test"),
        (_clu(text=None), "has no text"),
        (_task(text="Roma", labels=["c"]), "is 'Rome' in the text, but 'Roma' in the export"),
        (_task(text="Rome", labels=["c", "d"]), "has the labels ['c', 'd']"),
        (_task(text="Rome", labels=[]), "has the labels []"),
    ],
)
def test_wrong_row_is_refused_with_its_place(tmp_path: Path, content: Any, reason: str) -> None:
    path = write(tmp_path / "export.json", content)

    (found,) = refused(path)

    assert found.startswith("export.json: row ") and reason in found


def test_training_refuses_the_same_rows(tmp_path: Path) -> None:
    entity = {"category": "c", "offset": 6, "length": 9}
    path = write(tmp_path / "export.json", _clu(entities=[entity]))

    with pytest.raises(DataError, match=r"row 2: the entity 'c' \(6, 15\) lies outside"):
        read_table(path, reading("joint"))
    table = read_table(path, reading("joint", max_malformed_share=0.9))

    assert list(table["text"]) == ["good"]


def test_empty_label_or_text_is_refused(tmp_path: Path) -> None:
    empty = (
        '    - " "\n- intent:\n  examples: |\n    - hi\n- intent: b\n  examples:\n  - text: ""\n'
    )

    found = refused(write(tmp_path / "nlu.yml", NLU + GOOD + empty))

    assert [each.partition(": the ")[2] for each in found] == [
        *("label is empty; fill it in", "text is empty; fill it in"),
    ]


def test_folded_examples_are_refused(tmp_path: Path) -> None:
    folded = "- intent: b\n  examples: >\n    - one\n    - two\n"

    (found,) = refused(write(tmp_path / "nlu.yml", NLU + GOOD + folded))

    assert "write 'examples: |'" in found


def test_overlapping_entities_are_refused(tmp_path: Path) -> None:
    entities = [{"category": name, "offset": at, "length": 4} for name, at in (("c", 3), ("d", 6))]

    (found,) = refused(write(tmp_path / "e.json", _clu(entities=entities)))

    assert "the entities 'c' and 'd' overlap at 6" in found


def test_offsets_in_text_elements_are_refused(tmp_path: Path) -> None:
    entity = {"category": "c", "offset": 3, "length": 4}
    content = {**_clu(text="é Rome", entities=[entity]), "stringIndexType": "TextElements_v8"}

    (found,) = refused(write(tmp_path / "e.json", content))

    assert "export again with Utf16CodeUnit" in found


def test_offset_inside_a_character_is_refused(tmp_path: Path) -> None:
    entity = {"category": "c", "offset": 1, "length": 4}

    (found,) = refused(write(tmp_path / "e.json", _clu(text="😀 Rome", entities=[entity])))

    assert "lies outside the text" in found


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"utt": "to Rome", "annot_utt": "to [city : Roma]", "partition": "train"}, "annot_utt is"),
        ({"utt": "to Rome", "annot_utt": "to Rome", "partition": "held"}, "the partition 'held'"),
    ],
)
def test_massive_row_that_disagrees_is_refused(tmp_path: Path, row: Any, reason: str) -> None:
    good = {"utt": "good", "annot_utt": "good", "partition": "train", "intent": "a"}
    path = write_lines(tmp_path / "en-US.jsonl", [good, {"intent": "a", **row}])

    (found,) = refused(path)

    assert found.startswith("en-US.jsonl: row 2: ") and reason in found


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "a.tsv",
            "id\tutterance\tslot_labels\tintent\n1\ta b\tO\tx\n2\ta\tO\tx\n",
            "2 words but 1",
        ),
        ("a.tsv", "id\tutterance\tslot_labels\tintent\n1\ta\tO\n2\ta\tO\tx\n", "has 3 cells where"),
        ("a.iob", "BOS a EOS\tO O x\nBOS b EOS\tO O y\nBOS c EOS\tO y\n", "a tag for each word"),
        ("a.txt", "a O\nx\n\n" * 5 + "d O O\nx\n", "the intent in the last line"),
        ("a.txt", "__label__x a\nb\n", "does not begin with __label__"),
        ("a.csv", "id,text,label,Comments\n1,a,x#y,[]\n2,b,x,[]\n", "joined by '#'"),
    ],
)
def test_wrong_line_of_a_table_is_refused(
    tmp_path: Path, name: str, content: str, reason: str
) -> None:
    (found,) = refused(write(tmp_path / name, content))

    assert found.startswith(f"{name}: row ") and reason in found


def write_stream(path: Path, rows: list[Any]) -> None:
    table = pyarrow.Table.from_pylist(rows)
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)


def test_several_choices_need_a_setting(tmp_path: Path) -> None:
    results = [
        {"type": "choices", "from_name": name, "value": {"choices": [name.upper()]}}
        for name in ("topic_a", "topic_b")
    ]
    task = {"data": {"text": "t"}, "annotations": [{"result": results}]}
    path = write(tmp_path / "tasks.json", [task])

    assert "set label_column to one" in error_of(path)
    from saarthi_lib.data.formats import Columns

    made = convert(path, tmp_path / "out", Columns(label="topic_b"))
    assert made.rows == {"train": 1} and made.left["result of the type choices"]["count"] == 1


def test_two_tag_columns_need_a_setting(tmp_path: Path) -> None:
    names = {"feature": {"names": ["O", "B-x"], "_type": "ClassLabel"}, "_type": "Sequence"}
    write(tmp_path / "set/dataset_info.json", {"features": {"ner_tags": names, "pos_tags": names}})
    row = {"tokens": ["a"], "ner_tags": [0], "pos_tags": [1]}
    write_stream(tmp_path / "set/data-00000-of-00001.arrow", [row])

    found = error_of(tmp_path / "set")

    assert "has the tags 'ner_tags' and 'pos_tags'; set label_column to one" in found


def test_number_that_is_not_a_class_is_refused(tmp_path: Path) -> None:
    label = {"names": ["x"], "_type": "ClassLabel"}
    write(tmp_path / "set/dataset_info.json", {"features": {"label": label}})
    rows = [{"text": "a", "label": 0}, {"text": "b", "label": 7}]
    write_stream(tmp_path / "set/data-00000-of-00001.arrow", rows)

    (found,) = refused(tmp_path / "set")

    assert "arrow: row 2: label: the class 7 is not one of 0 to 0" in found


def test_two_exports_in_one_folder_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "bot/nlu.yml", NLU + GOOD)
    write(tmp_path / "bot/project.json", _clu())

    found = error_of(tmp_path / "bot")

    assert "has exports of Rasa (nlu.yml) and CLU or LUIS (project.json)" in found


def test_spacy_file_without_spacy_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)

    assert "needs the package spacy" in error_of(write(tmp_path / "train.spacy", "x"))


def test_damaged_arrow_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "set/state.json", {})
    (tmp_path / "set/data-00000-of-00001.arrow").write_bytes(b"not arrow")

    assert "data-00000-of-00001.arrow: row 1: cannot be read" in error_of(tmp_path / "set")


@pytest.mark.parametrize(
    "content",
    [
        {"luis_schema_version": "7", "utterances": [1], "closedLists": 3},
        {"assets": {"utterances": [{"text": "a", "entities": 1}]}},
        {"rasa_nlu_data": {"common_examples": [1, {"text": "a", "entities": [3]}]}},
        {"trainingPhrases": [{"parts": [{"text": 3}]}, 5]},
        {"intents": {"a": {"utterances": [3, {"data": [{}]}]}}, "entities": {"b": 3}},
        {"utterances": [{"text": "a", "entities": [5]}]},
        [{"data": [{"text": 4}], "count": 0}],
        [{"paragraphs": [{"sentences": [{"tokens": [{}]}]}]}],
        [{"data": {"text": 1}, "annotations": [{"result": [{"type": "labels"}]}]}],
    ],
)
def test_wrong_types_are_errors_that_name_the_file(tmp_path: Path, content: Any) -> None:
    assert "export.json" in error_of(write(tmp_path / "export.json", content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nlu.yml", NLU + GOOD + NLU + GOOD, "row 5: the key 'nlu' occurs twice"),
        ("nlu.yml", NLU + GOOD + "  examples: x\n", "row 5: the key 'examples' occurs twice"),
        (
            "snips.json",
            '{"intents": {"a": {"utterances": []}, "a": {"utterances": []}}, "entities": {}}',
            "the key 'a' occurs twice",
        ),
    ],
)
def test_key_that_occurs_twice_hides_no_rows(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    assert message in error_of(write(tmp_path / name, content))


def test_rasa_section_that_is_no_list_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "bot/a.yml", NLU + GOOD)
    write(tmp_path / "bot/b.yml", "nlu:\n  intent: b\n  examples: |\n    - lost\n")

    assert refused(tmp_path / "bot") == [
        "b.yml: row 2: 'nlu:' holds no list; begin each of its items with '- intent:'"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ol\xe9".encode("latin-1"), "row 4: is not UTF-8, but probably Windows-1252"),
        (b"a\x07b", "row 4: has a control character"),
    ],
)
def test_bytes_that_yaml_lacks_are_named_by_row(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "nlu.yml"
    path.write_bytes(f"{NLU}    - ".encode() + content + b"\n")

    assert message in error_of(path)


def test_hugging_face_rows_in_other_files_are_not_lost(tmp_path: Path) -> None:
    folder = tmp_path / "set/train"
    folder.mkdir(parents=True)
    write_stream(folder / "data-0.arrow", [{"text": "a", "label": "x"}])
    files = [{"filename": "data-0.arrow"}, {"filename": "data-1.arrow"}]
    write(folder / "state.json", {"_data_files": files})
    assert "lists data-1.arrow, which is missing (1 of 2 files are)" in error_of(tmp_path / "set")

    indices = [{"filename": "indices.arrow"}]
    write(folder / "state.json", {"_data_files": files[:1], "_indices_files": indices})
    assert "call flatten_indices()" in error_of(tmp_path / "set")


def test_export_without_a_usable_row_names_the_reason(tmp_path: Path) -> None:
    utterance = {"text": "x", "intent": "a", "entities": [{"offset": 0, "length": 9}]}
    write(tmp_path / "p.json", {"assets": {"utterances": [utterance]}})

    with pytest.raises(DataError, match="no row can be taken over; the first, in row 1: an entity"):
        with_task(TrainConfig.from_mapping({"input_path": str(tmp_path)}))
