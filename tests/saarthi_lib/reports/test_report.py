"""The page of the report: its content, and escaping of texts and labels."""

import json
import re
import time
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from saarthi_lib.evaluation.breakdown import break_down
from saarthi_lib.evaluation.calibration import wilson_interval
from saarthi_lib.reports.report import write_report
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


# Gold label, predicted label and count, with `HOSTILE` among texts and labels.
ANSWERED = [
    ("turn_on", "turn_on", 9),
    ("turn_on", "turn_off", 1),
    ("turn_off", "turn_off", 6),
    ("turn_off", HOSTILE, 4),
    (HOSTILE, HOSTILE, 2),
    ("perfect", "perfect", 5),
]


FIXES = [
    {
        "kind": "confused",
        "title": f"{number} labels are confused",
        "action": f"Add rows of {HOSTILE}.",
        "errors": 9 - number,
        "count": 82,
        "rows": [
            {
                **{"file": "test.csv", "row": 3, "text": HOSTILE, "lang": "english"},
                **{"gold": "turn_on", "answer": HOSTILE, "note": "new: alert"},
            }
        ],
    }
    for number in range(6)
]


def split_of(answered: list[tuple[str, str, int]]) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """A test split with the answers of a teacher, which are all right, and of a student."""
    rows = [pair for *pair, count in answered for _ in range(count)]
    gold, given = [list(column) for column in zip(*rows, strict=True)]
    texts = [HOSTILE if answer == HOSTILE else "बत्ती" for answer in given]
    langs = ["hindi" if row % 3 else "english" for row in range(len(gold))]
    table = pd.DataFrame({"text": texts, "label": gold, "lang": langs})
    sure = np.linspace(0.3, 1, len(gold))
    student = pd.DataFrame({"label": given, "probability": sure})
    teacher = pd.DataFrame({"label": gold, "probability": sure})
    return table, {"teacher": teacher, "final": teacher, "quantized": student}


