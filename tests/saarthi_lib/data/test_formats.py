import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saarthi_lib.data.formats import Columns, RawRow, raw_rows, recognize
from saarthi_lib.data.read import Problem, read_table
from saarthi_lib.data.tag_schemes import TagForm, detect_form, is_well_formed, to_bio
from saarthi_lib.errors import DataError
from saarthi_lib.tasks import bio_spans, bio_tags
from tests.conftest import reading

CONLL = "लता\tB-NEP\nगाती\tO\n\nदिल्ली\tB-NEL\n"
CONLLU = "# sent_id = 1\n1\tहै\tहै\tAUX\tVM\t_\t0\troot\t_\t_\n\n"
LABELLED = Columns(sequence=True)
UNLABELLED = Columns(labelled=False)


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8", newline="")
    return path


def rows_of(path: Path, columns: Columns = LABELLED) -> list[RawRow]:
    return list(raw_rows(path, recognize(path, columns), columns))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "text,label\nhi,x\n", "csv"),
        ("a.tsv", "text\tlabel\nhi\tx\n", "tsv"),
        ("a.jsonl", '{"text": "hi"}\n', "jsonl"),
        ("a.ndjson", '{"text": "hi"}\n', "jsonl"),
        ("a.json", '[\n{"text": "hi"}]', "jsonl"),
        ("a.txt", '{"text": "hi"}\n', "jsonl"),
        ("a.csv", '[{"text": "hi"}]', "jsonl"),
        ("a.conll", CONLL, "conll"),
        ("a.txt", CONLL, "conll"),
        ("a.tsv", CONLL, "conll"),
        ("a.bio", CONLL, "conll"),
        ("a.txt", "the DET\ndog NOUN\n\nruns VERB\n. .\n", "conll"),
        ("a.conllu", CONLLU, "conllu"),
        ("a.conll", CONLLU, "conllu"),
        ("a.txt", CONLLU, "conllu"),
        ("a.tsv", "text\ttags\na b\tO O\n", "tsv"),
        ("a.txt", "text\tlabel\nO\tO\n\n", "tsv"),
    ],
)
def test_content_and_extension_show_the_format(
    tmp_path: Path, name: str, content: str, expected: str
) -> None:
    assert recognize(write(tmp_path / name, content), LABELLED) == expected


def test_parquet_is_recognized_by_content(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.csv"):
        pd.DataFrame({"text": ["hi"], "label": ["x"]}).to_parquet(tmp_path / name)
        assert recognize(tmp_path / name, LABELLED) == "parquet"


def test_unknown_extension_error_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"use one of \.csv, .* or set data_format"):
        recognize(write(tmp_path / "a.xls", ""), LABELLED)


