"""Bundles and runs of earlier versions: `old_run` was made before fields and files were renamed."""

import json
from pathlib import Path
from typing import Any

import pytest

from saarthi_lib import Predictor
from saarthi_lib.config import TrainConfig

OLD_RUN = Path(__file__).parent / "old_run"


def near(answer: Any) -> Any:
    """The answer with approximate numbers."""
    if isinstance(answer, dict):
        return {key: near(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return [near(value) for value in answer]
    return pytest.approx(answer, abs=1e-5) if isinstance(answer, float) else answer


@pytest.mark.parametrize("runtime", ["onnxruntime", "torchscript"])
def test_an_old_bundle_gives_equal_answers(runtime: str) -> None:
    expected = json.loads((OLD_RUN / "answers.json").read_text(encoding="utf-8"))
    predictor = Predictor.load(OLD_RUN / "bundle-int8", runtime=runtime)
    answers = predictor.predict(expected["texts"], expected["languages"], top_k=3)
    assert [near(answer.to_dict()) for answer in answers] == expected["answers"][runtime]


def test_the_configuration_of_an_old_run_is_read() -> None:
    record = json.loads((OLD_RUN / "run.json").read_text(encoding="utf-8"))
    config = TrainConfig.from_mapping(record["config"], "run.json")
    assert config.normalization == "romanized"
    assert config.max_quantization_loss == 1.0
