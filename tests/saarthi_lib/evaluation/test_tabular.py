"""`predict --file` and `evaluate`: rows and columns of tables as users have them."""

import csv
import datetime
import json
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from saarthi_lib import train
from saarthi_lib.data.read import read_table
from saarthi_lib.errors import DataError, InputError
from saarthi_lib.evaluation.tabular import evaluate_file, predict_file
from saarthi_lib.inference.predictor import Predictor
from tests.conftest import fast_config, reading
from tests.test_cli import saarthi
from tests.tiny_bundle import write_tiny_bundle

TEXTS = ["turn on the lights", "रसोई की लाइट जलाओ", 'stop, "now"']
ANSWER = ["prediction", "probability", "confidence", "threshold", "abstained", "reason"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "intents"
    return write_tiny_bundle(folder, threshold=0.3, normalization="standard")


@pytest.fixture(scope="module")
def intents(bundle: Path) -> Predictor:
    return Predictor.load(bundle)


@pytest.fixture(scope="module")
def entities(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.load(write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "ner", "ner"))


def answered(predictor: Predictor, source: Path, suffix: str, **options: Any) -> Path:
    target = source.with_name(f"answered{suffix}")
    predict_file(predictor, source, target, **options)
    return target


def table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [*csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",")]


def objects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


# --- every row and every column stays -------------------------------------------------------------

# Names that differ from those of added columns, and cells with separators, quotes and line breaks.
NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters='\0\r\n\t"'), min_size=1, max_size=6)
    .map(lambda name: f"{name}~")
    .filter(lambda name: name == name.strip() and not name.startswith("\ufeff")),
    max_size=3,
    unique=True,
)
AWKWARD = ["", " ", '"', 'a"b', '"quoted"', "a,b", "a\tb", "a\nb", "a\r\nb", "1.0", "007", "NA"]
LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
CELLS = st.text(LETTERS, max_size=9) | st.sampled_from(AWKWARD)
VALUES = CELLS | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
FEW = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def tables(draw: st.DrawFn, cells: st.SearchStrategy[Any]) -> list[dict[str, Any]]:
    """Rows with a text each and some other columns; names are the same in all rows."""
    names = draw(NAMES)
    texts = draw(st.lists(CELLS, min_size=1, max_size=4))
    rows = [{"text": text, **{name: draw(cells) for name in names}} for text in texts]
    return [{"text": "turn on the lights", **dict.fromkeys(names, "")}, *rows]


KINDS = [(source, target) for source in (".csv", ".tsv") for target in (".csv", ".tsv", ".jsonl")]


@FEW
@given(rows=tables(CELLS), kinds=st.sampled_from(KINDS))
def test_delimited_tables_keep_all_cells(
    intents: Predictor, tmp_path: Path, rows: list[dict[str, str]], kinds: tuple[str, str]
) -> None:
    source = tmp_path / f"rows{kinds[0]}"
    options: dict[str, Any] = {"quoting": csv.QUOTE_ALL}
    if kinds[0] == ".tsv":  # a line is a row there
        options = {"delimiter": "\t"}
        rows = [{name: re.sub(r"\s", " ", cell) for name, cell in row.items()} for row in rows]
    with source.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], **options)
        writer.writeheader()
        writer.writerows(rows)
    target = answered(intents, source, kinds[1])
    if kinds[1] == ".jsonl":
        found = [{name: row[name] for name in rows[0]} for row in objects(target)]
        assert found == rows
    else:
        head, *body = table(target)
        assert head == [*rows[0], *ANSWER]
        assert [row[: len(rows[0])] for row in body] == [[*row.values()] for row in rows]


