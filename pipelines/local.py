"""Run a pipeline on this machine with KFP's local runner, into a run folder.

Each task runs in its own process, or in a container of the image that a cluster runs. KFP keeps the
artifacts and a cache of finished tasks in `.kfp/` in the run folder; it reuses a task with the same
inputs, configuration and code. At the end, the run folder has the layout that `train` writes.
"""

import contextlib
import io
import logging
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from saarthi_lib.addresses import is_utf8
from saarthi_lib.config import TRIAL, TrainConfig, require
from saarthi_lib.data.detect import with_task
from saarthi_lib.errors import ArtifactError, ConfigError, SaarthiError
from saarthi_lib.layout import STAGES, RunLayout, RunRecord
from saarthi_lib.lineage import (
    CHECKPOINTS_VARIABLE,
    RECORD_VARIABLE,
    RUN_ID_VARIABLE,
    source_digest,
)
from saarthi_lib.logs import ERROR_FILE_VARIABLE, RUNNER_VARIABLE
from saarthi_lib.runs.folder import RunFolder, at_work
from saarthi_lib.runs.reuse import record_of, require_same_run
from saarthi_lib.runs.train import finish
from saarthi_lib.steps.record import resolved
from saarthi_lib.storage import RECORD, copy_file, read_json, verify_record, whole_folder

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent
    from kfp.local import DockerRunner

# Called with a kind ("task", "reused", "log", "trial" or "error") and a line for the user.
Show = Callable[[str, str], None]

