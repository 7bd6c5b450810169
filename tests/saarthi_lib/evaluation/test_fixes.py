"""Wrong answers as a list of fixes: causes, rows and actions."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.errors import ArtifactError
from saarthi_lib.evaluation.fixes.answered import Answered, answered_rows, unseen_words
from saarthi_lib.evaluation.fixes.find import find_fixes
from saarthi_lib.evaluation.fixes.types import Fix

Row = tuple[str, str, str]  # text, gold label, answer


def rows_of(rows: list[Row], **more: Any) -> Answered:
    """Test rows of intents with the answers of an int8 model; the teacher is always wrong."""
    texts, gold, answers = zip(*rows, strict=True)
    right = [g == a for _, g, a in rows]
    columns = {"text": texts, "lang": "english", "gold_label": gold, "quantized_label": answers}
    table = pd.DataFrame({**columns, "quantized_right": right, "teacher_right": False})
    for name in ("lang", "teacher_right", "teacher_label"):
        if name in more:
            table[name] = more.pop(name)
    for name in ("teacher_probability", "quantized_probability"):
        table[name] = more.pop("probability", 0.5) if name == "teacher_probability" else 0.97
    trained = more.pop("trained", {})
    return Answered(
        "intent_classification",
        table.assign(file="test.csv", row=range(2, len(rows) + 2)),
        "quantized",
        {"label": Counter(trained), "entity": Counter()} if trained else {},
        **more,
    )


def first(found: Answered, kind: str) -> Fix:
    return next(fix for fix in find_fixes(found)["fixes"] if fix["kind"] == kind)


REFUNDS = [("money back", "refund", "cancel")] * 3 + [("stop it", "cancel", "refund")]
RIGHT = [("hello", "greet", "greet")] * 12


def test_confused_pair_has_counts_places_and_both_directions() -> None:
    found = find_fixes(rows_of([*RIGHT, *REFUNDS]))
    assert (found["texts"], found["wrong"]) == (16, 4)
    [fix] = found["fixes"]
    assert fix["title"] == "refund and cancel are confused: 3 of 3 texts, and 1 back"
    assert [(row["file"], row["row"]) for row in fix["rows"]] == [
        ("test.csv", number) for number in (14, 15, 16, 17)
    ]
    assert (fix["rows"][0]["gold"], fix["rows"][0]["answer"]) == ("refund", "cancel")


@pytest.mark.parametrize(
    ("trained", "teacher_right", "action"),
    [
        ({"refund": 6, "cancel": 80}, True, "Add training rows of refund: train has 6, of cancel"),
        ({"refund": 90, "cancel": 80}, True, "Add unlabelled sentences like these to transfer"),
        ({"refund": 90, "cancel": 80}, False, "join refund and cancel if they mean the same"),
    ],
)
def test_action_depends_on_rows_and_teacher(
    trained: dict[str, int], teacher_right: bool, action: str
) -> None:
    fix = first(rows_of(REFUNDS, trained=trained, teacher_right=teacher_right), "confused")
    assert action in fix["action"]


def test_scattered_errors_of_a_label_are_one_fix() -> None:
    rows = [(f"text {other}", "refund", other) for other in ("cancel", "greet", "pay")]
    [fix] = find_fixes(rows_of([*RIGHT, *rows]))["fixes"]
    assert fix["title"] == "refund is taken for others (cancel, greet, pay): 3 of 3 texts"
    [lone] = find_fixes(rows_of([*RIGHT, rows[0]]))["fixes"]
    assert (lone["kind"], lone["count"]) == ("other", 1)


def test_words_that_train_lacks_are_named_if_they_are_harmful() -> None:
    rows = [*RIGHT, *REFUNDS, ("reimburse me", "refund", "greet")]
    texts = [text for text, _, _ in rows]
    harmful = unseen_words(texts, ["hello", "stop it", "me", "back"])
    fix = first(rows_of(rows, unseen=harmful), "words")
    assert "in 4 of 5 wrong texts (80%; of the right ones 0%)" in fix["title"]
    assert "money (3), reimburse" in fix["action"]
    assert fix["rows"][0]["note"] == "new: money"
    everywhere = rows_of(rows, unseen=[["new"]] * len(rows))
    assert "words" not in {fix["kind"] for fix in find_fixes(everywhere)["fixes"]}


def test_words_are_compared_in_lower_case_and_numbers_left_out() -> None:
    assert unseen_words(["Money MONEY 42 x बत्ती"], ["money"]) == [["बत्ती"]]


@pytest.mark.parametrize(("teacher", "words"), [(True, "unlabelled"), (False, "has 4 of 44")])
def test_weak_language_has_an_action(teacher: bool, words: str) -> None:
    rows = [("hello", "greet", "greet")] * 40
    rows += [(f"नमस्ते {n}", "greet", f"other {n}" if n < 8 else "greet") for n in range(12)]
    spoken = ["english"] * 40 + ["hindi"] * 12
    languages = Counter(english=40, hindi=4)
    found = rows_of(rows, lang=spoken, teacher_right=teacher, languages=languages)
    fix = first(found, "language")
    assert "Hindi is weak: 8 of 12 texts wrong (67%; in other languages 0%)" in fix["title"]
    assert words in fix["action"] and fix["count"] == 8
    equal = rows_of(rows, lang=["english", "hindi"] * 26, languages=languages)
    assert "language" not in {each["kind"] for each in find_fixes(equal)["fixes"]}


def test_labels_may_be_wrong_if_both_models_are_sure_of_another() -> None:
    answers = [answer for _, _, answer in REFUNDS]
    sure = first(rows_of(REFUNDS, teacher_label=answers, probability=0.99), "labels")
    assert sure["count"] == 4 and "teacher and student: 97%" in sure["rows"][0]["note"]
    for doubts in ({"probability": 0.8}, {"probability": 0.99, "teacher_label": "greet"}):
        found = find_fixes(rows_of(REFUNDS, **{"teacher_label": answers, **doubts}))
        assert "labels" not in {fix["kind"] for fix in found["fixes"]}


def test_doubtful_labels_of_the_data_check_are_listed() -> None:
    row = {"file": "train.csv", "row": 7, "text": "stop it"}
    issue = {**row, "detail": "refund (all) (3%); rather cancel"}
    conflict = {**row, "detail": "refund; elsewhere cancel (2)"}
    findings = [
        {"check": "label-issues", "count": 1, "total": 100, "rows": [issue]},
        {"check": "conflicting-labels", "count": 1, "total": 100, "rows": [conflict]},
        {"check": "label-issues", "count": 0, "total": 100, "rows": []},
    ]
    found = find_fixes(rows_of(RIGHT, findings=findings))["fixes"]
    assert [(fix["kind"], fix["errors"]) for fix in found] == [("labels", 0.1)] * 2
    assert [(fix["rows"][0]["gold"], fix["rows"][0]["answer"]) for fix in found] == [
        ("refund (all)", "cancel"),
        ("refund", "cancel (2)"),
    ]
    assert found[0]["rows"][0]["row"] == 7


def test_right_answers_below_the_threshold_are_listed() -> None:
    found = rows_of([*RIGHT, *REFUNDS])
    table = found.table.assign(quantized_abstained=[True] * 7 + [False] * 5 + [True] * 4)
    fix = first(replace(found, table=table), "withheld")
    assert fix["title"] == "7 right answers withheld at the threshold, and 4 wrong"
    assert (fix["errors"], fix["count"]) == (3, 7) and "saarthi threshold" in fix["action"]
    refused = table.assign(quantized_reason="out_of_scope")  # not by the threshold
    few = table.assign(quantized_abstained=[True] * 5 + [False] * 7 + [True] * 4)
    outside = {"refused": 2}  # texts out of scope, which must be refused
    for changes in ({"table": refused}, {"table": few}, {"table": table, **outside}):
        kinds = {each["kind"] for each in find_fixes(replace(found, **changes))["fixes"]}
        assert "withheld" not in kinds


def test_answers_to_other_rows_are_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        pd.DataFrame({"text": ["hello"]}).to_parquet(tmp_path / f"{split}.parquet")
    table = rows_of(RIGHT).table
    with pytest.raises(ArtifactError, match="has 12 rows, but "):
        answered_rows("intent_classification", table, ["greet"], Prepared(tmp_path))


NAMES = st.sampled_from(["a", "b", "c"])
TAGS = st.sampled_from(["O", "B-city", "I-city", "B-name"])


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=30))
def test_every_wrong_label_is_in_one_fix(pairs: list[tuple[str, str]]) -> None:
    rows = [(f"text {n}", gold, answer) for n, (gold, answer) in enumerate(pairs)]
    found = find_fixes(rows_of(rows))
    counts = [fix["count"] for fix in found["fixes"] if fix["kind"] in ("confused", "other")]
    assert sum(counts) == found["wrong"] == sum(gold != answer for gold, answer in pairs)


@given(st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=6), min_size=1, max_size=8))
def test_every_text_with_wrong_entities_is_in_a_fix(texts: list[list[tuple[str, str]]]) -> None:
    table = pd.DataFrame(
        {
            "text": [f"text {number}" for number in range(len(texts))],
            "lang": "english",
            "words": [[f"w{at}" for at in range(len(text))] for text in texts],
            "gold_tags": [[tag for tag, _ in text] for text in texts],
            "final_tags": [[tag for _, tag in text] for text in texts],
            "final_right": [all(tag == other for tag, other in text) for text in texts],
        }
    )
    found = find_fixes(Answered("ner", table, "final"))
    named = {row["text"] for fix in found["fixes"] for row in fix["rows"]}
    # Tags such as I-city after O can differ without a difference of entities.
    assert named <= set(table["text"][~table["final_right"]])
    assert all(row["gold"] != row["answer"] for fix in found["fixes"] for row in fix["rows"])


def test_fix_of_many_rows_keeps_the_first_ones() -> None:
    [fix] = find_fixes(rows_of([("money back", "refund", "cancel")] * 80))["fixes"]
    assert fix["count"] == 80 and len(fix["rows"]) == 50
