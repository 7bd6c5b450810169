"""Training without a configuration file: `saarthi train DATA` and `saarthi init DATA`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError, StorageError
from saarthi_lib.start import configuration, write_into_run
from tests.conftest import write_jsonl
from tests.test_cli import saarthi

TINY = {
    "fast_dev_run": True,
    "precision": 32,
    "teacher_name": "minilm",
    "student_preset": "tiny",
    "augmentation_size": 0,
    "vocabulary_extra_pieces": 0,
    "explained_errors": 0,
}
SETTINGS = [part for name, value in TINY.items() for part in ("--set", f"{name}={value}")]
THINGS = ("lamp", "fan", "heater", "radio", "door", "oven", "बत्ती", "पंखा", "दरवाज़ा", "चूल्हा")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with data whose columns have no usual name."""
    rows = [
        {"phrase": f"{before} {thing} {after} {number}", "kind": kind}
        for kind, english, hindi in (
            ("on", "turn on the", "चालू करो"),
            ("off", "stop the", "बंद करो"),
        )
        for thing in THINGS
        for before, after in [(english, "please") if thing.isascii() else ("वह", hindi)]
        for number in range(6)
    ]
    (tmp_path / "my-bot").mkdir()
    write_jsonl(tmp_path / "my-bot" / "train.jsonl", rows)
    return tmp_path


def test_a_folder_is_trained_without_a_configuration(folder: Path) -> None:
    command = [sys.executable, "-c", "from saarthi_lib.cli import main; main()", "train"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )

    done = run("my-bot", *SETTINGS)
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    assert "columns: text 'phrase' (such as '" in shown
    assert "task: intent_classification (detected from train.jsonl)" in shown
    assert "languages detected: english 72, hindi 48" in shown
    root = folder / "runs" / "my-bot"
    assert (root / "bundle-int8" / "model.onnx").is_file()
    file = root / "config.yaml"
    text = file.read_text(encoding="utf-8")
    assert "saarthi train runs/my-bot/config.yaml" in text
    assert list(yaml.safe_load(text)) == [
        *("task", "precision", "fast_dev_run"),
        *("input_path", "text_column", "label_column"),
        *("augmentation_size", "vocabulary_extra_pieces", "teacher_name", "student_preset"),
        *("root_output_path", "explained_errors"),
    ]
    assert "config.yaml" in json.loads((root / "run.json").read_text(encoding="utf-8"))["made"]

    again = run("runs/my-bot/config.yaml", "--set", "production=true")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "data: taken from the earlier run" in again.stdout + again.stderr
    assert file.read_text(encoding="utf-8") == text and not (root / "data").exists()


def drafted(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: object) -> TrainConfig:
    monkeypatch.chdir(folder)
    return configuration("my-bot", None, {**TINY, **settings})


def test_an_edited_configuration_is_not_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = drafted(folder, monkeypatch)
    write_into_run(config, "my-bot")
    file = folder / "runs" / "my-bot" / "config.yaml"
    write_into_run(drafted(folder, monkeypatch, seed=7), "my-bot")
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["seed"] == 7

    edited = file.read_text(encoding="utf-8").replace("seed: 7", "seed: 8")
    file.write_text(edited, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.yaml: was edited; train with it"):
        write_into_run(config, "my-bot")
    assert file.read_text(encoding="utf-8") == edited
    assert configuration(str(file), None, {}).seed == 8


def test_a_file_of_the_user_is_not_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = drafted(folder, monkeypatch)
    mine = folder / "runs" / "my-bot" / "config.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("task: ner\n", encoding="utf-8")
    with pytest.raises(StorageError, match=r"config\.yaml: no run has made this"):
        write_into_run(config, "my-bot")
    assert mine.read_text(encoding="utf-8") == "task: ner\n"
    assert not (mine.parent / "run.json").exists()


def test_output_and_settings_override_the_defaults(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    config = configuration("my-bot/", Path("elsewhere"), {"task": "text_classification"})
    assert config.root_output_path == "elsewhere" and config.task == "text_classification"
    monkeypatch.chdir(folder / "my-bot")
    assert configuration(".", None, {}).root_output_path == "runs/my-bot"
    (folder / "two.yaml").write_text(
        f"input_path: {folder / 'my-bot'}\nroot_output_path: out\n", encoding="utf-8"
    )
    config = configuration(str(folder / "two.yaml"), Path("other"), {})
    assert (config.label_column, config.root_output_path) == ("kind", "other")


def test_init_writes_a_configuration_that_trains(folder: Path) -> None:
    shutil.copy(folder / "my-bot" / "train.jsonl", folder / "my-bot" / "dev.jsonl")
    done = saarthi("init", "my-bot", "--set", "teacher_name=minilm", cwd=folder)
    assert done.returncode == 0, done.stderr
    for part in ("task: intent_classification", "text 'phrase', label 'kind'", "my-bot.yaml"):
        assert part in done.stdout
    assert "validation │  120 │ english 72, hindi 48" in done.stdout
    file = folder / "my-bot.yaml"
    assert yaml.safe_load(file.read_text(encoding="utf-8")) == {
        "task": "intent_classification",
        "input_path": "my-bot",
        "text_column": "phrase",
        "label_column": "kind",
        "teacher_name": "minilm",
        "root_output_path": "runs/my-bot",
    }
    before = file.read_bytes()
    again = saarthi("init", "my-bot", cwd=folder)
    assert again.returncode == 2 and "my-bot.yaml: exists already" in again.stderr
    assert file.read_bytes() == before
    assert not (folder / "runs").exists()
    other = saarthi("init", "my-bot", "--output", "other.yaml", cwd=folder)
    assert other.returncode == 0 and (folder / "other.yaml").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere"], "nowhere: there is no such file or folder; give a configuration"),
        (["train", "my-bot/train.jsonl"], "give a folder (my-bot), or a configuration"),
        (["train", "empty"], "no train file; put in train with one of"),
        (["train", "my-bot", "--set", "student_epoch=3"], "did you mean 'student_epochs'"),
        (["train", "gs://bucket/bot"], "task is missing: it is detected only in local folders"),
        (["init", "nowhere"], "nowhere: there is no such file or folder"),
        (["init", "my.yaml"], "my.yaml: there is no such folder"),
        (["init", "my-bot/train.jsonl"], "give a folder (my-bot)"),
    ],
)
def test_errors_say_what_to_give(folder: Path, arguments: list[str], words: str) -> None:
    (folder / "empty").mkdir()
    done = saarthi(*arguments, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert words in " ".join((done.stderr + done.stdout).split())
    assert "Traceback" not in done.stderr
