"""Files and links of the user in a run's folder: no run replaces, deletes or follows them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from saarthi_lib import train
from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError, StorageError
from saarthi_lib.layout import RunLayout
from saarthi_lib.runs.folder import RunFolder
from saarthi_lib.runs.reuse import data_digest
from saarthi_lib.runs.train import finish
from saarthi_lib.storage import digest_files, digest_folder, write_json
from tests.conftest import bundle_digests, fast_config


@pytest.fixture
def finished(finished_run: Path, home_assistant: Path, tmp_path: Path) -> dict[str, Any]:
    """The configuration of a finished run, in a folder of its own: a second run takes seconds."""
    root = Path(shutil.copytree(finished_run, tmp_path / "run", symlinks=True))
    return {**fast_config(home_assistant, root), "task": "joint", "explained_errors": 3}


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder of the user next to the run's folder."""
    return _written(tmp_path / "precious" / "thesis.txt").parent


def _written(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("years of work", encoding="utf-8")
    return file


def test_production_keeps_the_users_files(finished: dict[str, Any], precious: Path) -> None:
    root = Path(finished["root_output_path"])
    names = ["notes.txt", "images/a.png", "work/mine.txt", "teacher/mine.txt", ".old-notes.old"]
    names += ["student/mine.txt", "logs/mine.txt", ".a.partial", ".env.20240115.old"]
    names += [".backup.deadbeef.old/a.txt", "student/bundle/model.onnx"]
    mine = [_written(root / name) for name in names]
    write_json(root / "student" / "bundle" / "bundle.json", {"files": {"model.onnx": {}}})
    (root / "link").symlink_to(precious)
    (root / "work" / "link").symlink_to(precious)
    (root / "signals" / "link").symlink_to(precious)
    before = digest_files(precious)

    train({**finished, "production": True})

    assert all(file.read_text(encoding="utf-8") == "years of work" for file in mine)
    assert digest_files(precious) == before
    assert (root / "link").is_symlink() and (root / "signals" / "link").is_symlink()
    assert not (root / "teacher" / "teacher.safetensors").exists()
    assert not (root / "data").exists() and not (root / "predictions.parquet").exists()
    assert (root / "bundle-int8").is_dir() and (root / "metrics.json").is_file()


@pytest.mark.slow
def test_input_in_run_folder_stays_and_bundle_is_equal(
    fast: dict[str, Any],
    home_assistant: Path,
    trained_once: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = tmp_path / "project"
    shutil.copytree(home_assistant, project / "data")
    before = digest_files(project / "data")
    monkeypatch.chdir(project)
    config = {**fast, "input_path": "./data", "root_output_path": "."}
    train(config)
    assert (project / "prepared-data" / "train.parquet").exists()
    train({**config, "production": True})
    assert not (project / "prepared-data").exists()
    assert digest_files(project / "data") == before
    for bundle in ("bundle", "bundle-int8"):
        found, expected = bundle_digests(project / bundle), bundle_digests(trained_once / bundle)
        for digests in (found, expected):
            del digests["training_config.json"]  # holds the path of the input
        assert found == expected


@pytest.mark.parametrize("field", ["teacher_output_folder", "student_output_folder"])
@pytest.mark.parametrize(
    "name", ["../precious", ".", "..", "", "bundle", "Data", "work", "run.json", ".kfp", "a/b", "/"]
)
def test_folder_names_that_are_paths_or_reserved_are_refused(
    finished: dict[str, Any], precious: Path, field: str, name: str
) -> None:
    before = digest_files(precious.parent)
    with pytest.raises(ConfigError, match=field):
        train({**finished, field: name, "enable_teacher_checkpointing": False})
    with pytest.raises(ConfigError, match=field):
        train({**finished, field: str(precious), "enable_teacher_checkpointing": False})
    assert digest_files(precious.parent) == before


@pytest.mark.parametrize(
    "name",
    ["teacher/a.txt", "data/a.txt", "signals/a", "work/exported/a", "student/stage_2/a",
     "bundle/model.onnx", "metrics.json", "report.html", "predictions.parquet", "run.json"],
)  # fmt: skip
def test_new_run_refuses_to_replace_the_users_files(
    fast: dict[str, Any], tmp_path: Path, name: str
) -> None:
    root = Path(fast["root_output_path"])
    file = _written(root / name)
    if name == "data/a.txt":  # the run writes its data elsewhere
        fast["teacher_name"] = "no-such-teacher"
        with pytest.raises(Exception, match="no-such-teacher"):
            train(fast)
    else:
        with pytest.raises(StorageError, match="no run has made this"):
            train(fast)
    assert {path for path in root.rglob("*") if path.is_file()} <= {file, root / "run.json"}
    assert file.read_text(encoding="utf-8") == "years of work"


@pytest.mark.parametrize("name", ["teacher", "bundle", "work", "student", "signals"])
def test_users_link_is_neither_followed_nor_replaced(
    fast: dict[str, Any], precious: Path, name: str
) -> None:
    root = Path(fast["root_output_path"])
    root.mkdir()
    (root / name).symlink_to(precious)
    before = digest_files(precious)
    with pytest.raises(StorageError, match=f"{name}: no run has made this"):
        train({**fast, "production": True})
    assert (root / name).is_symlink() and digest_files(precious) == before


def test_lock_file_that_is_a_link_is_refused(fast: dict[str, Any], precious: Path) -> None:
    root = Path(fast["root_output_path"])
    root.mkdir()
    (root / ".saarthi-lock").symlink_to(precious / "thesis.txt")
    with pytest.raises(StorageError, match="saarthi-lock"):
        train(fast)
    assert (precious / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_rerun_step_and_bundle_keep_added_files(
    finished: dict[str, Any],
) -> None:
    root = Path(finished["root_output_path"])
    added = _written(root / "student" / "stage_2" / "mine.txt")
    with pytest.raises(StorageError, match=r"stage_2/mine\.txt: no run has made this"):
        train({**finished, "student_learning_rate": 0.01})
    assert added.exists()
    added.unlink()
    added = _written(root / "bundle" / "mine.txt")
    with pytest.raises(StorageError, match=r"bundle/mine\.txt: no run has made this"):
        train(finished)
    assert added.exists()


@pytest.mark.parametrize("change", [{"production": True}, {"enable_teacher_checkpointing": False}])
def test_users_teacher_is_kept(finished: dict[str, Any], change: dict[str, Any]) -> None:
    root = Path(finished["root_output_path"])
    before = digest_files(root / "teacher")
    config = TrainConfig.from_mapping({**finished, "teacher_exists": True, **change})
    folder = RunFolder.of(config, root)
    finish(config, folder, root / "work" / "evaluation")
    assert digest_files(root / "teacher") == before


def test_input_inside_the_runs_folders_is_refused(
    finished: dict[str, Any], home_assistant: Path
) -> None:
    root = Path(finished["root_output_path"])
    with pytest.raises(ConfigError, match=r"root_output_path: .* is the input's folder too"):
        train({**finished, "input_path": str(root)})
    inside = shutil.copytree(home_assistant, root / "work" / "exported" / "input")
    with pytest.raises(ConfigError, match=r"lies in .*work/exported, where the run writes"):
        train({**finished, "input_path": str(inside)})
    assert digest_files(inside) == digest_files(home_assistant)


def test_removed_folders_belong_to_the_user_again(finished: dict[str, Any]) -> None:
    root = Path(finished["root_output_path"])
    train({**finished, "production": True})
    mine = _written(root / "teacher" / "mine.txt")
    write_json(root / "teacher" / "step.json", {"files": {"mine.txt": ""}})
    with pytest.raises(StorageError, match=r"teacher/.*: no run has made this"):
        train({**finished, "production": True})
    assert mine.exists()


def test_without_run_json_bundles_belong_to_the_user(finished: dict[str, Any]) -> None:
    root = Path(finished["root_output_path"])
    for path in list(root.iterdir()):
        if path.name != "bundle":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(StorageError, match=r"bundle/.*: no run has made this"):
        train(finished)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("", id="damaged", marks=pytest.mark.slow),
        pytest.param("{}", id="of an earlier version"),
    ],
)
def test_damaged_or_earlier_run_json_allows_a_run(finished: dict[str, Any], damage: str) -> None:
    record = Path(finished["root_output_path"]) / "run.json"
    if damage:
        content = json.loads(record.read_text(encoding="utf-8"))
        del content["made"]
        damage = json.dumps(content)
    record.write_text(damage, encoding="utf-8")
    quick = {"distillation_stages": [5], "quantization": None, "explained_errors": 0}
    train({**finished, **quick})
    assert "bundle" in json.loads(record.read_text(encoding="utf-8"))["made"]


def test_files_added_to_pipeline_artifacts_are_kept(finished_run: Path, tmp_path: Path) -> None:
    folder = RunFolder(RunLayout(tmp_path / "run"))
    folder.root.mkdir()
    artifact = folder.own_pipeline_folder() / "run-1" / "train-teacher" / "teacher"
    shutil.copytree(finished_run / "teacher", artifact)
    folder.layout.teacher.symlink_to(artifact)
    log, mine = _written(folder.root / "pipeline.log"), _written(folder.layout.teacher / "mine.txt")
    for _ in range(2):  # a second time nothing is left to remove
        folder.remove_all_but_deliverables(keep_teacher=False)
        assert [path.name for path in artifact.iterdir() if path != artifact / "step.json"] == [
            "mine.txt"
        ]
    assert not log.exists() and not folder.layout.teacher.exists()
    assert (artifact / "mine.txt").read_text(encoding="utf-8") == "years of work"
    assert not mine.exists()  # the link is gone; the file is still with its artifact


def test_pipeline_folder_of_earlier_version_is_used(tmp_path: Path) -> None:
    folder = RunFolder(RunLayout(tmp_path / "run"))
    artifact = folder.root / ".kfp" / "run-1" / "train-teacher" / "teacher"
    artifact.mkdir(parents=True)
    (folder.root / ".kfp" / "cache").mkdir()
    folder.layout.teacher.symlink_to(artifact)
    folder.require_own(
        TrainConfig(input_path="demo:home-assistant"),
        folder.layout.pipeline_log,
        repeats_steps=True,
    )
    assert folder.own_pipeline_folder() == folder.root / ".kfp"


def test_users_folder_in_place_of_the_pipelines_is_refused(precious: Path, tmp_path: Path) -> None:
    folder = RunFolder(RunLayout(tmp_path / "run"))
    folder.root.mkdir()
    (folder.root / ".kfp").symlink_to(precious)
    with pytest.raises(StorageError, match=r"\.kfp: no run has made this"):
        folder.own_pipeline_folder()
    (folder.root / ".kfp").unlink()
    _written(folder.root / ".kfp" / "mine.txt")
    with pytest.raises(StorageError, match=r"mine\.txt: no run has made this"):
        folder.own_pipeline_folder()


def test_data_digest_without_run_folder_covers_all_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("text,label\nhi,greet\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    # A task gets only the section of the data, which has no output folder.
    assert data_digest(TrainConfig(input_path="data")) == digest_folder(tmp_path / "data")