@pytest.mark.parametrize("extension", ["csv", "tsv", "txt"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_delimiter_does_not_depend_on_the_extension(
    tmp_path: Path, extension: str, delimiter: str, ending: str
) -> None:
    lines = ["\ufeffid|Sentence|Intent", '1|"well, yes; or\tno"|on', "2|off|off", ""]
    content = ending.join(lines).replace("|", delimiter)
    rows = rows_of(write(tmp_path / f"a.{extension}", content))

    assert [(row.row, row.text, row.label) for row in rows] == [
        (2, "well, yes; or\tno", "on"),
        (3, "off", "off"),
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt"])
def test_single_column_may_contain_separators(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "text\nno, thanks\nwell\n")
    assert [row.text for row in rows_of(path, UNLABELLED)] == ["no, thanks", "well"]


def test_plain_lines_are_unlabelled_text(tmp_path: Path) -> None:
    path = write(tmp_path / "transfer.txt", "light on, please\n\n  off\n")
    rows = rows_of(path, UNLABELLED)
    assert [(row.row, row.text) for row in rows] == [(1, "light on, please"), (3, "off")]

    lines = write(tmp_path / "words.txt", "नमस्ते दुनिया\n\nशुभ रात्रि\n")
    assert [row.text for row in rows_of(lines, UNLABELLED)] == ["नमस्ते दुनिया", "शुभ रात्रि"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt"])
def test_table_without_column_names_is_an_error(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "light on;on\nlight off;off\n")
    with pytest.raises(DataError, match=r"row 1: no column of text among .*row 1 must name"):
        rows_of(path)


def test_json_array_is_read_like_lines(tmp_path: Path) -> None:
    content = '\n[\n {"text": "a [",\n  "label": "x"},\n\n {"text": "b", "label": "y"}, 7]\n'
    rows = rows_of(write(tmp_path / "a.json", content))

    assert [(row.row, row.text, row.label) for row in rows[:2]] == [(3, "a [", "x"), (6, "b", "y")]
    assert rows[2].faults[0][:2] == (6, "not-json")


def test_long_json_array_is_read_in_blocks(tmp_path: Path) -> None:
    text = "x" * 3_000
    items = ",\n".join(f'{{"text": "{text}{i}", "label": "x"}}' for i in range(1_000))
    rows = rows_of(write(tmp_path / "a.json", f"[{items}]"))

    assert [row.text.removeprefix(text) for row in rows] == [str(i) for i in range(1_000)]
    assert [row.row for row in rows] == list(range(1, 1_001))


def test_broken_json_array_error_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '[{"text": "a", "label": "x"},\n{"text": oops}]')
    with pytest.raises(DataError, match="row 2: the array cannot be read from here on"):
        rows_of(path)


def test_entities_may_be_lists_of_three(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "play Lata", "label": [[5, 9, "artist"]]}\n')
    assert list(read_table(path, reading("ner"))["tags"][0]) == ["O", "B-artist"]


def test_tokens_with_offsets_are_ignored(tmp_path: Path) -> None:
    content = (
        '{"text": "play Lata", "tokens": [{"text": "play", "start": 0, "end": 4}], '
        '"spans": [{"start": 5, "end": 9, "label": "artist"}]}\n'
    )
    table = read_table(write(tmp_path / "a.jsonl", content), reading("ner"))
    assert list(table["words"][0]) == ["play", "Lata"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,intent,slots\nplay Lata,play,O B-artist\n"),
        ("a.csv", 'text;intent;entities\nplay Lata;play;"[[5, 9, ""artist""]]"\n'),
        ("a.tsv", "tokens\tner_tags\tintent\nplay Lata\tO B-artist\tplay\n"),
        ("a.jsonl", '{"tokens": ["play", "Lata"], "tags": ["O", "B-artist"], "intent": "play"}'),
        ("a.jsonl", '{"text": "play Lata", "slots": "O B-artist", "intent": "play"}'),
        ("a.conll", "# intent = play\nplay\tO\nLata\tB-artist\n"),
        ("a.conll", "# intent: play\n# text: play  Lata\nplay VB O\nLata NN B-artist\n"),
    ],
)
def test_words_and_tags_are_found_in_every_format(tmp_path: Path, name: str, content: str) -> None:
    row = read_table(write(tmp_path / name, content), reading("joint")).iloc[0]

    assert (list(row["words"]), list(row["tags"])) == (["play", "Lata"], ["O", "B-artist"])
    assert row["label"] == "play"


def test_parquet_is_read_by_row_group(tmp_path: Path) -> None:
    rows = [{"Text": f"text {i}", "intent": i % 3, "extra": [i]} for i in range(20_000)]
    path = tmp_path / "a.parquet"
    pd.DataFrame(rows).to_parquet(path, row_group_size=1_000)
    table = read_table(path, reading("intent_classification"))

    assert list(table["row"]) == list(range(1, 20_001))
    assert (table["text"].iloc[-1], table["label"].iloc[-1]) == ("text 19999", "1")


PARTS = "# sent_id = s1\nLata NNP B-NP B-PER\nsings VBZ B-VP O\n\n# sent_id = s2\nNow RB O O\n"


@pytest.mark.parametrize(
    ("task", "options", "tags"),
    [
        ("ner", {}, [["B-PER", "O"], ["O"]]),
        ("ner", {"label_column": "3"}, [["B-NP", "B-VP"], ["O"]]),
        ("pos", {"label_column": "2"}, [["NNP", "VBZ"], ["RB"]]),
    ],
)
def test_conll_columns_are_chosen_by_number(
    tmp_path: Path, task: str, options: dict[str, Any], tags: list[list[str]]
) -> None:
    path = write(tmp_path / "a.conll", PARTS)
    table = read_table(path, reading(task, group_column="sent_id", **options))

    assert [list(row) for row in table["tags"]] == tags
    assert list(table["group"]) == ["s1", "s2"]


def test_missing_conll_column_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", PARTS)
    with pytest.raises(
        DataError, match="no column 'tag'; set label_column or tags_column to a col"
    ):
        read_table(path, reading("pos", label_column="tag"))
    with pytest.raises(DataError, match="row 2: is not a word and a tag"):
        read_table(path, reading("pos", label_column="5"))


def test_conll_column_of_another_task_is_an_error(tmp_path: Path) -> None:
    message = (
        r"last column holds entity tags \(B-PER\), not parts of speech; column 2: NNP, VBZ, RB"
    )
    with pytest.raises(DataError, match=rf"{message}; set label_column"):
        read_table(write(tmp_path / "a.conll", PARTS), reading("pos"))
    for content in ("Lata B-PER NNP\nsings O VBZ\n", "Lata B-PER -\nsings O +\n"):
        with pytest.raises(DataError, match=r"column 2 \(B-PER\) holds .* set label_column"):
            read_table(write(tmp_path / "a.conll", content), reading("ner"))


def test_unlabelled_conll_needs_only_words(tmp_path: Path) -> None:
    path = write(tmp_path / "transfer.conll", "Lata\nsings\n\nNow\tO\n")
    table = read_table(path, reading("ner"), labelled=False)
    assert list(table["text"]) == ["Lata sings", "Now"]


UNIVERSAL = (
    "# newdoc id = d1\n# sent_id = s1\n# text = (Lata) sings.\n# lang = hi\n"
    "1\t(\t(\tPUNCT\t-LRB-\t_\n2\tLata\tLata\tPROPN\tNNP\t_\n3\t)\t)\tPUNCT\t-RRB-\t_\n"
    "4\tsings\tsing\tVERB\tVBZ\t_\n5\t.\t.\tPUNCT\t.\t_\n\n"
    "# sent_id = s2\n1-2\tal\t_\t_\t_\t_\n1\ta\ta\tADP\tIN\t_\n2\tel\tel\tDET\tDT\t_\n\n"
)


@pytest.mark.parametrize(
    ("column", "tags"),
    [
        ("", ["PUNCT", "PROPN", "PUNCT", "VERB", "PUNCT"]),
        ("XPOS", ["-LRB-", "NNP", "-RRB-", "VBZ", "."]),
        ("xpos", ["-LRB-", "NNP", "-RRB-", "VBZ", "."]),
        ("5", ["-LRB-", "NNP", "-RRB-", "VBZ", "."]),
    ],
)
def test_conllu_columns_and_comments(tmp_path: Path, column: str, tags: list[str]) -> None:
    path = write(tmp_path / "a.conllu", UNIVERSAL)
    table = read_table(path, reading("pos", label_column=column, group_column="sent_id"))

    assert list(table["tags"][0]) == tags
    assert list(table["text"]) == ["(Lata) sings.", "a el"]
    assert list(table["group"]) == ["s1", "s2"]
    assert list(table["lang"]) == ["hindi", "hindi"]
    assert list(table["row"]) == [5, 13]
    documents = read_table(path, reading("pos", group_column="newdoc id"))
    assert list(documents["group"]) == ["d1", "d1"]


def test_conllu_without_the_tag_is_malformed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conllu", UNIVERSAL)
    with pytest.raises(DataError, match="row 5: the word '\\(' has the tag '_'"):
        read_table(path, reading("pos", label_column="feats"))


def test_conllu_for_entities_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conllu", UNIVERSAL)
    with pytest.raises(DataError, match="set label_column to the column that holds them"):
        read_table(path, reading("ner"))


FORMS = {
    "BIO": ("O B-x I-x O B-x B-x", "BIO (B-label)", "O B-x I-x O B-x B-x"),
    "BIO that begins with I": (
        "O I-x I-x I-y B-y O B-x",
        "BIO (B-label); 2 of 4 entities begin with I",
        "O B-x I-x B-y B-y O B-x",
    ),
    "IOB1": ("I-x B-x I-x O I-y", "IOB1 (B-label)", "B-x B-x I-x O B-y"),
    "IO with I": ("I-x I-x O I-y", "IO (I-label)", "B-x I-x O B-y"),
    "BIOES": ("B-x I-x E-x S-x O S-y E-y I-y", "BIOES (B-label)", "B-x I-x I-x B-x O B-y B-y B-y"),
    "BILOU": ("B-x L-x I-x L-x U-y", "BILOU (B-label)", "B-x I-x B-x I-x B-y"),
    "BMES": ("B-x M-x E-x O S-y", "BMES (B-label)", "B-x I-x I-x O B-y"),
    "BMEWO": ("B-x M-x E-x O W-y", "BMEWO (B-label)", "B-x I-x I-x O B-y"),
    "labels": ("O x x y O time-of-day", "IO (label)", "O B-x I-x B-y O B-time-of-day"),
    "underscore": ("O B_x_y I_x_y B_z", "BIO (B_label)", "O B-x_y I-x_y B-z"),
    "colon": ("O B:x I:x", "BIO (B:label)", "O B-x I-x"),
    "slash": ("O B/x I/x", "BIO (B/label)", "O B-x I-x"),
    "two hyphens": ("O B--x I--x", "BIO (B--label)", "O B-x I-x"),
    "suffix": ("O x-B x-I y-a-B", "BIO (label-B)", "O B-x I-x B-y-a"),
    "suffix, underscore": ("O x_B x_E y_S", "BIOES (label_B)", "O B-x I-x B-y"),
    "small letters": ("o b-X i-X b-y", "BIO (b-label), with 'o' for O", "O B-X I-X B-y"),
    "small letters beside O": ("O b-x i-x O", "BIO (b-label)", "O B-x I-x O"),
    "letters alone": (
        "O B I O B",
        "BIO (B alone, so the entity type is 'entity')",
        "O B-entity I-entity O B-entity",
    ),
    "another O": ("OTHER B-x I-x OTHER", "BIO (B-label), with 'OTHER' for O", "O B-x I-x O"),
    "hyphen for O": ("- x x -", "IO (label), with '-' for O", "O B-x I-x O"),
    "types like letters": (
        "O e-mail e-mail O s-bahn",
        "IO (label)",
        "O B-e-mail I-e-mail O B-s-bahn",
    ),
    "type that ends in a letter": ("O B-x-I I-x-I", "BIO (B-label)", "O B-x-I I-x-I"),
    "all outside": ("O O", "", "O O"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("extension", ["conll", "jsonl"])
def test_every_form_of_tags_becomes_bio(tmp_path: Path, form: str, extension: str) -> None:
    tags, described, bio = FORMS[form]
    words = [f"w{i}" for i, _ in enumerate(tags.split())]
    content = json.dumps({"words": words, "tags": tags.split()})
    if extension == "conll":
        content = "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags.split(), strict=True))
    schemes: dict[str, str] = {}
    path = write(tmp_path / f"a.{extension}", content)
    table = read_table(path, reading("ner"), schemes=schemes)

    assert list(table["tags"][0]) == bio.split()
    assert list(schemes.values()) == [described] * bool(described)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("O B-x I-x O B-y", "B_x"),
        ("O B-x I-x O B-y", "x-B"),
        ("O B-x I-x O B-y", "I"),
        ("O B-x I-x O B-y", "z"),
        ("O B-x I-x O B-y", "b-x"),
        ("O B_x I_x O B_y", "B-x"),
        ("O x y O x", "B-x"),
        ("O x y O x", "y_I"),
        ("O x y O x", "B"),
        ("O x y O x", "(x*"),
        ("O x y O x", "'x',"),
    ],
)
def test_tag_of_another_form_is_malformed(tmp_path: Path, good: str, bad: str) -> None:
    lines = "".join(f"w\t{tag}\n" for tag in good.split())
    path = write(tmp_path / "a.conll", f"{lines * 5}\nw\tO\nv\t{bad}\n")
    problems: list[Problem] = []
    table = read_table(path, reading("ner", max_malformed_share=0.5), problems=problems)

    assert len(table) == 1
    assert [(problem.row, problem.kind) for problem in problems] == [(28, "malformed-tag")]
    assert repr(bad) in problems[0].message


@pytest.mark.parametrize("tags", ["NN VBZ IN", "x y x", "OTHER x OTHER"])
def test_tags_without_o_are_not_entities(tmp_path: Path, tags: str) -> None:
    lines = "".join(f"w{i}\t{tag}\n" for i, tag in enumerate(tags.split()))
    with pytest.raises(
        DataError, match=r"are not entity tags, .* set label_column, or task to pos"
    ):
        read_table(write(tmp_path / "a.conll", lines), reading("ner"))


@pytest.mark.parametrize("tags", ["O BX IX", "O Begin-x In-x", "O B1-x I1-x", "O xB xI", "O B- I-"])
def test_unknown_form_of_positions_is_an_error(tmp_path: Path, tags: str) -> None:
    lines = "".join(f"w{i}\t{tag}\n" for i, tag in enumerate(tags.split()))
    with pytest.raises(DataError, match=r"look like positions in an entity.* cannot be read"):
        read_table(write(tmp_path / "a.conll", lines), reading("ner"))


def test_numbers_are_not_entity_tags(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "a\t0\nb\t1\nc\t2\n")
    with pytest.raises(DataError, match="the tags are numbers without names"):
        read_table(path, reading("ner"))


def test_few_wrong_tags_do_not_change_the_form() -> None:
    counts: dict[str, int] = {"O": 9_000, "B-NEL": 400, "I-NEL": 200}
    slips: dict[str, Any] = {"-NEL": 30, "-": 79, "NEU": 8, "E-NEL": 2, "B-NEL\u200b": 3}
    form = detect_form(counts | slips)
    assert form == TagForm()
    assert not any(is_well_formed(tag, form) for tag in slips)


spans_of_words = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(["x", "y", "time-of-day"])),
    max_size=6,
)


