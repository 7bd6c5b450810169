"""A training is killed, and another process resumes it on an empty disk, from a bucket."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saarthi_lib import steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.distillation.signals import Signals, compute_signals
from saarthi_lib.distillation.stage import StageData, distil_stage
from saarthi_lib.errors import DataError
from saarthi_lib.lineage import CHECKPOINTS_VARIABLE
from saarthi_lib.models.student import Student
from saarthi_lib.training.checkpoint import Checkpoint
from tests.saarthi_lib.training.test_faults import (
    SHORT,
    SHORT_BATCHES,
    killed_after,
    same,
    trained,
)
from tests.saarthi_lib.training.test_reweighting import (
    LABELS,
    TRAIN,
    VALIDATION,
    configured,
    student,
    teacher,
)
from tests.stores.s3 import S3Bucket, proxy, s3_server, use_server

Distilled = tuple[Student, list[dict[str, Any]]]
FEW = TRAIN.take(np.arange(64))  # two batches in an epoch of a stage


def on_new_disks(folder: Path, s3: S3Bucket) -> Callable[[], Checkpoint]:
    """A function that makes the same checkpoint on another disk each time."""
    disks = iter(range(100))
    place = f"s3://{s3.name}/unfinished/teacher"
    return lambda: Checkpoint(folder / f"disk-{next(disks)}", "key", place)


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., Distilled]:
    """A function that runs the last stage, which has several phases, on a new student."""
    of_teacher, folder = teacher("bert", (3, 0)), tmp_path / "signals"
    folder.mkdir()
    for split, encoded in (("transfer", FEW), ("validation", VALIDATION)):
        compute_signals(of_teacher, encoded, [1], folder, split, device=torch.device("cpu"))
    transfer, validation = (Signals.load(folder, split) for split in ("transfer", "validation"))
    data = StageData(FEW, transfer, FEW, VALIDATION, validation)
    config = configured(student_batch_size=32, student_learning_rate=3e-2, student_epochs=3)

    def run(checkpoint: Checkpoint | None = None) -> Distilled:
        network = student((3, 0))
        return network, distil_stage(5, network, data, LABELS, config, (), checkpoint)

    return run


def resumed(checkpoint: Checkpoint) -> Checkpoint:
    checkpoint.resume()
    return checkpoint


@pytest.mark.slow
def test_killed_teacher_resumes_on_an_empty_disk(
    s3: S3Bucket, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    expected, on_disk = trained(train=SHORT), on_new_disks(tmp_path, s3)
    for batches in (SHORT_BATCHES + 3, SHORT_BATCHES + 3):
        assert killed_after(batches, lambda: trained(resumed(on_disk()), SHORT))
        newest = [name for name in s3.names() if name.endswith(".ckpt")]
        assert len(newest) == 1 and len(s3.names()) == 2
    last = resumed(on_disk())
    assert same(trained(last, SHORT), expected)
    assert f"resuming after epoch 2, from {last.copy}" in told.text
    last.remove()
    assert not s3.names() and not last.folder.exists()


def test_killed_stage_resumes_in_its_phase_on_an_empty_disk(
    s3: S3Bucket, tmp_path: Path, stage: Callable[..., Distilled], told: pytest.LogCaptureFixture
) -> None:
    expected, on_disk = stage(), on_new_disks(tmp_path, s3)
    phases = list(dict.fromkeys(row["phase"] for row in expected[1]))
    assert len(phases) > 1
    epochs = len(expected[1]) - len(phases)  # without those before each phase
    assert killed_after(2 * (epochs - 1) + 1, lambda: stage(on_disk()))  # in the last epoch
    last = on_disk()
    assert same(stage(last), expected)
    assert last.fit == len(phases) - 1
    assert "resuming after epoch" in told.text


def test_interrupted_copy_leaves_the_state_before_it(
    s3_url: str, s3: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload of the second epoch's record fails: the first epoch's state stays whole."""
    expected, on_disk = trained(train=SHORT), on_new_disks(tmp_path, s3)
    records = 0

    def fault(method: str, path: str) -> int | None:
        nonlocal records
        records += method == "PUT" and path.endswith("/step.json")
        return 403 if method == "PUT" and path.endswith("/step.json") and records > 1 else None

    with proxy(s3_url, fault) as url, monkeypatch.context() as patched:
        use_server(patched, url)
        with pytest.raises(DataError, match="no permission"):
            trained(resumed(on_disk()), SHORT)
    assert len(s3.names()) == 3  # two states, and the record of the first
    last = resumed(on_disk())
    found = last.found()
    assert found and found.name == "0-1.ckpt"
    assert same(trained(last, SHORT), expected)


