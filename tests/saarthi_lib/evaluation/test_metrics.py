import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score as seqeval_f1
from seqeval.metrics import precision_score as seqeval_precision
from seqeval.metrics import recall_score as seqeval_recall
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score
from sklearn.metrics import f1_score as sklearn_f1

from saarthi_lib.evaluation.metrics import Answers, score, score_by_language

TAGS = ["O", "B-area", "I-area", "B-time", "I-time"]


def tagged(*rows: str) -> Answers:
    return Answers(tags=[row.split() for row in rows])


def test_accuracy_and_macro_f1_of_known_answers() -> None:
    gold = Answers(["on", "on", "on", "off"])
    scores = score("intent_classification", gold, Answers(["on", "on", "off", "off"]))

    # on: precision 1, recall 2/3, F1 0.8; off: precision 1/2, recall 1, F1 2/3
    assert scores == pytest.approx(
        {"accuracy": 0.75, "macro_f1": (0.8 + 2 / 3) / 2, "main": 0.75}, abs=1e-6
    )


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcde")), min_size=1, max_size=30)
)
@settings(max_examples=30)
def test_classification_scores_equal_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    gold, given = ([pair[side] for pair in pairs] for side in (0, 1))
    scores = score("text_classification", Answers(gold), Answers(given))

    assert scores["accuracy"] == pytest.approx(accuracy_score(gold, given), abs=1e-6)
    assert scores["macro_f1"] == pytest.approx(
        sklearn_f1(gold, given, average="macro", zero_division=0), abs=1e-6
    )


@pytest.mark.parametrize(
    ("gold", "given", "precision", "recall", "f1"),
    [
        ("B-area I-area O", "B-area I-area O", 1, 1, 1),
        ("B-area I-area O", "B-area O O", 0, 0, 0),  # a boundary is wrong
        ("B-area I-area O", "B-area I-area I-area", 0, 0, 0),
        ("B-area I-area O", "B-time I-time O", 0, 0, 0),  # the type is wrong
        ("B-area O B-time", "B-area O O", 1, 1 / 2, 2 / 3),
        ("B-area O O O", "B-area O B-time B-time", 1 / 3, 1, 1 / 2),
        ("B-area B-area", "B-area I-area", 0, 0, 0),  # two spans are not one
        ("O O", "O O", 0, 0, 0),
        ("O O", "B-area O", 0, 0, 0),
    ],
)
def test_spans_count_when_exact(
    gold: str, given: str, precision: float, recall: float, f1: float
) -> None:
    scores = score("ner", tagged(gold), tagged(given))

    assert scores == pytest.approx(
        {"span_precision": precision, "span_recall": recall, "span_f1": f1, "main": f1}
    )


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=6),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=30)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_span_scores_equal_strict_seqeval(rows: list[list[tuple[str, str]]]) -> None:
    gold, given = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    scores = {**score("ner", Answers(tags=gold), Answers(tags=given))}

    for name, metric in (
        ("span_precision", seqeval_precision),
        ("span_recall", seqeval_recall),
        ("span_f1", seqeval_f1),
    ):
        expected = metric(gold, given, mode="strict", scheme=IOB2, zero_division=0)
        assert scores[name] == pytest.approx(expected)


def test_token_accuracy_is_by_word() -> None:
    gold = tagged("NOUN VERB ADP", "NOUN")
    scores = score("pos", gold, tagged("NOUN VERB NOUN", "NOUN"))

    assert scores == {"token_accuracy": 0.75, "main": 0.75}


def test_truncated_words_count_as_wrong() -> None:
    assert score("pos", tagged("NOUN VERB ADP NOUN"), tagged("NOUN VERB"))["main"] == 0.5

    scores = score("ner", tagged("B-area O B-time I-time"), tagged("B-area O B-time"))
    assert scores["span_recall"] == 0.5


def test_frame_is_right_if_label_and_all_tags_are() -> None:
    gold = Answers(["on"] * 4, [["O", "B-area"]] * 4)
    given = Answers(
        ["on", "off", "on", "on"],
        [["O", "B-area"], ["O", "B-area"], ["O", "O"], ["O"]],
    )
    scores = score("joint", gold, given)

    assert scores["main"] == scores["frame_accuracy"] == 0.25
    assert scores["accuracy"] == 0.75
    assert scores["span_recall"] == 0.5


def test_each_language_is_scored_by_itself() -> None:
    gold = Answers(["a", "a", "b", "b", "b"])
    given = Answers(["a", "b", "b", "b", "a"])
    languages = ["hindi", "english", "hindi", "hindi", "english"]
    scores = score_by_language("intent_classification", gold, given, languages)

    assert scores["examples"] == 5
    assert scores["main"] == pytest.approx(0.6)
    hindi, english = scores["by_language"]["hindi"], scores["by_language"]["english"]
    assert list(scores["by_language"]) == ["english", "hindi"]
    assert (hindi["examples"], hindi["main"]) == (3, 1)
    assert (english["examples"], english["main"]) == (2, 0)


@pytest.mark.parametrize("task", ["ner", "pos", "joint"])
def test_tagged_languages_are_scored_by_themselves(task: str) -> None:
    labels = ["a", "a"] if task == "joint" else []
    gold = Answers(labels, [["B-area", "O"], ["B-area", "O"]])
    given = Answers(labels, [["B-area", "O"], ["O", "B-area"]])
    scores = score_by_language(task, gold, given, ["hindi", "english"])

    assert scores["by_language"]["hindi"]["main"] == 1
    assert scores["by_language"]["english"]["main"] == 0
    assert scores["main"] == 0.5


def test_texts_out_of_scope_are_left_out() -> None:
    gold = Answers(["on", "off", "weather", "on"])
    given = Answers(["on", "on", "on", "on"])
    languages = ["hindi", "hindi", "english", "english"]
    scores = score_by_language("intent_classification", gold, given, languages, ["on", "off"])

    assert scores["main"] == pytest.approx(2 / 3) and scores["examples"] == 3
    assert scores["by_language"]["english"] == {
        "accuracy": 1.0,
        "macro_f1": 1.0,
        "main": 1.0,
        "examples": 1,
    }
