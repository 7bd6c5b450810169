"""Parts of exports that their tools' sources show: read, or named in the report."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.conversion import carried_over
from saarthi_lib.data.detect import with_task
from saarthi_lib.data.exports.registry import kind_of
from saarthi_lib.data.formats import Columns, recognize
from saarthi_lib.data.gather import gather
from saarthi_lib.data.read import find_splits
from saarthi_lib.data.read.entities import BadEntityError, canonical_entities
from saarthi_lib.errors import DataError
from tests.saarthi_lib.data.exports.test_exports import converted
from tests.saarthi_lib.data.exports.writers import (
    base_rows,
    label_studio_csv,
    lex_v1,
    ner_annotator,
    write,
    write_lines,
)

MIN = {"annotator": 1, "annotation_id": 1, "created_at": "", "updated_at": "", "lead_time": 2.5}


def task(text: str, *results: dict[str, Any]) -> dict[str, Any]:
    """A task of Label Studio with one annotation."""
    return {"id": 1, "data": {"text": text}, "annotations": [{"id": 1, "result": [*results]}]}


def choice(name: str) -> dict[str, Any]:
    return {"type": "choices", "from_name": "intent", "value": {"choices": [name]}}


def hypertext(start: int, end: int, covered: str) -> dict[str, Any]:
    """An entity as the tag HyperTextLabels gives it."""
    value = {"start": "/text()[1]", "end": "/text()[1]", "text": covered}
    places = {"startOffset": start, "endOffset": end, "hypertextlabels": ["city"]}
    return {"type": "hypertextlabels", "from_name": "ner", "value": {**value, **places}}


def test_lex_v1_fills_slots_and_counts_the_rest(tmp_path: Path) -> None:
    lex_v1(tmp_path / "bot", base_rows())

    rows, made = converted(tmp_path / "bot")

    assert made.export == "lex" and made.refused_count == 0
    filled = [row for row in rows["train"] if row["intent"] == "book"]
    assert len(filled) == 9 and {row["lang"] for row in filled} == {"en-US"}
    for row in filled:
        (span,) = row["entities"]
        assert span["label"] == "city" and "{" not in row["text"]
    assert made.left["utterance of a slot"]["places"] == ["Bot_Export.json: city"]
    assert made.left["intent without utterances"]["places"] == ["Bot_Export.json: help"]


def test_lex_v1_slot_types_are_synonyms(tmp_path: Path) -> None:
    lex_v1(tmp_path / "bot", base_rows())
    values = [{"value": "Rome", "synonyms": ["Roma"]}]
    resource = {"name": "Towns", "enumerationValues": values}
    about = {"importType": "LEX"}
    write(tmp_path / "bot/Towns.json", {"metadata": about, "resource": resource})

    _, made = converted(tmp_path / "bot")

    assert made.synonyms == {"Roma": "Rome"}


def test_ner_annotator_counts_texts_that_were_left_out(tmp_path: Path) -> None:
    rows = [*base_rows(), {"text": "😀 to Rome", "entities": [{"start": 6, "end": 10}]}]
    rows[-1]["entities"][0]["label"] = "city"  # UTF-16 units of a browser
    ner_annotator(tmp_path / "out", rows)

    found, made = converted(tmp_path / "out")

    assert made.left["text without an annotation"]["count"] == 1
    assert found["train"][0]["entities"] == base_rows()[0]["entities"]
    (last,) = found["train"][-1]["entities"]
    assert "😀 to Rome"[last["start"] : last["end"]] == "Rome"


def test_spacy_groups_of_spans_are_counted(tmp_path: Path) -> None:
    group = {"spans": {"sc": [{"start": 0, "end": 1, "label": "x"}] * 2}}
    docs = [{"text": "a", "ents": [], "tokens": [], **group}]
    tuples = [["a", {"entities": [], **group}]]

    for name, content in (("docs.json", docs), ("tuples.json", tuples)):
        _, made = converted(write(tmp_path / name, content))
        assert made.left["span of the group sc"] == {"count": 2, "places": [f"{name}: row 1"]}


def test_spacy_binary_counts_what_is_not_read(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    tokens = pytest.importorskip("spacy.tokens")
    document = spacy.blank("en")("to Rome")
    document.spans["sc"] = [tokens.Span(document, 1, 2, "city")]
    document[0].tag_, document[1].tag_ = "TO", "NNP"
    packed = tokens.DocBin(attrs=["ORTH", "TAG"], docs=[document])
    (tmp_path / "train.spacy").write_bytes(packed.to_bytes())

    _, made = converted(tmp_path / "train.spacy")

    assert made.left["span of the group sc"]["count"] == 1
    assert made.left["spaCy TAG"]["count"] == 1


def test_label_studio_hypertext_without_markup_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "p.json", [task("to Rome", hypertext(3, 7, "Rome"))])

    rows, _ = converted(path)

    assert rows["train"][0]["entities"] == [{"start": 3, "end": 7, "label": "city"}]


@pytest.mark.parametrize(
    "result",
    [
        hypertext(3, 7, "Rome"),
        {"type": "paragraphlabels", "value": {"start": "0", "end": "0", "paragraphlabels": ["x"]}},
    ],
)
def test_label_studio_marked_up_text_is_refused(tmp_path: Path, result: dict[str, Any]) -> None:
    tasks = [task("<p>to Rome</p>", choice("go"), result), task("hi", choice("greet"))]

    rows, made = converted(write(tmp_path / "p.json", tasks))

    assert [row["text"] for row in rows["train"]] == ["hi"]
    assert "p.json: row 1: " in made.refused[0]
    assert "label plain text, with the tags Text and Labels" in made.refused[0]


@pytest.mark.parametrize("kind", ["taxonomy", "textarea", "pairwise", "rating"])
def test_label_studio_without_choices_names_what_it_has(tmp_path: Path, kind: str) -> None:
    tasks = [task("a", {"type": kind, "value": {kind: []}}), task("b", {"type": kind})]
    path = write(tmp_path / "p.json", tasks)

    with pytest.raises(DataError, match=rf"no label.*result of the type {kind} \(2\)"):
        with_task(TrainConfig.from_mapping({"input_path": str(path)}))


def test_json_min_data_before_the_id_are_no_label(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "source": "web", "id": 1, "mood": "good", **MIN},
        {"text": "b", "source": "app", "id": 2, "mood": "bad", **MIN},
        {"text": "c", "source": "app", "id": 3, **MIN, "annotation_id": None},
        {"text": "d", "source": "web", "id": 4, "mood": "good", **MIN, "annotation_id": 0},
    ]

    found, made = converted(write(tmp_path / "p.json", rows))

    assert [row["intent"] for row in found["train"]] == ["good", "bad", "good"]
    assert made.left["task without an annotation"]["count"] == 1


def test_label_studio_csv_with_windows_line_ends(tmp_path: Path) -> None:
    label_studio_csv(tmp_path / "out", base_rows())
    path = tmp_path / "out/project.csv"
    text = path.read_text(encoding="utf-8").replace("\r\n", "\n").replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())

    rows, made = converted(tmp_path / "out")

    assert made.carried["entities"] == sum(len(row["entities"]) for row in base_rows())
    assert [row["text"] for row in rows["train"]] == [row["text"] for row in base_rows()]
    assert recognize(path, Columns(labelled=False)) == "csv"


def test_doccano_csv_has_data_columns_before_the_label(tmp_path: Path) -> None:
    lines = 'id,text,source,label,Comments\n1,"a, b",web,x,really\n2,c,web,x#y,\n'

    rows, made = converted(write(tmp_path / "all.csv", lines))

    assert [row["text"] for row in rows["train"]] == ["a, b"]
    assert made.left["column source"]["count"] == 2 and made.left["comment"]["count"] == 1
    assert "row 3: the label 'x#y' may be several labels" in made.refused[0]


def test_doccano_fasttext_is_written_as_csv(tmp_path: Path) -> None:
    lines = (
        '"__label__bye good bye, now "\n__label__hi hello __comment__sure __comment__no\n'
        '"__label__hi he said ""hi""\n\nand left "\n no label \n'
    )

    rows, made = converted(write(tmp_path / "all.txt", lines))

    assert [(row["intent"], row["text"]) for row in rows["train"]] == [
        ("bye", "good bye, now"),
        ("hi", "hello"),
        ("hi", 'he said "hi"\n\nand left'),
    ]
    assert made.left["comment"]["count"] == 2
    assert made.refused == ["all.txt: row 6: does not begin with __label__ and a text; correct it"]


def test_rasa_markdown_needs_no_space_after_a_hyphen(tmp_path: Path) -> None:
    text = "## intent:greet\n-hi\n*  hello\n---\n"

    rows, made = converted(write(tmp_path / "nlu.md", text))

    assert [row["text"] for row in rows["train"]] == ["hi", "hello"]
    assert "nlu.md: row 4: " in made.refused[0]


def test_files_that_are_not_read_are_counted(tmp_path: Path) -> None:
    examples = "".join(f"    - hello {number}\n" for number in range(20))
    write(tmp_path / "bot/nlu.yml", f"nlu:\n- intent: greet\n  examples: |\n{examples}")
    for name in ("flows/main.json", "README.md", "test.zip", "old.csv", "image.png"):
        write(tmp_path / "bot" / name, "{}")
    kind, places = "file that is not part of the data", ["README.md", "flows/main.json"]

    _, made = converted(tmp_path / "bot")
    direct = carried_over(tmp_path / "bot", find_splits(tmp_path / "bot"), Columns())

    assert made.left[kind]["count"] == 4 and {*places} < {*made.left[kind]["places"]}
    assert direct.left[kind] == made.left[kind]


def test_converted_entities_are_canonical_and_checked(tmp_path: Path) -> None:
    rows = [
        {"text": "to Rome", "label": "go", "spans": [{"begin": 3, "stop": 7, "type": "city"}]},
        {"text": "to Oslo", "label": "go", "spans": [{"offset": 3, "length": 4, "labels": ["c"]}]},
        {"text": "to Lima", "label": "go", "spans": [[3, 9, "city"]]},
        {"text": "abc", "label": "go", "spans": [[0, 2, "x"], [1, 3, "y"]], "note": "n"},
    ]

    found, made = converted(write_lines(tmp_path / "train.jsonl", rows))

    assert [row["entities"] for row in found["train"]] == [
        [{"start": 3, "end": 7, "label": "city"}],
        [{"start": 3, "end": 7, "label": "c"}],
    ]
    assert [each.partition(": entity")[0] for each in made.refused] == [
        *("train.jsonl: row 3", "train.jsonl: row 4")
    ]


@pytest.mark.parametrize(
    ("name", "content", "title"),
    [
        ("domain.yml", "intents:\n- greet\n", "Rasa"),
        ("agent.json", {"language": "en", "description": ""}, "Dialogflow"),
        (
            "Towns.json",
            {"metadata": {"importType": "LEX"}, "resource": {"name": "x"}},
            "Amazon Lex",
        ),
    ],
)
def test_one_file_of_an_export_asks_for_the_whole(
    tmp_path: Path, name: str, content: Any, title: str
) -> None:
    path = write(tmp_path / name, content)
    wanted = f"{name}: is a part of an export of {title} without rows; give the whole export"

    with pytest.raises(DataError, match=wanted):
        converted(path)
    with pytest.raises(DataError, match=wanted):
        with_task(TrainConfig.from_mapping({"input_path": str(path)}))


def test_columns_that_are_not_converted_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", "text,label,user\na,x,1\nb,y,2\n")

    _, made = converted(path)

    assert made.left == {"column user": {"count": 1, "places": ["train.csv"]}}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"words": ["x"], "tags": ["O", "O"]}, "1 words but 2 tags; give each word one"),
        ({"text": "a b", "tags": ["O"]}, "2 words but 1 tags; give each word one"),
        ({"words": ["x"], "tags": [{"start": 0, "end": 1, "label": "c"}]}, "must be lists"),
        ({"text": "x", "entities": {"city": "Rome"}}, "'entities' must be a list"),
        ({"tokens": [{"text": "x", "start": 0}], "tags": ["O"]}, "the text is empty"),
    ],
)
def test_tags_that_training_refuses_are_not_converted(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    good = [{"words": ["to", "Rome"], "tags": ["O", "B-c"]}, {"text": "to", "tags": ["O"]}]

    found, made = converted(write_lines(tmp_path / "train.jsonl", [*good, row]))

    assert found["train"] == [good[0], good[1]]
    assert made.refused[0].startswith("train.jsonl: row 3: ") and reason in made.refused[0]


@given(st.text(max_size=8), st.lists(st.tuples(st.integers(-2, 9), st.integers(-2, 9))))
def test_canonical_entities_lie_in_order_or_raise(text: str, spans: list[tuple[int, int]]) -> None:
    try:
        found = canonical_entities(text, [(*span, "x") for span in spans])
    except BadEntityError:
        inside = all(0 <= start < end <= len(text) for start, end in spans)
        ordered = sorted(spans)
        apart = all(a[1] <= b[0] for a, b in pairwise(ordered))
        assert not (inside and apart)
        return
    assert [(each["start"], each["end"]) for each in found] == sorted(spans)


def test_converted_rows_are_those_read_directly(tmp_path: Path) -> None:
    rows = base_rows() + [{**row, "text": f"{row['text']} now"} for row in base_rows()]
    label_studio_csv(tmp_path / "out", rows)
    found, _ = converted(tmp_path / "out")
    assert kind_of(tmp_path / "out/project.csv") == ("label-studio", "rows")

    config = with_task(TrainConfig.from_mapping({"input_path": str(tmp_path / "out")}))
    direct = gather(tmp_path / "out", config)

    texts = {text for table in direct.tables.values() for text in table["text"]}
    assert config.task == "joint" and texts == {row["text"] for row in found["train"]}


def test_intents_json_of_tutorials_is_read(tmp_path: Path) -> None:
    intents = [
        {"tag": "greet", "patterns": ["Hi", "Good day"], "responses": ["Hello!"]},
        {"tag": "leave", "patterns": ["Bye"], "responses": ["See you"], "context_set": ""},
        {"tag": "broken", "patterns": [1]},
    ]

    found, made = converted(write(tmp_path / "intents.json", {"intents": intents}))

    rows = [(row["text"], row["intent"]) for row in found["train"]]
    assert rows == [("Hi", "greet"), ("Good day", "greet"), ("Bye", "leave")]
    assert made.left["responses"] == {
        "count": 2,
        "places": ["intents.json: intent 1 (greet)", "intents.json: intent 2 (leave)"],
    }
    assert made.left["context_set"]["count"] == 1
    assert made.refused == [
        "intents.json: row 4: intent 3 (broken) needs a 'tag' and a list of 'patterns'"
    ]


def test_spacy_lines_of_texts_and_categories_are_read(tmp_path: Path) -> None:
    lines = [
        {"text": "bake it", "cats": {"baking": 1.0, "other": 0.0}, "meta": {"id": 1}},
        {"text": "fry it", "cats": {"baking": 0.0, "other": 1.0}},
        {"text": "both", "cats": {"baking": 1.0, "other": 1.0}},
    ]

    found, made = converted(write_lines(tmp_path / "train.jsonl", lines))

    rows = [(row["text"], row["intent"]) for row in found["train"]]
    assert rows == [("bake it", "baking"), ("fry it", "other")]
    assert made.left["column meta"]["count"] == 1
    assert made.refused_count == 1 and "2 labels" in made.refused[0]


def test_categories_beside_a_label_are_not_read(tmp_path: Path) -> None:
    lines = [{"text": "bake it", "cats": {"baking": 0.9}, "label": name} for name in "ab"]

    found, made = converted(write_lines(tmp_path / "train.jsonl", lines))

    assert [row["intent"] for row in found["train"]] == ["a", "b"]
    assert "column cats" in made.left
