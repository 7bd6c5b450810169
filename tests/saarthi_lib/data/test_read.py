import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saarthi_lib.data.read import find_splits, read_table
from saarthi_lib.errors import DataError
from saarthi_lib.tasks import bio_spans
from saarthi_lib.text.words import split_words

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


def error_of(path: Path, task: str, labelled: bool = True) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path, task, labelled)
    return str(caught.value)


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
    table = read_table(path, INTENT)

    assert table[["text", "label", "lang"]].to_dict("records") == ROWS
    assert list(table["row"]) == ([2, 3] if extension in ("csv", "tsv") else [1, 2])


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "conll"])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, extension: str) -> None:
    content = {
        "csv": "text,label\nhi,x\n",
        "tsv": "text\tlabel\nhi\tx\n",
        "jsonl": '{"text": "hi", "label": "x"}\n',
        "conll": "hi\tx\n",
    }[extension]
    path = write(tmp_path / f"train.{extension}", b"\xef\xbb\xbf" + content.encode())

    table = read_table(path, "pos" if extension == "conll" else INTENT)
    assert list(table["text"]) == ["hi"]


@pytest.mark.parametrize("extension", ["jsonl", "parquet"])
def test_entities_become_tags(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"train.{extension}"
    rows = [ENTITY_ROW, {"text": "hello", "intent": "greet", "entities": [], "lang": None}]
    if extension == "jsonl":
        write(path, rows)
    else:
        pd.DataFrame(rows).to_parquet(path)
    table = read_table(path, "joint")

    assert list(table["words"][0]) == ["play", "Lata", "Mangeshkar", ",", "now"]
    assert list(table["tags"][0]) == ["O", "B-artist", "I-artist", "O", "O"]
    assert list(table["tags"][1]) == ["O"]
    assert list(table["label"]) == ["play", "greet"]
    assert list(table["lang"]) == ["english", "unknown"]


def test_words_with_tags_are_kept_as_given(tmp_path: Path) -> None:
    row = {"words": ["New York", "is", "big"], "tags": ["B-city", "O", "O"]}
    table = read_table(write(tmp_path / "train.jsonl", [row]), "ner")

    assert table["text"][0] == "New York is big"
    assert (list(table["words"][0]), list(table["tags"][0])) == (row["words"], row["tags"])


@pytest.mark.parametrize("separator", ["\t", " "])
def test_conll_sentences(tmp_path: Path, separator: str) -> None:
    lines = ["# lang = hindi", "लता B-NEP", "गाती O", "", "", "-DOCSTART- O", "", "#now O", "है O"]
    content = "\n".join(
        line if line[:2] == "# " else line.replace(" ", separator) for line in lines
    )
    table = read_table(write(tmp_path / "train.conll", content), "ner")

    assert [list(words) for words in table["words"]] == [["लता", "गाती"], ["#now", "है"]]
    assert [list(tags) for tags in table["tags"]] == [["B-NEP", "O"], ["O", "O"]]
    assert list(table["lang"]) == ["hindi", "hindi"]
    assert list(table["row"]) == [2, 8]


def test_conll_takes_the_first_and_the_last_column(tmp_path: Path) -> None:
    content = "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n"
    table = read_table(write(tmp_path / "train.conll", content), "ner")

    assert (list(table["words"][0]), list(table["tags"][0])) == (["EU", "rejects"], ["B-ORG", "O"])


def test_conllu_reads_the_words_beneath_multiword_tokens(tmp_path: Path) -> None:
    content = (
        "# text = vámonos al mar\n"
        "1-2\tvámonos\t_\t_\t_\n1\tvamos\tir\tVERB\t_\n2\tnos\tnosotros\tPRON\t_\n"
        "3-4\tal\t_\t_\t_\n3\ta\ta\tADP\t_\n4\tel\tel\tDET\t_\n5\tmar\tmar\tNOUN\t_\n"
        "5.1\tnothing\t_\tVERB\t_\n\n"
        "1\t#\t#\tSYM\t_\n"
    )
    table = read_table(write(tmp_path / "train.conllu", content), "pos")

    assert list(table["words"][0]) == ["vamos", "nos", "a", "el", "mar"]
    assert list(table["tags"][0]) == ["VERB", "PRON", "ADP", "DET", "NOUN"]
    assert list(table["words"][1]) == ["#"]
    assert list(table["row"]) == [3, 11]


@pytest.mark.parametrize("text", ["text", "sentence", "Utterance", "query"])
@pytest.mark.parametrize("label", ["label", "Intent", "class", "category"])
@pytest.mark.parametrize("lang", ["lang", "language", "Locale"])
def test_usual_column_names_are_known(tmp_path: Path, text: str, label: str, lang: str) -> None:
    content = f"id,{label},{text},{lang}\n7,on,light on,HI\n"
    table = read_table(write(tmp_path / "train.csv", content), INTENT)

    assert table[["text", "label", "lang"]].to_dict("records") == [
        {"text": "light on", "label": "on", "lang": "hindi"}
    ]


def test_values_that_look_like_something_else_stay_text(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "train.csv", "text,label\nNA,007\nnull,1.0\n"), INTENT)

    assert list(table["text"]) == ["NA", "null"]
    assert list(table["label"]) == ["007", "1.0"]


