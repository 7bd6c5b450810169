"""One run of a sweep in a process of its own: train, and measure the quality on validation.

python -m saarthi_lib.sweep.trial CONFIG.yaml [--store FOLDER]
"""

import argparse
import sys
from pathlib import Path

from saarthi_lib import logs
from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import SaarthiError
from saarthi_lib.evaluation.scores import Headline, headline, read_metrics
from saarthi_lib.layout import RunLayout
from saarthi_lib.runs.train import train
from saarthi_lib.storage import read_json, write_json

RESULT = "result.json"


class TrialResult(Headline):
    """Content of `result.json`: metrics of the delivered bundle on validation and test.

    Attributes:
        validation_main: main metric on validation.
        teacher_main: main metric of the teacher on test.
        seconds: seconds of all steps, with those that were reused.
    """

    validation_main: float
    teacher_main: float
    seconds: float


def run_trial(config: TrainConfig, store: Path | None = None) -> TrialResult:
    """Train, and write `result.json`.

    Args:
        config: configuration of the run.
        store: folder of finished steps that are shared with other runs.
    """
    from saarthi_lib.data.preprocess import Prepared
    from saarthi_lib.evaluation.evaluate import evaluate_table
    from saarthi_lib.inference.predictor import Predictor

    layout = RunLayout.of(train(config, store=store))
    scores, _, _ = evaluate_table(
        Predictor.load(layout.delivered_bundle()), Prepared(layout.data).table("validation")
    )
    metrics, record = read_metrics(layout.root), read_json(layout.record)
    seconds = [step["seconds"] for step in record["steps"].values()]
    result: TrialResult = {
        **headline(metrics),
        "validation_main": scores["main"],
        "teacher_main": metrics["teacher"]["main"],
        "seconds": round(sum(seconds), 1),
    }
    write_json(layout.root / RESULT, result)
    return result


def main() -> None:
    """Run one trial; an error that the user can fix gives a message and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--store", type=Path)
    arguments = parser.parse_args()
    logs.configure()
    try:
        run_trial(TrainConfig.from_yaml(arguments.config), arguments.store)
    except SaarthiError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(logs.USER_ERROR)


if __name__ == "__main__":
    main()
