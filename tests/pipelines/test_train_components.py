"""Components of trainings: curves of the configured loggers, and signals in a Workspace."""

import csv
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import dsl

from components.distil_stage.component import distil_stage
from components.preprocess_data.component import preprocess_data
from components.run_teacher.component import run_teacher
from components.train_teacher.component import train_teacher
from pipelines.compile import compile_to, make_pipeline
from pipelines.resources import Environment
from saarthi_lib.config import TrainConfig
from saarthi_lib.lineage import CHECKPOINTS_VARIABLE
from saarthi_lib.storage import read_json
from tests.pipelines.compiled import read

KINDS: dict[str, Any] = {"kinds": {"control": {}, "data": {}, "teacher": {}, "student": {}}}


def _run(component: Any, folder: Path, inputs: dict[str, Any], outputs: dict[str, Any]) -> Path:
    """Run a component's function; returns the folder of its curves."""
    artifacts = {
        name: kind(name=name, uri=str(folder / name), metadata={}) for name, kind in outputs.items()
    }
    component.python_func(**inputs, **artifacts)
    return folder / "curves"


def test_stage_and_teacher_write_curves(
    fast: dict[str, Any], trained_once: Path, tmp_path: Path
) -> None:
    config = TrainConfig.from_mapping({**fast, "loggers": ["csv", "tensorboard"]})
    made = {
        "data": "data",
        "signals": "signals",
        "previous": "student/stage_3",
    }
    inputs = {name: dsl.Artifact(uri=str(trained_once / made[name])) for name in made}
    configs = {f"{name}_config": config.given(name) for name in ("run", "teacher", "student")}
    outputs = {"metrics": dsl.Metrics, "curves": dsl.Artifact}

    given = {**inputs, "stage": 4}
    given |= {name: configs[name] for name in ("run_config", "student_config")}
    stage = _run(distil_stage, tmp_path / "stage", given, {"student": dsl.Model, **outputs})
    [table] = stage.glob("csv/student_stage_4/*/metrics.csv")
    with table.open() as file:
        assert any(row["validation/main"] for row in csv.DictReader(file))
    assert [*stage.glob("student_stage_4/*/events.out.tfevents.*")]

    given = {"data": inputs["data"]}
    given |= {name: configs[name] for name in ("run_config", "teacher_config")}
    given["run_config"]["loggers"] = []
    teacher = _run(train_teacher, tmp_path / "teacher", given, {"teacher": dsl.Model, **outputs})
    assert teacher.is_dir() and not [*teacher.iterdir()]


