"""The report page: what a reader finds on it, and that nothing on it can hurt them."""

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from saarthi_lib.evaluation.report import write_report
from tests.html_page import Page

HOSTILE = "<script>alert('x')</script>"


def scores(main: float, **more: Any) -> dict[str, Any]:
    by_language = {"english": {"main": main, "examples": 60}, "hindi": {"main": main / 2}}
    return {"main": main, "accuracy": main, "examples": 90, "by_language": by_language} | more


def measured(main: float, parameters: int) -> dict[str, Any]:
    latency = {"p50": 12.34, "p99": 45.6}
    return scores(main, parameters=parameters, size_bytes=4 * parameters, latency_ms=latency)


@pytest.fixture
def metrics() -> dict[str, Any]:
    return {
        "task": "intent_classification",
        "languages": ["english", "hindi"],
        "teacher": measured(0.98, 117_700_000),
        "student": {f"stage_{n}": scores(0.1 * n) for n in range(1, 6)}
        | {"final": measured(0.961, 2_300_000)},
        "quantized": measured(0.957, 2_300_000),
        "retention": 0.976,
        "compression": 51.2,
        "speedup": 424.0,
    }


@pytest.fixture
def details() -> dict[str, Any]:
    return {
        "config": {"task": "intent_classification", "quantization": "int8", "seed": 42},
        "histories": [
            {"stage": stage, "phase": phase, "epoch": epoch, "loss": 1 / epoch, "main": main}
            for stage, phase, main in (
                ("stage_1", "representation", None),
                ("stage_3", "logits +projection", 0.6),
                ("stage_3", "logits +encoder", 0.8),
            )
            for epoch in (1, 2, 3)
        ],
        "confusion": {
            "labels": ["turn_on", "turn_off", HOSTILE, "perfect"],
            "counts": {
                "turn_on": {"turn_on": 9, "turn_off": 1},
                "turn_off": {"turn_off": 6, HOSTILE: 4},
                HOSTILE: {HOSTILE: 2},
                "perfect": {"perfect": 5},
            },
            "examples": [
                {"text": HOSTILE, "gold": "turn_off", "predicted": HOSTILE, "lang": "english"},
                {"text": "बत्ती", "gold": "turn_on", "predicted": "turn_off", "lang": "hindi"},
            ],
        },
        "samples": [
            {"text": "lights on", "lang": "english", "label": HOSTILE, "probability": 0.99},
            {
                "text": "रसोई की बत्ती",
                "lang": None,
                "entities": [{"text": "रसोई", "label": "area", "start": 0, "end": 4}],
                "abstained": False,
            },
            {"text": "asdf", "lang": "english", "label": "turn_on", "abstained": True},
        ],
    }


def written(path: Path, metrics: dict[str, Any], details: dict[str, Any]) -> str:
    write_report(path, metrics, **details)
    return path.read_text(encoding="utf-8")


def cells(html: str, name: str) -> list[str]:
    """The text of the cells of the table row headed `name`."""
    row = re.search(rf'<th scope="row">(?:<code>)?{name}(?:</code>)?</th>(.*?)</tr>', html, re.S)
    assert row, f"no row {name}"
    return [re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?</td>", row[1], re.S)]


def test_shows_every_model_with_its_figures(tmp_path, metrics, details):
    html = written(tmp_path / "report.html", metrics, details)
    page = Page(html)
    assert not page.open
    figures = ["12.3 ms", "45.6 ms"]
    assert cells(html, "teacher") == ["98.0%", "98.0%", "49.0%", "117.7M", "470.8 MB", *figures]
    assert cells(html, "stage 3") == ["30.0%", "30.0%", "15.0%", "–", "–", "–", "–"]
    assert cells(html, "quantized")[0] == "95.7%"
    for headline in ("97.6%", "51×", "424×", "Student, int8"):
        assert headline in page.text
    assert "saarthi train config.yaml" in page.text
    assert "seed: 42" in page.text


def test_is_one_safe_self_contained_file(tmp_path, metrics, details):
    html = written(tmp_path / "report.html", metrics, details)
    page = Page(html)
    assert page.scripts == 0
    assert page.loads == []
    assert not re.search(r"url\((?!#)|@import", html)
    assert HOSTILE in page.text
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_figures_have_their_own_identifiers_and_the_pages_colours(tmp_path, metrics, details):
    html = written(tmp_path / "report.html", metrics, details)
    assert html.count('<svg role="img"') == 3  # the journey and two stages
    identifiers = re.findall(r'<clipPath id="([^"]+)"', html)
    assert len(identifiers) == len(set(identifiers)) > 0
    assert "var(--series-0)" in html and "prefers-color-scheme: dark" in html
    assert "#01030" not in html and "#010203" not in html


def test_worst_labels_and_confusions_are_explained(tmp_path, metrics, details):
    html = written(tmp_path / "report.html", metrics, details)
    *figures, taken_for = cells(html, "turn_off")
    assert figures == ["70.6%", "85.7%", "60.0%", "10"]
    assert unescape(taken_for) == HOSTILE
    assert html.index("<code>&lt;script") < html.index("<code>turn_off</code></th>")
    assert '<th scope="row"><code>perfect' not in html
    row = re.search(r'<td class="pair"><code>turn_on</code>.*?</tr>', html, re.S)
    assert row
    assert re.findall(r">([^<>\s][^<>]*)<", row[0]) == [
        "turn_on", "→", "turn_off", "1", "10.0%", "बत्ती",
    ]  # fmt: skip


def test_samples_show_entities_in_place_and_silence(tmp_path, metrics, details):
    html = written(tmp_path / "report.html", metrics, details)
    assert "<mark>रसोई<small>area</small></mark> की बत्ती" in html
    assert "no answer: not sure enough" in html


@pytest.mark.parametrize("student", ["not quantised", "not distilled"])
def test_shorter_runs_have_a_report_too(tmp_path, metrics, details, student):
    metrics["quantized"] = None
    if student == "not distilled":
        metrics["student"] = {}
        for figure in ("retention", "compression", "speedup"):
            del metrics[figure]
    details |= {"confusion": None, "samples": [], "histories": []}
    page = Page(written(tmp_path / "report.html", metrics, details))
    assert "98.0%" in page.text
    assert ("96.1%" in page.text) == (student == "not quantised")
    assert "Most frequent confusions" not in page.text


def test_a_report_that_fails_leaves_the_old_one(tmp_path, metrics, details):
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(KeyError):
        write_report(path, metrics | {"teacher": {}}, **details)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]
