"""Valid and broken files of every data format: they are read, or refused with a DataError.

Each target takes a random generator, and raises an error for a finding.
"""

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Hashable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.formats import EXTENSIONS
from saarthi_lib.data.read import Problem, find_splits, read_chunks
from saarthi_lib.data.tag_schemes import TagForm, is_well_formed
from saarthi_lib.errors import DataError
from saarthi_lib.tasks import HEADS, has_sequence_head, has_token_head, uses_bio
from tests.conftest import reading

SENTENCES = ("turn on the light", "रसोई की बत्ती जला दो", "play music", "எனக்கு பசிக்குது", "ok")
LABELS = ("on", "play", "बत्ती", "0", "x y")
TAGS = ("O", "B-room", "I-room", "E-room", "S-day", "B-", "-", "NOUN", "VERB", "_", "b-room", "")
FORMS = (
    TAGS[:3],
    TAGS,
    ("O", "B_room", "I_room"),
    ("o", "room-b", "room-i"),
    ("O", "B", "I"),
    ("O", "room", "day"),
    ("OTHER", "B-room", "I-room"),
    ("O", "B:room", "U:room", "L:room"),
)
# White space, line ends, quotes, direction, halves of characters, and tokens of the formats.
ODD = (
    *(
        "\x00",
        "\t",
        "\n",
        "\r",
        "\r\n",
        "\x0b",
        "\x1c",
        "\x85",
        "\xa0",
        "\u2028",
        "\u200d",
        "\ufeff",
    ),
    *('"', '""', "'", ",", ";", "#", "# lang = hi", "\\", "\\u0000", "\\ud800", "{", "}", "[", "]"),
    *(
        "\ufffd",
        "\uffff",
        "\U0010ffff",
        "e\u0301",
        "\u093c",
        "-DOCSTART-",
        "1-2",
        "1.1",
        "NaN",
        "null",
    ),
    *("1e999", "-0", "9" * 400, "PAR1", "a" * 200),
)
COLUMNS = (
    *("text", "label", "lang", "tokens", "words", "tags", "ner_tags", "entities", "group", "id"),
    *("Text", " text", "sentence", "intent", "", "slots", "text"),
)
ENDINGS = ("\n", "\n", "\r\n", "\r", "\n\n")


def some_text(draw: Random) -> str:
    """A sentence, sometimes with odd characters."""
    parts = [draw.choice(SENTENCES)]
    while draw.random() < 0.25:
        parts.insert(draw.randrange(len(parts) + 1), draw.choice(ODD))
    return draw.choice(("", " ")).join(parts) if draw.random() < 0.95 else ""


def some_value(draw: Random, depth: int = 0) -> Any:
    """Any value that JSON or Parquet can hold."""
    kind = draw.randrange(12 if depth < 3 else 9)
    plain: tuple[Callable[[], Any], ...] = (
        lambda: some_text(draw),
        lambda: draw.choice(LABELS),
        lambda: draw.choice((0, 1, -1, 2**31, 2**63, 10**30)),
        lambda: draw.choice((0.5, float("nan"), float("inf"), -0.0, 1e308)),
        lambda: draw.choice((True, False)),
        lambda: None,
        lambda: some_text(draw).split(),
        lambda: [draw.choice(TAGS) for _ in range(draw.randrange(5))],
        lambda: {"start": draw.randrange(-2, 30), "end": draw.randrange(-2, 30), "label": "room"},
        lambda: [some_value(draw, depth + 1) for _ in range(draw.randrange(4))],
        lambda: {draw.choice(COLUMNS): some_value(draw, depth + 1) for _ in range(3)},
        lambda: [some_entity(draw) for _ in range(draw.randrange(4))],
    )
    return plain[kind]()


def some_entity(draw: Random) -> Any:
    """An entity, usually valid."""
    start = draw.randrange(0, 12)
    names = draw.choice(
        (("start", "end", "label"), ("begin", "stop", "type"), ("start", "end", ""))
    )
    values: list[Any] = [
        start,
        start + draw.randrange(0, 9),
        draw.choice(("room", "", "a b", None, 3)),
    ]
    if draw.random() < 0.1:
        values[draw.randrange(3)] = draw.choice((None, "3", "x", 2**70, 1.5, [], float("nan")))
    return values if draw.random() < 0.2 else dict(zip(names, values, strict=True))


def some_row(draw: Random) -> dict[str, Any]:
    """A row, usually valid."""
    text = some_text(draw)
    row: dict[str, Any] = {"text": text, "label": draw.choice(LABELS), "lang": "hi-IN"}
    if draw.random() < 0.4:
        row["tokens"] = text.split()
        tags = draw.choice(FORMS)
        row["tags"] = [draw.choice(tags) for _ in row["tokens"]]
    elif draw.random() < 0.5:
        row["entities"] = [some_entity(draw) for _ in range(draw.randrange(3))]
    while draw.random() < 0.2:
        row[draw.choice(COLUMNS)] = some_value(draw)
    while row and draw.random() < 0.1:
        del row[draw.choice(list(row))]
    return row


