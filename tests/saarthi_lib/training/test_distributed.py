"""The teacher trained by two processes together, on gloo: torchrun and Lightning's DDP."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from saarthi_lib import steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import TrainingError
from saarthi_lib.models.teacher import load_teacher

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


def test_failed_process_is_a_training_error(fast: dict[str, Any], tmp_path: Path) -> None:
    config = TrainConfig.from_mapping({**fast, "teacher_devices": 2, "device": "cpu"})
    (tmp_path / "data").mkdir()  # in which they find nothing
    with pytest.raises(TrainingError, match="training on 2 devices has failed"):
        steps.train_teacher(config, tmp_path / "data", tmp_path / "teacher")
    assert not (tmp_path / "teacher").exists()
