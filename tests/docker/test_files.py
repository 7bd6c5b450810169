"""Files that build the images: Dockerfiles, matrix, workflows; without an engine."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from saarthi_lib import __version__
from tests.docker.conftest import ROOT

MATRIX: list[dict[str, str]] = json.loads((ROOT / ".ci/images.json").read_text(encoding="utf-8"))


def workflow(name: str) -> dict[str, Any]:
    text = (ROOT / ".github" / "workflows" / f"{name}.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text.replace("\non:", "\n'on':", 1)))


@pytest.mark.parametrize("entry", MATRIX, ids=lambda entry: entry["image"] + entry["tag"])
def test_matrix_matches_the_dockerfiles(entry: dict[str, str]) -> None:
    dockerfile = (ROOT / entry["file"]).read_text(encoding="utf-8")
    assert re.search(rf"^FROM .* AS {entry['image']}$", dockerfile, re.MULTILINE)
    for argument in ["VERSION=", "REVISION=", *entry["args"].splitlines()]:
        name, _, _ = argument.partition("=")
        assert re.search(rf"^ARG {name}\b", dockerfile, re.MULTILINE), name


def test_images_of_the_matrix_have_different_names() -> None:
    names = [entry["image"] + entry["tag"] for entry in MATRIX]
    assert len(set(names)) == len(names) and {"nlu", "ner", "train"} <= set(names)


def test_release_runs_the_tests_before_it_pushes() -> None:
    jobs = workflow("release")["jobs"]
    assert jobs["test"]["uses"].endswith("/ci.yaml") and "test" in jobs["images"]["needs"]
    assert jobs["images"]["uses"].endswith("/images.yaml") and jobs["images"]["with"] == {
        "push": True
    }
    assert set(jobs["release"]["needs"]) == {"version", "images"}
    for name in ("ci", "images"):
        assert "workflow_call" in workflow(name)["on"]
    steps = "\n".join(step.get("run", "") for step in jobs["release"]["steps"])
    for done in ("python -m build", "saarthi pipeline compile", "gh release create"):
        assert done in steps


def test_version_is_set_in_one_place(tmp_path: Path) -> None:
    for name in ("saarthi_lib", "components", "pipelines", "deployment"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    file = tmp_path / "saarthi_lib" / "__init__.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(f'"{__version__}"', '"97.1.0"'), encoding="utf-8")
    code = """
from pathlib import Path
from components.images import TRAIN_IMAGE
from pipelines.compile import compile_to, make_pipeline
from pipelines.resources import Environment
from saarthi_lib.lineage import made_by
from setuptools.config.pyprojecttoml import read_configuration
compile_to(make_pipeline("nlu", Environment.load("prod")), Path("nlu.yaml"))
print(TRAIN_IMAGE, made_by()["versions"]["saarthi"])
print(read_configuration("pyproject.toml")["project"]["version"])
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    environment.pop("SAARTHI_TRAIN_IMAGE", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        "saarthi/train:97.1.0",
        "97.1.0",
        "97.1.0",
    ]  # components, bundles, wheel
    compiled = (tmp_path / "nlu.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"image: (\S+)", compiled)) == {"saarthi/train:97.1.0"}
    made = subprocess.run(
        ["make", "--dry-run", "images", "DOCKER=buildah", "BUILD_ARGS=--build-arg ENGINE=torch"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert "buildah build --build-arg ENGINE=torch --build-arg VERSION=97.1.0" in made.stdout
    assert "--tag saarthi/$image:97.1.0" in made.stdout


def compose_service() -> dict[str, Any]:
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    [service] = yaml.safe_load(text)["services"].values()
    return dict(service)


def test_compose_serves_the_image_of_this_version() -> None:
    assert compose_service()["image"] == f"saarthi/nlu:{__version__}"


def test_compose_has_the_options_of_the_documented_command() -> None:
    page = (ROOT / "docs/guides/images.md").read_text(encoding="utf-8").replace("\\\n", " ")
    [line] = re.findall(r"^docker run .* -v .*$", page, re.MULTILINE)
    words = shlex.split(line)
    place = words.index(f"saarthi/nlu:{__version__}")
    options, command = words[2:place], words[place + 1 :]
    service = compose_service()
    [volume] = service["volumes"]
    expected = ["--rm"]  # `docker compose down` removes the container
    expected += ["--read-only"] * service["read_only"]
    expected += [word for path in service["tmpfs"] for word in ("--tmpfs", path)]
    expected += [word for name in service["cap_drop"] for word in ("--cap-drop", name)]
    for port in service["ports"]:
        expected += ["-p", port.removeprefix("127.0.0.1:")]
    assert volume["source"] == "${BUNDLE:-./runs/intents/bundle-int8}" and volume["read_only"]
    [given] = [word for word in options if word.endswith(f":{volume['target']}:ro")]
    assert sorted(options) == sorted([*expected, "-v", given])
    assert command == service["command"]


def test_compose_has_the_limits_of_the_manifests() -> None:
    pod = yaml.safe_load((ROOT / "manifests/templates/pod/pod.yaml").read_text(encoding="utf-8"))
    [container] = pod["template"]["spec"]["containers"]
    service = compose_service()
    assert service["mem_limit"] == container["resources"]["limits"]["memory"].replace("Gi", "g")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
