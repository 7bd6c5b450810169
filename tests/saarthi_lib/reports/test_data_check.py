"""The page of the data check: its content, and escaping of texts and labels."""

from pathlib import Path
from typing import Any

import pytest

from saarthi_lib.data.check import DataCheck, Finding, RowReference
from saarthi_lib.reports.data_check import write_check_report
from tests.html_page import Page

HOSTILE = "<script>alert('x')</script>"


def rows(count: int, text: str = "play it") -> list[RowReference]:
    return [RowReference("train.csv", n + 2, text, f"detail {n}") for n in range(count)]


@pytest.fixture
def summary() -> dict[str, Any]:
    return {
        "task": "intent_classification",
        "max_seq_len": 32,
        "rows": {"train": 1_200, "test": 40},
        "languages": {"train": {"english": 900, "hindi": 300}, "test": {"english": 40}},
        "names": {
            "label": {
                "unit": "row",
                "splits": {"train": {"play": 800, "stop": 400}, "test": {"play": 30, "hum": 10}},
                "languages": {"english": {"play": 700, "hum": 10}, "hindi": {"stop": 400}},
            }
        },
        "lengths": {
            "cover_99": 27,
            "percentiles": {"train": {"p50": 9.0, "p95": 20.0, "p99": 27.4, "p100": 61.0}},
            "histogram": {"edges": [0, 10, 20, 30], "counts": {"train": [700, 450, 50]}},
        },
    }


def page(tmp_path: Path, summary: dict[str, Any], *findings: Finding) -> Page:
    path = tmp_path / "check.html"
    write_check_report(path, DataCheck(list(findings), summary))
    made = Page(path.read_text(encoding="utf-8"))
    assert made.open == []
    return made


@pytest.mark.parametrize(
    ("severity", "words"),
    [
        ("error", "The data are not ready for training: fix 1 error first."),
        ("warning", "The data are ready for training, with 1 warning to read first."),
        ("note", "The data are ready for training."),
    ],
)
def test_status_is_shown_in_words(tmp_path, summary, severity, words):
    made = page(tmp_path, summary, Finding("leakage", severity, "test", 3, 40, "three rows"))
    head = made.text[: made.text.index("Distribution")]
    assert words in head and "three rows" in head and severity in head
    assert "3 of 40" in head


def test_page_shows_counts_and_figures(tmp_path, summary):
    made = page(tmp_path, summary)
    assert made.figures == [
        "Share of each label in each split",
        "Rows of each language in each split",
        "Lengths of the texts; max_seq_len is 32",
    ]
    for shown in ("1,200", "english 900", "hum", "61", "27 would cover 99%"):
        assert shown in made.text
    summary |= {"lengths": {}, "languages": {"train": {"english": 1_200}}}
    assert page(tmp_path, summary).figures == ["Share of each label in each split"]


def test_page_lists_twenty_rows_and_counts_the_rest(tmp_path, summary):
    many = Finding("duplicates", "note", "train", 5_000, 9_000, "again", rows(1_000))
    made = page(tmp_path, summary, many)
    assert "detail 19" in made.text and "detail 20" not in made.text
    assert "4,980 more, in check.json (the first 1,000)" in made.text


def test_page_escapes_texts_and_labels(tmp_path, summary):
    summary["names"]["label"]["splits"]["train"][HOSTILE] = 5
    finding = Finding("duplicates", "note", HOSTILE, 1, 2, HOSTILE, rows(1, HOSTILE))
    made = page(tmp_path, summary, finding)
    assert made.scripts == 0 and made.loads == []
    assert made.text.count(HOSTILE) >= 4


def test_page_of_500_labels_stays_small(tmp_path, summary):
    summary["names"]["label"]["splits"]["train"] = {f"label_{n}": 1_000 - n for n in range(500)}
    made = page(tmp_path, summary)
    assert "label_499" in made.text and "the first 30 of 502" in made.text
    assert (tmp_path / "check.html").stat().st_size < 300_000


def test_a_split_without_rows_has_a_card(tmp_path, summary):
    summary["rows"]["validation"] = 0
    made = page(tmp_path, summary, Finding("empty-split", "error", "validation", 0, 0, "no row"))
    assert "Validation" in made.text


def test_unusable_data_have_a_page(tmp_path):
    nothing = {"task": "ner", "max_seq_len": 32, "rows": {}, "languages": {}, "lengths": {}}
    nothing["names"] = {"entity type": {"unit": "span", "splits": {}, "languages": {}}}
    made = page(tmp_path, nothing, Finding("empty-split", "error", "train", 0, 0, "no row"))
    assert "no row" in made.text and made.figures == []