@pytest.fixture
def details() -> dict[str, Any]:
    table, models = split_of(ANSWERED)
    return {
        "config": {"task": "intent_classification", "quantization": "int8", "seed": 42},
        "recipe": {"seed": f"a reason {HOSTILE}"},
        "histories": [
            {"stage": stage, "phase": phase, "epoch": epoch, "loss": 1 / epoch, "main": main}
            for stage, phase, main in (
                ("stage_1", "representation", None),
                ("stage_3", "logits +projection", 0.6),
                ("stage_3", "logits +encoder", 0.8),
            )
            for epoch in (1, 2, 3)
        ],
        "breakdown": break_down("intent_classification", table, models),
        "errors": {"texts": 27, "wrong": 5, "fixes": FIXES, "skipped": ""},
        "latency": {name: [1 + 0.1 * n for n in range(101)] for name in models},
        "check": {
            "status": "warnings",
            "findings": [
                {
                    "check": "near-leakage",
                    "severity": "warning",
                    "split": "test",
                    "message": f"4 rows of test nearly in train: {HOSTILE}",
                }
            ],
        },
        "provenance": {"torch": "2.13.0", "data digest": "0123abc"},
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


def written(path: Path, metrics: Any, details: dict[str, Any]) -> str:
    parts = ("breakdown", "errors", "latency", "samples")
    shown: Any = {key: details[key] for key in parts}
    run = {key: value for key, value in details.items() if key not in shown}
    write_report(path, metrics, shown, **run)
    return path.read_text(encoding="utf-8")


def cells(html: str, name: str) -> list[str]:
    """The text of the cells of the table row headed `name`."""
    row = re.search(rf'<th scope="row">(?:<code>)?{name}(?:</code>)?</th>(.*?)</tr>', html, re.S)
    assert row, f"no row {name}"
    return [re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?</td>", row[1], re.S)]


def heading(html: str) -> str:
    return unescape(html[html.index("<h1") : html.index("</h1>")].partition(">")[2])


def test_report_begins_with_the_result_and_what_to_look_at(tmp_path, metrics, details):
    html = written(tmp_path / "report.html", metrics, details)
    assert heading(html) == (
        "The int8 model answers 95.7% of the test texts correctly and is 51 times smaller and 424 "
        "times faster than its teacher."
    )
    start = Page(html).text.partition("Results on the test split")[0]
    assert "Fix next 5 of 27 test texts have a wrong answer" in start
    at = [start.index(f"{number} labels are confused") for number in range(5)]
    assert at == sorted(at) and "5 labels are confused" not in start
    assert "and 1 more: saarthi errors lists them" in start
    assert f"Add rows of {HOSTILE}" in start and "test.csv, 3" in start
    assert "and 70 more rows" in start and "Data check: 1 warning" in start


def test_few_test_texts_and_few_answers_are_pointed_out(tmp_path, metrics, details):
    said = Page(written(tmp_path / "report.html", metrics, details)).text
    assert "Few test texts" not in said and "Few answers" not in said
    metrics["quantized"] |= {"main": 13 / 14, "examples": 14}
    metrics["quantized"]["calibration"] = {
        **{"aurc": 0.1, "threshold": 0.5, "coverage": 4 / 7, "risk": 0.0, "lost": 0.4},
        "expected_coverage": [0.74, 0.99],
    }
    said = Page(written(tmp_path / "report.html", metrics, details)).text
    assert "Few test texts: 14, so accuracy is 68.5% to 98.7% (95% interval)" in said
    assert "Few answers: 57.1% of the test texts, expected 74 to 99%" in said
    assert "accuracy, if all texts are answered" in said


def test_small_baseline_has_a_size_and_a_time(tmp_path, metrics, details):
    baseline = measured(0.5, 4_000) | {"name": "TF-IDF", "seconds": 0.012, "advice": ""}
    html = written(tmp_path / "report.html", metrics | {"baseline": baseline}, details)
    assert "16.0 KB" in cells(html, "baseline")
    assert "trained on the same rows in 12 ms" in Page(html).text


def test_report_shows_every_model_with_its_metrics(tmp_path, metrics, details):
    html = written(tmp_path / "report.html", metrics, details)
    page = Page(html)
    assert not page.open
    figures = ["12.3 ms", "45.6 ms"]
    assert cells(html, "teacher") == ["98.0%", "98.0%", "49.0%", "117.7M", "470.8 MB", *figures]
    assert cells(html, "stage 3") == ["30.0%", "30.0%", "15.0%", "–", "–", "–", "–"]
    assert cells(html, "int8")[0] == "95.7%"
    for shown in ("97.6% kept", "51×", "424×", "95.7%"):
        assert shown in page.text
    assert "(int8" not in page.text and "final" not in page.text
    assert "saarthi train config.yaml" in page.text
    assert "fields that were not given" in page.text
    assert "seed: 42" in page.text


def test_trial_has_a_banner_and_no_conclusions(tmp_path, metrics, details):
    html = written(tmp_path / "report.html", {"trial": True, **metrics}, details)
    page = Page(html)
    assert "Trial run: its numbers mean nothing" in heading(html)
    assert "set fast_dev_run: false" in page.text
    for claim in ("97.6%", "51×", "424×", "kept", "Fix next"):
        assert claim not in page.text
    assert "rial run" not in Page(written(tmp_path / "real.html", metrics, details)).text


def test_baseline_is_the_first_row_with_advice(tmp_path, metrics, details):
    said = "Try another teacher."
    baseline = measured(0.97, 80_000) | {"name": "TF-IDF", "seconds": 1.25, "advice": said}
    html = written(tmp_path / "report.html", metrics | {"baseline": baseline}, details)
    page = Page(html)
    assert cells(html, "baseline")[:3] == ["97.0%", "97.0%", "48.5%"]
    assert html.index('"row">baseline') < html.index('"row">teacher')
    assert "TF-IDF (scikit-learn), trained on the same rows in 1.2 s" in page.text
    assert said in page.text and "not better than the simple baseline" in heading(html)
    baseline["advice"] = ""
    html = written(tmp_path / "report.html", metrics | {"baseline": baseline}, details)
    assert "baseline" in html and said not in html


def test_report_is_one_safe_self_contained_file(tmp_path, metrics, details):
    html = written(tmp_path / "report.html", metrics, details)
    page = Page(html)
    assert page.scripts == 2  # data and code of the confusion matrix
    assert page.loads == []
    assert "<script>alert" not in html
    assert not re.search(r"url\((?!#)|@import", html)
    assert HOSTILE in page.text
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_figures_have_unique_ids_and_page_colours(tmp_path, metrics, details):
    html = written(tmp_path / "report.html", metrics, details)
    # The journey, languages, reliability, risk, latency and two stages.
    assert html.count('<svg role="img"') == 7
    identifiers = re.findall(r'<clipPath id="([^"]+)"', html)
    assert len(identifiers) == len(set(identifiers)) > 0
    assert "var(--series-0)" in html and "prefers-color-scheme: dark" in html
    assert "#01030" not in html and "#010203" not in html


def test_worst_labels_and_confusions_are_listed(tmp_path, metrics, details):
    html = written(tmp_path / "report.html", metrics, details)
    worst = html[html.index("Weakest labels") : html.index("Most frequent confusions")]
    *figures, taken_for = cells(worst, "turn_off")
    assert figures == ["70.6%", "85.7%", "60.0%", "10"]
    assert unescape(taken_for) == HOSTILE
    assert worst.index("<code>&lt;script") < worst.index("<code>turn_off</code></th>")
    assert '<th scope="row"><code>perfect' not in worst
    row = re.search(r'<th scope="row" class="pair"><code>turn_on</code>.*?</tr>', html, re.S)
    assert row
    assert re.findall(r">([^<>\s][^<>]*)<", row[0]) == [
        "turn_on", "→", "turn_off", "बत्ती", "1", "10.0%",
    ]  # fmt: skip


def test_teacher_and_student_are_compared_with_intervals(tmp_path, metrics, details):
    html = written(tmp_path / "report.html", metrics, details)
    by_label = html[html.index("<summary>By label") : html.index('<h2 id="confusion">')]
    low, high = (100 * value for value in wilson_interval(6, 10))
    assert cells(by_label, "turn_off") == [
        "10", "100.0% 72–100", f"60.0% {low:.0f}–{high:.0f}", "-40.0",
    ]  # fmt: skip
    assert by_label.index("turn_off") < by_label.index("turn_on")  # largest loss first


def test_report_shows_flips_and_data_findings(tmp_path, metrics, details):
    page = Page(written(tmp_path / "report.html", metrics, details))
    assert (
        "5 of 27 texts have different answers: 0 won (wrong before, now right), 5 lost" in page.text
    )
    assert "Near leakage" in page.text and "4 rows of test nearly in train" in page.text
    assert "0123abc" in page.text


def test_report_of_100_000_rows_is_small_and_fast(tmp_path, metrics, details):
    rng = np.random.default_rng(0)
    labels = np.array([f"label_{number:03}" for number in range(100)])
    gold = rng.integers(0, 100, 100_000)
    wrong = rng.uniform(size=len(gold)) < 0.2
    given = np.where(wrong, rng.integers(0, 100, len(gold)), gold)
    texts = [f"text number {row} with some words in it" for row in range(len(gold))]
    table = pd.DataFrame({"text": texts, "label": labels[gold], "lang": "english"})
    sure = rng.uniform(size=len(gold))
    models = {
        name: pd.DataFrame({"label": labels[answer], "probability": sure})
        for name, answer in (("teacher", gold), ("final", gold), ("quantized", given))
    }
    start = time.process_time()
    details["breakdown"] = break_down("intent_classification", table, models)
    written(tmp_path / "report.html", metrics, details)
    assert time.process_time() - start < 30
    assert (tmp_path / "report.html").stat().st_size < 2_000_000
    assert len(json.dumps(details["breakdown"])) < 2_000_000


def test_samples_show_entities_and_abstention(tmp_path, metrics, details):
    html = written(tmp_path / "report.html", metrics, details)
    assert "<mark>रसोई<small>area</small></mark> की बत्ती" in html
    assert '<strong class="abstained">abstained' in html


@pytest.mark.parametrize("student", ["not quantized", "not distilled"])
def test_runs_with_fewer_models_have_a_report(tmp_path, metrics, details, student):
    metrics["quantized"] = None
    if student == "not distilled":
        metrics["student"] = {}
        for figure in ("retention", "compression", "speedup"):
            del metrics[figure]
    details |= {"samples": [], "histories": []}
    details["breakdown"] |= {"confusion": None, "flips": None}
    page = Page(written(tmp_path / "report.html", metrics, details))
    assert "98.0%" in page.text
    assert ("96.1%" in page.text) == (student == "not quantized")
    assert "Most frequent confusions" not in page.text


def test_failed_report_keeps_the_old_file(tmp_path, metrics, details):
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(KeyError):
        written(path, metrics | {"teacher": {}}, details)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]
