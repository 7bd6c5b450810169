"""Run the pipeline on this machine with KFP's local runner, into a run folder.

Each task runs in its own process, or in a container of the image that a cluster runs. KFP keeps the
artifacts and a cache of finished tasks below `.kfp/` in the run's folder; a task with the same
inputs, configuration and code is reused. At the end, the run's folder has the same layout as one of
the library's `train`.
"""

import contextlib
import io
import logging
import os
import re
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from saarthi_lib.config import TRIAL, TrainConfig, require
from saarthi_lib.data.detect import with_task
from saarthi_lib.distillation.schedule import STAGES
from saarthi_lib.errors import ArtifactError, ConfigError, SaarthiError
from saarthi_lib.layout import KFP_FOLDER, PIPELINE_LOG, SIGNALS, SWEEP, SWEEP_PAGE, RunFolder
from saarthi_lib.lineage import RECORD_VARIABLE, RUN_ID_VARIABLE, STATES_VARIABLE, source_digest
from saarthi_lib.logs import ERROR_FILE_VARIABLE, RUNNER_VARIABLE
from saarthi_lib.runs.train import at_work, configuration_record, deliverables, finish
from saarthi_lib.steps.record import resolved
from saarthi_lib.storage import RECORD, copy_file, read_json, verify_record, whole_folder

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent
    from kfp.local import DockerRunner

# Called with the kind of a line for the user and its text. Kinds: "task", "reused", "log", "trial",
# "error".
Show = Callable[[str, str], None]

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
) -> Path:
    """Run a pipeline with KFP's local runner.

    Args:
        config: the whole configuration.
        show: called with each line for the user; all lines go to `pipeline.log`.
        name: name of the pipeline; by default the one that suits the task.
        parameters: parameters of the pipeline, in addition to the configuration.
        image: container image for each task; None: a process of this environment.

    Returns:
        The run's folder.

    Raises:
        SaarthiError: an error that the user can fix.
        RuntimeError: any other error, with the log's path.
    """
    require(config, "input_path", "root_output_path")
    config = with_task(config)
    root = Path(config.root_output_path).absolute()
    with at_work(root):
        folder = config.run_folder(root)
        names = [*deliverables(config), PIPELINE_LOG, SWEEP, SWEEP_PAGE]
        folder.require_own(config.input_path, names, repeats_steps=True)
        folder.own_pipeline_folder()
        _remove_damaged(root / KFP_FOLDER, show)
        if config.fast_dev_run:
            show("trial", TRIAL)
        record = _run(name, config, parameters or {}, root, show, image)
        if record:
            _lay_out(config, folder, record)
        if name == "sweep":
            for output, file in (("comparison", SWEEP), ("report", SWEEP_PAGE)):
                made = (root / KFP_FOLDER).glob(f"*/compare-runs/{output}")
                copy_file(max(made, key=lambda path: path.stat().st_mtime), root / file)
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


def _run(
    name: str | None,
    config: TrainConfig,
    given: Mapping[str, Any],
    root: Path,
    show: Show,
    image: str | None,
) -> dict[str, Any]:
    """Run the pipeline; returns the record of its artifacts, which is empty without a bundle."""
    # The tasks inherit these; the image's name changes with the code, and with it KFP's cache key.
    os.environ["SAARTHI_TRAIN_IMAGE"] = image or f"python-source:{source_digest()}"
    os.environ[RUN_ID_VARIABLE] = f"local-{uuid.uuid4()}"
    os.environ[RUNNER_VARIABLE] = str(os.getpid())
    os.environ[STATES_VARIABLE] = str(root / KFP_FOLDER / "states")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    from kfp import local

    try:
        from components import images  # noqa: F401
    except ValueError as error:
        raise ConfigError(str(error)) from None
    from pipelines.compile import make_pipeline
    from pipelines.parameters import pipeline_for, run_parameters
    from pipelines.resources import Environment

    name = name or pipeline_for(config)

    pipeline = make_pipeline(name, Environment.load("local"))
    arguments = run_parameters(pipeline, config, given)
    log, work = root / PIPELINE_LOG, root / KFP_FOLDER
    # Next to the artifacts, where a container can write too.
    with tempfile.TemporaryDirectory(prefix="notes-", dir=work) as notes:
        error_file, record_file = Path(notes) / "error.json", Path(notes) / "record.json"
        os.environ |= {ERROR_FILE_VARIABLE: str(error_file), RECORD_VARIABLE: str(record_file)}
        local.init(
            runner=_containers(image, config, root, [work, Path(notes)], show)
            if image
            else local.SubprocessRunner(use_venv=False),
            pipeline_root=str(work),
            enable_caching=True,
            cache_root=str(work / "cache"),
        )
        try:
            with (
                log.open("a", buffering=1, encoding="utf-8") as file,
                _listening(_Listener(file, show, _display_names(pipeline))),
            ):
                pipeline(**arguments)
        except RuntimeError as error:
            note = read_json(error_file) if error_file.is_file() else {}
            if note.get("mendable"):
                raise SaarthiError(note["message"]) from None
            why = note.get("message") or _COLOUR.sub("", str(error))
            raise RuntimeError(f"{why} The whole log: {log}") from error
        finally:
            del os.environ[ERROR_FILE_VARIABLE], os.environ[RECORD_VARIABLE]
        return read_json(record_file) if record_file.is_file() else {}