def some_rows(draw: Random) -> list[dict[str, Any]]:
    return [some_row(draw) for _ in range(draw.randrange(7))]


def delimited(draw: Random) -> bytes:
    """CSV or TSV with several kinds of quotes."""
    rows, file = some_rows(draw), io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["text", "label"]
    writer = csv.writer(
        file,
        delimiter=draw.choice(",;\t"),
        quoting=draw.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
        lineterminator=draw.choice(ENDINGS),
    )
    if draw.random() < 0.05:
        file.write(draw.choice(("sep=;\n", "sep=,\r\n", "sep=", "SEP=\t\n")))
    writer.writerow(names)
    as_text = draw.choice((json.dumps, str, repr, lambda cell: str(np.array(cell, dtype=object))))
    for row in rows:
        cells = [row.get(name, "") for name in names]
        writer.writerow(
            [
                as_text(cell) if isinstance(cell, list | dict) and draw.random() < 0.8 else cell
                for cell in cells
            ]
        )
    return encoded(draw, file.getvalue())


def json_lines(draw: Random) -> bytes:
    """Objects, and sometimes other values, one per line or in an array."""
    rows: list[Any] = some_rows(draw)
    while draw.random() < 0.1:
        rows.append(some_value(draw))
    ascii_only = draw.random() < 0.5
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    if draw.random() < 0.05:
        lines.append("[" * 10**5)
    if draw.random() < 0.3:
        array = "[" + draw.choice((",", ",\n", "\n")).join(lines) + "]"
        around = draw.choice(
            ("{}", "{}", "{0}\n{0}", '{{"data": {}}}', "{} x", '{{"a": 1, "b": {}}}')
        )
        return encoded(draw, around.format(array))
    if draw.random() < 0.1:
        return encoded(draw, "".join(json.dumps(row, indent=1) for row in rows))
    return encoded(draw, draw.choice(ENDINGS).join(lines))


def conll(draw: Random) -> bytes:
    """CoNLL with 2 to 4 columns, or CoNLL-U."""
    lines: list[str] = []
    universal = draw.random() < 0.4
    separator = "\t" if universal else draw.choice((" ", "\t", "  "))
    width = 10 if universal else draw.randrange(2, 5)
    tags, label = draw.choice(FORMS), draw.choice(("", "", "", "play", "BOS"))
    for _ in range(draw.randrange(6)):
        if draw.random() < 0.3:
            other = ("#", "-DOCSTART- O", "# id 1a\tdomain=hi", "#x O", "#\tO", "BOS O")
            lines.append(draw.choice(("# lang = hi", "# text = x", "# label: a", *other)))
        for at, word in enumerate(some_text(draw).split(), 1):
            cells = ["_"] * width
            cells[0 if not universal else 1] = word
            if universal:
                cells[0] = draw.choice((str(at), str(at), str(at), "1-2", "8.1", "x", "0"))
                cells[3] = draw.choice(("NOUN", "VERB", "_", ""))
            else:
                cells[-1] = draw.choice(tags)
            if draw.random() < 0.03:
                cells = cells[: draw.randrange(width)]
            lines.append(separator.join(cells))
        if label:
            lines.append(label if label != "BOS" else separator.join(["EOS", *["_"] * width])[:-2])
        lines.append("")
    return encoded(draw, draw.choice(ENDINGS[:4]).join(lines))


def plain_lines(draw: Random) -> bytes:
    """One text per line."""
    lines = [some_text(draw) for _ in range(draw.randrange(9))]
    return encoded(draw, draw.choice(ENDINGS).join(lines))


def table(draw: Random) -> bytes:
    """Parquet, with columns of the types of the values."""
    rows = some_rows(draw)
    columns: dict[str, pa.Array] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, UnicodeError, OverflowError):
            columns[name] = pa.array([None if v is None else repr(v) for v in values])
        if draw.random() < 0.1:
            kind = draw.choice((pa.binary(), pa.large_string(), pa.int8(), pa.timestamp("ns")))
            try:
                columns[name] = columns[name].cast(kind)
            except (pa.ArrowException, RuntimeError):
                columns[name] = pa.array([b"\xff\xfe"] * len(rows))
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def encoded(draw: Random, text: str) -> bytes:
    """Usually UTF-8, sometimes with a byte order mark; halves of characters stay."""
    mark = b"\xef\xbb\xbf" if draw.random() < 0.1 else b""
    if draw.random() < 0.03:
        return text.encode(draw.choice(("utf-16", "latin-1", "utf-32")), "replace")
    return mark + text.encode("utf-8", "surrogatepass")


def broken(draw: Random, content: bytes) -> bytes:
    """Usually unchanged bytes; otherwise bytes are changed, removed, doubled or inserted."""
    if draw.random() < 0.7 or not content:
        return content
    made = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        at, length = draw.randrange(len(made) + 1), draw.choice((1, 1, 4, 40))
        match draw.randrange(5):
            case 0 if at < len(made):
                made[at] ^= 1 << draw.randrange(8)
            case 1:
                del made[at : at + length]
            case 2:
                made[at:at] = made[at : at + length]
            case 3:
                made[at:at] = draw.choice(ODD).encode("utf-8", "surrogatepass")
            case _:
                made[at:at] = draw.randbytes(length)
    return bytes(made)


