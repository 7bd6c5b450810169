"""Helpers of the components in `saarthi_lib.steps.task`."""

from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from saarthi_lib.errors import ConfigError
from saarthi_lib.lineage import RECORD_VARIABLE
from saarthi_lib.steps.task import (
    log_confusion,
    log_metrics,
    main_metrics,
    paths,
    record_of,
    task,
    worker_arguments,
    write_run_record,
)
from saarthi_lib.storage import read_json, write_json


def test_task_merges_sections_in_order() -> None:
    with task({"task": "ner", "seed": 1}, {"seed": 2}) as config:
        assert (config.task, config.seed) == ("ner", 2)


def test_task_exits_with_2_for_an_unknown_field() -> None:
    with pytest.raises(SystemExit) as exited, task({"taks": "ner"}):
        pass
    assert exited.value.code == 2


def test_paths_keep_lists_and_missing_artifacts() -> None:
    one, two = dsl.Model(uri="/a/one"), dsl.Model(uri="/a/two")
    assert paths(one, None, [one, two]) == [
        Path("/a/one"), None, [Path("/a/one"), Path("/a/two")]
    ]  # fmt: skip


def test_metrics_are_shown_and_written(tmp_path: Path) -> None:
    metrics = dsl.Metrics(uri=str(tmp_path / "metrics"))
    log_metrics(metrics, {"main": 0.5})
    assert metrics.metadata == read_json(metrics.path) == {"main": 0.5}


@pytest.mark.parametrize("confusion", [None, (["a", "b"], [[3, 1], [0, 4]])])
def test_confusion_is_shown_if_the_task_has_one(tmp_path: Path, confusion: Any) -> None:
    matrix = dsl.ClassificationMetrics(uri=str(tmp_path / "matrix"))
    log_confusion(matrix, confusion)
    assert ("confusionMatrix" in matrix.metadata) == (confusion is not None)
    assert Path(matrix.path).is_file()


def test_trial_has_main_metrics_without_ratios() -> None:
    models = {name: {"main": 0.9} for name in ("baseline", "teacher", "quantized")}
    result = {**models, "student": {"final": {"main": 0.8}}, "retention": 1.0, "compression": 9.0}
    result["speedup"] = 5.0
    shown = main_metrics(result)
    assert shown["final_main"] == 0.8 and shown["retention"] == 1.0
    assert set(shown) - set(main_metrics({**result, "trial": True})) == {
        "retention", "compression", "speedup"
    }  # fmt: skip


def test_worker_of_local_data_is_refused() -> None:
    assert worker_arguments({"seed": 1}, "gs://b/data", "gs://b/out") == [
        "--config", '{"seed": 1}', "--data", "gs://b/data", "--out", "gs://b/out"
    ]  # fmt: skip
    assert worker_arguments({}, "s3://b/data", "s3://b/out")[3] == "s3://b/data"
    own = worker_arguments({}, "minio://b/data", "minio://b/out")  # of KFP's own store
    assert own[3::2] == ["s3://b/data", "s3://b/out"]
    with pytest.raises(ConfigError, match="the pods of a TrainJob cannot read it"):
        worker_arguments({}, "/data", "gs://b/out")


def test_run_record_has_uri_and_seconds_and_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.json"
    monkeypatch.setenv(RECORD_VARIABLE, str(copy))
    data, teacher = (dsl.Model(uri=str(tmp_path / name)) for name in ("data", "teacher"))
    write_json(tmp_path / "data" / "step.json", {"seconds": 1.5})
    record = dsl.Artifact(uri=str(tmp_path / "record"))
    write_run_record(record, "digest", record_of(data=data), record_of(teacher=teacher))
    content = read_json(record.path)
    assert content == read_json(copy) and content["data_digest"] == "digest"
    assert content["artifacts"] == {
        "data": {"uri": data.uri, "seconds": 1.5}, "teacher": {"uri": teacher.uri}
    }  # fmt: skip
    assert record.metadata["data_digest"] == "digest"