def test_a_paced_training_outlives_its_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture
) -> None:
    expected = trained(train=SHORT)
    with s3_server() as url:
        use_server(monkeypatch, url)
        kept = Checkpoint(tmp_path / "epochs", "key", "s3://missing/folder", paced=True)
        assert same(trained(kept, SHORT), expected)
        kept.remove()
        assert "the state after epoch 1 is not kept" in told.text
        assert "the bucket does not exist" in told.text
        with pytest.raises(DataError, match="the bucket does not exist"):  # at once, not at the end
            resumed(Checkpoint(tmp_path / "other", "key", "s3://missing/folder", paced=True))


def test_state_of_another_training_is_not_used(s3: S3Bucket, tmp_path: Path) -> None:
    on_disk = on_new_disks(tmp_path, s3)
    assert killed_after(SHORT_BATCHES + 3, lambda: trained(resumed(on_disk()), SHORT))
    other = on_disk()
    other.key = "another"
    other.resume()
    assert other.found() is None and other.fit == 0
    shutil.rmtree(other.folder)
    assert resumed(on_disk()).found()


TASK = """
import json, sys
from pathlib import Path
from saarthi_lib import steps
from saarthi_lib.config import TrainConfig

step, config, *arguments = json.loads(sys.argv[1])
paths = [value if isinstance(value, int) else Path(value) for value in arguments]
getattr(steps, step)(TrainConfig.from_mapping(config), *paths)
"""


@pytest.mark.slow
@pytest.mark.parametrize("store", ["s3", "folder"])
@pytest.mark.parametrize("step", ["train_teacher", "distil"])
def test_retried_task_resumes_from_the_store(
    fast: dict[str, Any],
    trained_once: Path,
    tmp_path: Path,
    s3: S3Bucket,
    monkeypatch: pytest.MonkeyPatch,
    told: pytest.LogCaptureFixture,
    step: str,
    store: str,
) -> None:
    config = {**fast, "fast_dev_run": False, "teacher_epochs": 2, "teacher_batch_size": 16}
    config |= {"student_epochs": 4, "student_batch_size": 8}
    made = ("data", "signals", "student/stage_3")
    inputs = [str(trained_once / name) for name in made]
    given: list[Any] = inputs[:1] if step == "train_teacher" else [4, *inputs]

    def work(out: Path) -> None:
        values = [each if isinstance(each, int) else Path(each) for each in given]
        getattr(steps, step)(TrainConfig.from_mapping(config), *values, out)

    def stored() -> list[str]:
        files = [str(path) for path in (tmp_path / "store").rglob("*") if path.is_file()]
        return [name for name in [*s3.names(), *files] if name.endswith("step.json")]

    work(tmp_path / "peace" / "made")
    place = f"s3://{s3.name}/states" if store == "s3" else str(tmp_path / "store")
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, place)
    arguments = [step, config, *given, str(tmp_path / "killed" / "made")]
    child = subprocess.Popen([sys.executable, "-c", TASK, json.dumps(arguments)])
    while not stored():
        assert child.poll() is None
        time.sleep(0.02)
    child.kill()
    child.wait()
    shutil.rmtree(tmp_path / "killed", ignore_errors=True)  # the pod's disk
    work(tmp_path / "retried" / "made")

    assert "resuming after epoch" in told.text
    assert not stored()
    assert [path.name for path in (tmp_path / "retried").iterdir()] == ["made"]
    files = [path for path in (tmp_path / "peace" / "made").iterdir() if path.name != "step.json"]
    for path in files:
        assert (tmp_path / "retried" / "made" / path.name).read_bytes() == path.read_bytes()