SOURCES: dict[str, tuple[Callable[[Random], bytes], tuple[str, ...]]] = {
    "CSV, TSV": (delimited, (".csv", ".tsv", ".txt")),
    "JSON": (json_lines, (".jsonl", ".json")),
    "CoNLL, CoNLL-U": (conll, (".conll", ".bio", ".conllu", ".txt")),
    "lines": (plain_lines, (".txt",)),
    "Parquet": (table, (".parquet",)),
}


def some_options(draw: Random) -> TrainConfig:
    """Options, usually the defaults."""

    def named(*columns: str) -> str:
        return draw.choice(columns) if draw.random() < 0.1 else ""

    return reading(
        task=draw.choice(list(HEADS)),
        data_format=draw.choice(("csv", "tsv", "jsonl", "conll", "conllu"))
        if draw.random() < 0.1
        else "auto",
        text_column=named("text", "sentence", "0", "1", "2", "99", "form", "x"),
        label_column=named("label", "tags", "1", "4", "upos", "-1", "x"),
        language_column=named("lang", "x"),
        group_column=named("group", "id", "x"),
        language=named("hindi", "hi"),
        normalization=draw.choice(("none", "standard", "romanized")),
        max_malformed_share=draw.choice((0.05, *[1.0] * 9)),
    )


def reader(kind: str) -> Callable[[Random], None]:
    """Target of a format."""
    make, extensions = SOURCES[kind]

    def target(draw: Random) -> None:
        content = broken(draw, make(draw))
        extension = draw.choice(extensions if draw.random() < 0.9 else list(EXTENSIONS))
        check_read(content, extension, some_options(draw), labelled=draw.random() < 0.8)

    return target


def check_read(content: bytes, extension: str, options: TrainConfig, labelled: bool) -> bool:
    """Whether the file could be read; if so, check that its rows are consistent."""
    path = _PLACE / f"train{extension}"
    path.write_bytes(content)
    problems: list[Problem] = []
    try:
        tables = list(read_chunks(path, options, labelled=labelled, problems=problems))
    except DataError as error:
        assert str(path) in str(error), f"the message does not name the file: {error}"
        str(error).encode()
        return False
    for problem in problems:
        assert problem.row >= 1 and problem.message, problem
        problem.message.encode("utf-8", "surrogatepass")
    rows = [row for found in tables for row in found.to_dict("records")]
    for row in rows:
        _check_row(row, options, labelled)
    if tables:
        pd.concat(tables).to_parquet(_PLACE / "written.parquet")
    try:
        few = list(read_chunks(path, options, labelled=labelled, rows=2))
    except DataError:
        return True  # perhaps only the first two rows are bad
    assert [row for found in few for row in found.to_dict("records")] == rows
    return True


def _check_row(row: dict[Hashable, Any], options: TrainConfig, labelled: bool) -> None:
    assert row["text"].strip() and row["lang"], row
    if has_sequence_head(options.task) and labelled:
        assert row["label"] and row["label"] == row["label"].strip(), row
    if has_token_head(options.task) and labelled:
        words, tags = list(row["words"]), list(row["tags"])
        spans = list(zip(row["starts"], row["ends"], strict=True))
        assert words and len(words) == len(tags) == len(spans), row
        for word, (start, end) in zip(words, spans, strict=True):
            assert word == row["text"][start:end] or start == end, row
        if uses_bio(options.task):
            assert all(is_well_formed(tag, TagForm()) for tag in tags), row
    for value in row.values():
        str(value).encode()


def splits(draw: Random) -> None:
    """Names of files and folders in an input folder."""
    parts = (
        "train",
        "dev",
        "test",
        "hindi",
        "en",
        "part",
        "0",
        "README",
        ".hidden",
        "clean",
        "ü",
        "",
    )
    with tempfile.TemporaryDirectory(dir=_PLACE) as folder:
        for _ in range(draw.randrange(7)):
            names = [
                draw.choice("-_. ").join(draw.choice(parts) for _ in range(draw.randrange(1, 4)))
                for _ in range(draw.choice((1, 1, 2)))
            ]
            path = Path(folder, *(name or "x" for name in names))
            path = path.with_name(path.name + draw.choice([*EXTENSIONS, "", ".md"]))
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("text,label\nhello,a\n")
            except OSError:  # the path of the folder is a file
                continue
        try:
            found = find_splits(folder)
        except DataError as error:
            assert folder in str(error)
            return
        assert found["train"] and all(file.path.is_file() for of in found.values() for file in of)


# Targets and their number of inputs in a long run.
READERS: dict[str, tuple[Callable[[Random], None], int]] = {
    **{f"readers: {kind}": (reader(kind), 50_000) for kind in SOURCES},
    "readers: names of files": (splits, 10_000),
}
_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
_FOLDER = tempfile.TemporaryDirectory(prefix="saarthi-fuzz-", dir=_MEMORY)
_PLACE = Path(_FOLDER.name)
