"""`saarthi convert`, and exports as arguments of other commands."""

import json
from pathlib import Path

import pytest

from saarthi_lib.data.read import find_splits
from tests.saarthi_lib.data.exports.writers import SPANS, base_rows, write
from tests.test_cli import saarthi


@pytest.fixture
def bot(tmp_path: Path) -> Path:
    """A Rasa project with a synonym and a regex."""
    SPANS["rasa"](tmp_path / "bot", base_rows())
    with (tmp_path / "bot/data/nlu.yml").open("a", encoding="utf-8") as file:
        file.write("- synonym: Rome\n  examples: |\n    - Roma\n")
        file.write("- regex: zip\n  examples: |\n    - \\d+\n")
    return tmp_path / "bot"


def test_convert_writes_rows_transfer_text_and_report(bot: Path, tmp_path: Path) -> None:
    done = saarthi("convert", "bot", "out", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "data/nlu.yml: row 26 (zip)" in done.stdout and "Rasa stories" in done.stdout
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"train.jsonl", "transfer.txt", "conversion.json"}
    assert (tmp_path / "out/transfer.txt").read_text() == "fly to Roma today\n"
    report = json.loads((tmp_path / "out/conversion.json").read_text(encoding="utf-8"))
    assert report["rows"] == {"train": 16} and report["synonyms"] == {"Roma": "Rome"}
    assert {*find_splits(tmp_path / "out")} == {"train", "transfer"}


def test_report_as_json_is_that_of_the_file(bot: Path, tmp_path: Path) -> None:
    shown = json.loads(saarthi("convert", "bot", "out", "--json", cwd=tmp_path).stdout)

    written = json.loads((tmp_path / "out/conversion.json").read_text(encoding="utf-8"))
    assert written == {**shown, "source": "bot"}


@pytest.mark.parametrize("there", ["folder", "file"])
def test_destination_that_exists_is_refused(bot: Path, tmp_path: Path, there: str) -> None:
    out = tmp_path / "out"
    kept = write(out / "mine.txt" if there == "folder" else out, "mine")

    done = saarthi("convert", str(bot), str(out))

    assert done.returncode == 2 and "exists and is not empty" in done.stderr
    assert kept.read_text() == "mine" and kept in (out, *tmp_path.glob("out/*"))


def test_address_as_destination_names_the_remedy(bot: Path, tmp_path: Path) -> None:
    done = saarthi("convert", str(bot), "s3://bucket/out", cwd=tmp_path)

    assert done.returncode == 2 and "destination: s3://bucket/out" in done.stderr
    assert "give a local path, and copy what is written there" in done.stderr
    assert "download" not in done.stderr and not (tmp_path / "s3:").exists()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing", None, "there is no such file or folder"),
        ("notes.txt", "hello", "notes.txt: "),
        (
            "nlu.yml",
            "nlu:\n- intent: a\n  examples: |\n    - [x](y\n",
            "nlu.yml: row 4: the markup",
        ),
    ],
)
def test_refusals_exit_with_2_and_write_nothing(
    tmp_path: Path, name: str, content: str | None, reason: str
) -> None:
    if content is not None:
        write(tmp_path / name, content)

    done = saarthi("convert", str(tmp_path / name), str(tmp_path / "out"))

    assert done.returncode == 2 and reason in done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {name}


def test_check_lists_the_parts_that_are_not_carried_over(bot: Path, tmp_path: Path) -> None:
    done = saarthi("check", "bot", "--json", "--set", "teacher_name=minilm", cwd=tmp_path)

    found = {each["message"]: each["count"] for each in json.loads(done.stdout)["findings"]}
    place = "the first at data/nlu.yml: row 26 (zip)"
    assert found[f"regex: not carried over from the export; {place}"] == 1


def test_init_takes_the_file_of_an_export(bot: Path, tmp_path: Path) -> None:
    done = saarthi("init", "bot/data/nlu.yml", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "task: joint" in done.stdout
    assert "input_path: " in (tmp_path / "nlu.yaml").read_text(encoding="utf-8")
