"""Budgets: bytes that tasks move on a cluster, and the size of Argo's workflow."""

import re
from pathlib import Path

import pytest

from pipelines.compile import make_pipeline
from pipelines.resources import Environment
from saarthi_lib.layout import STAGES
from saarthi_lib.storage import folder_size
from tests.benchmark_scripts import printed

ARGO_KIB = 1024
ROW = re.compile(
    r"^\| ([a-z][\w-]+)(?: \(not in this run\)|, \d+ students)? \| (.+) \|$", re.MULTILINE
)


def _local_run(trained: Path, folder: Path) -> Path:
    """The folder of a run of the local pipeline, with the artifacts of a run of `train`."""
    places = {
        "preprocess-data/data": "data",
        "train-teacher/teacher": "teacher",
        "run-teacher/teacher_test": "work/teacher-test",
        "run-teacher/signals": "signals",
        "run-teacher/hidden": "signals/hidden",
        "export-model/exported": "work/exported",
        "quantize-model/quantized": "work/quantized",
        "evaluate-models/evaluation": "work/evaluation",
        "publish-bundle/bundle": "bundle",
        "publish-bundle-2/bundle": "bundle-int8",
        "record-run/record": "run.json",
    }
    for stage in STAGES:
        task = "distil-stage" if stage == 1 else f"distil-stage-{stage}"
        places[f"{task}/student"] = f"student/stage_{stage}"
    for place, name in places.items():
        link = folder / ".kfp" / "run" / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(trained / name)
    return folder


@pytest.fixture(scope="module")
def rows(
    trained_once: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[float, ...]]:
    """Numbers of the benchmark by task and pipeline."""
    run = _local_run(trained_once, tmp_path_factory.mktemp("run"))
    output = printed("pipeline_bytes.py", "--run", str(run))
    return {
        name: tuple(map(float, numbers.split(" | ")))
        for name, numbers in ROW.findall(output)
        if name not in ("task", "pipeline")
    }


def test_tasks_move_few_bytes_beside_the_teacher(
    trained_once: Path, rows: dict[str, tuple[float, ...]]
) -> None:
    teacher = folder_size(trained_once / "teacher") / 1e6
    assert teacher > 10 and rows["train-teacher"][1] == pytest.approx(teacher, abs=0.1)
    tasks = {name: row[0] for name, row in rows.items() if len(row) == 2 and name != "all"}
    readers = {name for name, downloaded in tasks.items() if downloaded > teacher}
    assert readers == {"run-teacher", "explain-predictions"}
    assert tasks["record-run"] == 0
    # Besides the teacher, the tasks read data, signals and students: by the README's run, 120 MB
    # beside 95 MB.
    assert rows["all"][0] - teacher < 1.3 * teacher
    for stage in (2, 3, 4, 5):
        assert tasks[f"distil-stage-{stage}"] < teacher / 5


def test_intents_store_no_hidden_states(trained_once: Path, finished_run: Path) -> None:
    name = "transfer.hidden.npy"
    assert not list((trained_once / "signals").rglob(name))
    assert (finished_run / "signals" / "hidden" / name).is_file()  # joint: stage 1 learns them


def test_workflows_fit_into_argos_limit(rows: dict[str, tuple[float, ...]]) -> None:
    for name in ("nlu", "ner", "joint", "nightly", "sweep"):
        spec, _, whole = rows[name]
        assert spec < 0.25 * ARGO_KIB and whole < 0.75 * ARGO_KIB, name


def test_sweep_computes_signals_once_before_its_loop() -> None:
    spec = make_pipeline("sweep", Environment.load("dev")).pipeline_spec
    groups = {name: set(each.dag.tasks) for name, each in spec.components.items() if each.dag.tasks}
    [outer] = [name for name, tasks in groups.items() if "run-teacher" in tasks]
    [loop] = [
        name
        for name, each in spec.components.items()
        if any(task.HasField("parameter_iterator") for task in each.dag.tasks.values())
    ]
    assert "run-teacher" not in groups["comp-distillation"] and outer != loop
