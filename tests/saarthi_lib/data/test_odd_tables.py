"""Tables as people have them: lists in cells, quotes, numbers as labels, several tag columns."""

import csv
import io
import json
import logging
import sys
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from saarthi_lib.data.read import Problem, read_table
from saarthi_lib.errors import DataError
from tests.conftest import reading

INTENT = "intent_classification"
WORDS = ["O'Neil", "flew", "to", "New", "Delhi"]
TAGS = ["B-per", "O", "O", "B-geo", "I-geo"]
Rows = list[dict[str, Any]]


def write(path: Path, content: str | bytes | Rows) -> Path:
    if isinstance(content, list):
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, task: str, **options: Any) -> tuple[Rows, list[tuple[int, str]]]:
    """Rows of a table, and the rows and kinds of its problems."""
    problems: list[Problem] = []
    table = read_table(path, reading(task, max_malformed_share=1, **options), problems=problems)
    return table.to_dict("records"), [(problem.row, problem.kind) for problem in problems]  # type: ignore[return-value]


def labels_of(path: Path) -> list[tuple[str, str]]:
    return [(row["text"], row["label"]) for row in read(path, INTENT)[0]]


def tags_of(path: Path, task: str = "ner") -> list[list[str]]:
    return [list(row["tags"]) for row in read(path, task)[0]]


LISTS: dict[str, Callable[[list[str]], str]] = {
    "Python": str,
    "JSON": json.dumps,
    "numpy": lambda values: str(np.array(values, dtype=object)),
    "numpy's repr": lambda values: repr(np.array(values, dtype=object)),
    "tuple": lambda values: str(tuple(values)),
    "words": " ".join,
}


@pytest.mark.parametrize("form", LISTS)
@pytest.mark.parametrize("extension", ["csv", "tsv"])
def test_lists_in_cells_are_lists(tmp_path: Path, form: str, extension: str) -> None:
    path = tmp_path / f"a.{extension}"
    rows = [{"words": LISTS[form](WORDS), "tags": LISTS[form](TAGS)}]
    pd.DataFrame(rows).to_csv(path, index=False, sep="," if extension == "csv" else "\t")

    [row], problems = read(path, "ner")
    assert (row["text"], problems) == (" ".join(WORDS), [])
    assert list(row["tags"]) == ["B-per", "I-per", "I-per", *TAGS[1:]]


@given(st.lists(st.text(min_size=1), min_size=2, max_size=5), st.sampled_from(sorted(LISTS)[:5]))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_words_in_lists_survive(tmp_path: Path, words: list[str], form: str) -> None:
    words = [f"{word}x" for word in words]  # no word of spaces
    rows = [{"words": LISTS[form](words), "tags": LISTS[form](["X"] * len(words))}]
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    try:
        table = read_table(tmp_path / "a.csv", reading("pos"))
    except DataError as error:
        assert form.startswith("numpy") or "\r" in str(words), error
        return
    assert list(table["words"][0]) == words


