"""Exports of other tools, read to rows exactly, directly and by `saarthi convert`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.conversion import Conversion, convert
from saarthi_lib.data.detect import with_task
from saarthi_lib.data.exports.registry import kind_of
from saarthi_lib.data.formats import Columns, recognize
from saarthi_lib.data.gather import gather
from saarthi_lib.data.read import find_splits, read_table
from saarthi_lib.errors import DataError
from tests.conftest import reading
from tests.saarthi_lib.data.exports.writers import (
    LABELS,
    SPANS,
    TAGS,
    Row,
    Writer,
    base_rows,
    germeval,
    lex,
    tags_of,
    write,
    write_lines,
)


def converted(source: Path, **options: Any) -> tuple[dict[str, list[Row]], Conversion]:
    """Rows by split without their languages, and the report."""
    out = source.parent / f"{source.name}-converted"
    made = convert(source, out, **options)
    rows = {}
    for path in sorted(out.glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()
        rows[path.stem] = [json.loads(line) for line in lines]
    return rows, made


def plain(rows: list[Row]) -> list[Row]:
    """Rows in the order of their texts, without languages."""
    bare = [{k: v for k, v in row.items() if k != "lang"} for row in rows]
    return sorted(bare, key=lambda row: str(row["text"]))


def read_directly(source: Path, task: str, split: str = "train") -> pd.DataFrame:
    config = reading(task)
    files = find_splits(source)[split]
    return pd.concat([read_table(file, config, root=source) for file in files], ignore_index=True)


@pytest.mark.parametrize("writer", SPANS.values(), ids=SPANS.keys())
def test_intents_and_entities_are_read_exactly(tmp_path: Path, writer: Writer) -> None:
    source = tmp_path / "export"
    writer(source, base_rows())

    rows, made = converted(source)

    assert {split: plain(found) for split, found in rows.items()} == {"train": plain(base_rows())}
    assert made.refused_count == 0


@pytest.mark.parametrize("writer", TAGS.values(), ids=TAGS.keys())
def test_intents_and_tags_are_read_exactly(tmp_path: Path, writer: Writer) -> None:
    source = tmp_path / "export"
    writer(source, base_rows())

    rows, _ = converted(source)

    assert [(row["words"], row["tags"], row["intent"]) for row in rows["train"]] == [
        (*tags_of(row), row["intent"]) for row in base_rows()
    ]


@pytest.mark.parametrize("writer", LABELS.values(), ids=LABELS.keys())
def test_labels_are_read_exactly(tmp_path: Path, writer: Writer) -> None:
    source = tmp_path / "export"
    writer(source, base_rows())

    rows, _ = converted(source)

    expected = [{**row, "entities": []} for row in base_rows()]
    assert {split: plain(found) for split, found in rows.items()} == {"train": plain(expected)}


def test_germeval_reads_outer_tags_and_counts_inner_ones(tmp_path: Path) -> None:
    source = tmp_path / "export"
    germeval(source, base_rows())
    path = source / "NER-de-train.tsv"
    path.write_text(path.read_text().replace("\tRome\tB-city\tO", "\tRome\tB-city\tB-town"))

    rows, made = converted(source)

    assert [(row["words"], row["tags"]) for row in rows["train"]] == [*map(tags_of, base_rows())]
    assert made.left["inner tag"] == {"count": 1, "places": ["NER-de-train.tsv: row 4"]}


def test_lex_fills_slots_with_values_of_their_type(tmp_path: Path) -> None:
    source = tmp_path / "export"
    lex(source, base_rows())
    intent = {"name": "when", "sampleUtterances": [{"utterance": "at {time}"}]}
    when = source / "Bot/BotLocales/en_US/Intents/when"
    write(when / "Intent.json", intent)
    write(when / "Slots/time/Slot.json", {"name": "time", "slotTypeName": "AMAZON.Time"})

    rows, made = converted(source)

    filled = [row for row in rows["train"] if row["intent"] == "book"]
    assert len(filled) == 9 and not any("{" in row["text"] for row in filled)
    for row in filled:
        (span,) = row["entities"]
        assert row["text"][span["start"] : span["end"]] in {"Rome", "Oslo", "New Delhi"} | {
            *("Cairo", "Lima", "São Paulo", "Quito", "Riga")
        }
        assert row["lang"] == "en-US"
    assert made.left["utterance whose slot has a built-in type or no values"]["count"] == 1


@pytest.mark.parametrize("writer", [*SPANS.values(), *TAGS.values()], ids=[*SPANS, *TAGS])
def test_training_reads_the_same_rows_directly(tmp_path: Path, writer: Writer) -> None:
    source = tmp_path / "export"
    writer(source, base_rows())
    config = with_task(TrainConfig.from_mapping({"input_path": str(source)}))

    table = read_directly(source, "joint")

    assert config.task == "joint"
    assert sorted(zip(table["text"], table["label"], strict=True)) == sorted(
        (row["text"], row["intent"]) for row in base_rows()
    )
    tags = {text: list(found) for text, found in zip(table["text"], table["tags"], strict=True)}
    assert tags == {row["text"]: tags_of(row)[1] for row in base_rows()}


def test_single_file_is_an_input_path(tmp_path: Path) -> None:
    SPANS["clu"](tmp_path, base_rows())
    source = str(tmp_path / "project.json")
    config = with_task(TrainConfig.from_mapping({"input_path": source}))

    found = gather(tmp_path / "project.json", config)

    assert sum(map(len, found.tables.values())) == len(base_rows())
    assert set(found.tables["train"]["file"]) == {"project.json"}


def test_rows_keep_the_split_that_the_export_names(tmp_path: Path) -> None:
    source = tmp_path / "export"
    SPANS["clu"](source, base_rows())
    path = source / "project.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["assets"]["utterances"][0]["dataset"] = "Test"
    path.write_text(json.dumps(content), encoding="utf-8")

    rows, _ = converted(source)

    assert plain(rows["test"]) == [base_rows()[0]]
    assert plain(rows["train"]) == plain(base_rows()[1:])
    assert list(read_directly(source, "joint", "test")["text"]) == ["fly to Rome today"]
    assert len(read_directly(source, "joint")) == len(base_rows()) - 1


def test_massive_partitions_and_locales_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "export"
    SPANS["massive"](source, base_rows())
    path = source / "en-US.jsonl"
    dev = path.read_text(encoding="utf-8").replace('"train"', '"dev"').replace("en-US", "hi-IN")
    (source / "hi-IN.jsonl").write_text(dev, encoding="utf-8")

    assert len(find_splits(source)["validation"]) == 1
    assert set(read_directly(source, "joint")["lang"]) == {"english"}
    assert set(read_directly(source, "joint", "validation")["lang"]) == {"hindi"}


def test_rasa_synonyms_roles_and_lookups(tmp_path: Path) -> None:
    source = tmp_path / "bot"
    write(
        source / "data/nlu.yml",
        """version: "3.1"
