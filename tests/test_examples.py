"""The examples run without changes."""

import csv
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
import pytest
from nbclient import NotebookClient

from saarthi_lib import Predictor
from tests.predictors.serving import serving
from tests.tiny_bundle import SENTENCES, write_tiny_bundle

ROOT = Path(__file__).parent.parent
NOTEBOOK, DAY = (ROOT / "examples" / f"{name}.ipynb" for name in ("quickstart", "bot-team"))


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


def _executed(notebook: Path, folder: Path) -> Any:
    """Run a notebook with this working copy, not with an installed package."""
    ran = nbformat.read(notebook, as_version=4)
    command = folder / "bin" / "saarthi"
    command.parent.mkdir()
    body = "from saarthi_lib.cli import main; main()"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{body}" "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    variables = {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
    }
    with patch.dict(os.environ, variables):
        NotebookClient(ran, timeout=900, resources={"metadata": {"path": str(folder)}}).execute()
    return ran


@pytest.mark.slow
@pytest.mark.parametrize(
    ("notebook", "answers"),
    [
        (
            NOTEBOOK,
            (
                "can i get my money back: refund",
                "मेरा पार्सल कहाँ है: order_status",
                "cancel it please: cancel_order",
                "abstained: True",
                '"label":"order_status"',
                "stopped: 0",
            ),
        ),
        (
            DAY,
            (
                "texts have a wrong answer",
                "125 rows answered: answers.csv",
                "common test texts have another answer",
                "version 2 answers",
                "version 1 answers",
                "stopped: 0",
            ),
        ),
    ],
    ids=["quickstart", "bot-team"],
)
def test_notebook_runs_and_answers(notebook: Path, answers: Sequence[str], tmp_path: Path) -> None:
    committed = nbformat.read(notebook, as_version=4)
    shown = _outputs(_executed(notebook, tmp_path))
    assert re.search(r"^teacher .*^int8 ", shown, re.MULTILINE | re.DOTALL)
    for answer in answers:
        assert answer in shown
        assert answer in _outputs(committed), "run the notebook and save it"


@pytest.mark.parametrize(("notebook", "most"), [(NOTEBOOK, 2000), (DAY, 12_000)])
def test_outputs_of_notebooks_are_small_and_plain(notebook: Path, most: int) -> None:
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    cells = [cell for cell in content.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    assert {output.output_type for cell in cells for output in cell.outputs} == {"stream"}
    assert {output.name for cell in cells for output in cell.outputs} == {"stdout"}
    shown = _outputs(content)
    assert len(shown) < most
    assert not re.search(r"/(home|root|tmp|work|Users)/|\x1b|\r|%\|", shown)


def _outputs(notebook: Any) -> str:
    """All printed text of a notebook."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return "".join(output.text for cell in cells for output in cell.outputs)
