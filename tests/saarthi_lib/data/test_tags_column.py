"""`tags_column` and single files: one setting and one place for train, check and evaluate."""

import json
from pathlib import Path
from typing import Any

import pytest

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.detect import with_task
from saarthi_lib.data.gather import gather
from saarthi_lib.data.read import find_splits, read_table
from saarthi_lib.errors import DataError
from saarthi_lib.runs.reuse import data_digest
from tests.conftest import reading
from tests.test_cli import saarthi

# The tags have a name of their own, next to a column with a usual name that holds something else.
ATIS = [
    {"utterance": "flights to new delhi", "marks": "O O B-to I-to", "intent": "flight"},
    {"utterance": "what is the fare", "marks": "O O O O", "intent": "fare"},
]


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    path, names = folder / name, [*rows[0]]
    if path.suffix in (".csv", ".tsv"):
        mark = "\t" if path.suffix == ".tsv" else ","
        lines = [mark.join(names), *(mark.join(map(str, row.values())) for row in rows)]
    else:
        lines = [*map(json.dumps, rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["train.tsv", "train.csv", "train.jsonl"])
@pytest.mark.parametrize("task", ["joint", "ner"])
def test_tags_column_names_the_tags(tmp_path: Path, name: str, task: str) -> None:
    path = write(tmp_path, name, [{**row, "tags": "x"} for row in ATIS])
    table = read_table(path, reading(task, tags_column="marks"))
    assert [list(tags) for tags in table["tags"]] == [["O", "O", "B-to", "I-to"], ["O"] * 4]
    assert ("label" in table) == (task == "joint")


def test_tags_column_of_conll_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "train.conll"
    path.write_text("# intent: flight\nto B-x O\ndelhi I-x B-to\n", encoding="utf-8")
    table = read_table(path, reading("joint", tags_column="3"))
    assert list(table["tags"][0]) == ["O", "B-to"] and table["label"][0] == "flight"
    with pytest.raises(DataError, match="has no column 'slots'; set tags_column to a column's num"):
        read_table(path, reading("joint", tags_column="slots"))


@pytest.mark.parametrize(("task", "field"), [("joint", "tags"), ("ner", "label_column or tags")])
def test_missing_tags_column_is_named(tmp_path: Path, task: str, field: str) -> None:
    path = write(tmp_path, "train.tsv", ATIS)
    with pytest.raises(DataError, match=f"no column 'slot' among .*or correct {field}_column"):
        read_table(path, reading(task, tags_column="slot"))


def test_task_is_detected_by_the_tags_column(tmp_path: Path) -> None:
    write(tmp_path, "train.tsv", ATIS)
    fields = {"input_path": str(tmp_path), "tags_column": "marks"}
    assert with_task(TrainConfig.from_mapping(fields)).task == "joint"
    without = {"input_path": str(tmp_path)}
    assert with_task(TrainConfig.from_mapping(without)).task == "intent_classification"


# --- single files ---------------------------------------------------------------------------------

CONTENT = {
    "bot.csv": "text,label\n{0}",
    "bot.tsv": "text\tlabel\n{0}",
    "bot.jsonl": "{0}",
    "bot.json": "[{0}]",
    "bot.conll": "{0}",
}


def line(name: str, row: int) -> str:
    text, label = f"please do number {row} {('now', 'later')[row % 2]}", f"kind{row % 2}"
    suffix = Path(name).suffix
    if suffix == ".conll":
        tagged = (f"{word} {'B-num' if word.isdigit() else 'O'}\n" for word in text.split())
        return "".join(tagged) + "\n"
    if suffix.startswith(".json"):
        return json.dumps({"text": text, "label": label}) + (",\n" if suffix == ".json" else "\n")
    return f"{text}{',' if suffix == '.csv' else chr(9)}{label}\n"


def write_bot(folder: Path, name: str) -> Path:
    rows = "".join(line(name, row) for row in range(60))
    path = folder / name
    path.write_text(CONTENT[name].format(rows.rstrip(",\n") if name == "bot.json" else rows))
    return path


def test_check_reads_a_single_file(tmp_path: Path) -> None:
    write_bot(tmp_path, "bot.json")
    options = ("--json", "--set", "teacher_name=minilm")
    done = saarthi("check", "bot.json", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sum(json.loads(done.stdout)["summary"]["rows"].values()) == 60


@pytest.mark.parametrize("name", CONTENT)
def test_single_file_of_every_format_is_train(tmp_path: Path, name: str) -> None:
    path = write_bot(tmp_path, name)
    config = with_task(TrainConfig.from_mapping({"input_path": str(path)}))
    assert config.task == ("ner" if name == "bot.conll" else "intent_classification")
    found = gather(path, config)
    assert sum(map(len, found.tables.values())) == 60
    assert set(found.tables["train"]["file"]) == {name}


def test_name_of_a_single_file_may_hold_the_language(tmp_path: Path) -> None:
    path = write(tmp_path, "hindi.csv", [{"text": "batti", "label": "on"}])
    assert [file.language for file in find_splits(path)["train"]] == ["hindi"]


def test_other_splits_beside_a_single_file_are_named(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    for name in ("train.csv", "test.csv", "notes.md"):
        (tmp_path / name).write_text("text,label\na,b\n", encoding="utf-8")
    find_splits(tmp_path / "train.csv")
    assert "train.csv: read alone; to use test.csv too, give the folder" in told.text


def test_changed_single_file_changes_the_digest(tmp_path: Path) -> None:
    path = write_bot(tmp_path, "bot.csv")
    config = TrainConfig.from_mapping({"input_path": str(path)})
    before = data_digest(config)
    path.write_text(path.read_text().replace("later", "soon"))
    assert data_digest(config) not in (before, str(path))


def test_init_reads_a_single_file(tmp_path: Path) -> None:
    write_bot(tmp_path, "bot.jsonl")
    done = saarthi("init", "bot.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "bot.yaml").read_text(encoding="utf-8")
    assert "input_path: bot.jsonl" in text and "root_output_path: runs/bot\n" in text
