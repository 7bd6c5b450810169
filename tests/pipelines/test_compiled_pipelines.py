"""The compiled pipelines: what a platform team reads before it uploads them."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.compile import compile_pipelines
from pipelines.local import pipeline_arguments
from saarthi_lib import __version__
from saarthi_lib.config import SECTIONS, TrainConfig

COMPONENTS = sorted(
    path.parent.name for path in Path(__file__).parents[2].glob("components/*/component.py")
)
TRAINING = ("train-teacher", "compute-teacher-signals", "distil-first-stage", "distil-stage")


def _compiled(folder: Path, env: str) -> dict[str, Any]:
    (path,) = compile_pipelines(folder, env)
    spec: dict[str, Any] = next(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    return spec


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_parameter_is_described_where_the_user_reads_it(name: str) -> None:
    component = getattr(importlib.import_module(f"components.{name}.component"), name)
    assert component.description
    (spec,) = component.pipeline_spec.components.values()
    for group in (spec.input_definitions.artifacts, spec.input_definitions.parameters):
        for field, value in group.items():
            assert value.description, f"{name}: {field}"
    # KFP has no place for the descriptions of outputs but the docstring.
    for field in spec.output_definitions.artifacts:
        assert f"{field}: " in component.python_func.__doc__, f"{name}: {field}"


@pytest.mark.parametrize("env", ["local", "dev", "prod"])
def test_all_tasks_use_one_image_of_this_version(tmp_path: Path, env: str) -> None:
    executors = _compiled(tmp_path, env)["deploymentSpec"]["executors"]
    assert {e["container"]["image"] for e in executors.values()} == {f"saarthi/train:{__version__}"}


def test_only_production_asks_for_gpus_and_only_where_they_are_used(tmp_path: Path) -> None:
    for env in ("local", "dev", "prod"):
        spec = _compiled(tmp_path, env)
        for name, executor in spec["deploymentSpec"]["executors"].items():
            resources = executor["container"].get("resources", {})
            trains = name.removeprefix("exec-").startswith(TRAINING)
            assert ("accelerator" in resources) == (env == "prod" and trains), (env, name)
            assert bool(resources) == (env != "local")


def test_the_teacher_is_tested_before_anything_is_distilled_from_it(tmp_path: Path) -> None:
    tasks = _compiled(tmp_path, "prod")["root"]["dag"]["tasks"]
    assert "test-teacher" in tasks["compute-teacher-signals"]["dependentTasks"]


def test_a_run_is_given_every_section_and_no_path_of_its_own(tmp_path: Path) -> None:
    config = TrainConfig.from_mapping(
        {"input_path": str(tmp_path), "root_output_path": "anywhere", "seed": 3}
    )
    arguments = pipeline_arguments(config)
    inputs = _compiled(tmp_path, "prod")["root"]["inputDefinitions"]["parameters"]
    assert set(arguments) == set(inputs)
    assert {f"{name}_config" for name in SECTIONS} < set(arguments)
    assert arguments["run_config"]["seed"] == 3
    assert "anywhere" not in str(arguments)
    sections = [f for name, f in arguments.items() if name != "data_digest"]
    merged = {field: value for section in sections for field, value in section.items()}
    again = TrainConfig.from_mapping({**merged, "root_output_path": "anywhere"})
    assert again == config
