"""Breakdown of a test split, for every kind of task."""

from collections import Counter
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saarthi_lib.evaluation.breakdown import SPAN_OUTCOMES, break_down, span_outcomes
from saarthi_lib.evaluation.calibration import wilson_interval
from saarthi_lib.evaluation.metrics import Answers, score
from saarthi_lib.tasks import bio_spans

tags = st.sampled_from(["O", "B-area", "I-area", "B-name", "I-name"])
sentences = st.lists(st.tuples(tags, tags), min_size=1, max_size=12)

WORDS = ["turn", "on", "the", "big", "kitchen", "lights", "now"]
GOLD = ["O", "O", "O", "B-area", "I-area", "B-name", "O"]
GIVEN = {
    "right": ["O", "O", "O", "B-area", "I-area", "B-name", "O"],
    "boundary": ["O", "O", "O", "O", "B-area", "B-name", "O"],
    "type": ["O", "O", "O", "B-name", "I-name", "B-name", "O"],
    "boundary and type": ["O", "O", "B-floor", "I-floor", "O", "B-name", "O"],
    "missed": ["O", "O", "O", "O", "O", "B-name", "O"],
    "spurious": ["B-verb", "O", "O", "B-area", "I-area", "B-name", "O"],
}


def split(task: str, rows: list[dict[str, Any]]) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Table and answers from rows with `gold` and `given` tags; the teacher is always right."""
    table = pd.DataFrame(
        {
            "text": [" ".join(WORDS[: len(row["gold"])]) for row in rows],
            "words": [WORDS[: len(row["gold"])] for row in rows],
            "tags": [row["gold"] for row in rows],
            "lang": [row.get("lang", "english") for row in rows],
        }
    )
    frames = {}
    for model, key in (("teacher", "gold"), ("final", "given")):
        found = [row[key] for row in rows]
        counts = [len(t) if task == "pos" else len(bio_spans(t)) for t in found]
        frames[model] = pd.DataFrame(
            {"tags": found, "probability": 0.9, "probabilities": [[0.9] * n for n in counts]}
        )
    return table, frames


@pytest.mark.parametrize("outcome", SPAN_OUTCOMES)
def test_span_errors_are_counted_by_kind(outcome: str):
    table, models = split("ner", [{"gold": GOLD, "given": GIVEN[outcome]}])
    found: Any = break_down("ner", table, models)["spans"]
    expected = Counter({"right": 2 if outcome in ("right", "spurious") else 1})
    expected[outcome] += outcome != "right"
    assert Counter(found["student"]["counts"]) == expected
    assert found["teacher"]["counts"]["right"] == 2
    if outcome != "right":
        [example] = found["student"]["examples"]
        assert example["outcome"] == outcome and example["text"] == " ".join(WORDS)
        assert example.get("gold") == (None if outcome == "spurious" else "area: big kitchen")


@given(sentences)
def test_every_span_has_one_outcome(rows: list[tuple[str, str]]):
    gold, given_ = bio_spans([row[0] for row in rows]), bio_spans([row[1] for row in rows])
    found = span_outcomes(gold, given_)
    counts = Counter(outcome for outcome, _, _ in found)
    assert sum(n for outcome, n in counts.items() if outcome != "spurious") == len(gold)
    assert sum(n for outcome, n in counts.items() if outcome != "missed") == len(given_)
    assert counts["right"] == len(set(gold) & set(given_))


def test_groups_have_the_metric_of_their_rows():
    rows: list[dict[str, Any]] = [{"gold": GOLD, "given": GIVEN[name]} for name in GIVEN]
    rows[0] |= {"lang": "hindi"}
    table, models = split("ner", rows)
    groups: Any = break_down("ner", table, models)["groups"]
    english, hindi = groups["language"]
    assert (english["name"], english["examples"], hindi["examples"]) == ("english", 5, 1)
    whole = score("ner", Answers(tags=[GOLD] * 5), Answers(tags=list(GIVEN.values())[1:]))
    assert english["student"]["share"] == pytest.approx(whole["span_f1"])
    assert english["student"]["low"] < whole["span_f1"] < english["student"]["high"]
    assert hindi["student"]["share"] == 1.0
    by_type = {row["name"]: row for row in groups["entity"]}
    assert by_type["name"]["student"]["share"] < 1.0  # the type error answers one too many
    assert by_type["area"]["examples"] == 6
    assert [row["name"] for row in groups["length"]] == ["5–7 words"]


def test_parts_of_speech_are_counted_by_word():
    gold, given_ = ["VERB", "ADP", "DET"], ["VERB", "DET", "DET"]
    table, models = split("pos", [{"gold": gold, "given": given_}])
    found: Any = break_down("pos", table, models)
    assert found["calibration"]["student"]["examples"] == 3
    assert found["calibration"]["student"]["ece"] == pytest.approx(0.9 - 2 / 3)
    [language] = found["groups"]["language"]
    low, high = wilson_interval(2, 3)
    assert language["student"] == pytest.approx({"share": 2 / 3, "low": low, "high": high})
    assert found["confusion"]["counts"] == {
        "VERB": {"VERB": 1},
        "ADP": {"DET": 1},
        "DET": {"DET": 1},
    }
    [example] = found["confusion"]["examples"]
    assert example["word"] == "on" and example["predicted"] == "DET"


def test_flips_count_answers_changed_by_quantization():
    table = pd.DataFrame({"text": list("abcd"), "label": list("xxyy"), "lang": "english"})
    answers = {"teacher": "xxyy", "final": "xyyx", "quantized": "yxyz"}
    models = {
        name: pd.DataFrame({"label": list(given_), "probability": 0.5})
        for name, given_ in answers.items()
    }
    flips: Any = break_down("intent_classification", table, models)["flips"]
    assert (flips["changed"], flips["won"], flips["lost"]) == (3, 1, 1)
    effects = {each["text"]: each["effect"] for each in flips["examples"]}
    assert effects == {"a": "lost", "b": "won", "d": "neither"}
