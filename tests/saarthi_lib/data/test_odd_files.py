"""CoNLL and JSON as people have them: comments, columns, labels, several arrays."""

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.check import check_data
from saarthi_lib.data.detect import with_task
from saarthi_lib.data.gather import gather
from saarthi_lib.data.read import Problem, read_table
from saarthi_lib.errors import DataError
from tests.conftest import reading

INTENT = "intent_classification"


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8", newline="")
    return path


def sentences(path: Path, task: str = "ner") -> list[tuple[str, str]]:
    """Words and tags of parts of speech, or texts and entities."""
    table = read_table(path, reading(task, max_malformed_share=1, word_splitting="whitespace"))
    return [(row["text"], " ".join(row["tags"])) for row in table.to_dict("records")]


WORDS = {
    "4 columns": ("#rain _ _ B-CW\nin _ _ O\n\n# _ _ O\nriver _ _ B-CW\n", ["#rain in", "# river"]),
    "3 columns": ("in IN O\n#rain NN B-CW\n# SYM O\n", ["in #rain #"]),
    "key and value": ("#a=b O\nin O\nx B-CW\n", ["#a=b in x"]),
    "tabs": ("# lang = hi\n#\tO\nin\tB-CW\n", ["# in"]),
    "only such words": ("#a O\n#b B-CW\n", ["#a #b"]),
    "a form that occurs once": ("a O\nb I-CW\n#c B-ORG\n", ["a b #c"]),
}


@pytest.mark.parametrize("case", WORDS)
def test_word_that_begins_with_a_hash_is_a_word(tmp_path: Path, case: str) -> None:
    content, texts = WORDS[case]
    table = read_table(write(tmp_path / "a.conll", content), reading("ner"))
    assert list(table["text"]) == texts


def test_hash_with_a_rare_part_of_speech_is_a_word(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "a DT\n# SYM\n\n#\t#\nb\tNN\n")
    assert sentences(path, "pos") == [("a #", "DT SYM"), ("# b", "# NN")]


COMMENTS = {
    "id and domain": "# id 1a2b-3c\tdomain=hi\n",
    "source": "#\thttp://example.org\t[2009-10-17]\n",
    "key and value": "# text = a b\n# label: O\n",
    "words": "# the first sentence\n",
    "as wide as the file": "# lang: O\n",
}


@pytest.mark.parametrize("comment", COMMENTS)
@pytest.mark.parametrize("line", ["{} _ _ {}", "{}\t{}", "{} X {}"])
def test_comments_are_not_words(tmp_path: Path, comment: str, line: str) -> None:
    words = [("a", "B-LOC"), ("b", "O")]
    content = COMMENTS[comment] + "".join(f"{line.format(*word)}\n" for word in words)
    table = read_table(write(tmp_path / "a.conll", content + "\n" + content), reading("ner"))
    assert list(table["text"]) == ["a b", "a b"]


SEPARATED = {
    "trailing tabs": "a\tO\t\nb\tB-x\t\n\nc\tO\t\n",
    "trailing spaces": "a O \nb B-x  \n\nc O \n",
    "mixed": "a\tO\nb B-x\n\nc \tO\n",
    "Windows": "a O\r\nb B-x\r\n\r\nc O\r\n",
    "blank lines with spaces": "a O\nb B-x\n \t\nc O",
    "byte order marks": "\ufeffa O\nb B-x\n\ufeff\n\ufeffc O\n",
    "no-break space alone": "a O\nb B-x\n\xa0\nc O\n",
    "documents": "-DOCSTART- -X- O\n\na O\nb B-x\n\n-DOCSTART-\n\nc O\n",
    "numbers first": "1\ta\tO\n2\tb\tB-x\n\n1\tc\tO\n",
    "numbers from 0": "0 a X O\n1 b X B-x\n\n0 c X O\n",
    "sentence in a line": "a b\tO B-x\nc d\tO O\n",
}


