"""Training without a configuration file: `saarthi train DATA` and `saarthi init DATA`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from saarthi_lib import train
from saarthi_lib.cli.configuration import read_configuration, write_into_run
from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError, StorageError
from tests.conftest import write_jsonl
from tests.test_cli import saarthi

TINY = {
    "fast_dev_run": True,
    "precision": 32,
    "teacher_name": "minilm",
    "student_preset": "tiny",
    "augmentation_size": 0,
    "vocabulary_extra_tokens": 0,
    "explained_errors": 0,
}
SETTINGS = [part for name, value in TINY.items() for part in ("--set", f"{name}={value}")]
THINGS = ("lamp", "fan", "heater", "radio", "door", "oven", "बत्ती", "पंखा", "दरवाज़ा", "चूल्हा")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with data in columns with unusual names."""
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


def test_data_folder_is_trained_without_a_configuration(folder: Path) -> None:
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
    root = folder / "runs" / "my-bot-trial"
    assert (root / "bundle-int8" / "model.onnx").is_file()
    file = root / "config.yaml"
    text = file.read_text(encoding="utf-8")
    assert "saarthi train runs/my-bot-trial/config.yaml" in text
    assert list(yaml.safe_load(text)) == [
        *("task", "precision", "fast_dev_run"),
        *("input_path", "text_column", "label_column"),
        *("augmentation_size", "vocabulary_extra_tokens", "teacher_name", "student_preset"),
        *("root_output_path", "explained_errors"),
    ]
    written = yaml.safe_load(text)
    assert (written["input_path"], written["root_output_path"]) == (
        *(str(folder / "my-bot"), str(root)),
    )
    assert "config.yaml" in json.loads((root / "run.json").read_text(encoding="utf-8"))["made"]

    again = run("runs/my-bot-trial/config.yaml", "--set", "production=true")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "data: reused" in again.stdout + again.stderr
    assert file.read_text(encoding="utf-8") == text and not (root / "data").exists()