def test_entities_written_by_pandas_are_entities(tmp_path: Path) -> None:
    entities = [{"start": 0, "end": 4, "label": "per"}, {"start": 13, "end": 22, "label": "geo"}]
    for each in (entities, np.array(entities, dtype=object), [(0, 4, "per"), [13, 22, "geo"]]):
        frame = pd.DataFrame({"text": ["Ravi flew to New Delhi"], "entities": [each]})
        frame.to_csv(tmp_path / "a.csv", index=False)
        assert tags_of(tmp_path / "a.csv") == [["B-per", "O", "O", "B-geo", "I-geo"]]


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("['O' 'O', 'B-x']", "the cell holds ['O' 'O', 'B-x'], which is not a list"),
        ("['O', nan, 'O']", "the cell holds ['O', nan, 'O'], which is not a list"),
        ("['O', 'O', 'B-", "the cell holds a part of a list"),
        ("['O' 'O' ... 'O']", "is not a list that can be read"),
        ("[O, O, B-x]", "the tag [O, has a bracket, quote or comma"),
        ("O, O, B-x", "the tag O, has a bracket, quote or comma"),
        ("{'a': 'O'}", "the cell holds a dictionary"),
    ],
)
def test_damaged_list_is_refused(tmp_path: Path, tags: str, message: str) -> None:
    frame = pd.DataFrame({"text": ["light on now", "a b"], "tags": [tags, "O B-x"]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    problems: list[Problem] = []
    options = reading("ner", max_malformed_share=1)
    table = read_table(tmp_path / "a.csv", options, problems=problems)

    assert list(table["text"]) == ["a b"]
    assert (problems[0].row, problems[0].kind) == (2, "bad-words")
    assert message in problems[0].message


BOTH = {"tokens": ["Ravi", "sings"], "pos_tags": ["PROPN", "VERB"], "ner_tags": ["B-PER", "O"]}


@pytest.mark.parametrize(
    ("row", "task", "tags"),
    [
        (BOTH, "pos", ["PROPN", "VERB"]),
        (BOTH, "ner", ["B-PER", "O"]),
        ({**BOTH, "tags": ["X", "Y"]}, "pos", ["PROPN", "VERB"]),
        ({**BOTH, "tags": ["X", "Y"]}, "ner", ["B-PER", "O"]),
        ({**BOTH, "UPOS": ["X", "Y"], "chunk_tags": ["B-NP", "O"]}, "pos", ["PROPN", "VERB"]),
    ],
)
def test_tags_of_the_task_are_read(
    tmp_path: Path, row: dict[str, Any], task: str, tags: list[str]
) -> None:
    assert tags_of(write(tmp_path / "a.jsonl", [row]), task) == [tags]


@pytest.mark.parametrize(
    ("row", "task", "message"),
    [
        ({"tokens": ["a"], "pos_tags": ["X"]}, "ner", "unless it is pos_tags; set label_column"),
        ({"tokens": ["a"], "ner_tags": ["O"]}, "pos", "unless it is ner_tags; set label_column"),
        ({"tokens": ["a"], "chunk_tags": ["O"]}, "pos", "unless it is chunk_tags"),
        ({"tokens": ["a", "b"], "tags": ["O", "B-x"]}, "pos", "are entity tags, .* task to ner"),
        ({"tokens": ["a", "b"], "tags": ["NN", "VB"]}, "ner", "are not entity tags"),
        ({"tokens": ["a", "b"], "ner_tags": [0, 1]}, "ner", "numbers without names"),
    ],
)
def test_tags_of_another_task_are_refused(
    tmp_path: Path, row: dict[str, Any], task: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path / "a.jsonl", [row]), reading(task))
    if task == "pos" and "chunk_tags" not in row:
        column = next(name for name in row if name != "tokens")
        assert len(tags_of(write(tmp_path / "b.jsonl", [{**row, "own": row[column]}])) or [0]) == 1


FEATURES = {
    "ner_tags": {"feature": {"names": ["O", "B-x"], "_type": "ClassLabel"}, "_type": "Sequence"},
    "label": {"names": ["off", "on"], "_type": "ClassLabel"},
}


def test_numbers_get_the_names_of_the_data_set(tmp_path: Path) -> None:
    row = {"tokens": ["a", "b"], "ner_tags": [0, 1], "label": 1}
    info = {"features": FEATURES}
    metadata = {"huggingface": json.dumps({"info": info})}
    table = pa.Table.from_pylist([row]).replace_schema_metadata(metadata)
    parquet.write_table(table, tmp_path / "a.parquet")
    write(tmp_path / "a.jsonl", [row, {**row, "ner_tags": [0, 2]}])
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))

    for name in ("a.parquet", "a.jsonl"):
        [found], _ = read(tmp_path / name, "joint")
        assert (list(found["tags"]), found["label"]) == (["O", "B-x"], "on")
    assert read(tmp_path / "a.jsonl", "ner")[1] == [(2, "bad-words"), (1, "class-names")]


