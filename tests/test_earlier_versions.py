"""Bundles and runs of earlier versions: `old_run` was made before fields and files were renamed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.compile import make_pipeline
from pipelines.parameters import run_parameters
from pipelines.resources import Environment
from saarthi_lib import Predictor
from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError
from saarthi_lib.layout import read_record
from saarthi_lib.reports.runs import compare_runs, read_runs
from saarthi_lib.settings import read_settings, read_yaml
from saarthi_lib.sweep.plan import plan_sweep

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
    for answer, old in zip(answers, expected["answers"][runtime], strict=True):
        given = near(answer.to_dict())
        assert {name: given[name] for name in old} == old
        assert answer.threshold == predictor.manifest.threshold is not None


def test_the_configuration_of_an_old_run_is_read() -> None:
    record = json.loads((OLD_RUN / "run.json").read_text(encoding="utf-8"))
    config = TrainConfig.from_mapping(record["config"], "run.json")
    assert config.normalization == "romanized"
    assert config.max_quantization_loss == 1.0


def test_the_record_of_an_old_run_has_present_names(tmp_path: Path) -> None:
    record = json.loads((OLD_RUN / "run.json").read_text(encoding="utf-8"))
    record["config"]["exported_program"] = True
    (tmp_path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    config = read_record(tmp_path)["config"]
    assert config["normalization"] == "romanized"
    assert not {"normalisation", "max_quantisation_loss", "exported_program"} & config.keys()


def test_a_rename_is_not_a_different_setting(tmp_path: Path) -> None:
    new = tmp_path / "new"
    shutil.copytree(OLD_RUN, new)
    record = json.loads((new / "run.json").read_text(encoding="utf-8"))
    record["config"] = TrainConfig.from_mapping(record["config"]).model_dump()
    (new / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert compare_runs(read_runs([OLD_RUN, new]))["settings"] == []


def test_renames_are_reported_once_and_by_source(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("normalisation: romanised\nnormalization: none\n", encoding="utf-8")
    over = {"representation_loss": ["normalised_mse", "mse"]}
    runs = plan_sweep({**read_yaml(file), "over": over}, {}, 2, tmp_path, "my.yaml")
    assert [run.config.normalization for run in runs] == ["none"] * 4
    assert {run.config.representation_loss for run in runs} == {"normalized_mse", "mse"}
    assert read_settings(["max_quantisation_loss=0.5"]) == {"max_quantization_loss": 0.5}
    # Each record once, however many handlers an earlier test left.
    [ignored, value, field] = [each.getMessage() for each in dict.fromkeys(told.records)]
    assert "my.yaml: normalisation is ignored" in ignored
    assert "my.yaml: over: representation_loss" in value
    assert field.startswith("--set: the field max_quantisation_loss")


def test_student_configs_refuse_old_names_of_other_sections() -> None:
    changes = [{"normalisation": "romanised"}, {"student_lstm_dim": 8}]
    with pytest.raises(ConfigError, match="'normalization' is not a field of the section student"):
        run_parameters(
            make_pipeline("sweep", Environment.load("local")),
            TrainConfig(input_path="data", root_output_path="run"),
            {"student_configs": changes},
        )
