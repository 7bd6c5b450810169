"""A finished run is not replaced by another one without being asked."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.local import run_pipeline
from saarthi_lib import train
from saarthi_lib.cli.configuration import write_into_run
from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError
from saarthi_lib.runs.folder import RunFolder
from saarthi_lib.runs.reuse import require_same_run
from saarthi_lib.storage import digest_files, write_json
from tests.test_cli import saarthi


@pytest.fixture
def finished(trained: Path, fast: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a finished run; its trial counts as a real run."""
    fields = {**fast, "fast_dev_run": False}
    record = json.loads((trained / "run.json").read_bytes())
    record["config"]["fast_dev_run"] = False
    write_json(trained / "run.json", record)
    metrics = json.loads((trained / "metrics.json").read_bytes())
    write_json(trained / "metrics.json", {**metrics, "trial": False})
    return fields


def other_rows(fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration with one more row of training."""
    shutil.copytree(fields["input_path"], folder)
    [file] = folder.glob("train*")
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join([*lines, lines[-1]]), encoding="utf-8")
    return {**fields, "input_path": str(folder)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"student_lstm_dim": 24}, "student_lstm_dim 16 → 24"),
        ({"teacher_epochs": 1, "seed": 7}, "seed 42 → 7, teacher_epochs"),
        ({"augmentation_size": 5}, "augmentation_size 10000 → 5"),
        ({"distillation": False}, "distillation True → False"),
    ],
)
def test_run_with_other_networks_is_refused(
    finished: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    root = Path(finished["root_output_path"])
    before = digest_files(root)
    with pytest.raises(ConfigError, match=said) as refused:
        train({**finished, **change})
    for part in (str(root), "has a finished run", "--output", "--overwrite"):
        assert part in str(refused.value)
    with pytest.raises(ConfigError, match=said):
        run_pipeline(TrainConfig.from_mapping({**finished, **change}), lambda *line: None)
    with pytest.raises(ConfigError, match=said):
        write_into_run(TrainConfig.from_mapping({**finished, **change}), "data")
    assert digest_files(root) == before


def test_run_with_other_data_is_refused_by_the_command(
    finished: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "bot.yaml"
    file.write_text(yaml.safe_dump(other_rows(finished, tmp_path / "more")), encoding="utf-8")
    before = digest_files(Path(finished["root_output_path"]))
    done = saarthi("train", str(file), cwd=tmp_path)
    said = " ".join((done.stderr + done.stdout).split())
    assert done.returncode == 2 and "(the input data have changed)" in said
    assert digest_files(Path(finished["root_output_path"])) == before


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"bundle_version": "2", "abstention_coverage": 0.8, "torchscript": True},
        {"production": True, "loggers": ["csv"], "device": "cpu"},
        {"precision": "32", "student_epochs": 15, "max_seq_len": 32},
    ],
    ids=["same", "delivery", "places", "resolved values given"],
)
def test_same_networks_are_delivered_again(
    finished: dict[str, Any], change: dict[str, Any]
) -> None:
    root = Path(finished["root_output_path"])
    record = json.loads((root / "run.json").read_bytes())["config"]
    known = {name: record[name] for name in change if name in ("student_epochs", "max_seq_len")}
    config = TrainConfig.from_mapping({**finished, **change, **known})
    require_same_run(config, RunFolder.of(config))

    whole = TrainConfig.from_mapping({**record, "root_output_path": str(root)})
    require_same_run(whole, RunFolder.of(whole))
    shutil.rmtree(root / "data")  # as in production
    require_same_run(config, RunFolder.of(config))


def test_unfinished_runs_and_trials_may_be_replaced(
    finished: dict[str, Any], tmp_path: Path
) -> None:
    root, changed = Path(finished["root_output_path"]), other_rows(finished, tmp_path / "more")
    config = TrainConfig.from_mapping({**changed, "student_epochs": 3})
    with pytest.raises(ConfigError):
        require_same_run(config, RunFolder.of(config))
    metrics = json.loads((root / "metrics.json").read_bytes())
    write_json(root / "metrics.json", {**metrics, "trial": True})
    require_same_run(config, RunFolder.of(config))
    (root / "metrics.json").unlink()
    require_same_run(config, RunFolder.of(config))


def test_asked_run_replaces_the_finished_one(finished: dict[str, Any]) -> None:
    changed = {**finished, "teacher_name": "no-such-teacher"}
    with pytest.raises(ConfigError, match="has a finished run"):
        train(changed)
    with pytest.raises(Exception, match="no-such-teacher"):
        train(changed, overwrite=True)  # it passes the check, and begins