def test_data_that_start_from_a_run_get_its_settings(
    trained_once: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The configuration of `trained_once` has no file, but its record shows it."""
    given = {"start_from": str(trained_once), "student_lstm_dim": 48}
    config = read_configuration(str(folder / "my-bot"), folder / "run", given)
    assert (config.teacher_name, config.student_word_emb_dim) == ("minilm", 16)
    assert config.student_lstm_dim == 48 and not config.fast_dev_run
    assert config.input_path == str(folder / "my-bot")
    assert f"settings of {trained_once}: " in capsys.readouterr().out.replace("\n", "")

    run = folder / "run"
    write_into_run(config.model_copy(update={"start_from": ""}), "my-bot")  # that is a trial
    later = read_configuration(str(folder / "my-bot"), folder / "next", {"start_from": str(run)})
    assert later.model_fields_set == config.model_fields_set
    assert later.start_from == str(run) and later.student_lstm_dim == 48


def test_start_from_no_run_leaves_nothing_behind(folder: Path) -> None:
    (folder / "other").mkdir()
    done = saarthi("train", "my-bot", "--from", "other", cwd=folder)
    assert done.returncode == 2 and "other: is not the folder of a run" in done.stderr
    assert not (folder / "other-2").exists()


def drafted(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: object) -> TrainConfig:
    monkeypatch.chdir(folder)
    return read_configuration("my-bot", None, {**TINY, "fast_dev_run": False, **settings})


def test_edited_configuration_is_not_replaced(
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
    assert read_configuration(str(file), None, {}).seed == 8


def test_edited_header_counts_as_an_edit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = drafted(folder, monkeypatch)
    write_into_run(config, "my-bot")
    file = folder / "runs" / "my-bot" / "config.yaml"
    text = file.read_text(encoding="utf-8")
    edited = text.replace("#   recipe: best  ", "recipe: best  #").replace("(more", "# (more")
    assert yaml.safe_load(edited)["recipe"] == "best"
    file.write_text(edited, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.yaml: was edited; train with it"):
        write_into_run(config, "my-bot")
    assert file.read_text(encoding="utf-8") == edited


def test_folder_named_config_yaml_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "runs" / "my-bot" / "config.yaml").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"config\.yaml: is a folder, and the run writes"):
        write_into_run(drafted(folder, monkeypatch), "my-bot")


def test_data_folders_with_one_name_need_two_outputs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder / "my-bot", folder / "other" / "my-bot")
    write_into_run(drafted(folder, monkeypatch), "my-bot")
    file = folder / "runs" / "my-bot" / "config.yaml"
    before = file.read_bytes()
    second = read_configuration("other/my-bot", None, {})
    with pytest.raises(ConfigError, match=r"is the run of other data \(.*my-bot\).*--output"):
        write_into_run(second, "other/my-bot")
    assert file.read_bytes() == before
    file.unlink()  # the record of a run shows its input, too
    record = {**json.loads((file.parent / "run.json").read_bytes()), "config": {}}
    record["config"]["input_path"] = str(folder / "my-bot")
    (file.parent / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ConfigError, match="is the run of other data"):
        write_into_run(second, "other/my-bot")

    monkeypatch.chdir(folder / "runs")  # the same folder by another path
    again = read_configuration("../my-bot", Path("my-bot"), {})
    assert write_into_run(again, "../my-bot").input_path.endswith("my-bot")


def test_trial_gets_its_own_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = drafted(folder, monkeypatch, fast_dev_run=True)
    assert trial.root_output_path == "runs/my-bot-trial"
    given = drafted(folder, monkeypatch, fast_dev_run=True, root_output_path="mine")
    assert given.root_output_path == "mine"
    assert read_configuration("my-bot", Path("mine"), TINY).root_output_path == "mine"
    assert drafted(folder, monkeypatch).root_output_path == "runs/my-bot"


@pytest.mark.parametrize("results", [{"student": {}}, {"student": {}, "trial": True}])
def test_trial_does_not_replace_a_real_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, results: dict[str, object]
) -> None:
    root = folder / "runs" / "my-bot"
    write_into_run(drafted(folder, monkeypatch), "my-bot")
    (root / "metrics.json").write_text(json.dumps(results), encoding="utf-8")
    record = json.loads((root / "run.json").read_bytes())
    record["made"].append("metrics.json")
    (root / "run.json").write_text(json.dumps(record), encoding="utf-8")
    trial = read_configuration("my-bot", Path("runs/my-bot"), TINY)
    if "trial" in results:
        write_into_run(trial, "my-bot")
        return
    for run in (train, lambda config: write_into_run(config, "my-bot")):
        with pytest.raises(ConfigError, match=r"a trial .* would replace its results"):
            run(trial)
    write_into_run(drafted(folder, monkeypatch), "my-bot")


def test_paths_with_special_characters_are_quoted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "my-bot").rename(folder / "x: y # z")
    config = read_configuration("x: y # z", None, {})
    assert config.root_output_path == "runs/x: y # z"
    write_into_run(config, "x: y # z")
    text = (folder / "runs" / "x: y # z" / "config.yaml").read_text(encoding="utf-8")
    assert "saarthi train 'x: y # z'\n" in text
    assert "saarthi train 'runs/x: y # z/config.yaml'\n" in text
    assert yaml.safe_load(text)["input_path"] == str(folder / "x: y # z")
    demo = read_configuration("demo:home-assistant", None, {})
    assert demo.root_output_path == "runs/home-assistant"
    assert write_into_run(demo, "demo:home-assistant").input_path == "demo:home-assistant"


def test_init_does_not_replace_a_users_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    config = read_configuration("my-bot/", Path("elsewhere"), {"task": "text_classification"})
    assert config.root_output_path == "elsewhere" and config.task == "text_classification"
    monkeypatch.chdir(folder / "my-bot")
    assert read_configuration(".", None, {}).root_output_path == "runs/my-bot"
    (folder / "two.yaml").write_text(
        f"input_path: {folder / 'my-bot'}\nroot_output_path: out\n", encoding="utf-8"
    )
    config = read_configuration(str(folder / "two.yaml"), Path("other"), {})
    assert (config.label_column, config.root_output_path) == ("kind", "other")


def test_init_writes_a_configuration_that_trains(folder: Path) -> None:
    shutil.copy(folder / "my-bot" / "train.jsonl", folder / "my-bot" / "dev.jsonl")
    done = saarthi("init", "my-bot", "--set", "teacher_name=minilm", cwd=folder)
    assert done.returncode == 0, done.stderr
    for part in ("task: intent_classification", "text 'phrase', label 'kind'", "my-bot.yaml"):
        assert part in done.stdout
    assert "validation   120  english 72, hindi 48" in done.stdout
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
    other = saarthi("init", "my-bot", "--output", "new/sub/other.yml", cwd=folder)
    assert other.returncode == 0 and (folder / "new" / "sub" / "other.yml").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere"], "nowhere: there is no such file or folder; give a configuration"),
        (["train", "empty"], "no train file; put in train with one of"),
        (["train", "my-bot", "--set", "student_epoch=3"], "did you mean 'student_epochs'"),
        (["train", "s3a://bucket/bot"], "s3a:// is unknown (did you mean s3://?); known here"),
        (["train", "http://host/bot.csv"], "did you mean https://?"),
        (["init", "ftp://host/bot"], "the scheme ftp:// is unknown; known here: a path, s3://, gs"),
        (["init", "nowhere"], "nowhere: there is no such file or folder"),
        (["init", "my.yaml"], "my.yaml: there is no such folder"),
        (["init", "my-bot", "--output", "new.txt"], "must have the extension .yaml or .yml"),
        (["init", "my-bot", "--output", "my-bot/train.jsonl/x.yaml"], "cannot be written"),
        (["init", "my-bot", "--set", "root_output_path=my-bot/dev"], "would be read as data"),
        (
            ["init", "my-bot", "--output", "my-bot/test.yaml", "--set", "data_format=jsonl"],
            "my-bot/test.yaml would be read as data",
        ),
        (["train", "my-bot", "--output", "my-bot/test-run"], "would be read as data"),
        (["train", "my-bot", "--output", "my-bot/hindi/run"], "would be read as data"),
        (["train", "my-bot", "--output", "my-bot/train.jsonl"], "train.jsonl is a file; give a"),
        (["train", "my-bot", "--output", "my-bot/train.jsonl/a"], "train.jsonl is a file; give a"),
        (["train", "my-bot", "--set", "input_path=empty"], "give one of the two"),
        (
            ["train", "run"],
            "run: is the folder of a run, not of data; resume the run with saarthi "
            "train run/config.yaml",
        ),
        (["init", "bare"], "resume the run with the configuration that you gave it"),
    ],
)
def test_errors_name_the_missing_input(folder: Path, arguments: list[str], words: str) -> None:
    for name in ("empty", "run", "bare"):
        (folder / name).mkdir()
    (folder / "run" / "config.yaml").touch()
    for name in ("run", "bare"):
        (folder / name / "run.json").write_text('{"steps": {}}', encoding="utf-8")
    before = sorted(folder.rglob("*"))
    done = saarthi(*arguments, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert words in " ".join((done.stderr + done.stdout).split())
    assert "Traceback" not in done.stderr
    assert sorted(folder.rglob("*")) == before