NUMBERS: dict[str, tuple[list[Any], list[str]]] = {
    "whole floats": ([1, 1.0, 0], ["1", "1", "0"]),
    "fractions": ([0.5, 1.0, -2.0], ["0.5", "1", "-2"]),
    "decimals": ([Decimal("1.00"), Decimal("2.50")], ["1", "2.50"]),
    "booleans": ([True, False], ["True", "False"]),
    "dates": ([datetime(2020, 1, 2)], ["2020-01-02 00:00:00"]),
    "gaps": ([1.0, None, float("nan"), 0.0], ["1", "0"]),
    "lists of one": ([["a"], [], ["a", "b"], ["b"]], ["a", "b"]),
    "lists of a number": ([[1], [2]], ["1", "2"]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_one_label_has_one_name(tmp_path: Path, case: str) -> None:
    values, names = NUMBERS[case]
    texts = [f"text {i}" for i in range(len(values))]
    frame = pd.DataFrame({"text": texts, "label": pd.Series(values, dtype=object)})
    if case == "whole floats":
        frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
        assert [label for _, label in labels_of(tmp_path / "a.jsonl")] == names
        frame["label"] = frame["label"].astype(float)
    frame.to_parquet(tmp_path / "a.parquet")
    assert [label for _, label in labels_of(tmp_path / "a.parquet")] == names
    if case in ("whole floats", "gaps", "lists of one", "lists of a number"):
        frame.to_csv(tmp_path / "a.csv", index=False)
        assert [label for _, label in labels_of(tmp_path / "a.csv")] == names


def test_numbers_beside_names_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\na,1.0\nb,beta\n")
    assert [label for _, label in labels_of(path)] == ["1.0", "beta"]
    path = write(tmp_path / "b.csv", "text,label\na,1.0\nb,beta\nc,1\nd,2.0\ne,01\n")
    assert [label for _, label in labels_of(path)] == ["1", "beta", "1", "2.0", "01"]


def test_changed_labels_are_reported_with_the_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\na,1\nb,2.0\nc,2.0\n")
    assert read(path, INTENT)[1] == [(3, "whole-number")]


@pytest.mark.parametrize("kind", ["category", "large_string", "null languages", "struct"])
def test_parquet_types_are_read(tmp_path: Path, kind: str) -> None:
    texts, labels = pa.array(["a b", "c d"]), pa.array(["x", "y"])
    columns = {"text": texts, "label": labels, "lang": pa.array([None, "hi"])}
    if kind == "category":
        columns |= {"text": texts.dictionary_encode(), "label": labels.dictionary_encode()}
    elif kind == "large_string":
        columns |= {"text": texts.cast(pa.large_string()), "lang": pa.nulls(2)}
    elif kind == "struct":
        columns["label"] = pa.array([{"name": "x"}, {"name": "y"}])
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    if kind == "struct":
        with pytest.raises(DataError, match=r"the label is {'name': 'x'}; give one"):
            read_table(tmp_path / "a.parquet", reading(INTENT))
        return
    assert labels_of(tmp_path / "a.parquet") == [("a b", "x"), ("c d", "y")]


SMILE = "😀 play Lata"
ENTITIES: dict[str, tuple[dict[str, Any], str]] = {
    "list of one label": ({"start": 7, "end": 11, "label": ["a"]}, ""),
    "Label Studio's labels": ({"start": 7, "end": 11, "labels": ["a"]}, ""),
    "length": ({"offset": 7, "length": 4, "category": "a"}, ""),
    "its text": ({"start": 7, "end": 11, "label": "a", "text": "Lata"}, ""),
    "another value": ({"start": 7, "end": 11, "entity": "a", "value": "Lata Mangeshkar"}, ""),
    "two labels": ({"start": 7, "end": 11, "label": ["a", "b"]}, "has 2 labels"),
    "UTF-16": ({"start": 8, "end": 12, "label": "a", "text": "Lata"}, "in UTF-16 units"),
    "UTF-16 value": ({"start": 8, "end": 12, "label": "a", "value": "Lata"}, "in UTF-16 units"),
    "bytes": ({"start": 10, "end": 14, "label": "a", "text": "Lata"}, "in bytes"),
    "last character": ({"start": 7, "end": 10, "label": "a", "text": "Lata"}, "the last character"),
    "from 1": ({"start": 8, "end": 11, "label": "a", "text": "Lata"}, "from 1"),
    "other text": ({"start": 2, "end": 6, "label": "a", "text": "Lata"}, "but lies at 'play'"),
    "tag of a word": ({"start": 7, "end": 11, "entity": "B-a"}, "'B-a' is a tag of a word"),
    "tag inside": ({"start": 7, "end": 11, "label": "I_a"}, "'I_a' is a tag of a word"),
    "outside": ({"start": 7, "end": 11, "label": "O"}, "'O' is a tag of a word"),
    "fraction": ({"start": 7.5, "end": 11, "label": "a"}, "must be a list of entities"),
}


@pytest.mark.parametrize("case", ENTITIES)
def test_entities_are_read_where_they_are_certain(tmp_path: Path, case: str) -> None:
    entity, message = ENTITIES[case]
    path = write(tmp_path / "a.jsonl", [{"text": SMILE, "entities": [entity]}])
    if message:
        with pytest.raises(DataError, match=message):
            read_table(path, reading("ner"))
    else:
        assert tags_of(path) == [["O", "O", "B-a"]]


def test_entities_in_a_column_that_is_not_read_are_refused(tmp_path: Path) -> None:
    rows: Rows = [
        {"text": "play Lata", "entities": [], "label": [[5, 9, "a"]]},
        {"text": "play Lata", "entities": [[5, 9, "a"]], "label": []},
        {"text": "play it", "entities": [], "label": []},
    ]
    problems: list[Problem] = []
    path = write(tmp_path / "a.jsonl", rows)
    table = read_table(path, reading("ner", max_malformed_share=1), problems=problems)
    assert list(table["text"]) == ["play Lata", "play it"]
    assert [(problem.row, problem.kind) for problem in problems] == [(1, "bad-entity")]
    assert "has entities in 'label', which is not the column that is read" in problems[0].message


def test_form_of_tags_is_that_of_good_rows(tmp_path: Path) -> None:
    words = {"tokens": ["a", "b"]}
    rows: Rows = [{**words, "tags": tags} for tags in (None, ["O", None], ["O", "B_x"])]
    assert tags_of(write(tmp_path / "a.jsonl", rows)) == [["O", "B-x"]]


def test_rejected_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"text": f"a {i}", "label": "x", "answer": "reject"} for i in range(3)]
    rows.append({"text": "b", "label": "y", "answer": "accept"})
    problems: list[Problem] = []
    table = read_table(write(tmp_path / "a.jsonl", rows), reading(INTENT), problems=problems)

    assert list(table["text"]) == ["b"]
    assert [(p.row, p.kind) for p in problems] == [(row, "rejected") for row in (1, 2, 3)]


