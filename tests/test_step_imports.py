"""Steps that do not train start without the libraries of training, which take seconds to load."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Steps that neither train nor run the teacher, one after the other in a process of its own.
SCRIPT = """
import sys
from pathlib import Path
from saarthi_lib import steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.storage import read_json

root, out = Path(sys.argv[1]), Path(sys.argv[2])
config = TrainConfig.from_mapping(read_json(root / "run.json")["config"])
data, work, student = root / "data", root / "work", root / "student" / "stage_5"
steps.preprocess(config, out / "data")
network = steps.TrainedNetwork("student", student)
steps.export(config, data, network, out / "exported")
steps.quantize(config, data, network, out / "quantized")
steps.publish(config, work / "exported", work / "evaluation", "final", out / "bundle")
slow = ("lightning", "torchmetrics", "torch._dynamo", "sympy", "transformers")
print([name for name in slow if name in sys.modules])
# transformers loads torch._dynamo and sympy with the teacher.
steps.test_teacher(config, data, root / "teacher", out / "teacher-test")
steps.teacher_signals(config, data, root / "teacher", out / "signals")
stages = [root / "student" / f"stage_{number}" for number in range(1, 6)]
steps.distil(config, 1, data, root / "signals", None, out / "stage_1")
models = steps.Models(work / "teacher-test", stages, work / "exported",
                      work / "quantized")
steps.evaluate(config, data, models, out / "evaluation")
print([name for name in ("lightning", "torchmetrics") if name in sys.modules])
"""


@pytest.mark.slow
def test_steps_without_training_import_no_training_library(
    trained_once: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(trained_once), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-3:] == ["[]", "[]", ""]
