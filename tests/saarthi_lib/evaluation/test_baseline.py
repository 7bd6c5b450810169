"""The baseline of a run on prepared rows, and the advice if the student is not better."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saarthi_lib import steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.data.read import read_table
from saarthi_lib.evaluation.baseline.evaluate import advice, evaluate_baseline
from saarthi_lib.evaluation.baseline.simple_models import LinearTagger, SimpleModel, tagged_words
from tests.conftest import reading, write_jsonl

Run = Callable[..., dict[str, Any]]
VERBS = {"start": "turn on", "stop": "switch off", "ask": "what about"}
THINGS = ("lamp", "fan", "radio", "heater", "oven", "door", "पंखा", "बत्ती")
ROOMS = ("kitchen", "hall", "attic", "garage", "office")


def row(number: int) -> dict[str, Any]:
    """An utterance with an intent, and its room as an entity."""
    label = list(VERBS)[number % 3]
    thing, room = THINGS[number % 7 % len(THINGS)], ROOMS[number % 5]
    text = f"{VERBS[label]} the {thing} in the {room} {number}"
    start = text.index(room)
    entity = {"start": start, "end": start + len(room), "label": "room"}
    lang = "hindi" if number % 4 == 0 else "english"
    return {"text": text, "intent": label, "entities": [entity], "lang": lang}


def strange(number: int, label: str) -> dict[str, Any]:
    return {"text": f"who won match {number}", "intent": label, "entities": [], "lang": "english"}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Evaluates the baseline on rows of a task, with fields of the configuration."""

    def run(task: str, more: dict[str, list[dict[str, Any]]], **fields: Any) -> dict[str, Any]:
        source = tmp_path / "input"
        source.mkdir(exist_ok=True)
        for split, first, last in (("train", 0, 90), ("validation", 90, 120), ("test", 120, 160)):
            rows = [*more.get(split, []), *(row(number) for number in range(first, last))]
            if task == "pos":
                write_conllu(source / f"{split}.conllu", rows)
            else:
                write_jsonl(source / f"{split}.jsonl", rows)
        config = TrainConfig.from_mapping(
            {
                "task": task,
                "input_path": str(source),
                "teacher_name": "minilm",
                "fast_dev_run": False,
                "augmentation_size": 0,
                "vocabulary_extra_tokens": 0,
                "data_check": "nothing",
                **fields,
            }
        )
        data = tmp_path / "data"
        if not data.exists():
            steps.preprocess(config, data)
        return {**evaluate_baseline(config, Prepared(data))}

    return run


