from typing import Any

import pytest

from saarthi_lib.errors import ConfigError
from saarthi_lib.evaluation.limits import missed

FIGURES: dict[str, Any] = {
    "retention": 0.914,
    "quantized": {"main": 0.8, "by_language": {"hindi": {"main": 0.75}}, "parameters": 1_060_000},
    "task": "ner",
}


def test_missed_limits_are_described() -> None:
    limits = {
        "retention": {"at_least": 0.95},
        "quantized.by_language.hindi.main": {"at_least": 0.7, "at_most": 1},
        "quantized.parameters": {"at_most": 1_000_000},
    }
    assert missed(FIGURES, limits) == [
        "retention is 0.914, and must be at least 0.95",
        "quantized.parameters is 1,060,000, and must be at most 1,000,000",
    ]


def test_limit_met_exactly_is_not_missed() -> None:
    assert missed(FIGURES, {"quantized.main": {"at_least": 0.8, "at_most": 0.8}}) == []
    assert missed(FIGURES, {}) == []


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"quantized.f1": {"at_least": 1}}, "no metric f1; known: main, by_language, parameters"),
        ({"retention.main": {"at_least": 1}}, "no metric main; known: none"),
        ({"task": {"at_least": 1}}, "limit on task: not a number"),
        ({"retention": 0.9}, "limit on retention: must be a number for at_least, at_most or both"),
        ({"retention": {"least": 0.9}}, "at_least, at_most or both"),
        ({"retention": {"at_least": "much"}}, "at_least, at_most or both"),
        ({"retention": {}}, "at_least, at_most or both"),
    ],
)
def test_malformed_limit_is_an_error(limits: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        missed(FIGURES, limits)


@pytest.mark.parametrize(("bound", "words"), [("at_least", "at least"), ("at_most", "at most")])
def test_metric_that_is_nan_misses_each_limit(bound: str, words: str) -> None:
    lines = missed({"main": float("nan")}, {"main": {bound: 0.5}})
    assert lines == [f"main is nan, and must be {words} 0.5"]
