"""Compare teacher, stages and bundles on the test split; produces `metrics.json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.evaluation.breakdown import answer_table, answers_of, break_down
from saarthi_lib.evaluation.details import Details
from saarthi_lib.evaluation.evaluate import evaluate_table, gold_answers, one_thread
from saarthi_lib.evaluation.fixes.answered import answered_rows
from saarthi_lib.evaluation.fixes.find import find_fixes
from saarthi_lib.evaluation.latency import distribution, latency_at_batch_1, summary, time_calls
from saarthi_lib.evaluation.metrics import in_scope, right_rows
from saarthi_lib.evaluation.scores import Metrics, Ratios, Scores
from saarthi_lib.evaluation.selective_metrics import selective_metrics
from saarthi_lib.inference.predictor import Prediction, Predictor
from saarthi_lib.storage import folder_size

SAMPLES_A_LANGUAGE = 1
NETWORK_CALLS, TRIAL_CALLS = 100, 10  # timed calls of a network in memory


@dataclass(frozen=True)
class TestedTeacher:
    """A teacher with its metrics and its `answer_table` on the test split."""

    scores: Scores
    answers: pd.DataFrame
    predictor: Predictor


class Stage(NamedTuple):
    """A student after a stage: predictor of its network, and size of its weights."""

    predictor: Predictor
    parameters: int
    size_bytes: int


class Comparison(NamedTuple):
    """Result of `compare`: the test rows have the answers of `teacher`, `final`, `quantized`."""

    metrics: Metrics
    details: Details
    predictions: pd.DataFrame


class MeasuredBundle(NamedTuple):
    """A bundle's metrics, `answer_table` and predictions on the test split, and call times."""

    scores: Scores
    answers: pd.DataFrame
    predictions: list[Prediction]
    milliseconds: npt.NDArray[np.float64]


def compare(
    data: Prepared, teacher: TestedTeacher, stages: Mapping[str, Stage], bundles: Mapping[str, Path]
) -> Comparison:
    """Evaluate the stages and the bundles on the test split.

    Args:
        data: prepared data.
        teacher: the evaluated teacher.
        stages: the student by stage name, in the order of training.
        bundles: `final` (float32) and, if available, `quantized`.
    """
    table, trained_on = data.table("test"), data.table("train")["text"]
    task, texts = teacher.predictor.task, list(table["text"])
    calls = TRIAL_CALLS if data.summary["trial"] else NETWORK_CALLS
    with one_thread():
        times = {"teacher": time_calls(teacher.predictor.predict, texts, calls)}
        of_teacher: Scores = {**teacher.scores, "latency_ms": summary(times["teacher"])}
        student = {
            name: _measure_stage(stage, table, trained_on, calls) for name, stage in stages.items()
        }
        parameters = [of_teacher, *student.values()][-1]["parameters"]
        measured = {
            name: measure_bundle(path, table, trained_on, parameters)
            for name, path in bundles.items()
        }
    student["final"] = measured["final"].scores
    delivered = list(measured.values())[-1]
    times |= {name: each.milliseconds for name, each in measured.items()}
    answers = {"teacher": teacher.answers} | {n: each.answers for n, each in measured.items()}
    metrics = {
        "task": task,
        "languages": sorted(of_teacher["by_language"]),
        "teacher": of_teacher,
        "student": student,
        "quantized": measured["quantized"].scores if "quantized" in measured else None,
        **ratios(delivered.scores, of_teacher),
    }
    within = in_scope(gold_answers(table, task), data.labels.answers, len(table))
    known = {name: given.iloc[within].reset_index(drop=True) for name, given in answers.items()}
    predictions = _row_by_row(task, table, answers)
    details: Details = {
        "breakdown": break_down(task, table.iloc[within].reset_index(drop=True), known),
        "errors": find_fixes(answered_rows(task, predictions, data.labels.answers, data)),
        "latency": {name: distribution(each) for name, each in times.items()},
        "samples": _samples(table, delivered.predictions, sorted(of_teacher["by_language"])),
    }
    return Comparison(cast(Metrics, metrics), details, predictions)


def measure_bundle(
    bundle: Path, table: pd.DataFrame, trained_on: "pd.Series[str]", parameters: int
) -> MeasuredBundle:
    """Evaluate a bundle on labelled rows; scores include calibration, size and latency."""
    predictor = Predictor.load(bundle)
    scores, given, predictions = evaluate_table(predictor, table, trained_on)
    scores["calibration"] = selective_metrics(predictor, table, given, predictions)
    times = time_calls(predictor.predict, list(table["text"]))
    scores["latency_ms"] = summary(times)
    scores["size_bytes"] = folder_size(bundle)
    scores["parameters"] = parameters
    answers = answer_table(predictor.task, given, predictions)
    return MeasuredBundle(scores, answers, predictions, times)


def ratios(delivered: Scores, teacher: Scores) -> Ratios:
    """`retention`, `compression` and `speedup` of the delivered model over the teacher."""
    return {
        "retention": _ratio(delivered["main"], teacher["main"]),
        "retention_by_language": {
            language: _ratio(scores["main"], teacher["by_language"][language]["main"])
            for language, scores in delivered["by_language"].items()
        },
        "compression": _ratio(teacher["parameters"], delivered["parameters"]),
        "speedup": _ratio(teacher["latency_ms"]["p50"], delivered["latency_ms"]["p50"]),
    }


def _ratio(value: float, base: float) -> float:
    return round(value / base, 4) if base else 0.0


def _measure_stage(
    stage: Stage, table: pd.DataFrame, trained_on: "pd.Series[str]", calls: int
) -> Scores:
    predictor, parameters, size = stage
    scores, _, _ = evaluate_table(predictor, table, trained_on)
    scores["parameters"] = parameters
    scores["size_bytes"] = size
    scores["latency_ms"] = latency_at_batch_1(predictor, list(table["text"]), calls)
    return scores


def _samples(
    table: pd.DataFrame, predictions: list[Prediction], languages: list[str]
) -> list[dict[str, Any]]:
    """The first texts of each language with their answers."""
    spoken = list(table["lang"])
    found = [[row for row, lang in enumerate(spoken) if lang == name] for name in languages]
    return [
        {"text": table["text"].iloc[row], **predictions[row].to_dict()}
        for rows in found
        for row in rows[:SAMPLES_A_LANGUAGE]
    ]


def _row_by_row(task: str, table: pd.DataFrame, models: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Text, language, gold answer, and each model's answer with its correctness."""
    gold = gold_answers(table, task)
    # Plain lists: pandas writes its Arrow types to Parquet but cannot read them back.
    frame = pd.DataFrame({"text": list(table["text"]), "lang": list(table["lang"])})
    if gold.labels:
        frame["gold_label"] = list(gold.labels)
    if gold.tags:
        frame["gold_tags"] = list(gold.tags)
        frame["words"] = [list(words) for words in table["words"]]
    for model, given in models.items():
        frame[f"{model}_right"] = right_rows(task, gold, answers_of(given))
        for column in given:
            frame[f"{model}_{column}"] = given[column].to_numpy()
    return frame
