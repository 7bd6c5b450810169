"""A baseline in scikit-learn, trained on the same rows as the teacher.

Labels of texts: TF-IDF of words and characters with logistic regression. Tags of words: logistic
regression on the word, its affixes and its neighbours, word by word. The evaluation is the same as
for the student, with its own threshold chosen on validation.

Training takes seconds: `simple_models` limits rows, words and passes of the solver.
"""

import time
from typing import cast

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.preprocess import GIVEN, Prepared, Summary
from saarthi_lib.evaluation.baseline.simple_models import (
    Given,
    LinearTagger,
    SimpleModel,
    tagged_words,
    text_baseline,
)
from saarthi_lib.evaluation.evaluate import gold_answers
from saarthi_lib.evaluation.latency import summary, time_calls
from saarthi_lib.evaluation.metrics import score_by_language
from saarthi_lib.evaluation.scores import BaselineScores, Metrics, Scores, delivered
from saarthi_lib.evaluation.selective_metrics import answered_right, at_threshold
from saarthi_lib.evaluation.thresholds import choose_threshold
from saarthi_lib.logs import get_logger
from saarthi_lib.tasks import has_sequence_head, has_token_head

logger = get_logger("evaluation")

TEXTS, TAGS = "TF-IDF + logistic regression", "linear tagger"
CALLS = 50  # timed calls


def evaluate_baseline(config: TrainConfig, data: Prepared) -> BaselineScores:
    """Train the baseline on train, and evaluate it on test."""
    start = time.perf_counter()
    train, splitting = data.table("train"), data.summary["word_splitting"]
    labeller, tagger = None, None
    if has_sequence_head(config.task):
        labeller = text_baseline(train, data.table("validation"), config.seed)
    if has_token_head(config.task):
        tagger = LinearTagger(*tagged_words(train, config.task, splitting), config.seed)
    seconds = time.perf_counter() - start
    model = SimpleModel(config.task, labeller, tagger, splitting)
    parts = {name: part for name, part in ((TEXTS, labeller), (TAGS, tagger)) if part}
    parameters = sum(part.parameters for part in parts.values())
    scores = {
        **measure(model, data, config)[0],
        "name": ", ".join(parts),
        "seconds": round(seconds, 2),
        "parameters": parameters,
        "size_bytes": 4 * parameters,  # in float32, as for the teacher
        "latency_ms": summary(time_calls(model.answer, list(data.table("test")["text"]), CALLS)),
    }
    logger.info("baseline (%s) on test: %.4f", scores["name"], scores["main"])
    return cast(BaselineScores, scores)


def measure(
    model: SimpleModel, data: Prepared, config: TrainConfig
) -> tuple[Scores, Given, float | None]:
    """Metrics of a simple model on test, its answers there, and its threshold from validation."""
    task, labels = config.task, data.labels
    validation, test = data.table("validation"), data.table("test")
    if has_sequence_head(task):
        within = validation["label"].isin(list(labels.answers))
        validation = validation[within.to_numpy(dtype=bool)].reset_index(drop=True)
    threshold = None
    if config.abstention != "none" and len(validation):
        held = model.answer_table(validation)
        right = answered_right(gold_answers(validation, task), held.answers)
        outside = model.answer_table(data.out_of_scope).confidence
        chosen = choose_threshold(held.confidence, right, outside, config, may_refuse=False)
        threshold = chosen.value
    given, gold = model.answer_table(test), gold_answers(test, task)
    scores = score_by_language(task, gold, given.answers, list(test["lang"]), labels.answers)
    abstained = given.refused
    if threshold is not None:
        abstained = abstained | (given.confidence < threshold)
    scores["calibration"] = at_threshold(
        gold, given.answers, given.confidence, abstained, threshold, labels.answers
    )
    return scores, given, threshold


def advice(config: TrainConfig, metrics: Metrics, summary: Summary) -> str:
    """Say what to try if the delivered model is not better than the baseline.

    Args:
        config: configuration of the run.
        metrics: content of `metrics.json`, with the baseline.
        summary: content of `data.json`.

    Returns:
        A sentence; empty if the delivered model is better, or if the run is a trial.
    """
    baseline, teacher = metrics["baseline"]["main"], metrics["teacher"]["main"]
    if delivered(metrics)["main"] > baseline or config.fast_dev_run:
        return ""
    epochs = f"more epochs for the teacher (teacher_epochs, now {config.teacher_epochs})"
    tips = ["recipe: best"] if config.recipe == "auto" else []
    if teacher < baseline or not config.distillation:
        tips += [epochs, f"another teacher (teacher_name, now {config.teacher_name})"]
    elif not summary["transfer"].get(GIVEN):
        tips.append("unlabelled text of your own in transfer.*")
    else:
        tips += ["student_preset: base", epochs]
    return f"Try {', or '.join(tips)}."