@FEW
@given(rows=tables(VALUES))
def test_json_lines_keep_all_values(
    intents: Predictor, tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = objects(answered(intents, source, ".jsonl"))
    assert [[*row.items()][: len(rows[0])] for row in found] == [[*row.items()] for row in rows]
    assert all([*row][-len(ANSWER) :] == ANSWER for row in found)


@FEW
@given(rows=tables(CELLS), types=st.sampled_from(["string", "category", "large_string[pyarrow]"]))
def test_parquet_keeps_columns_with_their_types(
    intents: Predictor, tmp_path: Path, rows: list[dict[str, Any]], types: Any
) -> None:
    source, frame = tmp_path / "rows.parquet", pd.DataFrame(rows).astype(types)
    frame.to_parquet(source)
    target = answered(intents, source, ".parquet")
    before, after = parquet.read_table(source), parquet.read_table(target)
    assert after.select(before.schema.names).equals(before)
    assert pd.read_parquet(target)["text"].tolist() == [row["text"] for row in rows]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_tables_that_python_and_pandas_read_alike(
    intents: Predictor, tmp_path: Path, suffix: str
) -> None:
    rows = [
        {"text": text, "note": note}
        for text, note in zip(
            [*TEXTS, '5" pipe', "a"], ["", "a\tb", "a\nb", '"x', "c\rd"], strict=True
        )
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    target = answered(intents, source, suffix)
    assert [row[:2] for row in table(target)[1:]] == [[*row.values()] for row in rows]
    read = pd.read_csv(target, sep="\t" if suffix == ".tsv" else ",", keep_default_na=False)
    assert read[["text", "note"]].to_dict("records") == rows


def test_parquet_types_stay_and_are_readable_as_csv(intents: Predictor, tmp_path: Path) -> None:
    day = datetime.date(2026, 11, 30)
    columns = {
        "text": pa.array(["stop", "go", None]).dictionary_encode(),
        "count": pa.array([1, None, 3]),
        "day": pa.array([day, None, day]),
        "at": pa.array([1, 2, None], pa.timestamp("ns")),
        "price": pa.array([Decimal("1.50"), None, Decimal("2.00")]),
        "tags": pa.array([["a", 'b"'], [], None]),
        "raw": pa.array([b"\xff", None, b""]),
    }
    source = tmp_path / "rows.parquet"
    parquet.write_table(pa.table(columns), source)
    target = answered(intents, source, ".parquet")
    before, after = parquet.read_table(source), parquet.read_table(target)
    assert after.select(before.schema.names).equals(before)
    assert [str(kind) for kind in pd.read_parquet(target).dtypes[:2]] == ["category", "float64"]
    with pytest.raises(DataError, match=r"row 1: a cell cannot be written as text \(bytes"):
        answered(intents, source, ".csv")
    parquet.write_table(pa.table(columns).drop(["raw"]), source)
    read = pd.read_csv(answered(intents, source, ".csv"), parse_dates=["day"])
    assert read["count"].tolist()[::2] == [1, 3] and read["day"][0].date() == day
    assert table(answered(intents, source, ".csv"))[1][1:6] == [
        *("1", "2026-11-30", "1970-01-01 00:00:00.000000001", "1.50", '["a", "b\\""]')
    ]


def test_numbers_that_json_lacks(intents: Predictor, tmp_path: Path) -> None:
    source = tmp_path / "rows.parquet"
    columns = {"text": ["go"] * 2, "value": [float("nan"), 1.5]}
    parquet.write_table(pa.table(columns), source)
    assert [row["value"] for row in objects(answered(intents, source, ".jsonl"))] == [None, 1.5]
    parquet.write_table(pa.table({**columns, "value": [1.5, float("inf")]}), source)
    with pytest.raises(DataError, match="row 2: a cell cannot be written as text"):
        answered(intents, source, ".jsonl")
    assert table(answered(intents, source, ".csv"))[2][1] == "inf"


def test_index_of_pandas_survives(intents: Predictor, tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": TEXTS}, index=pd.Index([7, 5, 6], name="id"))
    frame.to_parquet(tmp_path / "rows.parquet")
    read = pd.read_parquet(answered(intents, tmp_path / "rows.parquet", ".parquet"))
    assert read.index.tolist() == [7, 5, 6] and read["text"].tolist() == TEXTS


# --- formats --------------------------------------------------------------------------------------


def test_json_rows_with_different_keys_become_a_table(intents: Predictor, tmp_path: Path) -> None:
    rows = [{"text": "go", "id": 1}, {"id": 2, "text": "stop", "more": {"a": [1]}}]
    source = tmp_path / "rows.json"
    source.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    cells = table(answered(intents, source, ".csv"))
    assert [row[:3] for row in cells] == [
        ["text", "id", "more"],
        ["go", "1", ""],
        ["stop", "2", '{"a": [1]}'],
    ]
    read = json.loads(answered(intents, source, ".json").read_text(encoding="utf-8"))
    assert [list(row)[:3] for row in read] == [["text", "id", "prediction"], ["id", "text", "more"]]
    whole = parquet.read_table(answered(intents, source, ".parquet"))
    assert whole["id"].to_pylist() == [1, 2] and whole["more"].to_pylist() == [None, {"a": [1]}]


def test_column_without_a_common_type_is_named(intents: Predictor, tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"text": "go", "id": 1}\n{"text": "go", "id": "x"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"rows 1 to 2: the column 'id' has no common type"):
        answered(intents, source, ".parquet")
    assert os.listdir(tmp_path) == ["rows.jsonl"]


def test_plain_lines_and_lists_of_words_are_answered(entities: Predictor, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(TEXTS[:2]) + "\n\n", encoding="utf-8")
    found = objects(answered(entities, lines, ".jsonl"))
    assert [row["text"] for row in found] == TEXTS[:2]
    words = tmp_path / "words.jsonl"
    rows = [{"tokens": text.split()} for text in TEXTS[:2]]
    words.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for row, same in zip(objects(answered(entities, words, ".jsonl")), found, strict=True):
        assert row["entities"] == same["entities"] and " ".join(row["tokens"]) == same["text"]


def test_conll_is_refused_with_a_remedy(entities: Predictor, tmp_path: Path) -> None:
    source = tmp_path / "rows.conll"
    source.write_text("turn O\non O\n", encoding="utf-8")
    with pytest.raises(DataError, match="CoNLL has a word in each line, not a text in"):
        answered(entities, source, ".csv")


@pytest.mark.parametrize("name", ["out.xlsx", "out", "out.txt"])
def test_unknown_extension_of_the_output_is_refused(
    intents: Predictor, tmp_path: Path, name: str
) -> None:
    (tmp_path / "rows.csv").write_text("text\ngo\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"unknown extension; use one of \.csv, \.tsv"):
        predict_file(intents, tmp_path / "rows.csv", tmp_path / name)


# --- rows without an answer, and refusals ---------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_rows_without_a_text_abstain_and_are_counted(
    bundle: Path, tmp_path: Path, suffix: str
) -> None:
    frame = pd.DataFrame({"id": range(5), "text": ["go", "", None, " \u200b", "stop"]})
    source, target = tmp_path / f"rows{suffix}", tmp_path / f"out{suffix}"
    if suffix == ".csv":
        frame.to_csv(source, index=False)
    elif suffix == ".parquet":
        frame.to_parquet(source)
    else:
        frame.to_json(source, orient="records", lines=True)
    done = saarthi("predict", str(bundle), "--file", str(source), "--output", str(target))
    assert done.returncode == 0 and "3 rows without a text" in done.stderr
    read: Any = {".csv": pd.read_csv, ".parquet": pd.read_parquet}.get(suffix)
    found = read(target) if read else pd.read_json(target, lines=True)
    empty = [False, True, True, True, False]
    assert (found["reason"] == "empty_text").tolist() == empty
    assert found["prediction"].isna().tolist() == empty
    assert found["abstained"][1:4].tolist() == [True] * 3
    assert found["id"].tolist() == [0, 1, 2, 3, 4]


def test_null_and_categorical_languages_are_kept(intents: Predictor, tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": TEXTS, "lang": pd.Categorical(["en", None, "en"])})
    frame.to_parquet(tmp_path / "rows.parquet")
    read = pd.read_parquet(answered(intents, tmp_path / "rows.parquet", ".parquet"))
    assert read["lang"].isna().tolist() == [False, True, False]
    assert read["lang"].dtype == "category" and read["prediction"].notna().all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text,id\nstop, please,1\n", "row 2: has 3 cells"),
        ("text,prediction\ngo,on\n", "row 2: has the column prediction already"),
        ("text,reason,abstained\ngo,a,b\n", "has the columns abstained, reason already"),
        ("id,note\n1,2\n", "no column of text among ['id', 'note']"),
        ("text\n\n", "holds no rows"),
        ('text\n""\n" "\n', "row 2: the text is empty, as in all 2 rows"),
        ('{"text": 7}\n', "row 1: the text is 7, not a text"),
        ('{"text": "go"}\n{"note": "go"}\n', "row 2: no column of text among ['note']"),
    ],
)
def test_refused_tables_leave_nothing_behind(
    bundle: Path, tmp_path: Path, content: str, words: str
) -> None:
    name = "rows.jsonl" if content.startswith("{") else "rows.csv"
    (tmp_path / name).write_text(content, encoding="utf-8")
    for options in ([], ["--output", "out.csv"], ["--output", "out.parquet"]):
        done = saarthi("predict", str(bundle), "--file", name, *options, cwd=tmp_path)
        assert done.returncode == 2 and words in done.stderr, done.stderr
        assert not done.stdout and os.listdir(tmp_path) == [name]


def test_prefix_keeps_columns_of_earlier_answers(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,prediction,entities\ngo,mine,x\n", encoding="utf-8")
    options = ("--file", "rows.csv", "--output", "out.csv", "--prefix", "new_")
    done = saarthi("predict", str(bundle), *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = pd.read_csv(tmp_path / "out.csv").iloc[0]
    assert row["prediction"] == "mine" and row["new_prediction"] != "mine"
    again = saarthi("predict", str(bundle), *options[:3], "rows.csv", cwd=tmp_path)
    assert again.returncode == 2 and "is the file of --file itself" in again.stderr


def test_interrupted_answers_leave_nothing_behind(intents: Predictor, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\n" + "go\n" * 30_000, encoding="utf-8")

    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answered(intents, tmp_path / "rows.csv", ".csv", progress=stop)
    assert os.listdir(tmp_path) == ["rows.csv"]


# --- options --------------------------------------------------------------------------------------


def test_without_output_the_answers_are_printed(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('text,note\ngo,"a\nb"\nstop,c\n', encoding="utf-8")
    done = saarthi("predict", str(bundle), "--file", "rows.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [*csv.reader(done.stdout.splitlines(keepends=True))]
    assert rows[0] == ["text", "note", *ANSWER] and rows[1][1] == "a\nb" and len(rows) == 3
    lines = saarthi("predict", str(bundle), "--file", "rows.csv", "--json", cwd=tmp_path)
    assert [json.loads(line)["text"] for line in lines.stdout.splitlines()] == ["go", "stop"]


def test_top_k_of_a_table(bundle: Path, entities: Predictor, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\nturn on the lights\n", encoding="utf-8")
    options = ("--file", "rows.csv", "--top-k", "3", "--json")
    [row] = map(
        json.loads, saarthi("predict", str(bundle), *options, cwd=tmp_path).stdout.splitlines()
    )
    assert len(row["top_k"]) == 3 and row["top_k"][0]["label"] == row["prediction"]
    assert row["top_k"][0]["probability"] == row["probability"]
    assert row["threshold"] == 0.3 and row["abstained"] == (row["confidence"] < 0.3)
    with pytest.raises(InputError, match="--top-k 3: a bundle of the task ner gives texts"):
        answered(entities, tmp_path / "rows.csv", ".csv", top_k=3)


LANGUAGE_ROWS = [("go", "hi"), ("stop", "Hindi"), ("play", "english"), ("wait", "")]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("column", ["lang", "spoken"])
def test_the_language_of_a_row_selects_its_threshold(
    tmp_path: Path, suffix: str, column: str
) -> None:
    limits: dict[str, Any] = {"threshold": 0.3, "language_thresholds": {"hindi": 1.0}}
    predictor = Predictor.load(write_tiny_bundle(tmp_path / "bundle", **limits))
    frame = pd.DataFrame(LANGUAGE_ROWS, columns=["text", column])
    source = tmp_path / f"rows{suffix}"
    if suffix == ".csv":
        frame.to_csv(source, index=False)
    elif suffix == ".jsonl":
        frame.to_json(source, orient="records", lines=True)
    else:
        frame.to_parquet(source)
    named = {} if column == "lang" else {"language_column": "Spoken"}
    found = objects(answered(predictor, source, ".jsonl", **named))
    assert [row["threshold"] for row in found] == [1.0, 1.0, 0.3, 0.3]
    assert [row["abstained"] for row in found] == [
        row["confidence"] < row["threshold"] for row in found
    ]
    over = objects(answered(predictor, source, ".jsonl", threshold=0.0, **named))
    assert not any(row["abstained"] for row in over)


def test_a_language_column_that_is_missing_is_named(intents: Predictor, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,lang\ngo,\nstop,\n", encoding="utf-8")
    for column in ("lang", "sprache"):
        message = rf"rows\.csv: no row has a language in '{column}'; correct language_column"
        with pytest.raises(DataError, match=message):
            answered(intents, tmp_path / "rows.csv", ".csv", language_column=column)


# --- evaluate -------------------------------------------------------------------------------------

JOINT = "text\tslots\tintent\nturn on the kitchen\tO O O B-area\tlights\nwake me\tO O\talarm\n"


def test_columns_of_training_are_found_in_another_file(tmp_path: Path) -> None:
    columns = {"text_column": "Frage", "label_column": "Thema", "language_column": ""}
    bundle = write_tiny_bundle(tmp_path / "bundle", trained_with=columns)
    gold = "id;Frage;Thema\n1;turn on the lights;lights\n2;wake me;alarm\n"
    for name, content in (("own.csv", gold), ("usual.csv", "text,label\nwake me,alarm\n")):
        (tmp_path / name).write_text(content, encoding="utf-8")
        done = saarthi("evaluate", str(bundle), name, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["examples"] == content.count("\n") - 1
    done = saarthi("predict", str(bundle), "--file", "own.csv", cwd=tmp_path)
    assert done.stdout.startswith("id,Frage,Thema,prediction,"), done.stderr
    assert done.stdout.splitlines()[1].startswith("1,turn on the lights,lights,")


def test_columns_given_to_evaluate_win(bundle: Path, tmp_path: Path) -> None:
    rows = "text,label,q,kind,l\nno,alarm,turn on the lights,lights,hindi\n"
    (tmp_path / "gold.csv").write_text(rows, encoding="utf-8")
    options = ("--text-column", "q", "--label-column", "kind", "--language-column", "l", "--json")
    done = saarthi("evaluate", str(bundle), "gold.csv", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert [*metrics["by_language"]] == ["hindi"] and metrics["examples"] == 1
    expected = Predictor.load(bundle).predict(["turn on the lights"])[0].label
    assert metrics["accuracy"] == float(expected == "lights")


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ("utt,intent\nhello,lights\n", (), "no column of text among ['utt', 'intent']"),
        ("utt,intent\nhello,lights\n", (), "or give --text-column"),
        ("text,kind\nhello,lights\n", (), "or give --label-column"),
        ("text,label\nhello,x\n", ("--label-column", "kind"), "or correct --label-column"),
        ("text,label\na,x\n,x\nc,\n", (), "more than --max-malformed-share (0.05) allows"),
        ("text,label\nhello,x\n", ("--language-column", "of"), "correct --language-column"),
        ("text,label\nhello,x\n", ("--data-format", "xlsx"), "--data-format: Input should be"),
    ],
)
def test_errors_of_evaluate_name_its_options(
    bundle: Path, tmp_path: Path, rows: str, options: tuple[str, ...], words: str
) -> None:
    (tmp_path / "gold.csv").write_text(rows, encoding="utf-8")
    done = saarthi("evaluate", str(bundle), "gold.csv", *options, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert "_column" not in done.stderr and "max_malformed" not in done.stderr


def test_malformed_rows_of_evaluate_are_counted(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "gold.csv").write_text("text,label\na,x\n,x\nc,\n", encoding="utf-8")
    options = ("--max-malformed-share", "0.7", "--json")
    done = saarthi("evaluate", str(bundle), "gold.csv", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert metrics["examples"] == 0 and metrics["left_out"] == 2
    assert "gold.csv: 2 of 3 rows are left out" in done.stderr and "at row 3" in done.stderr


def test_tags_column_is_an_option_and_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "gold.tsv").write_text(JOINT, encoding="utf-8")
    plain = write_tiny_bundle(tmp_path / "plain", "joint")
    command = ("evaluate", str(plain), "gold.tsv", "--json", "--tags-column")
    given = saarthi(*command, "slots", cwd=tmp_path)
    wrong = saarthi(*command, "slot", cwd=tmp_path)
    assert wrong.returncode == 2 and "no column 'slot' among" in wrong.stderr
    assert "or correct --tags-column" in wrong.stderr
    recorded = write_tiny_bundle(tmp_path / "own", "joint", {"tags_column": "slots"})
    found = saarthi("evaluate", str(recorded), "gold.tsv", "--json", cwd=tmp_path)
    assert given.returncode == 0, given.stderr
    assert given.stdout == found.stdout and json.loads(found.stdout)["examples"] == 2


def test_language_of_rows_that_lack_one(bundle: Path, tmp_path: Path) -> None:
    rows = "text,label,lang\nturn on the lights,lights,\nक्या रसोई की बत्ती जली है,lights,\n"
    (tmp_path / "gold.csv").write_text(rows, encoding="utf-8")
    for options, languages in (((), ["english", "hindi"]), (("--language", "hi"), ["hindi"])):
        done = saarthi("evaluate", str(bundle), "gold.csv", *options, "--json", cwd=tmp_path)
        assert sorted(json.loads(done.stdout)["by_language"]) == languages


def test_python_evaluates_as_the_command_does(intents: Predictor, tmp_path: Path) -> None:
    (tmp_path / "gold.csv").write_text("q,label\nturn on the lights,lights\n", encoding="utf-8")
    metrics = evaluate_file(intents, tmp_path / "gold.csv", text_column="q")
    assert metrics.get("examples") == 1


@pytest.mark.slow
def test_trained_bundle_knows_its_columns(home_assistant: Path, tmp_path: Path) -> None:
    read = read_table(home_assistant / "train.jsonl", reading("joint"))
    lines = [
        f"{' '.join(words)}\t{' '.join(tags)}\t{label}"
        for words, tags, label in zip(read["words"], read["tags"], read["label"], strict=True)
    ]
    bot = tmp_path / "bot.tsv"
    bot.write_text("phrase\tmarks\tkind\n" + "\n".join(lines) + "\n", encoding="utf-8")
    columns = {"text_column": "phrase", "label_column": "kind", "tags_column": "marks"}
    train({**fast_config(bot, tmp_path / "run"), **columns, "task": "joint"})
    bundle = str(tmp_path / "run" / "bundle-int8")
    found = saarthi("evaluate", bundle, str(bot), "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["examples"] == len(lines)
    answers = saarthi("predict", bundle, "--file", str(bot))
    assert answers.stdout.startswith("phrase,marks,kind,prediction,entities,"), answers.stderr


def test_rows_of_separators_only_are_left_out(intents: Predictor, tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("text,id\nturn on the lights,1\n,,\nstop,2\n,,,\n", encoding="utf-8")

    rows = table(answered(intents, source, ".csv"))

    assert [row[:2] for row in rows[1:]] == [["turn on the lights", "1"], ["stop", "2"]]
