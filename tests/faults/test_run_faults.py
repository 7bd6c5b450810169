"""Run folders that are damaged, filled, locked or given other file times between two runs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from saarthi_lib import Predictor, steps, train
from saarthi_lib.bundle import verify_bundle
from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ArtifactError, StorageError
from saarthi_lib.runs.folder import at_work
from saarthi_lib.steps.record import recorded_step
from saarthi_lib.storage import digest_files, verify_record
from tests.conftest import fast_config
from tests.faults.processes import fork, mounted, remount
from tests.faults.test_storage_faults import flip, started


@pytest.fixture
def finished(finished_run: Path, home_assistant: Path, tmp_path: Path) -> dict[str, Any]:
    """The configuration of a finished run, in a folder of its own."""
    return copied(finished_run, home_assistant, tmp_path / "run")


def copied(finished_run: Path, home_assistant: Path, root: Path) -> dict[str, Any]:
    shutil.copytree(finished_run, root)
    return {**fast_config(home_assistant, root), "task": "joint", "explained_errors": 3}


def root_of(config: dict[str, Any]) -> Path:
    return Path(config["root_output_path"])


def reused(root: Path) -> dict[str, bool]:
    record = json.loads((root / "run.json").read_text(encoding="utf-8"))
    return {name: step["reused"] for name, step in record["steps"].items()}


def contents(root: Path) -> dict[str, dict[str, str]]:
    """Digests of the files of each step, except files that depend on a clock."""
    timed = ("step.json", "metrics.json", "details.json", "report.html", "bundle.json")
    return {
        name: {
            file: digest
            for file, digest in digest_files(root / name).items()
            if Path(file).name not in timed and not file.endswith(("model.pt", "config.json"))
        }
        for name in reused(root)
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "file", "damage"),
    [
        ("data", "train.npz", flip),
        ("signals", "transfer.sequence_logits.npy", lambda path: os.truncate(path, 1000)),
        ("student/stage_3", "student.safetensors", lambda path: path.unlink()),
        ("work/exported", "bundle/model.onnx", flip),
        ("work/quantized", "step.json", lambda path: os.truncate(path, 50)),
    ],
)
def test_only_the_damaged_step_is_rerun(
    finished: dict[str, Any], step: str, file: str, damage: Any, told: pytest.LogCaptureFixture
) -> None:
    root = root_of(finished)
    before = contents(root)
    damage(root / step / file)
    train(finished)
    [warning] = [line for line in told.messages if "the step is rerun" in line]
    assert warning.startswith(str(root / step / file))
    assert f"{step}: rerun, because its files were changed or damaged" in told.messages
    assert [name for name, kept in reused(root).items() if not kept] == [step]
    assert contents(root) == before
    for bundle in ("bundle", "bundle-int8"):
        verify_bundle(root / bundle)


@pytest.mark.slow
def test_step_names_the_damaged_file_of_its_input(finished: dict[str, Any], tmp_path: Path) -> None:
    root, config = root_of(finished), TrainConfig.from_mapping(finished)
    flip(root / "teacher" / "teacher.safetensors")
    with pytest.raises(ArtifactError, match=r"teacher\.safetensors: is not as it was written"):
        steps.test_teacher(config, root / "data", root / "teacher", tmp_path / "out")
    flip(root / "work" / "exported" / "bundle" / "model.pt")
    evaluation, exported = root / "work" / "evaluation", root / "work" / "exported"
    with pytest.raises(ArtifactError, match=r"model\.pt: is not as it was written"):
        steps.publish(config, exported, evaluation, "final", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_damaged_users_teacher_is_refused(
    finished: dict[str, Any],
) -> None:
    flip(root_of(finished) / "teacher" / "teacher.safetensors")
    with pytest.raises(ArtifactError, match=r"teacher\.safetensors: is not as it was written"):
        train({**finished, "teacher_exists": True})


def test_damaged_pipeline_artifact_is_removed_from_cache(
    finished: dict[str, Any], tmp_path: Path
) -> None:
    from pipelines.local import _remove_damaged

    lines: list[str] = []
    places = [tmp_path / "kfp" / "saarthi-1" / "distil" / name for name in ("one", "two")]
    for place in places:
        shutil.copytree(root_of(finished) / "student" / "stage_1", place)
    flip(places[0] / "student.safetensors")
    _remove_damaged(tmp_path / "kfp", lambda kind, line: lines.append(line))
    assert [place.exists() for place in places] == [False, True]
    [line] = lines
    assert line.startswith(str(places[0] / "student.safetensors"))


@pytest.mark.parametrize("when", [0, 2**32])  # 1970, 2106
def test_reuse_does_not_depend_on_file_times(finished: dict[str, Any], when: int) -> None:
    root = root_of(finished)
    for path in [root, *root.rglob("*")]:
        os.utime(path, (when, when))
    train(finished)
    assert all(reused(root).values())


def test_second_run_is_refused_until_the_first_is_killed(
    finished: dict[str, Any], tmp_path: Path
) -> None:
    root, ready = root_of(finished), tmp_path / "ready"

    def work() -> None:
        with at_work(root), recorded_step("slow", TrainConfig(), root / "slow") as folder:
            (folder / "half").write_text("half")
            ready.touch()
            time.sleep(60)

    first = started(work, ready)
    with pytest.raises(StorageError, match=rf"{root}: process {first} on .*is at work in this fol"):
        train(finished)
    assert len(list(root.glob(".slow.*.partial"))) == 1
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    train(finished)
    assert all(reused(root).values())
    assert not list(root.glob("**/.*.partial")) and not (root / "slow").exists()


def test_read_only_disk_is_named_and_its_bundle_answers(
    finished_run: Path, home_assistant: Path, tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", "size=200m") as disk:
        config = copied(finished_run, home_assistant, disk / "run")
        remount(disk, "ro")
        with pytest.raises(StorageError, match=r"cannot be written here .*Read-only file system"):
            train(config)
        verify_bundle(disk / "run" / "bundle-int8")
        assert Predictor.load(disk / "run" / "bundle-int8").predict(["turn on the light"])


@pytest.mark.slow
def test_run_resumes_after_a_full_disk_grows(
    finished_run: Path, home_assistant: Path, tmp_path: Path
) -> None:
    full = 0
    with mounted(tmp_path / "disk", "size=300k") as disk:
        config = {**fast_config(home_assistant, disk / "run"), "task": "joint"}
        for size in ("300k", "8m", "46m", "64m"):
            remount(disk, f"size={size}")
            try:
                train({**config, "explained_errors": 3})
                break
            except StorageError as error:
                assert "the disk is full" in str(error)
                full += 1
                assert not list(disk.glob("**/.*.partial"))
                for name in contents(disk / "run") if (disk / "run" / "run.json").exists() else ():
                    verify_record(disk / "run" / name)
        assert full >= 2
        assert contents(disk / "run") == contents(finished_run)


@pytest.mark.slow
def test_run_with_damaged_record_reruns_every_step(
    finished: dict[str, Any], told: pytest.LogCaptureFixture
) -> None:
    root = root_of(finished)
    before = contents(root)
    os.truncate(root / "run.json", 100)
    train(finished)
    assert "run.json: cannot be read" in told.text
    assert not any(reused(root).values())
    assert contents(root) == before


@pytest.mark.slow
def test_killed_teacher_resumes_at_its_last_epoch(
    home_assistant: Path, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    given = {"fast_dev_run": False, "teacher_epochs": 2, "teacher_batch_size": 16}
    config = {**fast_config(home_assistant, tmp_path), **given, "augmentation_size": 0}
    data = tmp_path / "data"
    steps.preprocess(TrainConfig.from_mapping(config), data)

    def work(root: Path) -> None:
        steps.train_teacher(TrainConfig.from_mapping(config), data, root / "teacher")

    peace, killed = tmp_path / "peace", tmp_path / "killed"
    work(peace)
    # No fork: training in this process used threads that a fork would lack.
    code = "import json, sys; from pathlib import Path; from saarthi_lib import steps; "
    code += "from saarthi_lib.config import TrainConfig; "
    code += "config = TrainConfig.from_mapping(json.loads(sys.argv[1])); "
    code += "steps.train_teacher(config, *map(Path, sys.argv[2:]))"
    arguments = [json.dumps(config), str(data), str(killed / "teacher")]
    child = subprocess.Popen([sys.executable, "-c", code, *arguments])
    state = killed / ".teacher.teacher-0.epochs" / "step.json"
    while not (state.is_file() and json.loads(state.read_text())["epoch"] == 1):
        assert child.poll() is None
        time.sleep(0.05)
    child.kill()
    child.wait()
    work(killed)
    assert "resuming after epoch 1" in told.text
    assert [path.name for path in killed.iterdir()] == ["teacher"]
    for file in ("teacher.safetensors", "history.json"):
        assert (killed / "teacher" / file).read_bytes() == (peace / "teacher" / file).read_bytes()


def test_lock_is_free_after_its_owner_ends(finished: dict[str, Any]) -> None:
    root = root_of(finished)
    child = fork(lambda: at_work(root).__enter__())
    assert os.waitpid(child, 0)[1] == 0
    with at_work(root):
        assert (root / ".saarthi-lock").exists()
