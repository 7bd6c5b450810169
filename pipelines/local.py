"""Run the pipeline on this machine with KFP's local runner, into a run folder.

Each task is a process of its own. KFP keeps the artifacts and a cache of finished tasks below
`.kfp/` in the run's folder; a task with the same inputs, configuration and code is taken from
there. At the end the run's folder is laid out as the library's `train` does it.
"""

import contextlib
import io
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from saarthi_lib.config import SECTIONS, TrainConfig, require
from saarthi_lib.driver import KFP_FOLDER, data_digest, finish, source_digest, source_revision
from saarthi_lib.errors import ConfigError, SaarthiError
from saarthi_lib.logs import ERROR_FILE_VARIABLE
from saarthi_lib.steps import made_by
from saarthi_lib.storage import read_json, whole_folder

# Shown to the user: what kind of line it is ("task", "reused", "log", "error") and its text.
Show = Callable[[str, str], None]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_EXECUTING = re.compile(r"Executing task '([^']+)'")
_CACHE_HIT = re.compile(r"Task (\S+) cache hit")
_OURS = re.compile(r"^ {4}\d\d:\d\d:\d\d (INFO|WARNING|ERROR) ")


def run_pipeline(config: TrainConfig, show: Show) -> Path:
    """Run the distillation pipeline with KFP's local runner.

    Args:
        config: the whole configuration.
        show: is given each line that a user would want to see; all lines go to `pipeline.log`.

    Returns:
        The run's folder.

    Raises:
        SaarthiError: what the user can mend; otherwise RuntimeError, with the log's path.
    """
    require(config, "input_path", "root_output_path")
    if not (config.distillation and config.quantization):
        raise ConfigError(
            "the pipeline distils and quantises; with distillation: false or without quantization "
            "use 'saarthi train'"
        )
    if config.teacher_exists or config.torchscript:
        raise ConfigError(
            "the pipeline trains its teacher and delivers the student alone; with teacher_exists "
            "or torchscript use 'saarthi train'"
        )
    root = Path(config.root_output_path).absolute()
    root.mkdir(parents=True, exist_ok=True)
    outputs = _run(config, root, show)
    folders = {name: Path(artifact.path) for name, artifact in outputs.items()}
    _lay_out(config, root, folders)
    return root


def pipeline_arguments(config: TrainConfig) -> dict[str, Any]:
    """The pipeline's parameters: the configuration's sections, and the digest of the data."""
    # A parameter of a pipeline cannot hold null; a field that is left out has null as its default.
    arguments: dict[str, Any] = {
        f"{name}_config": {f: v for f, v in config.section(name).items() if v is not None}
        for name in SECTIONS
    }
    # Where the run is laid out has no part in what its tasks do.
    del arguments["delivery_config"]["root_output_path"]
    if Path(config.input_path).is_dir():
        arguments["data_config"]["input_path"] = str(Path(config.input_path).absolute())
    arguments["data_digest"] = data_digest(config)
    return arguments


def _run(config: TrainConfig, root: Path, show: Show) -> dict[str, Any]:
    # The tasks inherit these; the image's name changes with the code, and with it KFP's cache key.
    os.environ["SAARTHI_TRAIN_IMAGE"] = f"python-source:{source_digest()}"
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    from kfp import local

    from pipelines.distillation import distillation_pipeline

    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(root / KFP_FOLDER),
        enable_caching=True,
        cache_root=str(root / KFP_FOLDER / "cache"),
    )
    pipeline = distillation_pipeline()
    tasks = pipeline.pipeline_spec.root.dag.tasks
    names = {name: task.task_info.name for name, task in tasks.items()}
    log = root / "pipeline.log"
    with tempfile.TemporaryDirectory() as scratch:
        error_file = Path(scratch) / "error"
        os.environ[ERROR_FILE_VARIABLE] = str(error_file)
        try:
            with (
                log.open("a", buffering=1, encoding="utf-8") as file,
                _listening(_Listener(file, show, names)),
            ):
                task = pipeline(**pipeline_arguments(config))
        except RuntimeError as error:
            if error_file.is_file():
                raise SaarthiError(error_file.read_text(encoding="utf-8")) from None
            raise RuntimeError(f"{_COLOUR.sub('', str(error))} The whole log: {log}") from error
        finally:
            del os.environ[ERROR_FILE_VARIABLE]
    return dict(task.outputs)


def _lay_out(config: TrainConfig, root: Path, folders: dict[str, Path]) -> None:
    """Lay the artifacts out as a run folder: the bundles as copies, the rest as links."""
    student = root / config.student_output_folder
    student.mkdir(exist_ok=True)
    places = {
        "data": root / "data",
        "teacher": root / config.teacher_output_folder,
        "signals": root / "signals",
        **{f"stage_{number}": student / f"stage_{number}" for number in range(1, 6)},
    }
    for name, place in places.items():
        _link(place, folders[name])
    quantised = f"bundle-{config.quantization}"
    for name, bundle in (("bundle", "bundle"), ("bundle_quantised", quantised)):
        with whole_folder(root / bundle) as aside:
            shutil.copytree(folders[name], aside, dirs_exist_ok=True)
    seconds = {
        name: read_json(folder / "step.json")["seconds"]
        for name, folder in folders.items()
        if (folder / "step.json").is_file()
    }
    record = {
        "config": config.model_dump(),
        **made_by(),
        "source_revision": source_revision(),
        "data_digest": data_digest(config),
        "steps": {name: {"seconds": value} for name, value in seconds.items()},
    }
    finish(config, root, folders["evaluation"], record)


def _link(place: Path, target: Path) -> None:
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)
    place.symlink_to(os.path.relpath(target, place.parent), target_is_directory=True)


@contextlib.contextmanager
def _listening(listener: "_Listener") -> Iterator[None]:
    """Send what KFP prints and logs to the listener."""
    handler = logging.StreamHandler(listener)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(listener), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


class _Listener(io.TextIOBase):
    """Takes the local runner's output line by line: all to a file, what matters to `show`."""

    def __init__(self, file: IO[str], show: Show, names: dict[str, str]) -> None:
        self.file = file
        self.show = show
        self.names = names
        self.line = ""
        self.tasks = 0

    def write(self, text: str) -> int:
        self.file.write(text)
        *lines, self.line = (self.line + text).split("\n")
        for line in lines:
            self._take(_COLOUR.sub("", line))
        return len(text)

    def flush(self) -> None:
        self.file.flush()

    def _take(self, line: str) -> None:
        if match := _EXECUTING.search(line):
            self.show("task", self._heading(match.group(1)))
        elif match := _CACHE_HIT.search(line):
            self.show("reused", f"{self._heading(match.group(1))}: taken from the earlier run")
        elif match := _OURS.match(line):
            self.show("error" if match.group(1) == "ERROR" else "log", line.strip())

    def _heading(self, task: str) -> str:
        self.tasks += 1
        return f"[{self.tasks}/{len(self.names)}] {self.names.get(task, task)}"
