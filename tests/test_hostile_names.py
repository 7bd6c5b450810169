"""Names, labels and stored files that could break a command, a page or a terminal."""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saarthi_lib import logs, train
from saarthi_lib.errors import printable
from tests.test_cli import process, saarthi
from tests.tiny_bundle import write_tiny_bundle

OLD_RUN = Path(__file__).parent / "old_run"
LABELS = ("$5_to_$10", "[/]", ":smile:", "_{x}^%s", "red\u202e")
MAIN = "from saarthi_lib.cli import main; main()"


def write_data(folder: Path, name: str = "train.csv") -> Path:
    folder.mkdir()
    rows = [f"text {word} of {n},{label}" for n, label in enumerate(LABELS) for word in "abcdef"]
    (folder / name).write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    return folder


def test_checked_labels_are_shown_as_they_are(tmp_path: Path) -> None:
    page = tmp_path / "check.html"
    done = saarthi("check", str(write_data(tmp_path / "data")), "--report", str(page))
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert all(label in text for label in LABELS[:4])
    assert not {"\x1b", "\u202e"} & {*done.stdout, *done.stderr}


def test_names_that_are_not_utf8_are_read_and_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"train-\xfe.csv")
    data = write_data(tmp_path / os.fsdecode(b"data\xff"), name)
    page = tmp_path / os.fsdecode(b"check\xff.html")
    done = saarthi("check", str(data), "--report", str(page))
    assert done.returncode == 0 and page.is_file(), done.stderr
    configuration = tmp_path / "my.yaml"
    assert saarthi("init", str(data), "--output", str(configuration)).returncode == 0
    assert saarthi("check", str(configuration), "--report", str(page)).returncode == 0
    bundle = write_tiny_bundle(tmp_path / "plain", "joint", runtime="onnxruntime")
    odd = bundle.rename(tmp_path / os.fsdecode(b"bundle\xff"))
    output = tmp_path / os.fsdecode(b"out\xff.csv")
    file = ("--file", str(data / name), "--output", str(output))
    done = process(MAIN, "predict", str(odd), *file)
    assert done.returncode == 0 and output.is_file(), done.stderr
    assert r"out\udcff.csv" in done.stdout


def test_runs_work_in_folders_that_are_not_utf8(
    trained_once: Path, fast: dict[str, Any], tmp_path: Path
) -> None:
    root = Path(shutil.copytree(trained_once, tmp_path / os.fsdecode(b"run\xff")))
    shutil.rmtree(root / "work" / "evaluation")  # writes and reads tables
    assert train({**fast, "root_output_path": str(root)}) == root
    assert json.loads((root / "run.json").read_bytes())["config"]["root_output_path"] == str(root)
    file, output = tmp_path / "rows.csv", tmp_path / os.fsdecode(b"answers\xff.parquet")
    file.write_text("text\nturn on the lights\n", encoding="utf-8")
    given = ("predict", str(root / "bundle-int8"), "--file")
    for command in (
        (*given, str(file), "--output", str(output)),
        (*given, str(output), "--prefix", "again_"),
        ("compare", str(root), str(root)),
        ("explain", str(root), "turn on the lights", "--method", "leave_one_out"),
    ):
        done = saarthi(*command)
        assert done.returncode == 0, done.stderr
    assert saarthi("train", str(file), "--output", str(root)).returncode == 2  # of other data


