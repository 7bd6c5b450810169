"""Components of trainings write the files of the configured loggers into an artifact."""

import csv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from components.distil_stage.component import distil_stage
from components.train_teacher.component import train_teacher
from saarthi_lib.config import TrainConfig
from tests.pipelines.compiled import read


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
        "teacher": "teacher",
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