def _containers(
    image: str, config: TrainConfig, root: Path, written: Sequence[Path], show: Show
) -> "DockerRunner":
    """KFP's runner of containers, which run as the owner of the run's folder.

    Args:
        image: image that the engine has, or can pull.
        config: configuration that names the folders that the tasks read.
        root: the run's folder.
        written: folders in `root` that the tasks write to.
        show: called when an image is pulled.

    Raises:
        ConfigError: the engine or the image is missing.
    """
    try:
        import docker
    except ImportError:
        raise ConfigError("to run tasks in an image: pip install 'saarthi[pipeline]'") from None
    from docker.errors import DockerException, ImageNotFound
    from docker.types import Mount
    from kfp.local import DockerRunner

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
    owner = root.stat()
    if os.geteuid() == 0:
        for folder in written:
            os.chown(folder, owner.st_uid, owner.st_gid)
    read = {str(Path(path).absolute()) for path in (config.input_path, config.teacher_name)}
    # Processes inherit these; OpenMP's two set how its threads share cores with other work.
    variables = [RUN_ID_VARIABLE, ERROR_FILE_VARIABLE, RECORD_VARIABLE]
    variables += ["GOMP_SPINCOUNT", "OMP_NUM_THREADS"]
    return DockerRunner(
        user=f"{owner.st_uid}:{owner.st_gid}",
        environment={name: os.environ[name] for name in variables if name in os.environ}
        | {"HF_HOME": str(root / KFP_FOLDER / "huggingface")},  # download weights once
        mounts=[Mount(path, path, "bind", read_only=True) for path in read if Path(path).exists()],
        working_dir=str(Path.cwd()),  # for relative paths
    )


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
    root, student = folder.root, folder.student
    student.mkdir(exist_ok=True)
    places = {
        "data": folder.data,
        "teacher": folder.teacher,
        "signals": root / SIGNALS,
        **{f"stage_{number}": student / f"stage_{number}" for number in STAGES},
    }
    for name, place in places.items():
        _link(folder, place, folders[name])
    steps = {
        name: {"seconds": artifact["seconds"]}
        for name, artifact in artifacts.items()
        if "seconds" in artifact
    }
    config = resolved(config, folders["data"])
    content = {**configuration_record(config), **record, "steps": steps}
    bundles = {"bundle": "bundle", "bundle_quantized": f"bundle-{config.quantization}"}
    folder.claim(*(root / bundle for bundle in bundles.values()))
    folder.save(content)
    for name, bundle in bundles.items():
        with whole_folder(root / bundle) as aside:
            shutil.copytree(folders[name], aside, dirs_exist_ok=True)
    finish(config, folder, folders["evaluation"], content)


def _link(folder: RunFolder, place: Path, target: Path) -> None:
    """Link an artifact into the run's folder, replacing the artifact of an earlier run."""
    folder.require_free(place)
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)
    place.symlink_to(os.path.relpath(target, place.parent), target_is_directory=True)


@contextlib.contextmanager
def _listening(listener: "_Listener") -> Iterator[None]:
    """Send KFP's output and logs to the listener."""
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
    """Writes the local runner's output to a file, and passes lines for the user to `show`."""

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
        return f"[{self.tasks}] {self.names.get(task, task)}"