def test_unlabelled_text_needs_no_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "transfer.jsonl", [{"text": "light on!"}])

    assert list(read_table(path, INTENT, labelled=False)) == ["row", "text", "lang"]
    table = read_table(path, "ner", labelled=False)
    assert list(table["words"][0]) == ["light", "on", "!"]
    assert "tags" not in table


BAD_FILES = {
    "missing text column": (INTENT, "csv", "words said,label\nhi,x\n", "row 1", "name it one of"),
    "missing text in a JSON row": (
        INTENT,
        "jsonl",
        [{"text": "hi", "label": "x"}, {"label": "x"}],
        "row 2",
        "name it one of",
    ),
    "missing label column": (INTENT, "csv", "text,id\nhi,1\n", "row 2", "name its column one of"),
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
        "one JSON object a line",
    ),
    "JSON of another shape": (INTENT, "jsonl", '["hi"]\n', "row 1", "write one a line"),
    "unquoted comma": (INTENT, "csv", "text,label\nhi, you,x\n", "row 2", "double quotes"),
    "unquoted commas everywhere": (
        INTENT,
        "csv",
        "text,label\na, b,x\nc, d,y\n",
        "row 2",
        "double quotes",
    ),
    "missing cell": (INTENT, "csv", "text,label\nhi\n", "row 2", "double quotes"),
    "open quote": (INTENT, "csv", 'text,label\n"hi,x\nho,y\n', "row 3", "correct its quotes"),
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
        [{"text": "a b", "words": "a b", "tags": ["O"]}],
        "row 1",
        "must be a list",
    ),
    "words that are not in the text": (
        "ner",
        "jsonl",
        [{"text": "a b", "words": ["b", "a"], "tags": ["O", "O"]}],
        "row 1",
        "correct one of them",
    ),
    "entities for a tag a word": (
        "pos",
        "jsonl",
        [{"text": "a b", "entities": []}],
        "row 1",
        "needs a tag for each word",
    ),
    "nothing but words without tags": ("ner", "conll", "\na\n", "row 2: line 2", "fill it in"),
    "no rows": (INTENT, "csv", "text,label\n", "", "fill it in"),
    "no content": (INTENT, "csv", "", "row 1", "name it one of"),
    "not Parquet": (INTENT, "parquet", b"text", "", "write it again"),
}


@pytest.mark.parametrize("problem", BAD_FILES)
def test_an_unusable_file_names_the_row_and_says_what_to_do(tmp_path: Path, problem: str) -> None:
    task, extension, content, row, advice = BAD_FILES[problem]
    path = write(tmp_path / f"train.{extension}", content)
    message = error_of(path, task)

    assert message.startswith(str(path))
    assert row in message
    assert advice in message


@pytest.mark.parametrize("column", ["text", "label"])
def test_a_null_of_parquet_is_empty(tmp_path: Path, column: str) -> None:
    path = tmp_path / "train.parquet"
    pd.DataFrame([ROWS[0], {**ROWS[1], column: None}]).to_parquet(path)

    assert f"row 2: the {column} is empty" in error_of(path, INTENT)


def test_a_wrong_byte_is_found_far_into_a_file(tmp_path: Path) -> None:
    content = "text,label\n" + "turn the light on,x\n" * 20_000
    path = write(tmp_path / "train.csv", content.encode() + b"h\xe9,x\n")

    assert "row 20002: is not UTF-8" in error_of(path, INTENT)