def test_answers_in_json_are_exact_and_harmless(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", "ner", runtime="onnxruntime")
    text = "go :smile:\x9b31m to\u202e [red]"
    done = saarthi("predict", str(bundle), text, "--json")
    assert done.stdout.isprintable() or done.stdout.rstrip("\n").isprintable()
    spans = json.loads(done.stdout)["entities"]
    assert spans and all(text[s["start"] : s["end"]] == s["text"] for s in spans)


def test_log_lines_cannot_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger(logs.ROOT)
    before = logger.handlers[:], logger.level, logger.propagate
    try:
        logs.configure()
        logs.get_logger("x").warning("%s: bad", "a\n12:00:00 INFO    forged\x1b[2J\r\u202e.csv")
        try:
            raise ValueError("one\n12:00:00 INFO    forged")
        except ValueError:
            logs.get_logger("x").exception("failed")
    finally:
        logger.handlers[:], logger.level, logger.propagate = before
    printed = capsys.readouterr().err
    assert not any(line.startswith("12:00:00 INFO    forged") for line in printed.split("\n"))
    assert r"a\n12:00:00" in printed and not {"\x1b", "\r", "\u202e"} & {*printed}


@given(st.text() | st.sampled_from(LABELS))
def test_printable_text_is_one_line_of_no_controls(text: str) -> None:
    made = printable(text)
    assert made.splitlines() in ([], [made]) and printable(made) == made
    made.encode()


def test_errors_name_files_on_one_line(tmp_path: Path) -> None:
    done = saarthi("compare", str(tmp_path / "a\nerror: forged\x1b[2J"), str(tmp_path))
    assert done.returncode == 2
    assert "\x1b" not in done.stderr and "\nerror: forged" not in done.stderr


@pytest.mark.parametrize("wrong", ["--\x1b[2J\u202e", "\x1b[2J\u202e\x9b", "-\u2066x"])
@pytest.mark.parametrize("command", ["train", "predict", "serve", "bundle"])
def test_wrong_arguments_are_shown_harmlessly(command: str, wrong: str) -> None:
    done = saarthi(command, *[wrong] * 4)
    assert done.returncode == 2 and done.stderr
    assert not {"\x1b", "\x9b", "\u202e", "\u2066"} & {*done.stdout, *done.stderr}


def test_pipes_are_named_and_never_read(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", runtime="onnxruntime")
    pipe, output = tmp_path / "train.csv", tmp_path / "out.csv"
    os.mkfifo(pipe)
    for command in (
        ("evaluate", str(bundle), str(pipe)),
        ("predict", str(bundle), "--file", str(pipe), "--output", str(output)),
        ("check", str(pipe)),
        ("train", str(pipe), "--output", str(tmp_path / "run")),
        ("convert", str(pipe), str(tmp_path / "converted")),
    ):
        done = saarthi(*command)
        assert done.returncode == 2 and "train.csv: is a pipe or device" in done.stderr, command


@pytest.mark.parametrize("place", ["rows.csv/out.csv", f"{'x' * 300}.csv", "rows.csv/a/out.csv"])
def test_impossible_outputs_are_named(place: str, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", runtime="onnxruntime")
    (tmp_path / "rows.csv").write_text("text\nturn on\n", encoding="utf-8")
    given = ("--file", str(tmp_path / "rows.csv"), "--output", str(tmp_path / place))
    done = saarthi("predict", str(bundle), *given)
    assert done.returncode == 2 and re.search("cannot be written here|too long", done.stderr)
    runs = (str(OLD_RUN), str(OLD_RUN))
    assert saarthi("compare", *runs, "--html", str(tmp_path / place)).returncode == 2


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def _holding(content: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(content, encoding="utf-8")


@pytest.mark.parametrize("name", ["metrics.json", "run.json", "predictions.parquet"])
@pytest.mark.parametrize(
    "damage",
    [
        *map(_holding, ("", "[]", "{", "3", "[" * 10**5, '{"task": 3, "config": 3}', "9" * 9999)),
        *(_pipe, _folder, _dangling),
    ],
)
def test_damaged_files_of_runs_are_named(
    name: str, damage: Callable[[Path], object], tmp_path: Path
) -> None:
    runs = [Path(shutil.copytree(OLD_RUN, tmp_path / run)) for run in ("one", "two")]
    (runs[1] / name).touch()
    damage(runs[1] / name)
    done = saarthi("compare", *map(str, runs))
    assert done.returncode == 2
    assert name in done.stderr and done.stdout == "", done.stderr


@pytest.mark.parametrize("value", [None, "x", [], {}, 10**30, True])
def test_wrong_types_in_metrics_are_named(value: object, tmp_path: Path) -> None:
    runs = [Path(shutil.copytree(OLD_RUN, tmp_path / run)) for run in ("one", "two")]
    metrics = json.loads((runs[1] / "metrics.json").read_text(encoding="utf-8"))
    metrics["teacher"]["main"] = value
    (runs[1] / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    done = saarthi("compare", *map(str, runs))
    assert done.returncode == 2 and "metrics.json: teacher.main must be a number" in done.stderr


def test_answers_survive_streams_that_are_not_utf8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = process(MAIN, "compare", str(OLD_RUN), str(OLD_RUN))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *[(f"rows.{kind}", b"\xff\x00PAR1\x93" * 50) for kind in ("csv", "parquet", "jsonl")],
        *[("rows.csv", b""), ("rows.jsonl", b'{"text": '), ("rows.csv.gz", b"\x1f\x8b\x08")],
        ("rows.json", b"[" * 10**5),
    ],
)
def test_broken_tables_to_answer_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", runtime="onnxruntime")
    file, output = tmp_path / name, tmp_path / "out.csv"
    file.write_bytes(content)
    done = saarthi("predict", str(bundle), "--file", str(file), "--output", str(output))
    assert done.returncode == 2 and name in done.stderr
    assert not [path for path in tmp_path.iterdir() if "out.csv" in path.name]