TABS: dict[str, tuple[str, list[tuple[str, str]], list[tuple[int, str]]]] = {
    "lone marks": (
        '"5 inch\tx\nis 6"\ty\n',
        [('"5 inch', "x"), ('is 6"', "y")],
        [(2, "lone-quote")],
    ),
    "marks inside": ('"a" then b\tx\n', [('"a" then b', "x")], [(2, "lone-quote")]),
    "whole cell": ('"a ""b"" c"\t"x"\n', [('a "b" c', "x")], []),
    "tab": ('"a\tb"\tx\n', [("a\tb", "x")], []),
    "line end": ('"a\nb"\tx\nc\ty\n', [("a\nb", "x"), ("c", "y")], [(3, "joined-lines")]),
    "never closed": ('"a\tx\nb\ty\n', [('"a', "x"), ("b", "y")], [(2, "lone-quote")]),
    "missing cell": ('"a\nb\tx\nc"\ty\n', [("b", "x"), ('c"', "y")], [(2, "wrong-cells")]),
}


@pytest.mark.parametrize("case", TABS)
@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
def test_line_of_tsv_is_a_row(tmp_path: Path, case: str, name: str) -> None:
    content, rows, problems = TABS[case]
    path = write(tmp_path / name, f"text\tlabel\n{content}")
    assert labels_of(path) == rows
    assert read(path, INTENT)[1] == problems


def test_quoted_text_may_be_the_last_cell_of_tsv(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'label\ttext\nx\t"a\nb\n\nc"\ny\td\n')
    assert labels_of(path) == [("a\nb\n\nc", "x"), ("d", "y")]


@pytest.mark.parametrize("content", ['label\ttext\nx\t";\n\n"\n', 'text\tlabel\n"; \n\n"\t;\n'])
def test_punctuation_is_not_taken_for_tags(tmp_path: Path, content: str) -> None:
    path = write(tmp_path / "a.tsv", content)
    assert [
        text[0] for text in read_table(path, reading(INTENT, normalization="none"))["text"]
    ] == [";"]


cells = st.text(st.sampled_from("ab\"', ;\n"), min_size=1, max_size=6).filter(str.strip)


@given(st.lists(cells, min_size=1, max_size=6), st.booleans(), st.booleans())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tsv_of_a_csv_writer_reads_back(
    tmp_path: Path, texts: list[str], every: bool, last: bool
) -> None:
    file = io.StringIO()
    writer = csv.writer(
        file,
        delimiter="\t",
        lineterminator="\n",
        quoting=csv.QUOTE_ALL if every else csv.QUOTE_MINIMAL,
    )
    writer.writerow(["label", "text"] if last else ["text", "label"])
    writer.writerows(["x", text] if last else [text, "x"] for text in texts)
    path = write(tmp_path / "a.tsv", file.getvalue())

    table = read_table(path, reading(INTENT, normalization="none"))
    assert [text.strip() for text in table["text"]] == [text.strip() for text in texts]


