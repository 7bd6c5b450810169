import json
import logging
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from saarthi_lib.data.read import (
    Problem,
    SplitFile,
    find_splits,
    read_chunks,
    read_table,
)
from saarthi_lib.errors import DataError
from saarthi_lib.tasks import bio_spans
from saarthi_lib.text.language_names import language_name
from saarthi_lib.text.normalize import Normalizer
from saarthi_lib.text.words import split_words
from tests.conftest import reading

INTENT = "intent_classification"
ROWS = [
    {"text": "turn on the light", "label": "on", "lang": "english"},
    {"text": 'बत्ती बुझा दो, "जल्दी"', "label": "off", "lang": "hindi"},
]
ENTITY_ROW = {
    "text": "play Lata Mangeshkar, now",
    "intent": "play",
    "entities": [{"start": 5, "end": 20, "label": "artist"}],
    "lang": "en",
}


def write(path: Path, content: str | bytes | list[Any]) -> Path:
    if isinstance(content, list):
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, task: str, labelled: bool = True, **options: Any) -> pd.DataFrame:
    return read_table(path, reading(task, **options), labelled=labelled)


def error_of(path: Path, task: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(path, task, **options)
    return str(caught.value)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library's log records, which other tests may keep from the root logger."""
    monkeypatch.setattr(logging.getLogger("saarthi"), "propagate", True)
    caplog.set_level(logging.INFO, "saarthi")
    return caplog


@pytest.mark.parametrize("extension", ["jsonl", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_table(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"train.{extension}"
    if extension == "jsonl":
        write(path, ROWS)
    elif extension == "parquet":
        pd.DataFrame(ROWS).to_parquet(path)
    else:
        separator = "," if extension == "csv" else "\t"
        pd.DataFrame(ROWS).to_csv(path, sep=separator, index=False)
    table = read(path, INTENT)

    assert table[["text", "label", "lang"]].to_dict("records") == ROWS
    assert list(table["row"]) == ([2, 3] if extension in ("csv", "tsv") else [1, 2])


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "conll"])
def test_byte_order_mark_is_not_part_of_the_text(tmp_path: Path, extension: str) -> None:
    content = {
        "csv": "text,label\nhi,x\n",
        "tsv": "text\tlabel\nhi\tx\n",
        "jsonl": '{"text": "hi", "label": "x"}\n',
        "conll": "hi\tx\n",
    }[extension]
    path = write(tmp_path / f"train.{extension}", b"\xef\xbb\xbf" + content.encode())

    table = read(path, "pos" if extension == "conll" else INTENT)
    assert list(table["text"]) == ["hi"]


@pytest.mark.parametrize("extension", ["jsonl", "parquet"])
def test_entities_become_tags(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"train.{extension}"
    rows = [ENTITY_ROW, {"text": "hello", "intent": "greet", "entities": [], "lang": None}]
    if extension == "jsonl":
        write(path, rows)
    else:
        pd.DataFrame(rows).to_parquet(path)
    table = read(path, "joint")

    assert list(table["words"][0]) == ["play", "Lata", "Mangeshkar", ",", "now"]
    assert list(table["tags"][0]) == ["O", "B-artist", "I-artist", "O", "O"]
    assert list(table["tags"][1]) == ["O"]
    assert list(table["label"]) == ["play", "greet"]
    assert list(table["lang"]) == ["english", "unknown"]


def test_entities_tag_the_words_of_the_service(tmp_path: Path) -> None:
    row = {"words": ["New York", "by", "20.04.2019"], "tags": ["B-city", "O", "B-date"]}
    table = read(write(tmp_path / "train.jsonl", [row]), "ner")

    assert table["text"][0] == "New York by 20.04.2019"
    assert list(table["words"][0]) == ["New", "York", "by", "20", ".", "04", ".", "2019"]
    date = ["B-date", *["I-date"] * 4]
    assert list(table["tags"][0]) == ["B-city", "I-city", "O", *date]


def test_parts_of_speech_keep_the_words_of_the_file(tmp_path: Path) -> None:
    row = {"text": "I don't", "words": ["I", "do", "n't"], "tags": ["PRON", "AUX", "PART"]}
    table = read(write(tmp_path / "train.jsonl", [row]), "pos")

    assert list(table["words"][0]) == row["words"]
    assert list(table["tags"][0]) == row["tags"]
    assert list(zip(table["starts"][0], table["ends"][0], strict=True)) == [(0, 1), (2, 4), (4, 7)]


def test_entity_inside_a_word_keeps_its_span(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    row = {"words": ["pay", "₹500now"], "tags": ["O", "B-money"], "text": "pay ₹500nowplease"}
    table = read(write(tmp_path / "train.jsonl", [row]), "ner")

    assert list(table["words"][0]) == ["pay", "₹", "500now", "please"]
    assert list(table["tags"][0]) == ["O", "B-money", "I-money", "O"]
    assert "1 rows have an entity that begins or ends inside a word" in told.text


@pytest.mark.parametrize("separator", ["\t", " "])
def test_conll_sentences(tmp_path: Path, separator: str) -> None:
    lines = ["# lang = hindi", "लता B-NEP", "गाती O", "", "", "-DOCSTART- O", "", "#now O", "है O"]
    content = "\n".join(
        line if line[:2] == "# " else line.replace(" ", separator) for line in lines
    )
    table = read(write(tmp_path / "train.conll", content), "ner")

    assert [list(words) for words in table["words"]] == [["लता", "गाती"], ["#", "now", "है"]]
    assert [list(tags) for tags in table["tags"]] == [["B-NEP", "O"], ["O", "O", "O"]]
    assert list(table["lang"]) == ["hindi", "hindi"]
    assert list(table["row"]) == [2, 8]


def test_conll_uses_first_and_last_column(tmp_path: Path) -> None:
    content = "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n"
    table = read(write(tmp_path / "train.conll", content), "ner")

    assert (list(table["words"][0]), list(table["tags"][0])) == (["EU", "rejects"], ["B-ORG", "O"])


def test_conllu_reads_words_of_multiword_tokens(tmp_path: Path) -> None:
    content = (
        "# text = vámonos al mar\n"
        "1-2\tvámonos\t_\t_\t_\n1\tvamos\tir\tVERB\t_\n2\tnos\tnosotros\tPRON\t_\n"
        "3-4\tal\t_\t_\t_\n3\ta\ta\tADP\t_\n4\tel\tel\tDET\t_\n5\tmar\tmar\tNOUN\t_\n"
        "5.1\tnothing\t_\tVERB\t_\n\n"
        "1\t#\t#\tSYM\t_\n"
    )
    table = read(write(tmp_path / "train.conllu", content), "pos")

    assert list(table["words"][0]) == ["vamos", "nos", "a", "el", "mar"]
    assert list(table["tags"][0]) == ["VERB", "PRON", "ADP", "DET", "NOUN"]
    assert list(table["words"][1]) == ["#"]
    assert list(table["row"]) == [3, 11]


@pytest.mark.parametrize("text", ["text", "sentence", "Utterance", "query"])
@pytest.mark.parametrize("label", ["label", "Intent", "class", "category"])
@pytest.mark.parametrize("lang", ["lang", "language", "Locale"])
def test_usual_column_names_are_known(tmp_path: Path, text: str, label: str, lang: str) -> None:
    content = f"id,{label},{text},{lang}\n7,on,light on,HI\n"
    table = read(write(tmp_path / "train.csv", content), INTENT)

    assert table[["text", "label", "lang"]].to_dict("records") == [
        {"text": "light on", "label": "on", "lang": "hindi"}
    ]


def test_numbers_and_nulls_in_text_stay_text(tmp_path: Path) -> None:
    table = read(write(tmp_path / "train.csv", "text,label\nNA,007\nnull,1.0\n"), INTENT)

    assert list(table["text"]) == ["NA", "null"]
    assert list(table["label"]) == ["007", "1.0"]


def test_unlabelled_text_needs_no_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "transfer.jsonl", [{"text": "light on!"}])

    assert list(read(path, INTENT, labelled=False)) == ["file", "row", "text", "lang"]
    assert list(read(path, "ner", labelled=False)) == ["file", "row", "text", "lang"]


BAD_FILES: dict[str, tuple[str, str, str | bytes | list[Any], str, str]] = {
    "missing text column": (INTENT, "csv", "words said,label\nhi,x\n", "row 1", "name it one of"),
    "missing text in a JSON row": (
        INTENT,
        "jsonl",
        [{"text": "hi", "label": "x"}, {"label": "x"}],
        "row 2",
        "name it one of",
    ),
    "missing label column": (INTENT, "csv", "text,id\nhi,1\n", "row 1", "name it one of"),
    "missing entities": ("ner", "jsonl", [{"text": "hi"}], "row 1", "give one of the two"),
    "empty label": (INTENT, "csv", "text,label\nhi,x\nho,\n", "row 3", "fill it in"),
    "empty text": (INTENT, "csv", "text,label\nhi,x\n\n ,x\n", "row 4", "fill it in"),
    "empty text after many lines": (INTENT, "csv", 'text,label\n"a\nb",x\n,x\n', "row 4", "fill"),
    "text of another type": (INTENT, "jsonl", [{"text": 5, "label": "x"}], "row 1", "fill it in"),
    "wrong encoding, CSV": (
        INTENT,
        "csv",
        "text,label\nhi,x\nhé,x\n".encode("latin-1"),
        "row 3",
        "UTF-8",
    ),
    "wrong encoding, JSON": (INTENT, "jsonl", '{"text": "é"}'.encode("latin-1"), "row 1", "UTF-8"),
    "wrong encoding, CoNLL": ("pos", "conll", "a X\n\né X\n".encode("latin-1"), "row 3", "UTF-8"),
    "UTF-16": (INTENT, "csv", "text,label\nhi,x\n".encode("utf-16"), "row 1", "UTF-8"),
    "bad JSON": (
        INTENT,
        "jsonl",
        '{"text": "hi", "label": "x"}\n{"text":\n',
        "row 2",
        "one JSON object per line",
    ),
    "JSON of another shape": (INTENT, "jsonl", '["hi"]\n', "row 1", "write one per line"),
    "unquoted comma": (INTENT, "csv", "text,label\nhi, you,x\n", "row 2", "double quotes"),
    "unquoted commas everywhere": (
        INTENT,
        "csv",
        "text,label\na, b,x\nc, d,y\n",
        "row 2",
        "double quotes",
    ),
    "missing cell": (INTENT, "csv", "text,label\nhi\n", "row 2", "double quotes"),
    "open quote": (INTENT, "csv", 'text,label\n"hi,x\nho,y\n', "rows 2 to 3", "correct the quotes"),
    "overlapping entities": (
        "ner",
        "jsonl",
        [
            {
                "text": "new york city",
                "entities": [
                    {"start": 0, "end": 8, "label": "city"},
                    {"start": 4, "end": 13, "label": "town"},
                ],
            }
        ],
        "row 1",
        "keep one",
    ),
    "entity beyond the text": (
        "ner",
        "jsonl",
        [{"text": "hi", "entities": [{"start": 0, "end": 3, "label": "x"}]}],
        "row 1",
        "correct its offsets",
    ),
    "entity of nothing": (
        "ner",
        "jsonl",
        [{"text": "hi you", "entities": [{"start": 2, "end": 3, "label": "x"}]}],
        "row 1",
        "correct its offsets",
    ),
    "entity without an end": (
        "ner",
        "jsonl",
        [{"text": "hi", "entities": [{"start": 0, "label": "x"}]}],
        "row 1",
        "must be a list of entities with",
    ),
    "fewer tags than words": (
        "ner",
        "jsonl",
        [{"words": ["a", "b"], "tags": ["O"]}],
        "row 1",
        "give each word one",
    ),
    "words that are no list": (
        "ner",
        "jsonl",
        [{"text": "a b", "words": 5, "tags": ["O"]}],
        "row 1",
        "must be a list",
    ),
    "words that are not in the text": (
        "ner",
        "jsonl",
        [{"text": "a b", "words": ["b", "a"], "tags": ["O", "O"]}],
        "row 1",
        "correct one",
    ),
    "entities for a tag a word": (
        "pos",
        "jsonl",
        [{"text": "a b", "entities": []}],
        "row 1",
        "needs a tag for each word",
    ),
    "nothing but words without tags": ("ner", "conll", "\na\n", "row 2", "not a word and a tag"),
    "no rows": (INTENT, "csv", "text,label\n", "", "fill it in"),
    "no content": (INTENT, "csv", "", "", "fill it in"),
    "not Parquet": (INTENT, "parquet", b"text", "", "write it again"),
}


@pytest.mark.parametrize("problem", BAD_FILES)
def test_unusable_file_error_names_row_and_remedy(tmp_path: Path, problem: str) -> None:
    task, extension, content, row, advice = BAD_FILES[problem]
    path = write(tmp_path / f"train.{extension}", content)
    message = error_of(path, task)

    assert message.startswith(str(path))
    assert row in message
    assert advice in message


@pytest.mark.parametrize("column", ["text", "label"])
def test_null_in_parquet_is_empty(tmp_path: Path, column: str) -> None:
    path = tmp_path / "train.parquet"
    pd.DataFrame([ROWS[0], {**ROWS[1], column: None}]).to_parquet(path)

    assert f"row 2: the {column} is empty" in error_of(path, INTENT)


def test_wrong_byte_is_found_late_in_a_file(tmp_path: Path) -> None:
    content = "text,label\n" + "turn the light on,x\n" * 20_000
    path = write(tmp_path / "train.csv", content.encode() + b"h\xe9,x\n")

    assert "row 20002: is not UTF-8" in error_of(path, INTENT)


@pytest.mark.parametrize("name", ["train.xlsx", "train.jsonl"])
def test_missing_or_unreadable_file_is_named(tmp_path: Path, name: str) -> None:
    assert name in error_of(tmp_path / name, INTENT)


@pytest.mark.parametrize(
    ("start", "end", "expected", "widened"),
    [
        (5, 20, ["O", "B-artist", "I-artist", "O"], False),
        (4, 21, ["O", "B-artist", "I-artist", "O"], False),  # spaces around it
        (6, 20, ["O", "B-artist", "I-artist", "O"], True),
        (5, 12, ["O", "B-artist", "I-artist", "O"], True),
        (12, 13, ["O", "O", "B-artist", "O"], True),
    ],
)
def test_entities_inside_words_are_widened_and_reported(
    tmp_path: Path,
    log: pytest.LogCaptureFixture,
    start: int,
    end: int,
    expected: list[str],
    widened: bool,
) -> None:
    entity = {"start": start, "end": end, "label": "artist"}
    row = {"text": "play Lata Mangeshkar now", "entities": [entity]}
    path = write(tmp_path / "train.jsonl", [row, row])
    problems: list[Problem] = []
    table = read_table(path, reading("ner"), problems=problems)

    assert list(table["tags"][0]) == expected
    assert ("2 entities begin or end inside a word" in log.text) == widened
    told = [(problem.row, problem.kind, problem.left_out) for problem in problems]
    assert told == ([(1, "widened-entity", False), (2, "widened-entity", False)] if widened else [])


@pytest.mark.parametrize("line", ["word", "\tO", "word\t", "word\t-NEL", "word\t-", "word\tB-"])
def test_malformed_sentences_are_left_out_and_reported(
    tmp_path: Path, log: pytest.LogCaptureFixture, line: str
) -> None:
    path = write(tmp_path / "train.conll", f"a\tB-x\n\nb\tO\n{line}\n\nc\tO\n")
    table = read(path, "ner", max_malformed_share=0.34)

    assert list(table["text"]) == ["a", "c"]
    [message] = [record.getMessage() for record in log.records]
    assert message.startswith("train.conll: 1 of 3 rows are left out (malformed ")
    assert "the first at row 4" in message


def test_each_malformed_tag_is_listed_with_its_line(tmp_path: Path) -> None:
    content = "a\tB-x\nb\t-\n\nc\tO\nd\tNEU\ne\tB-x\u200b\nf\tI-x\n\ng\tO\n"
    write(tmp_path / "train.conll", content)
    problems: list[Problem] = []
    options = reading("ner", max_malformed_share=1)
    path = tmp_path / "train.conll"
    table = read_table(path, options, problems=problems, root=tmp_path.parent)

    assert list(table["text"]) == ["g"]
    assert [(problem.row, problem.kind) for problem in problems] == [
        (2, "malformed-tag"),
        (5, "malformed-tag"),
        (6, "malformed-tag"),
    ]
    assert {problem.file for problem in problems} == {f"{tmp_path.name}/train.conll"}
    assert "'e' has the tag 'B-x\\u200b'" in problems[2].message


def test_too_many_malformed_rows_are_an_error(tmp_path: Path) -> None:
    rows = [f"text {i},{'' if i % 10 == 0 else 'x'}" for i in range(40)]
    path = write(tmp_path / "train.csv", "\n".join(["text,label", *rows]))
    message = error_of(path, INTENT)

    assert "row 2: the label is empty" in message
    assert "4 of 40 rows cannot be used (empty labels: 4)" in message
    assert "max_malformed_share (0.05)" in message
    assert "row 12" in message
    assert len(read(path, INTENT, max_malformed_share=0.1)) == 36


MALFORMED = {
    "wrong-cells": ("csv", "text,label\n{good},x\na, b,x\n", 3),
    "wrong-cells of a quote": ("csv", 'text,label\n"a" b,x\n{good},x\n', 2),
    "empty-text": ("csv", "text,label\n{good},x\n ,x\n", 3),
    "empty-label": ("csv", "text,label\n{good},x\na,\n", 3),
    "not-json": ("jsonl", '{{"text": "{good}", "label": "x"}}\n\n{{"text"\n', 3),
    "not-json of half a character": (
        "jsonl",
        '{{"text": "\\ud83d", "label": "x"}}\n{{"text": "{good}", "label": "x"}}\n',
        1,
    ),
    "empty-label of a list": (
        "jsonl",
        '{{"text": "a", "label": ["x", "y"]}}\n{{"text": "{good}", "label": "x"}}\n',
        1,
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_rows_are_listed_with_kind_and_line(tmp_path: Path, case: str) -> None:
    extension, content, row = MALFORMED[case]
    path = write(tmp_path / f"train.{extension}", content.format(good="all is well"))
    problems: list[Problem] = []
    options = reading(INTENT, max_malformed_share=0.5)
    table = read_table(path, options, problems=problems)

    assert list(table["text"]) == ["all is well"]
    assert [(p.kind, p.row, p.left_out) for p in problems] == [(case.split(" ")[0], row, True)]


def test_normalization_keeps_entities_on_their_words(tmp_path: Path) -> None:
    text = "  बजाओ  लता\u200b मंगेशकर !!!! अभी"
    start, end = text.index("लता"), text.index(" !!!!")
    rows = [{"text": text, "entities": [{"start": start, "end": end, "label": "artist"}]}]
    path = write(tmp_path / "train.jsonl", rows)
    table = read(path, "ner", normalization="standard")

    assert "\u200b" not in table["text"][0]
    assert "  " not in table["text"][0]
    found = [w for w, t in zip(table["words"][0], table["tags"][0], strict=True) if t != "O"]
    assert found == ["लता", "मंगेशकर"]

    words = write(tmp_path / "train.conll", "\u200b\tNOUN\nलता\u200b\tPROPN\n")
    table = read(words, "pos", normalization="standard")
    assert list(table["words"][0]) == ["\u200b", "लता"]
    assert list(zip(table["starts"][0], table["ends"][0], strict=True)) == [(0, 0), (0, 3)]


def test_chunks_together_equal_the_table(tmp_path: Path) -> None:
    lines = [f"text {i},{i % 3}" for i in range(25)]
    path = write(tmp_path / "train.csv", "\n".join(["text,label", *lines]))
    options = reading(INTENT)
    chunks = list(read_chunks(path, options, rows=10))

    assert [len(chunk) for chunk in chunks] == [10, 10, 5]
    pd.testing.assert_frame_equal(pd.concat(chunks, ignore_index=True), read_table(path, options))
    assert all(isinstance(kind, pd.ArrowDtype) for kind in chunks[0].dtypes)


def test_unusable_file_stops_at_its_first_chunk(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", "text,label\n" + "a,\n" * 100)
    with pytest.raises(DataError, match="10 of 10 rows cannot be used"):
        next(read_chunks(path, reading(INTENT), rows=10))


def test_language_comes_from_row_then_name_then_option(tmp_path: Path) -> None:
    path = write(tmp_path / "hi.csv", "text,label,lang\na,x,ta-IN\nb,x,\n")

    def langs(file: SplitFile, **options: Any) -> list[str]:
        return list(read_table(file, reading(INTENT, **options))["lang"])

    assert langs(SplitFile(path, "hindi"), language="marathi") == ["tamil", "hindi"]
    assert langs(SplitFile(path), language="mr") == ["tamil", "marathi"]
    assert langs(SplitFile(path)) == ["tamil", "unknown"]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("hi", "hindi"),
        ("Hindi", "hindi"),
        ("hi-IN", "hindi"),
        ("hi_IN", "hindi"),
        ("hin_Deva", "hindi"),
        ("hi-en", "hinglish"),
        ("code-mixed", "code-mixed"),
        (" ", "unknown"),
    ],
)
def test_languages_have_one_name(value: str, name: str) -> None:
    assert language_name(value) == name


def test_options_name_the_columns(tmp_path: Path) -> None:
    content = "text,Body,label,kind,tongue,thread\nno,light on,no,on,hi,7\nno,off,no,off,en,8\n"
    path = write(tmp_path / "train.csv", content)
    table = read(
        path,
        INTENT,
        text_column="body",
        label_column="kind",
        language_column="tongue",
        group_column="thread",
    )

    assert table.drop(columns=["file", "row"]).to_dict("records") == [
        {"text": "light on", "lang": "hindi", "label": "on", "group": "7"},
        {"text": "off", "lang": "english", "label": "off", "group": "8"},
    ]


@pytest.mark.parametrize("option", ["text", "label", "language", "group"])
def test_missing_configured_column_is_named(tmp_path: Path, option: str) -> None:
    path = write(tmp_path / "train.csv", "text,label,lang\na,x,hi\n")
    message = error_of(path, INTENT, **{f"{option}_column": "boddy"})

    assert "'boddy'" in message
    assert f"correct {option}_column" in message


letters = st.one_of(
    st.text("abcdefXYZ0189", min_size=1, max_size=6),
    st.text("कखगतदनपमरलसह" + "ािीुूेैोौं्", min_size=1, max_size=6),
    st.text("கசடதபறயரலவ" + "ாிீுூெேைொ்", min_size=1, max_size=6),
    st.text("بپتدرسکگلمن", min_size=1, max_size=6),
)
anything = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)


@st.composite
def texts_with_entities(
    draw: st.DrawFn, words: st.SearchStrategy[str]
) -> tuple[str, list[tuple[int, int, str]]]:
    """A text and spans of its words: (first word, last word + 1, label)."""
    gaps = st.sampled_from([" ", "  ", "\t"])
    text = "".join(draw(st.lists(st.builds(str.__add__, words, gaps), min_size=1, max_size=8)))
    count = len(split_words(text))
    assume(count)
    spans, position = [], 0
    while position < count:
        length = draw(st.integers(0, 3))
        end = min(count, position + length)
        if length:
            spans.append((position, end, draw(st.sampled_from(["area", "time-of-day"]))))
        position = end + 1 if not length else end
    return text, spans


def write_entities(
    path: Path, text: str, spans: list[tuple[int, int, str]], names: tuple[str, str, str, str]
) -> Path:
    """Write one row with entities at the words of the spans, as JSON lines, JSON or Parquet."""
    words = split_words(text)
    entities = [
        dict(zip(names[1:], (words[first][0], words[end - 1][1], label), strict=True))
        for first, end, label in reversed(spans)
    ]
    row = {"text": text, names[0]: entities}
    if path.suffix == ".parquet":
        pd.DataFrame([row]).to_parquet(path)
        return path
    return write(path, [row] if path.suffix == ".jsonl" else json.dumps([row], indent=1))


spellings = st.sampled_from(
    [
        ("entities", "start", "end", "label"),
        ("slots", "start", "end", "type"),
        ("spans", "start_offset", "end_offset", "label"),
        ("labels", "start", "end", "entity"),
    ]
)


@given(
    texts_with_entities(letters | anything),
    st.sampled_from(["jsonl", "json", "parquet"]),
    spellings,
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_entities_at_word_boundaries_survive(
    tmp_path: Path,
    example: tuple[str, list[tuple[int, int, str]]],
    extension: str,
    names: tuple[str, str, str, str],
) -> None:
    text, spans = example
    table = read(write_entities(tmp_path / f"train.{extension}", text, spans, names), "ner")

    assert bio_spans(list(table["tags"][0])) == spans
    assert list(table["words"][0]) == [text[start:end] for start, end in split_words(text)]


@given(texts_with_entities(letters))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_entities_survive_normalization(
    tmp_path: Path, example: tuple[str, list[tuple[int, int, str]]]
) -> None:
    text, spans = example
    normalize = Normalizer("standard")
    names = ("entities", "start", "end", "label")
    path = write_entities(tmp_path / "train.jsonl", text, spans, names)
    table = read(path, "ner", normalization="standard")
    words = list(table["words"][0])

    originals = split_words(text)
    expected = [
        (normalize(text[originals[first][0] : originals[end - 1][1]]), label)
        for first, end, label in spans
    ]
    found = [
        (" ".join(words[first:end]), label)
        for first, end, label in bio_spans(list(table["tags"][0]))
    ]
    assert [label for _, label in found] == [label for _, label in expected]
    assert ["".join(text.split()) for text, _ in found] == [
        "".join(text.split()) for text, _ in expected
    ]


def found_in(folder: Path, *names: str, format: str = "auto") -> dict[str, list[tuple[str, str]]]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return {
        split: [(file.path.relative_to(folder).as_posix(), file.language) for file in files]
        for split, files in find_splits(folder, format).items()
    }


def test_run_folders_are_not_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("test-run", "train/a/run"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "run.json").write_text('{"made": []}', encoding="utf-8")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "run.json").write_text('[{"text": "a"}]', encoding="utf-8")
    names = ("train/a/1.csv", "test-run/predictions.parquet", "train/a/run/data/train.parquet")
    with caplog.at_level("INFO", logger="saarthi"):
        assert found_in(tmp_path, *names) == {
            "train": [("train/a/1.csv", "")],
            "validation": [("dev/run.json", "")],
        }
    [line] = [each.message for each in caplog.records if "folders of runs" in each.message]
    assert "test-run, train/a/run" in line


EXTRA = ("README.md", "LICENSE", "LICENSE.txt", ".DS_Store", "train.xls", ".hidden/train.csv")
FOLDERS: dict[str, tuple[tuple[str, ...], dict[str, list[tuple[str, str]]]]] = {
    "a file a split": (
        ("train.jsonl", "dev.csv", "test.parquet", "unlabelled.txt", "trusted.tsv"),
        {
            "train": [("train.jsonl", "")],
            "validation": [("dev.csv", "")],
            "test": [("test.parquet", "")],
            "transfer": [("unlabelled.txt", "")],
            "clean": [("trusted.tsv", "")],
        },
    ),
    "Universal Dependencies": (
        ("mr_ufal-ud-train.conllu", "mr_ufal-ud-dev.conllu", "fi_tdt-ud-test.conllu"),
        {
            "train": [("mr_ufal-ud-train.conllu", "marathi")],
            "validation": [("mr_ufal-ud-dev.conllu", "marathi")],
            "test": [("fi_tdt-ud-test.conllu", "fi")],
        },
    ),
    "languages in the names": (
        ("hindi-train.jsonl", "train.mr.conll", "train_hi-en.csv", "test_en.csv", "pos_test.csv"),
        {
            "train": [
                ("hindi-train.jsonl", "hindi"),
                ("train.mr.conll", "marathi"),
                ("train_hi-en.csv", "hinglish"),
            ],
            "test": [("pos_test.csv", ""), ("test_en.csv", "english")],
        },
    ),
    "parts": (
        ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "validation.parquet"),
        {
            "train": [("train-00000-of-00002.parquet", ""), ("train-00001-of-00002.parquet", "")],
            "validation": [("validation.parquet", "")],
        },
    ),
    "a folder a split": (
        ("train/part-0.parquet", "train/part-1.parquet", "train/_SUCCESS", "val/hindi.csv"),
        {
            "train": [("train/part-0.parquet", ""), ("train/part-1.parquet", "")],
            "validation": [("val/hindi.csv", "hindi")],
        },
    ),
    "a folder a language": (
        ("hindi/train.conll", "en/train.conll", "runs/test.csv"),
        {"train": [("en/train.conll", "english"), ("hindi/train.conll", "hindi")]},
    ),
    "a file a language": (
        ("hindi.conllu", "english.conllu"),
        {"train": [("english.conllu", "english"), ("hindi.conllu", "hindi")]},
    ),
    "a file a language beside other splits": (
        (
            "hindi_1.conllu",
            "english_data.conllu",
            "marathi/1.conllu",
            "test.conllu",
            "hi_words.csv",
        ),
        {
            "train": [
                ("english_data.conllu", "english"),
                ("hindi_1.conllu", "hindi"),
                ("marathi/1.conllu", "marathi"),
            ],
            "test": [("test.conllu", "")],
        },
    ),
    "codes beside a split": (
        ("train.csv", "id.csv", "it.csv", "hin_1.csv", "mr/1.csv", "hindi/id.csv"),
        {"train": [("train.csv", "")]},
    ),
    "codes alone": (
        ("id.csv", "it.csv"),
        {"train": [("id.csv", "indonesian"), ("it.csv", "italian")]},
    ),
    "one file": (("sofmattress.csv",), {"train": [("sofmattress.csv", "")]}),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_names_of_files_show_the_split(tmp_path: Path, case: str) -> None:
    names, expected = FOLDERS[case]
    assert found_in(tmp_path, *names, *EXTRA) == expected


def test_given_format_allows_unknown_extensions(tmp_path: Path) -> None:
    assert found_in(tmp_path, "train.data", format="csv") == {"train": [("train.data", "")]}
    write(tmp_path / "train.data", "text;label\nhi;x\n")
    assert list(read(tmp_path / "train.data", INTENT, data_format="csv")["text"]) == ["hi"]


def test_ignored_data_files_are_logged(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    found_in(tmp_path, "train.csv", "peers.csv", "README.md")
    assert "ignored, names without a split: peers.csv" in log.text


def test_files_named_by_language_are_train_with_a_warning(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    found_in(tmp_path, "train.csv", "hindi.csv", "id.csv")
    messages = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
    assert any("read as train, named after languages: hindi.csv" in m for m in messages)
    assert any("ignored, names without a split: id.csv" in m for m in messages)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.csv", "train.jsonl"], "several files for the train split .*; keep one"),
        (["train/a.csv", "train/a.tsv"], "several files for the train split .*; keep one"),
        (["test.csv", "train.csv.gz"], r"no train file \(found: test.csv, train.csv.gz\)"),
        (["first.csv", "second.csv"], r"no train file \(found: first.csv, second.csv\)"),
        (["bots/v2/train.csv", "notes.csv"], r"\(found: (bots/v2/train|notes).csv, \w.*\); put"),
        ([f"{name}.csv" for name in "abcdefghijkl"], r"\(found: a.csv, .*, j.csv and 2 more\)"),
        (None, "no such folder; set input_path"),
    ],
)
def test_unusable_folder_error_names_the_remedy(
    tmp_path: Path, names: list[str] | None, message: str
) -> None:
    folder = tmp_path / "data"
    if names is not None:
        folder.mkdir()
    with pytest.raises(DataError, match=message) as caught:
        found_in(folder, *(names or ()))
    assert str(folder) in str(caught.value)


DATA = Path(__file__).parents[3].parent / "shared" / "data"
SETS: dict[str, tuple[str, dict[str, int]]] = {
    "snips_en": ("joint", {"train": 13_084, "validation": 700, "test": 700}),
    "hint3_sofmattress": (INTENT, {"train": 328, "test": 397}),
    "hinglish_top": ("joint", {"train": 2_511, "validation": 1_157}),
    "il_ner_hindi": ("ner", {"train": 10_983, "validation": 1_378}),
    "ud_marathi_ufal": ("pos", {"train": 373, "validation": 46, "test": 47}),
    "ud_pud": ("pos", {"train": 1_204}),
}


@pytest.mark.skipif(not DATA.is_dir(), reason="the benchmark data are not here")
@pytest.mark.parametrize("name", SETS)
def test_benchmark_sets_are_read_unchanged(name: str) -> None:
    task, sizes = SETS[name]
    problems: list[Problem] = []
    options = reading(task, normalization="standard")
    read_sizes = {
        split: sum(
            len(read_table(file, options, problems=problems, root=DATA / name)) for file in files
        )
        for split, files in find_splits(DATA / name).items()
    }

    assert read_sizes == sizes
    if name != "il_ner_hindi":
        kinds = {problem.kind for problem in problems}
        assert kinds == ({"multiword-token"} if name.startswith("ud_") else set())
        return
    # Each line of the file whose tag is not of the BIO form is listed, and no other.
    for split in sizes:
        lines = (DATA / name / f"{split}.conll").read_text(encoding="utf-8").split("\n")
        wrong = [
            number
            for number, line in enumerate(lines, 1)
            if line.strip() and not re.fullmatch(r".+\t(O|[BI]-[A-Z]+)", line)
        ]
        assert [p.row for p in problems if p.file == f"{split}.conll"] == wrong
    assert {p.row for p in problems} >= {8388, 10217, 10219, 213885}
    assert {problem.kind for problem in problems} == {"malformed-tag", "malformed-line"}
