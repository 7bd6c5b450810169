"""CoNLL whose lines, blank lines or first row are not those of the format."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.conversion import convert
from saarthi_lib.data.detect import with_task
from saarthi_lib.data.read import Problem, read_table
from saarthi_lib.data.split import Share, cut
from saarthi_lib.errors import DataError
from tests.conftest import reading

WORDS = [("Ravi", "B-per"), ("sings", "O"), ("in", "O"), ("Pune", "B-loc"), (".", "O")]


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8", newline="")
    return path


def detected(path: Path) -> TrainConfig:
    return with_task(TrainConfig.from_mapping({"input_path": str(path), "max_malformed_share": 1}))


ONE_SENTENCE = {
    "train.conll": "".join(f"{word} {tag}\n" for word, tag in WORDS * 5),
    "train.txt": "".join(f"{word}\t_\t{tag}\n" for word, tag in WORDS[:3] * 40),
    "train.bio": "-DOCSTART- O\n\n" + "".join(f"{w}\t{t}\n" for w, t in WORDS[:4] * 30),
    "ends.conll": "Ravi B-per\nsings O\n-EOS- O\nit O\nrains O\n-EOS- O\n",
    "tagged.conll": "Ravi _ B-per\nsings _ O\n</s> _ O\nit _ O\n",
    "dev.conll": "\n\n" + "".join(f"{w} NN {t}\n" for w, t in WORDS * 5) + "\n\n",
}


@pytest.mark.parametrize("name", ONE_SENTENCE)
def test_conll_without_blank_lines_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, ONE_SENTENCE[name])
    with pytest.raises(DataError, match=r"words are one sentence, since no blank line .*; put a"):
        read_table(path, detected(path))


def test_short_conll_without_blank_lines_names_the_cause(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "".join(f"{w} {t}\n" for w, t in WORDS[:4] * 4))
    table = read_table(path, reading("ner"))
    with pytest.raises(DataError, match=r"1 training rows are too few .* put a blank line after"):
        cut(table, Share(0.1), "ner", 0)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", ["a.conll", "a.conllu"])
def test_numbers_that_begin_again_need_a_blank_line(tmp_path: Path, name: str, first: int) -> None:
    line = "{}\t{}\t{}\n" if name == "a.conll" else "{}\t{}\t_\t{}\t_\t_\t_\t_\t_\t_\n"
    rows = [line.format(number, *pair) for number, pair in enumerate(WORDS, first or 1)]
    task = "ner" if name == "a.conll" else "pos"
    path = write(tmp_path / name, "".join([*rows, "\n", *rows, *rows]))
    with pytest.raises(DataError, match=r"row 12: a sentence begins without a blank line"):
        read_table(path, reading(task))


@pytest.mark.parametrize("head", ["# id 7\tdomain=hi", "# sent_id = 7", "#text: a b"])
def test_comment_above_a_sentence_needs_a_blank_line(tmp_path: Path, head: str) -> None:
    block = f"{head}\nRavi _ _ B-per\nsings _ _ O\n"
    assert len(read_table(write(tmp_path / "a.conll", f"{block}\n{block}"), reading("ner"))) == 2
    path = write(tmp_path / "b.conll", f"{block}\n{block}{block}")
    with pytest.raises(DataError, match=r"row 8: a sentence begins without a blank line"):
        read_table(path, reading("ner"))


@pytest.mark.parametrize("outside", ["OUT", "NULL", "_", "other"])
def test_task_with_another_name_of_o_is_ner(tmp_path: Path, outside: str) -> None:
    words = [(word, outside if tag == "O" else tag) for word, tag in WORDS]
    lines = "".join(f"{word} {tag}\n" for word, tag in words)
    assert detected(write(tmp_path / "a.conll", f"{lines}\n{lines}")).task == "ner"


def test_one_long_sentence_of_a_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "".join(f"{w} {t}\n" for w, t in WORDS[:4] * 20))
    assert len(read_table(path, reading("ner"))) == 1


GAPS = [("1\tRavi\tB-per\n3\tsings\tO\n", "Ravi sings"), ("2\tin\tO\n", "in")]


@pytest.mark.parametrize(("gap", "text"), GAPS)
def test_wrong_number_does_not_make_numbers_words(tmp_path: Path, gap: str, text: str) -> None:
    good = "1\tRavi\tB-per\n2\tsings\tO\n\n"
    texts = list(read_table(write(tmp_path / "a.conll", good * 3 + gap), reading("ner"))["text"])
    assert texts == ["Ravi sings"] * 3 + [text]


HEADERS = {
    "word tag": "{0} {1}\n",
    "Token\tNER": "{0}\t{1}\n",
    "TOKEN POS NER": "{0} NN {1}\n",
    "id\tform\tner_tags": "{2}\t{0}\t{1}\n",
    "words\tlabels\n": "{0}\t{1}\n",
    "-DOCSTART- O\n\ntoken label": "{0} {1}\n",
}


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("name", ["train.conll", "train.txt", "train.tsv"])
def test_row_of_names_in_conll_costs_no_sentence(tmp_path: Path, header: str, name: str) -> None:
    lines = [HEADERS[header].format(*pair, at) for at, pair in enumerate(WORDS, 1)]
    content = f"{header}\n" + ("".join(lines) + "\n") * 3
    problems: list[Problem] = []
    path = write(tmp_path / name, content)
    config = detected(path)
    table = read_table(path, config, problems=problems)

    assert (config.task, list(table["text"])) == ("ner", ["Ravi sings in Pune ."] * 3)
    row = 3 if "DOCSTART" in header else 1
    assert [(problem.row, problem.kind) for problem in problems] == [(row, "header-row")]


def test_row_of_names_is_not_a_part_of_speech(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "word pos\nRavi NNP\nsings VBZ\n\nit PRP\n\n")
    assert [list(tags) for tags in read_table(path, reading("pos"))["tags"]] == [
        ["NNP", "VBZ"],
        ["PRP"],
    ]
    line = "{}\t{}\t_\t{}\t_\t_\t_\t_\t_\t_\n"
    header = "ID\tFORM\tLEMMA\tUPOS\tXPOS\tFEATS\tHEAD\tDEPREL\tDEPS\tMISC\n"
    path = write(tmp_path / "a.conllu", header + line.format(1, "Ravi", "PROPN"))
    problems: list[Problem] = []
    table = read_table(path, reading("pos"), problems=problems)
    assert (list(table["text"]), problems[0].kind) == (["Ravi"], "header-row")


def test_words_that_are_names_of_columns_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "the O\nword O\n\nword O\ntoken B-x\n\n")
    assert list(read_table(path, reading("ner"))["text"]) == ["the word", "word token"]


SEVERAL = {
    "tabs": "Ravi B-per\tsings O\nit O\trains O\n",
    "tabs, three words": "Ravi B-per\tsings O\tin O\nit O\trains O\n",
    "spaces": "Ravi B-per sings O in O\nit O is O\n",
    "slashes": "Ravi/B-per sings/O\nit/O rains/O\n",
    "slashes of parts of speech": "Ravi/NNP sings/VBZ ./.\nit/PRP rains/VBZ ./.\n",
    "bars": "Ravi|B-per sings|O\nit|O rains|O in|O\n",
    "parts of speech": "Ravi NNP\tsings VBZ\nit PRP\trains VBZ\n",
}


@pytest.mark.parametrize("case", SEVERAL)
@pytest.mark.parametrize("name", ["train.conll", "train.txt"])
def test_several_words_and_tags_in_a_line_are_refused(tmp_path: Path, case: str, name: str) -> None:
    path = write(tmp_path / name, SEVERAL[case] * 3)
    with pytest.raises(DataError, match=r"each line holds several words, each with its tag \("):
        read_table(path, detected(path))


word = st.sampled_from(["a", "b/c", "B", "O", "1", "i-x", "x|y", "A/B"])
tag = st.sampled_from(["O", "B-x", "I-x"])


@given(
    st.lists(st.lists(st.tuples(word, tag), min_size=1, max_size=4), min_size=2, max_size=5),
    st.sampled_from([" ", "\t", " _ ", "\tDT\t", " X Y "]),
)
@example([[("1", "O")], [("1", "O")]], " _ ")  # numbers of words begin with 1 too
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_usual_lines_are_read_as_words_and_tags(
    tmp_path: Path, sentences: list[list[tuple[str, str]]], separator: str
) -> None:
    sentences = [*sentences, [("word", "B-x"), ("other", "O")]]
    lines = ["\n".join(separator.join(pair) for pair in words) for words in sentences]
    path = write(tmp_path / "a.conll", "\n\n".join(lines))
    found = list(read_table(path, reading("ner", normalization="none"))["text"])
    assert found == [" ".join(word for word, _ in words) for words in sentences]


MULTIWORD = """\
# text = vámonos al mar
1-2\tvámonos\t_\t_
1\tvamos\tir\tVERB
2\tnos\tnos\tPRON
3-4\tal\t_\t_
3\ta\ta\tADP
4\tel\tel\tDET
5\tmar\tmar\tNOUN
5.1\tnull\t_\tNOUN

"""


def test_multiword_tokens_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "train.conllu", MULTIWORD)
    problems: list[Problem] = []
    table = read_table(path, reading("pos"), problems=problems)
    assert list(table["words"][0]) == ["vamos", "nos", "a", "el", "mar"]
    assert [(each.row, each.kind) for each in problems] == [
        (2, "multiword-token"),
        (5, "multiword-token"),
    ]
    assert "al is a multiword token" in problems[1].message

    [(kind, found)] = convert(path, tmp_path / "out").left.items()
    assert "several parts" in kind and found["count"] == 2