nlu:
- intent: book
  examples: |
    - from [NYC]{"entity": "city", "role": "from", "value": "New York"} now
    - to [big apple](city:New York)
- intent: faq/ask_name
  examples:
  - text: |
      who are you
    metadata:
      sentiment: neutral
- synonym: New York
  examples: |
    - gotham
- regex: zip
  examples: |
    - [0-9]{5}
- lookup: country
  examples: |
    - Peru
responses:
  utter_faq/ask_name:
  - text: a bot
""",
    )

    rows, made = converted(source)

    assert rows["train"][0] == {
        "text": "from NYC now",
        "intent": "book",
        "entities": [{"start": 5, "end": 8, "label": "city", "role": "from", "value": "New York"}],
    }
    assert rows["train"][2]["intent"] == "faq/ask_name"
    assert made.synonyms == {"NYC": "New York", "big apple": "New York", "gotham": "New York"}
    left = {kind: found["places"] for kind, found in made.left.items()}
    assert left == {
        "role of an entity": ["data/nlu.yml: row 5"],
        "metadata": ["data/nlu.yml: row 12"],
        "regex": ["data/nlu.yml: row 16 (zip)"],
        "lookup table": ["data/nlu.yml: row 19 (country)"],
        "Rasa responses": ["data/nlu.yml: row 23"],
    }
    transfer = (tmp_path / "bot-converted/transfer.txt").read_text(encoding="utf-8").splitlines()
    assert "from gotham now" in transfer and "to New York" in transfer
    assert "from NYC now" not in transfer


def test_synonyms_of_training_rows_become_transfer_text(tmp_path: Path) -> None:
    from saarthi_lib.data.preprocess.transfer import synonym_rows

    source = tmp_path / "bot"
    SPANS["rasa"](source, base_rows())
    with (source / "data/nlu.yml").open("a", encoding="utf-8") as file:
        listed = "".join(
            f"- synonym: {r['text'][7:-6]}\n  examples: |\n    - The {r['text'][7:]}\n"
            for r in base_rows()
            if r["intent"] == "book"
        )
        file.write(listed.replace(" today\n", " place\n"))
    config = reading("joint", input_path=str(source))
    found = gather(source, config)

    (table,) = synonym_rows(found, config, source)

    trained = {text for text in found.tables["train"]["text"] if text.startswith("fly")}
    assert len(found.tables["test"]) and set(table["text"]) == {
        f"fly to The {text[7:-6]} place today" for text in trained
    }


def test_label_studio_counts_and_refuses(tmp_path: Path) -> None:
    choice = {"type": "choices", "from_name": "c"}

    def annotation(label: str, **more: Any) -> Row:
        return {"result": [{**choice, "value": {"choices": [label]}}], **more}

    tasks = [
        [annotation("a"), annotation("b", was_cancelled=True)],
        [annotation("a"), annotation("a")],
        [annotation("a"), annotation("b")],
        [annotation("a"), annotation("b", ground_truth=True)],
        [{"result": [{**choice, "value": {"choices": ["a", "b"]}}]}],
        [],
        [annotation("a", was_cancelled=True)],
    ]
    source = write(
        tmp_path / "tasks.json",
        [
            {"id": at, "data": {"text": f"t{at}"}, "annotations": each, "predictions": [{}]}
            for at, each in enumerate(tasks)
        ],
    )

    rows, made = converted(source)

    assert [(row["text"], row["intent"]) for row in rows["train"]] == [
        *(("t0", "a"), ("t1", "a"), ("t3", "b")),
    ]
    assert {kind: found["count"] for kind, found in made.left.items()} == {
        "prediction": 7,
        "cancelled annotation": 2,
        "equal annotation of a task": 1,
        "annotation beside the ground truth": 1,
        "task without an annotation": 1,
    }
    assert made.refused == [
        "tasks.json: row 3: 2 annotations differ; keep one, or mark one as the ground truth",
        "tasks.json: row 5: the row has 2 labels, ['a', 'b']; give one label",
    ]


def test_prodigy_takes_accepted_answers_unless_asked(tmp_path: Path) -> None:
    answers = ("accept", "reject", "ignore")
    source = write_lines(
        tmp_path / "db.jsonl",
        [{"text": a, "label": "x", "answer": a, "_task_hash": 1} for a in answers],
    )

    rows, made = converted(source)

    assert [row["text"] for row in rows["train"]] == ["accept"]
    assert {kind: found["count"] for kind, found in made.left.items()} == {
        "example with the answer reject": 1,
        "example with the answer ignore": 1,
    }
    out = tmp_path / "all"
    assert convert(source, out, all_answers=True).rows == {"train": 3}


def test_offsets_in_utf16_units_are_converted(tmp_path: Path) -> None:
    text = "😀 fly to Rome"
    utterance: Row = {"text": text, "intent": "a"}
    utterance["entities"] = [{"category": "city", "offset": 10, "length": 4}]
    content = {"stringIndexType": "Utf16CodeUnit", "assets": {"utterances": [utterance]}}

    rows, _ = converted(write(tmp_path / "clu.json", content))

    (span,) = rows["train"][0]["entities"]
    assert text[span["start"] : span["end"]] == "Rome"


def test_rasa_markdown_counts_lines_outside_sections(tmp_path: Path) -> None:
    text = "- [intent:a](#a)\n\n# intent:a\n- one\n<!-- - no -->\n## other\n- two\n"
    text += "## intent:b\n* three\n"

    rows, made = converted(write(tmp_path / "nlu.md", text))

    assert [(row["text"], row["intent"]) for row in rows["train"]] == [("one", "a"), ("three", "b")]
    assert made.left["line outside a section"]["places"] == ["nlu.md: row 1", "nlu.md: row 7"]


def test_older_wit_exports_name_the_intent_among_entities(tmp_path: Path) -> None:
    entities = [
        {"entity": "location", "value": '"oslo"', "role": "to", "start": 7, "end": 11},
        {"entity": "intent", "value": '"book"', "start": 0, "end": 11},
    ]
    content = {"data": [{"text": "fly to oslo", "entities": entities}]}

    rows, made = converted(write(tmp_path / "wit.json", content))

    span = {"start": 7, "end": 11, "label": "location", "role": "to"}
    assert rows["train"] == [{"text": "fly to oslo", "intent": "book", "entities": [span]}]
    assert made.left["role of an entity"]["count"] == 1


@pytest.mark.parametrize("named", [True, False])
def test_answers_of_the_api_of_wit_are_read(tmp_path: Path, named: bool) -> None:
    name = {"name": "city", "role": "to"} if named else {"entity": "city:to"}
    span = {**name, "start": 3, "end": 7, "body": "Oslo", "confidence": 1, "entities": []}
    rows_of_api = [
        {"text": "to Oslo", "intent": {"id": "1", "name": "go"}, "entities": [span], "traits": []},
        {"text": "bye", "intent": "bye", "entities": [], "traits": []},
    ]

    rows, made = converted(write(tmp_path / "utterances.json", rows_of_api))

    city = {"start": 3, "end": 7, "label": "city", "role": "to"}
    assert rows["train"] == [
        {"text": "to Oslo", "intent": "go", "entities": [city]},
        {"text": "bye", "intent": "bye", "entities": []},
    ]
    assert made.export == "wit"


def test_luis_counts_children_and_keeps_closed_lists(tmp_path: Path) -> None:
    found = {"entity": "city", "startPos": 0, "endPos": 3, "children": [{}], "role": "to"}
    content = {
        "luis_schema_version": "7.0.0",
        "culture": "en-us",
        "closedLists": [{"name": "c", "subLists": [{"canonicalForm": "Rome", "list": ["Roma"]}]}],
        "patterns": [{"pattern": "to {city}", "intent": "a"}],
        "utterances": [{"text": "Rome", "intent": "a", "entities": [found]}],
    }

    rows, made = converted(write(tmp_path / "luis.json", content))

    span = {"start": 0, "end": 4, "label": "city", "role": "to"}
    assert rows["train"] == [
        {"text": "Rome", "intent": "a", "entities": [span], "lang": "en-us"},
    ]
    assert made.synonyms == {"Roma": "Rome"} and made.transfer == 1
    assert {*made.left} == {"pattern", "child of an entity", "role of an entity"}


def test_dialogflow_entries_are_synonyms(tmp_path: Path) -> None:
    source = tmp_path / "agent"
    SPANS["dialogflow_es"](source, base_rows())
    write(source / "entities/city.json", {"name": "city", "isOverridable": True, "isEnum": False})
    entries = [{"value": "Rome", "synonyms": ["Rome", "Roma"]}]
    write(source / "entities/city_entries_en.json", entries)

    _, made = converted(source)

    assert made.synonyms == {"Roma": "Rome"}
    assert made.left["Dialogflow responses"]["count"] == 2


def test_intents_named_like_splits_stay_in_train(tmp_path: Path) -> None:
    source = tmp_path / "agent"
    SPANS["dialogflow_es"](source, [{**row, "intent": "test"} for row in base_rows()])

    assert [*converted(source)[0]] == ["train"]


def test_files_with_synonyms_only_are_read(tmp_path: Path) -> None:
    source = tmp_path / "bot"
    SPANS["rasa"](source, base_rows())
    synonym = "nlu:\n- synonym: Rome\n  examples: |\n    - Roma\n"
    write(source / "data/synonyms.yml", synonym)

    _, made = converted(source)
    carried = gather(source, reading("joint", input_path=str(source))).carried

    assert made.synonyms == carried.synonyms == {"Roma": "Rome"}


def test_next_to_a_train_file_unnamed_exports_are_ignored(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [{"text": "a", "label": "x"}])
    SPANS["rasa"](tmp_path, base_rows())

    assert [file.path.name for file in find_splits(tmp_path)["train"]] == ["train.jsonl"]


def test_training_data_that_was_split_replaces_the_rest(tmp_path: Path) -> None:
    source = tmp_path / "bot"
    SPANS["rasa"](source, base_rows())
    for name in ("training_data", "test_data"):
        write(source / f"split/{name}.yml", "nlu:\n- intent: a\n  examples: |\n    - hi\n")

    found = find_splits(source)

    names = {split: [file.path.name for file in files] for split, files in found.items()}
    assert names == {"train": ["training_data.yml"], "test": ["test_data.yml"]}


def test_json_min_keeps_data_fields_apart_from_choices(tmp_path: Path) -> None:
    span = {"start": 0, "end": 4, "text": "Rome", "labels": ["city"]}
    about = {"annotation_id": 1, "lead_time": 1.0, "author": "ann"}
    tasks = [{**about, "id": at, "text": f"Rome {at}", "places": [span]} for at in range(3)]

    rows, _ = converted(write(tmp_path / "min.json", tasks))

    assert all("intent" not in row and row["entities"] for row in rows["train"])


def test_choices_about_parts_are_not_labels(tmp_path: Path) -> None:
    part = {"start": 0, "end": 1, "choices": ["sure"]}
    whole = {"choices": ["a"]}
    results = [{"type": "choices", "from_name": "c", "value": value} for value in (part, whole)]
    task = {"data": {"text": "t"}, "annotations": [{"result": results}]}

    rows, made = converted(write(tmp_path / "tasks.json", [task]))

    assert rows["train"][0]["intent"] == "a"
    assert made.left["choice about a part of the text"]["count"] == 1


def test_prodigy_answers_about_one_entity_are_counted(tmp_path: Path) -> None:
    about = {"_task_hash": 1, "answer": "accept"}
    rows = [{"text": "a", "_view_id": view, **about} for view in ("ner", "ner_manual")]

    found, made = converted(write_lines(tmp_path / "db.jsonl", rows))

    assert len(found["train"]) == 1
    assert made.left["answer about one entity of a text"]["count"] == 1


@pytest.mark.parametrize(("start", "end"), [(5, 9), (6, 10)])
def test_doccano_offsets_after_an_emoji_begin_at_words(
    tmp_path: Path, start: int, end: int
) -> None:
    row = {"id": 1, "text": "😀 to Rome", "label": [[start, end, "city"]], "Comments": []}

    rows, _ = converted(write_lines(tmp_path / "all.jsonl", [row]))

    (span,) = rows["train"][0]["entities"]
    assert (span["start"], span["end"]) == (5, 9)


def test_hugging_face_cache_and_unknown_splits_are_left_out(tmp_path: Path) -> None:
    source = tmp_path / "set"
    TAGS["hugging_face"](source, base_rows())
    (source / "train/cache-1.arrow").write_bytes(b"old")
    shutil.copytree(source / "train", source / "unsupervised")

    assert [f.path.parent.name for f in find_splits(source)["train"]] == ["train"]


def test_arrow_files_are_read_like_streams(tmp_path: Path) -> None:
    TAGS["hugging_face"](tmp_path / "set", base_rows())
    path = tmp_path / "set/train/data-00000-of-00001.arrow"
    with pyarrow.OSFile(str(path), "rb") as source:
        table = pyarrow.ipc.open_stream(source).read_all()
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)

    assert len(converted(tmp_path / "set")[0]["train"]) == len(base_rows())


def test_parquet_of_the_hub_has_names_of_classes(tmp_path: Path) -> None:
    features = {"label": {"names": ["World", "Sports"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.table({"text": ["a b", "c d", "e f"], "label": [0, 1, 1]})
    (tmp_path / "set").mkdir()
    for split in ("train", "test"):
        path = tmp_path / f"set/{split}-00000-of-00001.parquet"
        parquet.write_table(table.replace_schema_metadata(metadata), path)

    rows, _ = converted(tmp_path / "set")

    expected = ["World", "Sports", "Sports"]
    assert {s: [row.get("intent") for row in found] for s, found in rows.items()} == {
        "train": expected,
        "test": expected,
    }


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("train.jsonl", {"id": 1, "text": "a b", "entities": [[0, 1, "x"]], "intent": "y"}),
        ("train.jsonl", {"id": 1, "text": "a b", "label": "y", "lang": "hindi"}),
        ("train.jsonl", {"text": "a b", "entities": [{"start": 0, "end": 1, "label": "x"}]}),
        ("train.jsonl", {"id": 1, "tokens": ["a"], "ner_tags": ["O"], "label": ["y"]}),
        ("train.csv", "id,text,label\n1,a,x\n"),
        ("transfer.txt", "turn on\nlights off\nstop\n"),
        ("train.tsv", "a b\tx\nc d\ty\n"),
    ],
)
def test_canonical_rows_are_not_an_export(tmp_path: Path, name: str, row: Any) -> None:
    path = tmp_path / name
    write(path, row) if isinstance(row, str) else write_lines(path, [row])

    assert kind_of(path) == ("", "")


@pytest.mark.parametrize(
    ("writer", "labelled", "unlabelled"),
    [
        ("multiatis", "word-tags", "tsv"),
        ("massive", "massive", "jsonl"),
        ("doccano_csv", "doccano", "csv"),
        ("clu", "clu", "clu"),
        ("rasa_markdown", "rasa", "rasa"),
    ],
)
def test_texts_alone_are_read_from_exports_that_are_tables(
    tmp_path: Path, writer: str, labelled: str, unlabelled: str
) -> None:
    {**SPANS, **TAGS, **LABELS}[writer](tmp_path, base_rows())
    (path,) = tmp_path.iterdir()

    assert recognize(path, Columns()) == labelled
    assert recognize(path, Columns(labelled=False)) == unlabelled


def test_plain_conll_is_not_an_export(tmp_path: Path) -> None:
    framed = "BOS O\nRome B-city\nEOS O\n\nBOS O\na O\nEOS O\n"
    for text in (framed, "Rome B-city\n\nb O\n", "NOUN\n\nVERB\n", "a b c\nd\n"):
        assert kind_of(write(tmp_path / "train.conll", text)) == ("", "")


def test_other_data_are_converted_too(tmp_path: Path) -> None:
    write(tmp_path / "set/train.csv", "sentence,class,lang\na b,1,en\n,2,en\nc d,2,hi\n")
    write(tmp_path / "set/test.csv", "sentence,class,lang\ne f,1,en\n")
    write(tmp_path / "set/transfer.txt", "turn on\nlights off\n")

    rows, made = converted(tmp_path / "set")

    assert rows["train"] == [
        {"text": "a b", "intent": "1", "lang": "en"},
        {"text": "c d", "intent": "2", "lang": "hi"},
    ]
    assert [row["text"] for row in rows["transfer"]] == ["turn on", "lights off"]
    assert made.rows == {"train": 2, "test": 1, "transfer": 2}
    assert made.refused == ["train.csv: row 3: the text is empty; remove the row or fill it in"]


def test_conll_is_converted_with_its_tags(tmp_path: Path) -> None:
    path = write(tmp_path / "train.conll", "Rome\tB-city\nis\tO\n\nold\tO\n")

    rows, _ = converted(path)

    assert [(row["words"], row["tags"]) for row in rows["train"]] == [
        *((["Rome", "is"], ["B-city", "O"]), (["old"], ["O"])),
    ]


def test_tags_of_a_text_are_converted_as_tags(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", "text,ner_tags\nin Rome,\"['O', 'B-x']\"\nold,['O']\n")

    rows, made = converted(path)

    assert [row.get("tags") for row in rows["train"]] == [["O", "B-x"], ["O"]]
    assert made.carried["rows with tags of words"] == 2 and not made.carried["entities"]
    assert [[*tags] for tags in read_directly(tmp_path / "train.csv-converted", "ner")["tags"]] == [
        *(["O", "B-x"], ["O"]),
    ]


def test_plain_parquet_is_not_an_export(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": ["a"], "label": [0]}), tmp_path / "train.parquet")

    assert kind_of(tmp_path / "train.parquet") == ("", "")


SPACY = {"start": 3, "end": 7, "label": "city"}
SPACY_WORDS = [{"orth": "to"}, {"orth": "Oslo"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", {"text": "to Oslo", "ents": [SPACY], "cats": {"go": 1.0}, "tokens": []}),
        ("a.json", [{"text": "to Oslo", "ents": [SPACY], "cats": {"go": 1, "b": 0}, "sents": []}]),
        (
            "a.json",
            [
                {
                    "paragraphs": [
                        {
                            "sentences": [{"tokens": SPACY_WORDS}],
                            "entities": [[3, 7, "city"]],
                            "cats": [{"label": "go", "value": 1}],
                        }
                    ]
                }
            ],
        ),
    ],
)
def test_entities_beside_words_of_spacy_are_read(tmp_path: Path, name: str, content: Any) -> None:
    rows, made = converted(write(tmp_path / name, content))

    assert rows["train"] == [{"text": "to Oslo", "intent": "go", "entities": [SPACY]}]
    assert made.export == "spacy"


def test_rejected_rows_of_other_json_are_counted(tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 1, "label": "x"}]
    examples = [{"text": "a", "spans": spans, "answer": each} for each in ("accept", "reject")]

    rows, made = converted(write_lines(tmp_path / "train.jsonl", examples))

    assert len(rows["train"]) == 1
    assert made.left["row that an annotator rejected or ignored"] == {
        "count": 1,
        "places": ["train.jsonl: row 2"],
    }


def test_packed_export_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "agent.zip").write_bytes(b"PK")

    with pytest.raises(DataError, match=r"no train file \(found: agent.zip\); unpack agent.zip"):
        find_splits(tmp_path)


def test_export_in_utf16_is_named(tmp_path: Path) -> None:
    (tmp_path / "nlu.yml").write_text("nlu:\n- intent: a\n", encoding="utf-16")

    with pytest.raises(DataError, match=r"; save nlu.yml with the encoding UTF-8, or put in"):
        find_splits(tmp_path)


def test_spacy_binary_files_are_read(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    document = spacy.blank("en")("fly to Rome")
    document.ents = [document.char_span(7, 11, "city")]
    document.cats = {"book": 1.0, "greet": 0.0}

    pytest.importorskip("spacy.tokens").DocBin(docs=[document]).to_disk(tmp_path / "train.spacy")

    (row,) = converted(tmp_path / "train.spacy")[0]["train"]

    span = {"start": 7, "end": 11, "label": "city"}
    assert row == {"text": "fly to Rome", "intent": "book", "entities": [span]}


def test_hugging_face_missing_classes_have_no_label(tmp_path: Path) -> None:
    TAGS["hugging_face"](tmp_path / "set", base_rows())
    path = tmp_path / "set/train/data-00000-of-00001.arrow"
    with pyarrow.OSFile(str(path), "rb") as source:
        found = pyarrow.ipc.open_stream(source).read_all().to_pylist()
    table = pyarrow.Table.from_pylist([{**found[0], "intent": -1}, *found[1:]])
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)

    rows, made = converted(tmp_path / "set")

    assert "intent" not in rows["train"][0] and made.carried["rows without a label"] == 1


def test_folders_of_multiconer_are_all_read(tmp_path: Path) -> None:
    names = ("EN-English/en", "BN-Bangla/bn", "MIX_Code_mixed/mix", "MULTI_Multilingual/multi")
    for name in names:
        write(tmp_path / f"{name}_train.conll", "Rome _ _ B-LOC\nis _ _ O\n\n")
    write(tmp_path / "scripts/eval_train.conll", "a _ _ O\n\n")

    found = find_splits(tmp_path)

    assert [*found] == ["train"]
    assert [(file.path.name, file.language) for file in found["train"]] == [
        ("bn_train.conll", "bengali"),
        ("en_train.conll", "english"),
        ("mix_train.conll", ""),
        ("multi_train.conll", ""),
    ]