@pytest.mark.parametrize("case", SEPARATED)
def test_separators_and_blank_lines_vary(tmp_path: Path, case: str) -> None:
    last = "c d" if case == "sentence in a line" else "c"
    found = sentences(write(tmp_path / "a.conll", SEPARATED[case]))
    assert found == [("a b", "O B-x"), (last, " ".join("O" for _ in last.split()))]


def test_no_break_space_is_part_of_a_word(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "10\xa0000 X\nb\u3000c Y\n")
    assert sentences(path, "pos") == [("10\xa0000 b\u3000c", "X Y")]


def test_line_with_more_cells_than_the_file_is_malformed(tmp_path: Path) -> None:
    content = "a O\n\nNew York B-x\n\nb B-x\n\n#lone\nc O\n"
    problems: list[Problem] = []
    options = reading("ner", max_malformed_share=0.5)
    table = read_table(write(tmp_path / "a.conll", content), options, problems=problems)

    assert list(table["text"]) == ["a", "b", "c"]
    assert [(problem.row, problem.kind) for problem in problems] == [(3, "malformed-line")]


INTENTS = {
    "last line": "play O\nlata B-a\nPlay\n\nstop O\nit O\nStop\n",
    "last word": "BOS O\nplay O\nlata B-a\nEOS Play\n\nBOS O\nstop O\nit O\nEOS Stop\n",
    "last tag": "BOS play lata EOS\tO O B-a Play\nBOS stop it EOS\tO O O Stop\n",
}


@pytest.mark.parametrize("case", INTENTS)
@pytest.mark.parametrize("name", ["train.conll", "train.txt"])
def test_label_may_end_a_sentence(tmp_path: Path, case: str, name: str) -> None:
    path = write(tmp_path / name, INTENTS[case])
    table = read_table(path, reading("joint"))

    assert list(table["text"]) == ["play lata", "stop it"]
    assert [list(tags) for tags in table["tags"]] == [["O", "B-a"], ["O", "O"]]
    assert list(table["label"]) == ["Play", "Stop"]
    assert list(read_table(path, reading("ner"))["text"]) == ["play lata", "stop it"]


GERMEVAL = "#\thttp://x\t[2009]\n1\ta\tO\tO\n2\tb\tB-ORG\t{}\n\n#\thttp://y\t[2010]\n1\tc\tO\tO\n"


@pytest.mark.parametrize("inner", ["B-LOC", "O"])
def test_two_columns_of_entities_need_a_setting(tmp_path: Path, inner: str) -> None:
    path = write(tmp_path / "a.conll", GERMEVAL.format(inner))
    with pytest.raises(DataError, match=r"column 3 \(B-ORG\).*set label_column to the number"):
        read_table(path, reading("ner"))
    table = read_table(path, reading("ner", label_column="3"))
    assert [list(tags) for tags in table["tags"]] == [["O", "B-ORG"], ["O"]]


def test_chunks_beside_entities_are_not_chosen(tmp_path: Path) -> None:
    entities_last = "a NN B-NP B-LOC\nb VB B-VP O\n"
    assert sentences(write(tmp_path / "a.conll", entities_last)) == [("a b", "B-LOC O")]
    chunks_last = "a NN B-LOC B-NP\nb VB O B-VP\n"
    with pytest.raises(DataError, match=r"column 3 \(B-LOC\) holds entity tags, and so may"):
        read_table(write(tmp_path / "b.conll", chunks_last), reading("ner"))


hashed = st.sampled_from(["#", "#a", "# b", "##", "#a=b", "a#", "b"])
tag = st.sampled_from(["O", "B-x", "I-x"])


