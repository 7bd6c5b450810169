"""The examples run without changes."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from saarthi_lib import Predictor
from tests.predictors.serving import serving
from tests.tiny_bundle import SENTENCES, write_tiny_bundle

ROOT = Path(__file__).parent.parent


def _run(script: str, *arguments: object, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), *map(str, arguments)],
        input=given,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_predict_answers_and_explains(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "a", "joint", runtime="onnxruntime")
    shown = _run("predict.py", bundle, *SENTENCES)
    for answer in Predictor.load(bundle).predict(SENTENCES):
        assert f"  why {answer.label}: " in shown
        for entity in answer.entities:
            assert f"  {entity.label}: {entity.text} ({entity.start} to {entity.end})" in shown
            assert f"  why {entity.label}: " in shown


def test_client_asks_in_batches(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "a", name="bot", runtime="onnxruntime")
    texts = SENTENCES * 21
    with serving(bundle, max_instances=100) as server:
        shown = _run("client.py", server.url, "bot", given="\n".join(texts) + "\n")
        expected = [answer["label"] for answer in server.expected("bot", texts)]
    lines = [line.split("\t") for line in shown.splitlines()]
    assert [text for text, _ in lines] == texts
    assert [label for _, label in lines] == expected


@pytest.mark.slow
def test_train_leaves_a_run_and_its_losses(home_assistant: Path, tmp_path: Path) -> None:
    shown = _run("train.py", home_assistant, tmp_path / "run")
    assert shown.startswith("teacher 0.")
    assert (tmp_path / "run" / "bundle-int8" / "bundle.json").is_file()
    [losses] = (tmp_path / "run" / "csv" / "student_stage_3").rglob("metrics.csv")
    with losses.open(encoding="utf-8") as rows:
        assert any("loss" in name for name in next(csv.reader(rows)))
