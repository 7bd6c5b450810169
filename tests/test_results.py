"""What people see of a finished run: why it answers as it does."""

from pathlib import Path
from typing import Any

import pytest

from saarthi_lib.storage import read_json
from tests.html_page import Page


@pytest.fixture(scope="module")
def explained(finished_run: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(finished_run / "work/explanations/explanations.json")
    return content


def test_errors_are_explained_by_teacher_and_student(explained):
    assert 1 <= len(explained["rows"]) <= 3 + 1
    for row in explained["rows"]:
        assert list(row["models"]) == ["student", "teacher"]
        for answers in row["models"].values():
            assert answers[0]["about"] is None  # the label, and then spans
            for answer in answers:
                for scores in answer["scores"].values():
                    assert len(scores) == len(row["words"])
                whole = sum(answer["scores"]["integrated_gradients"])
                assert whole == pytest.approx(
                    answer["total"], abs=0.05 + 0.2 * abs(answer["total"])
                )
    assert any(len(answers) > 1 for row in explained["rows"] for answers in row["models"].values())


def test_figures_say_whether_the_picture_can_be_trusted(explained):
    figures = {name: value["mean"] for name, value in explained["figures"].items()}
    for model in ("student", "teacher"):
        for method in ("integrated_gradients", "leave_one_out"):
            gain = figures[f"deletion_{model}_random"] - figures[f"deletion_{model}_{method}"]
            assert figures[f"faithfulness_{model}_{method}"] == pytest.approx(gain, abs=1e-6)
    assert 0 <= figures["agreement_answers"] <= 1


def test_page_is_self_contained_and_shows_every_text(explained, finished_run: Path):
    page = Page((finished_run / "explanations.html").read_text(encoding="utf-8"))
    assert page.loads == [] and page.scripts == 0 and not page.open
    for row in explained["rows"]:
        assert row["text"] in page.text
    assert "faithfulness student integrated gradients" in page.text
