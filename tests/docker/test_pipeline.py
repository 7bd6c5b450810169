"""The whole pipeline in containers of the image `train`."""

import json
import re

import pytest

from saarthi_lib import __version__
from saarthi_lib.bundle import read_manifest, verify_bundle
from tests.docker.conftest import USER, PipelineRun

pytestmark = pytest.mark.docker


def test_every_task_runs_in_the_image_and_a_table_is_printed(
    pipeline_run: PipelineRun,
) -> None:
    printed = pipeline_run.printed
    tasks = re.findall(r"^\[\d+\] (\S+)$", printed, re.MULTILINE)
    for task in ("preprocess-data", "train-teacher", "distil-stage-5", "quantize-model"):
        assert task in tasks
    assert "trial run: intent classification" in printed and "report:" in printed
    log = (pipeline_run.folder / "pipeline.log").read_text(encoding="utf-8")
    assert log.count(f"Found image 'saarthi/train:{__version__}'") == len(tasks)


def test_bundle_names_the_revision_of_the_image(pipeline_run: PipelineRun) -> None:
    root = pipeline_run.folder
    verify_bundle(root / "bundle-int8")
    made_by = read_manifest(root / "bundle-int8").made_by
    assert made_by["versions"]["saarthi"] == __version__
    assert made_by["source_revision"] == "tested"
    record = json.loads((root / "run.json").read_text(encoding="utf-8"))
    assert made_by["run_id"].startswith("local-") and record["source_revision"] == "tested"


def test_files_of_the_tasks_belong_to_the_run_owner(pipeline_run: PipelineRun) -> None:
    metrics = list((pipeline_run.folder / ".kfp").rglob("metrics.json"))
    assert metrics and {path.stat().st_uid for path in metrics} == {USER}