@given(
    st.lists(st.lists(st.tuples(hashed, tag), min_size=1, max_size=4), min_size=1, max_size=4),
    st.sampled_from(["\t", " ", " _ _ ", "\tX\t"]),
    st.booleans(),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_word_of_conll_is_lost(
    tmp_path: Path, parts: list[list[tuple[str, str]]], separator: str, comments: bool
) -> None:
    if "\t" not in separator:
        parts = [[(word.replace(" ", ""), tag) for word, tag in words] for words in parts]
    parts.append([("word", "B-x"), ("other", "O")])
    lines = ["\n".join(separator.join(word) for word in words) for words in parts]
    above = "# id = 7\n" if comments else ""
    path = write(tmp_path / "a.conll", "\n\n".join(f"{above}{each}" for each in lines))

    expected = [" ".join(word for word, _ in words) for words in parts]
    assert list(read_table(path, reading("ner", normalization="none"))["text"]) == expected


A, B = '{"text": "a b", "label": "x"}', '{"text": "c", "label": "y"}'
JSON = {
    "two arrays": f"[{A}]\n[{B}]\n",
    "two arrays in a line": f"[{A}][{B}]",
    "array and object": f"[{A}]\n{B}",
    "objects in a line": f"{A}{B}",
    "objects and commas": f"{A},\n{B}\n",
    "objects over lines": "\n".join(json.dumps(json.loads(each), indent=1) for each in (A, B)),
    "list in an object": f'{{"version": "1 beta", "data": [{A},\n{B}]}}',
    "list over lines": json.dumps({"rows": [json.loads(A), json.loads(B)]}, indent=1),
    "list under an own name": f'{{"saetze": [{A}, {B}]}}',
}


@pytest.mark.parametrize("case", JSON)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_all_objects_of_json_are_read(tmp_path: Path, case: str, name: str) -> None:
    table = read_table(write(tmp_path / name, JSON[case]), reading(INTENT))
    assert list(table["text"]) == ["a b", "c"]
    if "line" not in case or "lines" in case:
        assert table["row"].is_monotonic_increasing


def test_long_objects_are_read_in_blocks(tmp_path: Path) -> None:
    items = [{"text": f"{'x' * 3_000}{i}", "label": "x"} for i in range(1_000)]
    for content in (json.dumps({"data": items}), f"{json.dumps(items)}\n{json.dumps(items[:1])}"):
        table = read_table(write(tmp_path / "a.json", content), reading(INTENT))
        assert len(table) == len(items) + (content[0] == "[")


@pytest.mark.parametrize("form", ["[{}]", '{{"data": [{}]}}', "[{}]\n"])
def test_rows_of_an_array_in_one_line_are_told_apart(tmp_path: Path, form: str) -> None:
    rows = [{"text": f"text {i}" if i % 2 else "", "label": "x"} for i in range(1, 6)]
    content = form.format(", ".join(map(json.dumps, rows)))
    problems: list[Problem] = []
    path = write(tmp_path / "a.json", content)
    table = read_table(path, reading(INTENT, max_malformed_share=1), problems=problems)

    assert list(table["row"]) == [1, 3, 5]
    assert [problem.row for problem in problems] == [2, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"[{A}] and more", "row 1: extra data after the array \\('and more'\\)"),
        (f"[{A}]\n\n]", "row 3: extra data after the array"),
        ('{"text": {"0": "a"}, "label": {"0": "x"}}', r"holds columns \(text, label\), not rows"),
        ('{"text": ["a", "b"], "label": ["x", "y"]}', "holds columns"),
        ('{"text": "a", "text": "b", "label": "x"}', "row 1: .*the key 'text' occurs twice"),
        ('[{"text": "a", "text": "b"}]', "row 1: .*the key 'text' occurs twice"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path / "a.json", content), reading(INTENT))


def test_check_reports_the_form_of_the_tags(tmp_path: Path) -> None:
    write(tmp_path / "train.conll", "a B_x\nb I_x\nc O\n\n" * 20 + "d B_y\n\n" * 20)
    write(tmp_path / "dev.conll", "a x-B\nb x-I\nc O\n\nd y-B\n")
    write(tmp_path / "test.conll", "a I_x\nb I_x\nc O\n\nd I_y\n")
    found = gather(tmp_path, reading("ner"))
    problems = found.problems
    check = check_data(found.tables, "ner", problems, max_seq_len=26, schemes=found.schemes)
    schemes = {f.message: f.severity for f in check.findings if f.check == "tag-scheme"}

    assert schemes == {
        "train.conll: tags are read as BIO (B_label)": "warning",
        "dev.conll: tags are read as BIO (label-B)": "warning",
        "test.conll: tags are read as IO (I_label)": "warning",
    }
    del found.schemes["dev.conll"]
    check = check_data(found.tables, "ner", [], max_seq_len=26, schemes=found.schemes)
    assert {f.severity for f in check.findings if f.check == "tag-scheme"} == {"note"}


