"""Train from Python: give the configuration as a mapping, log losses to CSV, read the results.

    python examples/train.py data/my-bot runs/my-bot

The run is a trial, and its numbers mean nothing: remove `fast_dev_run` for a real run.
"""

import json
import sys
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger

from saarthi_lib import Predictor, train


def main(data: str, output: str) -> None:
    config = {
        "task": "intent_classification",
        "input_path": data,
        "root_output_path": output,
        "teacher_name": "minilm",  # English; from the package index
        "precision": 32,
        "fast_dev_run": True,
        "student_preset": "tiny",
    }
    names = ("teacher", *(f"student_stage_{stage}" for stage in range(1, 6)))
    loggers = {name: [CSVLogger(Path(output) / "csv", name=name)] for name in names}
    root = train(config, loggers)

    metrics = json.loads((root / "metrics.json").read_text(encoding="utf-8"))
    student = metrics["student"]["final"]
    print(f"teacher {metrics['teacher']['main']:.3f}, student {student['main']:.3f}")
    [answer] = Predictor.load(root / "bundle-int8").predict(["turn on the kitchen lights"])
    print(f"{answer.label} ({answer.probability:.1%})")


if __name__ == "__main__":
    main(*sys.argv[1:])
