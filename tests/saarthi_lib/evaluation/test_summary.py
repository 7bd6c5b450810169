"""The result of a run in one sentence."""

from typing import Any

import pytest

from saarthi_lib.evaluation.summary import models, summarize


def scores(main: float, size: int = 1_000_000, **calibration: Any) -> dict[str, Any]:
    found = {"calibration": {"aurc": 0.1, "threshold": 0.5, **calibration}} if calibration else {}
    return {"main": main, "size_bytes": size, "by_language": {}, **found}


def metrics(task: str, served: dict[str, Any], baseline: float | None = None) -> Any:
    return {
        "task": task,
        "teacher": scores(0.99, 166_000_000),
        "student": {"stage_2": scores(0.4), "final": scores(0.98)},
        "quantized": served,
        "speedup": 83.7,
        **({} if baseline is None else {"baseline": scores(baseline)}),
    }


FASTER = "166 times smaller and 84 times faster than its teacher"


@pytest.mark.parametrize(
    ("task", "served", "expected"),
    [
        (
            "intent_classification",
            scores(0.973),
            f"The int8 model answers 97.3% of the test texts correctly, is {FASTER}, and beats the "
            "simple baseline by 4.1 points.",
        ),
        (
            "text_classification",
            scores(0.973, coverage=0.951, risk=0.012, answered_main=0.988),
            "The int8 model answers 95.1% of the test texts, 98.8% of these correctly; it is "
            f"{FASTER}, and beats the simple baseline by 4.1 points in accuracy.",
        ),
        (
            "ner",
            scores(0.973),
            "The int8 model finds the entities of the test texts with a span F1 of 97.3%, is "
            f"{FASTER}, and beats the simple baseline by 4.1 points.",
        ),
        (
            "pos",
            scores(0.973),
            f"The int8 model tags 97.3% of the words in the test texts correctly, is {FASTER}, and "
            "beats the simple baseline by 4.1 points.",
        ),
        (
            "joint",
            scores(0.973, coverage=0.904, risk=0.0, answered_main=0.98),
            "The int8 model answers 90.4% of the test texts and finds the right intent and all "
            f"entities in 98.0% of these; it is {FASTER}, and beats the simple baseline by 4.1 "
            "points in right frames.",
        ),
    ],
)
def test_summary_says_how_good_small_and_fast_it_is(
    task: str, served: dict[str, Any], expected: str
) -> None:
    assert summarize(metrics(task, served, baseline=0.932), "int8") == expected


def test_abstention_of_older_runs_counts_if_it_is_known() -> None:
    served = scores(0.9, coverage=0.7, risk=0.13, out_of_scope={})
    said = summarize(metrics("intent_classification", served), "int8")
    assert said.startswith(
        "The int8 model answers 70.0% of the in-scope test texts, 87.0% of these"
    )
    # The risk of joint models counts labels only, and that of entities counts whole texts.
    joint = summarize(metrics("joint", served), "int8")
    assert "all entities in 90.0% of the in-scope test texts" in joint


def test_a_model_that_answers_nothing_says_so() -> None:
    served = scores(0.9, coverage=0.0, risk=0.0, answered_main=0.0)
    said = summarize(metrics("ner", served), "float16")
    assert said.startswith(
        "The float16 model abstains from all test texts; it is 166 times smaller"
    )


@pytest.mark.parametrize("baseline", [0.973, 0.98])
def test_a_model_no_better_than_the_baseline_says_so_first(baseline: float) -> None:
    assert summarize(metrics("ner", scores(0.973), baseline), "int8") == (
        "The int8 model is not better than the simple baseline: span F1 97.3%, baseline "
        f"{100 * baseline:.1f}%."
    )


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (14, "is not clearly better than the simple baseline (14 test texts are too few to tell)."),
        (300, "beats the simple baseline by 7.1 points."),
    ],
)
def test_beating_the_baseline_needs_enough_test_texts(texts: int, expected: str) -> None:
    content = metrics("intent_classification", scores(13 / 14) | {"examples": texts}, 12 / 14)
    assert summarize(content, "int8").endswith(f"{FASTER}, and {expected}")


def test_trial_claims_nothing() -> None:
    content: Any = {**metrics("ner", scores(0.973), 0.5), "trial": True}
    said = summarize(content, "int8")
    assert said.startswith("Trial run: its numbers mean nothing") and "97" not in said


def test_teacher_in_int8_is_compared_with_itself() -> None:
    content = metrics("intent_classification", scores(0.973, 200_000_000), 0.97296)
    content["student"] = {"final": scores(0.98)}
    content["speedup"] = 2.5
    assert summarize(content, "int8") == (
        "The int8 teacher answers 97.3% of the test texts correctly, is 1.2 times larger and 2.5 "
        "times faster than the trained teacher, and beats the simple baseline by less than 0.1 "
        "points."
    )


def test_a_run_without_a_teacher_has_a_summary() -> None:
    content = metrics("intent_classification", scores(0.9))
    del content["teacher"], content["quantized"], content["speedup"]
    said = summarize(content, None)
    assert said == "The float32 model answers 98.0% of the test texts correctly."


def test_models_have_the_names_that_people_read() -> None:
    content = metrics("ner", scores(0.9), 0.5)
    names = ["baseline", "teacher", "stage 2", "float32", "int8"]
    assert list(models(content, "int8")) == names