def test_missing_logger_is_named_before_training(
    fast: dict[str, Any], trained_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_spec("wandb"):
        pytest.skip("wandb is installed")
    config = TrainConfig.from_mapping({**fast, "loggers": ["wandb"]})
    given = {
        "data": dsl.Artifact(uri=str(trained_once / "data")),
        "run_config": config.given("run"),
        "teacher_config": config.given("teacher"),
    }
    outputs = {"teacher": dsl.Model, "metrics": dsl.Metrics, "curves": dsl.Artifact}
    with pytest.raises(SystemExit):
        _run(train_teacher, tmp_path, given, outputs)
    assert "loggers: wandb needs a package that is not installed" in capsys.readouterr().err
    assert not (tmp_path / "teacher").exists()


def test_an_artifact_is_read_in_place_of_input_path(
    fast: dict[str, Any], trained_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig.from_mapping(fast)
    given = {f"{name}_config": config.given(name) for name in ("run", "data", "teacher")}
    source = dsl.Dataset(uri=given["data_config"].pop("input_path"))
    made = {name: dsl.Artifact(uri=str(tmp_path / name), metadata={}) for name in ("data", "check")}
    preprocess_data.python_func(**given, data_digest="", source=source, **made)
    once = trained_once / "data" / "data.json"
    assert read_json(tmp_path / "data" / "data.json")["digest"] == read_json(once)["digest"]
    given["data_config"]["input_path"] = "s3://bucket/other"
    with pytest.raises(SystemExit):
        preprocess_data.python_func(**given, data_digest="", source=source, **made)
    assert "source: is a second input beside input_path" in capsys.readouterr().err

    @dsl.pipeline
    def mine(uri: str) -> None:
        found = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset)
        configs: dict[str, Any] = {name: {} for name in given}
        preprocess_data(**configs, data_digest="", source=found.output)

    tasks = read(compile_to(mine, tmp_path / "p.yaml")).spec.root.dag.tasks
    inputs = tasks["preprocess-data"].inputs.artifacts
    assert inputs["source"].task_output_artifact.producer_task == "importer"


@pytest.mark.parametrize("name", ["nlu", "sweep"])
def test_curves_are_artifacts_of_each_training(compiled: Path, name: str) -> None:
    spec = read(compiled / f"{name}-prod.yaml").spec
    training = {
        component
        for component, each in spec.components.items()
        if "curves" in each.output_definitions.artifacts
    }
    assert {each.rstrip("-0123456789") for each in training} == {
        "comp-train-teacher",
        "comp-distil-stage",
    }


def test_signals_in_a_workspace_give_the_same_student(
    fast: dict[str, Any], trained_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # setenv, so that the variable which a task sets ends with this test.
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(tmp_path / "own"))
    config = TrainConfig.from_mapping({**fast, "loggers": []})
    configs = {f"{name}_config": config.given(name) for name in ("run", "teacher", "student")}
    data, teacher = (dsl.Artifact(uri=str(trained_once / each)) for each in ("data", "teacher"))
    inputs = {"data": data, "teacher": teacher, "workspace": str(tmp_path / "workspace")}
    names = ("teacher_test", "signals", "hidden", "metrics")
    made = {
        name: dsl.Metrics(name=name, uri=str(tmp_path / "store" / name), metadata={})
        for name in names
    }
    given = {**inputs, **{name: configs[name] for name in ("run_config", "teacher_config")}}
    run_teacher.python_func(**given, **made)
    for name in ("signals", "hidden"):
        assert [path.name for path in Path(made[name].path).iterdir()] == ["workspace.json"]

    given = {name: configs[name] for name in ("run_config", "student_config")}
    given |= {"data": data, "workspace": inputs["workspace"], "stage": 3}
    given["signals"] = made["signals"]
    given["previous"] = dsl.Artifact(uri=str(trained_once / "student" / "stage_2"))
    outputs = {"student": dsl.Model, "metrics": dsl.Metrics, "curves": dsl.Artifact}
    student = _run(distil_stage, tmp_path / "stage", given, outputs).with_name("student")
    name = "student.safetensors"
    assert (student / name).read_bytes() == (trained_once / "student/stage_3" / name).read_bytes()
    shutil.rmtree(tmp_path / "workspace")
    with pytest.raises((SystemExit, OSError)):
        _run(distil_stage, tmp_path / "late", given, outputs)


@pytest.mark.parametrize("name", ["nlu", "sweep"])
def test_signals_and_stages_use_the_workspace(tmp_path: Path, name: str) -> None:
    workspace = {"size": "50Gi", "storage_class": "fast", "access_modes": ["ReadWriteMany"]}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**KINDS, "workspace": workspace}))
    pipeline = make_pipeline(name, Environment.load(str(path)))
    file = compile_to(pipeline, tmp_path / "p.yaml")
    for task in read(file).tasks():
        value = task.spec.inputs.parameters["workspace"].runtime_value.constant.string_value
        uses = task.runs in {"run-teacher", "distil-stage"}
        # KFP mounts the volume in tasks with this value, and caches other tasks as before.
        assert value == ("{{$.workspace_path}}" if uses else ""), task.name
    [_, platform] = yaml.safe_load_all(file.read_text(encoding="utf-8"))
    claim = {"storageClassName": "fast", "accessModes": ["ReadWriteMany"]}
    assert platform["platforms"]["kubernetes"]["pipelineConfig"] == {
        "workspace": {"size": "50Gi", "kubernetes": {"pvcSpecPatch": claim}}
    }