_ERROR, _RECORD = "error.json", "record.json"  # written by tasks into KFP's folder
# Access to buckets and hubs, for tasks in containers.
_OF_STORAGE = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"),
    *("AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "HF_ENDPOINT", "HF_TOKEN"),
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_EXECUTING = re.compile(r"Executing task '([^']+)'")
_CACHE_HIT = re.compile(r"Task (\S+) cache hit")
_OURS = re.compile(r"^ {4}\d\d:\d\d:\d\d (INFO|WARNING|ERROR) ")


def run_pipeline(
    config: TrainConfig,
    show: Show,
    name: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    image: str | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Run a pipeline with KFP's local runner.

    Args:
        config: the whole configuration.
        show: called with each line for the user; all lines go to `pipeline.log`.
        name: name of the pipeline; by default the one that suits the task.
        parameters: parameters of the pipeline, in addition to the configuration.
        image: container image for each task; None: a process of this environment.
        overwrite: replace another finished run in the folder.

    Returns:
        The run's folder.

    Raises:
        SaarthiError: an error that the user can fix.
        RuntimeError: any other error, with the log's path.
    """
    require(config, "input_path", "root_output_path")
    config = with_task(config)
    root = Path(config.root_output_path).absolute()
    if not is_utf8(root):
        raise ConfigError(
            f"root_output_path: {root} is not UTF-8, as KFP needs; choose another folder, or train "
            "without a pipeline: saarthi train"
        )
    with at_work(root):
        folder = RunFolder.of(config, root)
        layout = folder.layout
        folder.require_own(config, *layout.of_pipeline(), repeats_steps=True)
        if not overwrite:
            require_same_run(config, folder)
        work = folder.own_pipeline_folder()
        _remove_damaged(work, show)
        if config.fast_dev_run:
            show("trial", TRIAL)
        record = _run(name, config, parameters or {}, layout, show, image)
        if record:
            _lay_out(config, folder, record)
        if name == "sweep":
            for output, file in (("comparison", layout.sweep), ("report", layout.sweep_page)):
                made = work.glob(f"*/compare-runs/{output}")
                copy_file(max(made, key=lambda path: path.stat().st_mtime), file)
        if config.fast_dev_run:
            show("trial", TRIAL)
    return root


def _remove_damaged(artifacts: Path, show: Show) -> None:
    """Remove changed or damaged artifacts, so that KFP reruns their tasks."""
    for record in sorted(artifacts.glob(f"*/*/*/{RECORD}")):
        try:
            verify_record(record.parent)
        except ArtifactError as error:
            show("error", f"{error} Its task is rerun.")
            shutil.rmtree(record.parent)


def _set_variables(work: Path, image: str | None) -> None:
    """Set the environment variables of the tasks."""
    # KFP's cache key has the image's name, so the name changes with the code.
    os.environ["SAARTHI_TRAIN_IMAGE"] = image or f"python-source:{source_digest()}"
    os.environ[RUN_ID_VARIABLE] = f"local-{uuid.uuid4()}"
    os.environ[RUNNER_VARIABLE] = str(os.getpid())
    os.environ[CHECKPOINTS_VARIABLE] = str(work / "states")
    os.environ[ERROR_FILE_VARIABLE] = str(work / _ERROR)
    os.environ[RECORD_VARIABLE] = str(work / _RECORD)
    path = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))


def _run(
    name: str | None,
    config: TrainConfig,
    given: Mapping[str, Any],
    layout: RunLayout,
    show: Show,
    image: str | None,
) -> dict[str, Any]:
    """Run the pipeline; returns the record of its artifacts, which is empty without a bundle."""
    work, log = layout.kfp, layout.pipeline_log
    _set_variables(work, image)
    from kfp import local

    try:
        from components import images  # noqa: F401
    except ValueError as error:
        raise ConfigError(str(error)) from None
    from pipelines.compile import make_pipeline
    from pipelines.parameters import pipeline_for, run_parameters
    from pipelines.resources import Environment

    pipeline = make_pipeline(name or pipeline_for(config), Environment.load("local"))
    arguments = run_parameters(pipeline, config, given)
    local.init(
        _containers(image, config, layout, show)
        if image
        else local.SubprocessRunner(use_venv=False),
        pipeline_root=str(work),
        enable_caching=True,
        cache_root=str(work / "cache"),
    )
    for file in (_ERROR, _RECORD):
        (work / file).unlink(missing_ok=True)
    try:
        with _listening(log, show, _display_names(pipeline)):
            pipeline(**arguments)
    except RuntimeError as error:
        note = read_json(work / _ERROR) if (work / _ERROR).is_file() else {}
        if note.get("fixable"):
            raise SaarthiError(note["message"]) from None
        reason = note.get("message") or _COLOUR.sub("", str(error))
        raise RuntimeError(f"{reason} The whole log: {log}") from error
    return read_json(work / _RECORD) if (work / _RECORD).is_file() else {}


def _containers(image: str, config: TrainConfig, layout: RunLayout, show: Show) -> "DockerRunner":
    """KFP's runner of containers, which run as the owner of the run's folder.

    Args:
        image: image that the engine has, or can pull.
        config: configuration that names the folders that the tasks read.
        layout: paths in the run's folder.
        show: called when an image is pulled.

    Raises:
        ConfigError: the engine or the image is missing.
    """
    try:
        from docker.types import Mount
    except ImportError:
        raise ConfigError("to run tasks in an image: pip install 'saarthi[pipeline]'") from None
    from kfp.local import DockerRunner

    _pull(image, show)
    owner, work = layout.root.stat(), layout.kfp
    if os.geteuid() == 0:
        os.chown(work, owner.st_uid, owner.st_gid)
    read = filter(None, (config.input_path, config.teacher_name, config.start_from))
    paths = {str(Path(path).absolute()) for path in read}
    # Processes inherit these; OpenMP's two set how its threads share cores with other work.
    variables = [RUN_ID_VARIABLE, ERROR_FILE_VARIABLE, RECORD_VARIABLE]
    variables += ["GOMP_SPINCOUNT", "OMP_NUM_THREADS", *_OF_STORAGE]
    return DockerRunner(
        user=f"{owner.st_uid}:{owner.st_gid}",
        environment={name: os.environ[name] for name in variables if name in os.environ}
        | {"HF_HOME": str(work / "huggingface")},  # download weights once
        mounts=[Mount(path, path, "bind", read_only=True) for path in paths if Path(path).exists()],
        working_dir=str(Path.cwd()),  # for relative paths
    )


def _pull(image: str, show: Show) -> None:
    """Pull an image that the Docker engine does not have."""
    import docker
    from docker.errors import DockerException, ImageNotFound

    try:
        with contextlib.closing(docker.from_env()) as engine:
            try:
                engine.images.get(image)
            except ImageNotFound:
                show("log", f"pulling {image}")
                engine.images.pull(image)
    except DockerException as error:
        raise ConfigError(
            f"--image {image}: {error}; is a Docker engine running (DOCKER_HOST says where), and "
            "has it that image (make images)?"
        ) from None


def _display_names(pipeline: "GraphComponent") -> dict[str, str]:
    """Display names by task name and by component name: KFP logs one or the other."""
    spec = pipeline.pipeline_spec
    names: dict[str, str] = {}
    for dag in (spec.root.dag, *(component.dag for component in spec.components.values())):
        for name, task in dag.tasks.items():
            if spec.components[task.component_ref.name].executor_label:
                component = task.component_ref.name.removeprefix("comp-")
                names |= {name: task.task_info.name, component: task.task_info.name}
    return names


def _lay_out(config: TrainConfig, folder: RunFolder, record: dict[str, Any]) -> None:
    """Lay the artifacts out as a run folder: the bundles as copies, the rest as links."""
    artifacts = record.pop("artifacts")
    folders = {name: Path(artifact["uri"]) for name, artifact in artifacts.items()}
    layout = folder.layout
    layout.student.mkdir(exist_ok=True)
    places = {"data": layout.data, "teacher": layout.teacher, "signals": layout.signals}
    places |= {f"stage_{stage}": layout.stage(stage) for stage in STAGES}
    for name, place in places.items():
        _link(folder, place, folders[name])
    record["steps"] = {
        name: {"seconds": artifact["seconds"]}
        for name, artifact in artifacts.items()
        if "seconds" in artifact
    }
    config = resolved(config, folders["data"])
    folder.record = cast(RunRecord, {**record_of(config), **record})
    quantized = layout.quantized_bundle(str(config.quantization))
    bundles = {"bundle": layout.bundle, "bundle_quantized": quantized}
    folder.claim(*bundles.values())
    for name, bundle in bundles.items():
        with whole_folder(bundle) as aside:
            shutil.copytree(folders[name], aside, dirs_exist_ok=True)
    finish(config, folder, folders["evaluation"])


def _link(folder: RunFolder, place: Path, target: Path) -> None:
    """Link an artifact into the run's folder, replacing the artifact of an earlier run."""
    folder.require_free(place)
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)
    place.symlink_to(os.path.relpath(target, place.parent), target_is_directory=True)


@contextlib.contextmanager
def _listening(log: Path, show: Show, names: Mapping[str, str]) -> Iterator[None]:
    """Append the output and logs of KFP to a file, and show lines for the user."""
    root = logging.getLogger()
    level = root.level
    with log.open("a", buffering=1, encoding="utf-8") as file:
        listener = _Listener(file, show, names)
        handler = logging.StreamHandler(listener)
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
    """Writes the local runner's output to a file, and passes lines for the user to `show`."""

    def __init__(self, file: IO[str], show: Show, names: Mapping[str, str]) -> None:
        self.file = file
        self.show = show
        self.names = names
        self.line = ""
        self.tasks = 0

    def write(self, text: str) -> int:
        self.file.write(text)
        *lines, self.line = (self.line + text).split("\n")
        for line in lines:
            self._pass_on(_COLOUR.sub("", line))
        return len(text)

    def flush(self) -> None:
        self.file.flush()

    def _pass_on(self, line: str) -> None:
        if match := _EXECUTING.search(line):
            self.show("task", self._heading(match.group(1)))
        elif match := _CACHE_HIT.search(line):
            self.show("reused", f"{self._heading(match.group(1))}: reused")
        elif match := _OURS.match(line):
            self.show("error" if match.group(1) == "ERROR" else "log", line.strip())

    def _heading(self, task: str) -> str:
        self.tasks += 1
        return f"[{self.tasks}] {self.names.get(task, task)}"
