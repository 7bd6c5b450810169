"""The teacher trained by two processes together, on gloo: torchrun and Lightning's DDP."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from saarthi_lib import steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import TrainingError
from saarthi_lib.models.teacher import load_teacher
from tests.stores.s3 import S3Bucket

ROOT = Path(__file__).parents[3]
SCRIPT = """
import json, os, sys
from pathlib import Path
from saarthi_lib.training import batches
from saarthi_lib.training.teacher import fine_tune
from tests.saarthi_lib.training.test_reweighting import LABELS, configured, teacher, toy

seen, whole_batch = [], batches.BatchStream.batch
def batch(self, rows):
    seen.extend(rows.tolist() if self.seed is not None and self.epoch == 1 else [])
    return whole_batch(self, rows)
batches.BatchStream.batch = batch

network = teacher("bert", (3, 0))
result = fine_tune(
    network, toy(400, seed=5), toy(100, seed=6), LABELS, configured(teacher_epochs=4, device="cpu")
)
total = float(sum(p.double().abs().sum() for p in network.parameters()))
told = {"rows": seen, "weights": total, "best": max(row["main"] for row in result.history)}
Path(sys.argv[1], os.environ["RANK"] + ".json").write_text(json.dumps(told))
"""

pytestmark = pytest.mark.slow


def test_processes_share_rows_and_end_with_the_same_network(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in "01")
    assert set(first["rows"]) | set(second["rows"]) == set(range(400))
    assert abs(len(first["rows"]) - len(second["rows"])) <= 16  # a batch
    assert not set(first["rows"]) <= set(second["rows"])
    assert first["weights"] == second["weights"]
    assert first["best"] == second["best"] > 0.9


def test_train_teacher_starts_the_processes(fast: dict[str, Any], tmp_path: Path) -> None:
    config = TrainConfig.from_mapping({**fast, "teacher_devices": 2, "device": "cpu"})
    data, teacher = tmp_path / "data", tmp_path / "teacher"
    steps.preprocess(config, data)
    scores = steps.train_teacher(config, data, teacher)
    assert 0 <= scores["validation_main"] <= 1
    assert load_teacher(teacher).layers == 6
    record = json.loads((teacher / "step.json").read_text(encoding="utf-8"))
    assert record["config"]["teacher_devices"] == 2


def test_killed_processes_resume_from_the_store(s3: S3Bucket, tmp_path: Path) -> None:
    """Both processes end in the third epoch; two others resume, on another disk."""
    kept = "from saarthi_lib.training.checkpoint import Checkpoint\n"
    kept += f"kept = Checkpoint(Path(sys.argv[1], os.environ['RANK']), 'k', 's3://{s3.name}/s')\n"
    kept += "kept.resume()\nnetwork = teacher"
    killed = "if self.seed is not None and self.epoch == 2: os._exit(9)\n    return whole_batch"
    resuming = SCRIPT.replace("network = teacher", kept).replace(
        'device="cpu")\n)', 'device="cpu"),\n    (), None, kept)'
    )
    told = {}
    for name, script in {
        "peace": SCRIPT,
        "killed": resuming.replace("return whole_batch", killed),
        "resumed": resuming,
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.py").write_text(script, encoding="utf-8")
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command = [sys.executable, *launch, str(tmp_path / f"{name}.py"), str(tmp_path / name)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
        assert (done.returncode != 0) == (name == "killed"), done.stderr
        if name != "killed":
            told[name] = json.loads((tmp_path / name / "0.json").read_text())
    assert {Path(each).name for each in s3.names()} == {"0-3.ckpt", "step.json"}
    assert told["resumed"]["rows"] == []  # of the second epoch, which was finished before
    assert told["resumed"]["weights"] == pytest.approx(told["peace"]["weights"], rel=1e-6)


def test_failed_process_is_a_training_error(fast: dict[str, Any], tmp_path: Path) -> None:
    config = TrainConfig.from_mapping({**fast, "teacher_devices": 2, "device": "cpu"})
    steps.preprocess(config, tmp_path / "whole")
    (tmp_path / "data").mkdir()  # in which they find no rows
    shutil.copy(tmp_path / "whole" / "data.json", tmp_path / "data")
    with pytest.raises(TrainingError, match="training on 2 devices has failed"):
        steps.train_teacher(config, tmp_path / "data", tmp_path / "teacher")
    assert not (tmp_path / "teacher").exists()