def write_conllu(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write words, each with a tag that its letters decide."""
    sentences = []
    for each in rows:
        words = each["text"].split()
        tags = ["NUM" if w.isdigit() else "DET" if w == "the" else "NOUN" for w in words]
        lines = [
            "\t".join([str(place), word, "_", tag, *["_"] * 6])
            for place, (word, tag) in enumerate(zip(words, tags, strict=True), 1)
        ]
        sentences.append("\n".join(lines) + "\n")
    path.write_text("\n".join(sentences) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("task", "metrics", "name"),
    [
        ("intent_classification", {"accuracy"}, "TF-IDF + logistic regression"),
        ("text_classification", {"accuracy"}, "TF-IDF + logistic regression"),
        ("ner", {"span_f1"}, "linear tagger"),
        ("pos", {"token_accuracy"}, "linear tagger"),
        (
            "joint",
            {"accuracy", "span_f1", "frame_accuracy"},
            "TF-IDF + logistic regression, linear tagger",
        ),
    ],
)
def test_each_task_has_a_baseline_that_learns(
    run: Run, task: str, metrics: set[str], name: str
) -> None:
    language = {"language": "english"} if task == "pos" else {}
    found = run(task, {}, **language)

    assert found["name"] == name
    assert found["main"] > 0.9 and metrics <= found.keys()
    assert set(found["by_language"]) == ({"english"} if task == "pos" else {"english", "hindi"})
    assert found["examples"] == 40
    assert 0 < found["seconds"] < 60
    assert found["parameters"] > 0 and found["size_bytes"] > 0
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
    assert found["calibration"]["coverage"] >= 0.5


def test_equal_seeds_give_equal_baselines(run: Run) -> None:
    first, again = run("joint", {}), run("joint", {})

    for found in (first, again):
        del found["seconds"], found["latency_ms"]
    assert first == again


def test_labels_missing_in_train_are_out_of_scope(run: Run) -> None:
    outside = {"test": [strange(number, "other") for number in range(20)]}
    found = run("intent_classification", outside, unknown_labels="keep")

    scope = found["calibration"]["out_of_scope"]
    assert scope["best_in_scope_accuracy"] > 0.9
    assert scope["oos_recall"] > 0.5
    assert found["accuracy"] == 1.0  # of the rows in scope


def test_the_out_of_scope_class_is_refused(run: Run) -> None:
    outside = {
        split: [strange(number, "none") for number in range(*numbers)]
        for split, numbers in (("train", (0, 30)), ("validation", (30, 40)), ("test", (40, 60)))
    }
    found = run("joint", outside, out_of_scope_label="none", unknown_labels="keep")

    scope = found["calibration"]["out_of_scope"]
    assert scope["oos_recall"] > 0.9 and scope["in_scope_accuracy"] > 0.8
    assert found["calibration"]["threshold"] is not None


def test_without_abstention_the_baseline_has_no_threshold(run: Run) -> None:
    found = run("ner", {}, abstention="none")

    assert found["calibration"]["threshold"] is None
    assert "coverage" not in found["calibration"]


def test_baseline_accepts_a_single_label(run: Run) -> None:
    # A trial run takes the first rows of a file, which may be sorted by label.
    first = [{**row(number), "intent": "start"} for number in range(0, 300, 3)]
    assert run("intent_classification", {"train": first}, fast_dev_run=True)["examples"] > 0


def results(baseline: float, teacher: float, student: float) -> Any:
    return {
        "baseline": {"main": baseline},
        "teacher": {"main": teacher},
        "student": {"final": {"main": student + 0.01}},
        "quantized": {"main": student},
    }


@pytest.mark.parametrize(
    ("mains", "fields", "given", "tips"),
    [
        ((0.7, 0.9, 0.8), {}, 0, []),
        ((0.8, 0.9, 0.8), {}, 0, ["recipe: best", "transfer.*"]),
        ((0.8, 0.9, 0.7), {"student_preset": "small"}, 9, ["student_preset: base", "epochs"]),
        ((0.8, 0.7, 0.6), {}, 0, ["teacher_epochs, now 3", "teacher_name, now"]),
        ((0.8, 0.9, 0.7), {"fast_dev_run": True}, 0, []),
    ],
)
def test_advice_depends_on_the_weaker_model(
    mains: tuple[float, float, float], fields: dict[str, Any], given: int, tips: list[str]
) -> None:
    config = TrainConfig.from_mapping({"input_path": "data", **fields})
    said = advice(config, results(*mains), {"transfer": {"given": given}})  # type: ignore[typeddict-item]

    assert bool(said) == bool(tips)
    for tip in tips:
        assert tip in said


def test_baseline_reads_the_words_of_the_service(tmp_path: Path) -> None:
    row = {"text": "Punemein chalo", "words": ["Pune", "mein", "chalo"]}
    write_jsonl(tmp_path / "train.jsonl", [{**row, "tags": ["B-city", "O", "O"]}] * 5)
    table = read_table(tmp_path / "train.jsonl", reading("ner"))
    tagger = LinearTagger(*tagged_words(table, "ner", "punctuation"), seed=1)

    given = SimpleModel("ner", None, tagger).answer_table(table).answers.tags
    assert given[0] != ["B-city", "O", "O"]  # no word of the service ends where the entity does