@pytest.mark.parametrize("name", ["train.xlsx", "train.jsonl"])
def test_a_file_that_is_not_there_or_not_readable_is_named(tmp_path: Path, name: str) -> None:
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
def test_entities_within_words_are_widened_and_told(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    start: int,
    end: int,
    expected: list[str],
    widened: bool,
) -> None:
    monkeypatch.setattr(logging.getLogger("saarthi"), "propagate", True)
    entity = {"start": start, "end": end, "label": "artist"}
    row = {"text": "play Lata Mangeshkar now", "entities": [entity]}
    with caplog.at_level(logging.WARNING, "saarthi"):
        table = read_table(write(tmp_path / "train.jsonl", [row, row]), "ner")

    assert list(table["tags"][0]) == expected
    told = "2 entities begin or end inside a word" in caplog.text
    assert told == widened


@pytest.mark.parametrize("line", ["word", "\tO", "word\t", "word\t-NEL", "word\t-", "word\tB-"])
def test_malformed_sentences_are_left_out_and_told(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
) -> None:
    monkeypatch.setattr(logging.getLogger("saarthi"), "propagate", True)
    content = f"a\tB-x\n\nb\tO\n{line}\n\nc\tO\n"
    with caplog.at_level(logging.WARNING, "saarthi"):
        table = read_table(write(tmp_path / "train.conll", content), "ner")

    assert list(table["text"]) == ["a", "c"]
    assert "train.conll: 1 sentences are malformed and left out, the first at row 3" in caplog.text


scripts = st.one_of(
    st.text("abcdefXYZ0189", min_size=1, max_size=6),
    st.text("कखगतदनपमरलसह" + "ािीुूेैोौं्", min_size=1, max_size=6),
    st.text("கசடதபறயரலவ" + "ாிீுூெேைொ்", min_size=1, max_size=6),
    st.text("بپتدرسکگلمن", min_size=1, max_size=6),
    st.sampled_from([",", "?", "।", "'", "🙂"]),
)


@st.composite
def texts_with_entities(draw: st.DrawFn) -> tuple[str, list[tuple[int, int, str]]]:
    """A text and spans of its words: (first word, last word + 1, label)."""
    words = draw(st.lists(scripts, min_size=1, max_size=8))
    gaps = draw(st.lists(st.sampled_from([" ", "  ", "\t"]), min_size=len(words)))
    text = "".join(word + gap for word, gap in zip(words, gaps, strict=False)).strip()
    count = len(split_words(text))
    spans, position = [], 0
    while position < count:
        length = draw(st.integers(0, 3))
        end = min(count, position + length)
        if length:
            spans.append((position, end, draw(st.sampled_from(["area", "time-of-day"]))))
        position = end + 1 if not length else end
    return text, spans


@given(texts_with_entities())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_entities_at_word_boundaries_survive(
    tmp_path: Path, example: tuple[str, list[tuple[int, int, str]]]
) -> None:
    text, spans = example
    words = split_words(text)
    entities = [
        {"start": words[first][0], "end": words[end - 1][1], "label": label}
        for first, end, label in reversed(spans)
    ]
    path = write(tmp_path / "train.jsonl", [{"text": text, "entities": entities}])
    table = read_table(path, "ner")

    assert bio_spans(list(table["tags"][0])) == spans
    assert list(table["words"][0]) == [text[start:end] for start, end in words]


def test_splits_are_found_by_their_names(tmp_path: Path) -> None:
    for name in ("train.jsonl", "dev.csv", "test.parquet", "notes.txt", "train.txt"):
        (tmp_path / name).touch()

    found = {split: path.name for split, path in find_splits(tmp_path).items()}
    assert found == {"train": "train.jsonl", "validation": "dev.csv", "test": "test.parquet"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.csv", "train.jsonl"], "several files for the train split .*; keep one"),
        (["train.csv", "dev.csv", "validation.csv"], "several files for the validation split"),
        (["test.csv"], "no train file; put in train"),
        (None, "no such folder; set input_path"),
    ],
)
def test_an_unusable_folder_says_what_to_do(
    tmp_path: Path, names: list[str] | None, message: str
) -> None:
    folder = tmp_path / "data"
    if names is not None:
        folder.mkdir()
        for name in names:
            (folder / name).touch()

    with pytest.raises(DataError, match=message) as caught:
        find_splits(folder)
    assert str(folder) in str(caught.value)
