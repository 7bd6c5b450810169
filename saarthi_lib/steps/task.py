"""Helpers of the Kubeflow components: read their inputs, and show results in the KFP UI."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from saarthi_lib import logs
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.cloud import is_bucket
from saarthi_lib.errors import ConfigError
from saarthi_lib.lineage import CHECKPOINTS_VARIABLE, RECORD_VARIABLE, made_by, origin
from saarthi_lib.storage import RECORD, copy_file, digest_json, read_json, write_json

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


KEPT = "workspace.json"  # in an artifact whose files are in the run's Workspace


class Artifact(Protocol):
    """Artifact of KFP, as far as the helpers use it."""

    uri: str
    path: str
    metadata: dict[str, Any]


class Metrics(Artifact, Protocol):
    """Metrics of KFP."""

    def log_metric(self, metric: str, value: float) -> None: ...


class ClassificationMetrics(Artifact, Protocol):
    """Confusion matrix of KFP."""

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None: ...


@contextmanager
def task(
    *sections: Mapping[str, Any], workspace: str = "", source: Artifact | None = None
) -> Iterator[TrainConfig]:
    """Run a component's task, as `logs.task` does, with the configuration from these sections.

    Args:
        sections: sections of the configuration.
        workspace: folder of the run's Workspace, which keeps states of unfinished trainings unless
            the environment names another store; empty: the run has none.
        source: labelled text in place of input_path; None: input_path.
    """
    if workspace:
        os.environ.setdefault(CHECKPOINTS_VARIABLE, f"{workspace}/checkpoints")
    with logs.task():
        fields = {name: value for section in sections for name, value in section.items()}
        if source and fields.setdefault("input_path", source.path) != source.path:
            raise ConfigError("source: is a second input beside input_path; give one of the two")
        yield TrainConfig.from_mapping(fields)


def paths(*artifacts: Artifact | Sequence[Artifact] | None) -> list[Any]:
    """Paths of artifacts, in order; lists of paths for lists; None for a missing artifact.

    The path of an artifact of `kept` is in the Workspace.
    """
    return [
        paths(*each) if isinstance(each, Sequence) else each and _path(Path(each.path))
        for each in artifacts
    ]


def _path(folder: Path) -> Path:
    place = folder / KEPT
    return Path(read_json(place)["folder"]) if place.is_file() else folder


def kept(artifact: Artifact, workspace: str) -> Path:
    """Folder to write a large artifact in, which later tasks of the run need not download.

    With a Workspace, the artifact itself holds only the path of this folder.

    Args:
        artifact: output of the component.
        workspace: folder of the run's Workspace; empty: the run has none.
    """
    if not workspace:
        return Path(artifact.path)
    name = f"{Path(artifact.path).name}-{digest_json(artifact.uri)[:16]}"
    folder = Path(workspace) / name
    Path(artifact.path).mkdir(parents=True, exist_ok=True)
    write_json(Path(artifact.path) / KEPT, {"folder": str(folder)})
    return folder


def loggers_of(config: TrainConfig, part: str, curves: Artifact) -> "list[Logger]":
    """Loggers of a training, whose files go into an artifact.

    Args:
        config: configuration with `loggers`.
        part: name of the training, such as `teacher`.
        curves: artifact for the files of TensorBoard and CSV. MLflow writes to the server in
            MLFLOW_TRACKING_URI.

    Raises:
        ConfigError: a logger's package is not in the image.
    """
    folder = Path(curves.path)
    folder.mkdir(parents=True, exist_ok=True)
    if not config.loggers:
        return []
    from saarthi_lib.training.loggers import make_loggers

    return make_loggers(config.loggers, folder, config.name, [part])[part]


def log_metrics(artifact: Metrics, values: Mapping[str, float]) -> None:
    """Show metrics in the KFP UI, and write them to the artifact's file."""
    for name, value in values.items():
        artifact.log_metric(name, value)
    write_json(artifact.path, values)


def log_confusion(
    artifact: ClassificationMetrics, confusion: tuple[list[str], list[list[int]]] | None
) -> None:
    """Show labels and confusion counts [gold, predicted], if any, and write them to the file."""
    if confusion:
        artifact.log_confusion_matrix(*confusion)
    write_json(artifact.path, confusion)


def main_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Main metric of each model in `metrics.json`, and the ratios, which a trial run lacks."""
    models = {name: metrics[name] for name in ("baseline", "teacher", "quantized")}
    models["final"] = metrics["student"]["final"]
    ratios = () if metrics.get("trial") else ("retention", "compression", "speedup")
    return {name: metrics[name] for name in ratios} | {
        f"{name}_main": scores["main"] for name, scores in models.items()
    }


def show_evaluation(
    result: Mapping[str, Any],
    confusion: tuple[list[str], list[list[int]]] | None,
    folder: Path,
    metrics: Metrics,
    confusion_matrix: ClassificationMetrics,
    report: Artifact,
) -> None:
    """Show the metrics, the confusion counts and the report of an evaluation in the KFP UI."""
    log_metrics(metrics, main_metrics(result))
    if result.get("trial"):
        metrics.metadata["trial"] = True
    log_confusion(confusion_matrix, confusion)
    copy_file(folder / "report.html", report.path)


def worker_arguments(fields: Mapping[str, Any], data: str, out: str) -> list[str]:
    """Arguments of `saarthi_lib.steps.worker` in the pods of a TrainJob.

    KFP calls its own store minio://; it is one on s3://, with an endpoint in the environment.

    Args:
        fields: the configuration.
        data: URI of the folder written by `preprocess`.
        out: URI for the teacher.

    Raises:
        ConfigError: the pods cannot read the data.
    """
    data, out = (re.sub("^minio://", "s3://", each) for each in (data, out))
    if not is_bucket(data):
        raise ConfigError(
            f"{data}: the pods of a TrainJob cannot read it; set object_store of the environment "
            "to an address on s3://, gs:// or minio://, or train on one machine (trainer: null)"
        )
    return ["--config", json.dumps(fields), "--data", data, "--out", out]


def record_of(**artifacts: Artifact) -> str:
    """JSON with the URI and the seconds of artifacts by name, for `record_run`.

    A parameter with it saves the download of the artifact.
    """
    entries = {}
    for name, artifact in artifacts.items():
        step = Path(artifact.path) / RECORD
        seconds = {"seconds": read_json(step)["seconds"]} if step.is_file() else {}
        entries[name] = {"uri": artifact.uri, **seconds}
    return json.dumps(entries)


def write_run_record(record: Artifact, data_digest: str, *records: str) -> None:
    """Write the versions, the code's revision, the data's digest and the artifacts of a run.

    `SAARTHI_RECORD_FILE` names a file for a copy: the local runner builds the run folder from it.

    Args:
        record: artifact to write.
        data_digest: digest of the input files.
        records: outputs of `record_of`.
    """
    entries = {name: entry for each in records for name, entry in json.loads(each).items()}
    content = {**made_by(), **origin(), "data_digest": data_digest, "artifacts": entries}
    record.metadata |= {**origin(), "data_digest": data_digest}
    for path in filter(None, (record.path, os.environ.get(RECORD_VARIABLE))):
        write_json(path, content)
