"""Generated pages and golden files match the code and the pipelines' specs.

`make generated` writes them, so that a review shows changes of fields, options and resources.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from docs import generated
from pipelines.pages import component_page, pipeline_page
from saarthi_lib import __version__
from tests.pipelines.compiled import read

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
COMPILED = ("nlu-local", "nlu-dev", "nlu-prod", "sweep-prod", "nightly-prod")


def check(path: Path, text: str) -> None:
    if os.environ.get("SAARTHI_REGENERATE"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.is_file() and path.read_text(encoding="utf-8") == text, (
        f"{path.relative_to(ROOT)} is out of date: run `make generated`, and review the changes"
    )


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("components.md", component_page),
        ("pipelines.md", pipeline_page),
        ("reference/configuration.md", generated.configuration),
        ("reference/server.md", generated.server),
        ("reference/command-line.md", generated.command_line),
    ],
)
def test_page_is_up_to_date(name: str, write: Callable[[], str]) -> None:
    check(ROOT / "docs" / name, write())


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_tasks_match_the_golden_file(compiled: Path, name: str) -> None:
    """Compares the compiled file, except the components' sources and settings of all tasks."""
    found = read(compiled / f"{name}.yaml")
    tasks = {task.name: _settings(task) for task in found.tasks()}
    content = {"pipeline": found.spec.pipeline_info.name, "tasks": tasks}
    if found.spec.default_pipeline_root:
        content["root"] = found.spec.default_pipeline_root
    text = yaml.safe_dump(content, sort_keys=True, width=100)
    check(GOLDEN / f"{name}.yaml", text.replace(__version__, "VERSION"))


def _settings(task: Any) -> dict[str, Any]:
    spec = json_format.MessageToDict(task.spec)
    container = json_format.MessageToDict(task.container)
    pod = json_format.MessageToDict(task.pod)
    pod.pop("fieldPathAsEnv")
    settings = {
        "after": sorted(task.spec.dependent_tasks),
        "cached": task.spec.caching_options.enable_cache,
        "image": container["image"],
        "resources": container.get("resources"),
        "retry": spec.get("retryPolicy"),
        "environment": container.get("env"),
        "pod": pod,
    }
    return {name: value for name, value in settings.items() if value or value is False}