@pytest.mark.parametrize(
    ("name", "content", "task"),
    [
        ("train.jsonl", '{"text": "where is it", "label": ["track"]}\n', INTENT),
        ("train.csv", "text,label\nwhere is it,\"['track']\"\n", INTENT),
        ("train.csv", "words,tags\n\"['Ravi', 'sings']\",\"['B-per', 'O']\"\n", "ner"),
        ("train.txt", "a x_B\nb O\n\nc O\nd x_I\n", "ner"),
        ("train.txt", "a b-x\nb o\n", "ner"),
        ("train.txt", "play O\nlata B-a\nPlay\n\nstop O\nit O\nStop\n", "joint"),
    ],
)
def test_task_of_odd_files_is_detected(tmp_path: Path, name: str, content: str, task: str) -> None:
    from saarthi_lib.config import TrainConfig

    write(tmp_path / name, content)
    assert with_task(TrainConfig.from_mapping({"input_path": str(tmp_path)})).task == task


def test_tags_of_two_tasks_need_a_task(tmp_path: Path) -> None:
    from saarthi_lib.config import TrainConfig

    row = {"tokens": ["a"], "pos_tags": ["X"], "ner_tags": ["O"]}
    pd.DataFrame([row]).to_json(tmp_path / "train.jsonl", orient="records", lines=True)
    with pytest.raises(DataError, match=r"ner_tags \(ner\) and pos_tags \(pos\); set task"):
        with_task(TrainConfig.from_mapping({"input_path": str(tmp_path)}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("O in\nB-X a\nI-X b\n\nO c\nO d\n", r"column 1 holds entity tags \(B-X, I-X\)"),
        ("in O IN x\na B-X NN y\n\nc O NN z\n", r"column 2 holds entity tags \(B-X\)"),
        ("in 0\na 1\nb 2\n\nc 0\n", "the tags are numbers without names"),
        ("in *\na (X*\nb *)\n\nc (Y)\n", r"tags such as \(X\* are brackets around entities"),
        ("in O\na X-START\nb X-CONT\n\nc O\n", "X-CONT and X-START look like positions"),
        ("in O\na E-mail\nb O\nc S-Bahn\n", "has the tag 'E-mail', which is not a tag"),
        ("in O\na B-X|B-Y\n\nc B-X\n", r"has the tag 'B-X\|B-Y', which is not O, B-label"),
    ],
)
def test_columns_and_tags_that_are_not_certain_are_errors(
    tmp_path: Path, content: str, message: str
) -> None:
    path = write(tmp_path / "train.conll", content)
    with pytest.raises(DataError, match=message):
        read_table(path, with_task(TrainConfig.from_mapping({"input_path": str(path)})))


def test_labels_with_an_unusual_name_are_not_tags(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", "text,labels\nturn it on,on\nstop now,off\nstop,end\n")
    with pytest.raises(DataError, match="set task, text_column and label_column"):
        with_task(TrainConfig.from_mapping({"input_path": str(path)}))


def test_entities_with_one_word_each_keep_their_scheme(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "in O\na S-X\n\nb S-Y\n")
    assert sentences(path) == [("in a", "O B-X"), ("b", "B-Y")]


def test_entities_beside_a_label_are_not_left_out(tmp_path: Path) -> None:
    rows = [{"text": "to Oslo", "intent": "go", "slots": {"city": "Oslo"}}]
    rows += [{"text": "bye", "intent": "bye", "slots": {}}]
    path = write(tmp_path / "train.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"row 1: the entities are \{'city': 'Oslo'\}, which"):
        with_task(TrainConfig.from_mapping({"input_path": str(path)}))


def test_topics_in_a_column_of_tags_leave_the_task_to_the_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", "text,label,tags\nstop now,off,home light\ngo,on,car\n")
    assert with_task(TrainConfig.from_mapping({"input_path": str(path)})).task == INTENT