@given(
    spans_of_words,
    st.sampled_from(["BIIB", "BIES", "BILU", "BMES", "BMEW"]),
    st.sampled_from(["-", "_", ":", "/"]),
    st.booleans(),
    st.booleans(),
)
def test_all_forms_give_equal_tags(
    parts: list[tuple[int, int, str]], letters: str, separator: str, suffix: bool, small: bool
) -> None:
    begin, inside, end, single = [*(letters.lower() if small else letters)]
    outside = "o" if small else "O"
    spans, tags = [], [outside]
    for gap, length, label in parts:
        tags += [outside] * gap
        spans.append((len(tags), len(tags) + length, label))
        marks = [single] if length == 1 else [begin, *[inside] * (length - 2), end]
        sides = ((label, mark) if suffix else (mark, label) for mark in marks)
        tags += map(separator.join, sides)
    # Both letters of a whole file: an entity of each length.
    both = [separator.join(pair[::-1] if suffix else pair) for pair in ((begin, "x"), (end, "x"))]
    form = detect_form(Counter([*tags, *both * 4]))

    assert all(is_well_formed(tag, form) for tag in tags)
    assert bio_spans(to_bio(tags, form)) == spans
    assert to_bio(bio_tags(spans, len(tags)), TagForm()) == bio_tags(spans, len(tags))