@given(st.lists(st.text('ab"', min_size=1, max_size=6), min_size=1, max_size=8))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tsv_without_quoting_keeps_all_rows(tmp_path: Path, texts: list[str]) -> None:
    lines = "".join(f"a {text}\t{i}\n" for i, text in enumerate(texts))
    lines += "".join(f"{text} a\t{i}\n" for i, text in enumerate(texts))
    found = labels_of(write(tmp_path / "a.tsv", f"text\tlabel\n{lines}"))
    assert ["\t".join(row) for row in found] == lines.splitlines()


def test_joined_lines_of_csv_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("saarthi"), "propagate", True)
    content = 'text,label\na,x\n"5 inch,buy\nis 6",buy\nb,y\n'
    rows, problems = read(write(tmp_path / "a.csv", content), INTENT)

    assert (len(rows), problems) == (3, [(4, "joined-lines")])
    assert "1 rows span several lines, joined by quotation marks (the first: row 4)" in caplog.text


SHAPES = {
    "sep=": "sep=;\ntext;label\na b;x\nc;y\n",
    "sep= after a mark": "\ufeffsep=;\r\ntext;label\r\na b;x\r\nc;y\r\n",
    "sep= of a bar": "sep=|\ntext|label\na b|x\nc|y\n",
    "trailing separators": "text,label\na b,x,\nc,y,\n",
    "blank headers": ",text,,label\n0,a b,,x\n1,c,,y\n",
    "odd headers": '\ufeff" TEXT ";Label\na b;x\nc;y\n',
    "spaces before quotes": '"text", "label"\n"a b", "x"\n"c", "y"\n',
    "bars": "text|label\na b|x\nc|y\n",
    "old Macintosh": "text,label\ra b,x\rc,y\r",
    "blank lines first": "\n\ntext,label\na b,x\nc,y\n",
    "decimal commas": "text;score;label\na b;0,5;x\nc;1,5;y\n",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_tables_of_spreadsheets_are_read(tmp_path: Path, shape: str) -> None:
    path = write(tmp_path / "a.csv", SHAPES[shape])
    assert labels_of(path) == [("a b", "x"), ("c", "y")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text,label,Text\na,x,b\n", "row 1: two columns are named 'text'"),
        ("text,label\nh\xe9,x\n".encode("cp1252"), "row 2: .* probably Windows-1252 or Latin-1"),
        ("text,label\na,x\n".encode("utf-16"), "row 1: is not UTF-8, but probably UTF-16"),
        ("text,label\na,x\n".encode("utf-16-le"), "row 1: .* probably UTF-16"),
        (b"PK\x03\x04\xff\xff", "probably a zip archive or workbook"),
        (b"text,label\na,x\n\xef\xbb\xbftext,label\n", "row 3: repeats the names of row 1"),
        (b"text;label\na,x\n", "row 2: has 1 cells where row 1 has 2"),
        (b"text,label\na,x,\nb,y\n", "row 2: has 3 cells where row 1 has 2"),
    ],
)
def test_unclear_table_is_refused_with_the_row(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path / "a.csv", content), reading(INTENT))


@pytest.mark.parametrize("line_end", ["", "\n"])
def test_very_long_cell_of_csv_has_its_own_remedy(tmp_path: Path, line_end: str) -> None:
    path = write(tmp_path / "a.csv", f'text,label\nx,y\n"{f"word {line_end}" * 30_000}",a\n')
    with pytest.raises(DataError, match=r"holds more than 131,072 characters; close its quot"):
        read_table(path, reading(INTENT))


def test_spreadsheet_needs_openpyxl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match="need the package openpyxl; install it, or save"):
        read_table(write(tmp_path / "a.xlsx", b"PK"), reading(INTENT))


def test_spreadsheet_is_read_like_csv(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["text", "label", None], ["a b", 1.0], [], [911, 0], ["c", True]):
        book.active.append(row)
    book.create_sheet("empty")
    book.save(tmp_path / "a.xlsx")
    assert labels_of(tmp_path / "a.xlsx") == [("a b", "1"), ("911", "0"), ("c", "True")]
    book["empty"].append(["text", "label"])
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match="several sheets have rows"):
        read_table(tmp_path / "a.xlsx", reading(INTENT))


@pytest.mark.parametrize("names", ["sentence_id,tokens,ner_tags", "Sentence #,Text,Tags"])
def test_rows_of_single_words_are_refused(tmp_path: Path, names: str) -> None:
    rows = "1,Harry,B-PER\n1,Potter,I-PER\n1,sings,O\n2,It,O\n2,rains,O\n"
    path = write(tmp_path / "train.csv", f"{names}\n{rows}")

    with pytest.raises(DataError, match="each row holds one word and its tag"):
        read_table(path, reading("ner"))
