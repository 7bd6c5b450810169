"""Compare teacher, stages and bundles on the test split; produces `metrics.json`."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.evaluation.abstention import selective_figures
from saarthi_lib.evaluation.breakdown import answer_table, answers_of, break_down
from saarthi_lib.evaluation.evaluate import evaluate_table, gold_answers, one_thread
from saarthi_lib.evaluation.latency import (
    distribution,
    latency_at_batch_1,
    summary,
    time_calls,
)
from saarthi_lib.evaluation.metrics import Answers, in_scope, right_rows
from saarthi_lib.inference.predictor import Prediction, Predictor
from saarthi_lib.storage import folder_size

SAMPLES_A_LANGUAGE = 1
TEACHER_CALLS = 100


def compare(
    task: str,
    data: Prepared,
    teacher_metrics: dict[str, Any],
    teacher_given: pd.DataFrame,
    teacher_predictor: Predictor,
    stages: dict[str, tuple[Predictor, int, int]],
    exported: Path,
    quantized: Path | None,
) -> tuple[dict[str, Any], dict[str, Any], pd.DataFrame]:
    """Evaluate the stages and the bundles on the test split.

    Args:
        task: task of the run.
        data: prepared data.
        teacher_metrics: metrics of the teacher on the test split.
        teacher_given: answers of the teacher on the test split, from `answer_table`.
        teacher_predictor: predictor of the teacher's network, for its latency.
        stages: predictor, number of parameters and size of the weights in bytes, by stage name.
        exported: float32 bundle.
        quantized: quantized bundle, or None.

    Returns:
        The content of `metrics.json`, further details for the report (`breakdown`, `latency`,
        `samples`), and the test rows with the answers of `teacher`, `final` and `quantized`.
    """
    table = data.table("test")
    texts, trained_on = list(table["text"]), data.table("train")["text"]
    student: dict[str, Any] = {}
    with one_thread():
        times = {"teacher": time_calls(teacher_predictor, texts, calls=TEACHER_CALLS)}
        teacher = {**teacher_metrics, "latency_ms": summary(times["teacher"])}
        for name, (predictor, parameters, size) in stages.items():
            student[name], _, _ = evaluate_table(predictor, table, trained_on)
            student[name]["parameters"] = parameters
            student[name]["size_bytes"] = size
            student[name]["latency_ms"] = latency_at_batch_1(predictor, texts, calls=100)
        last = next(reversed(student.values()), teacher)
        models = {"teacher": teacher_given}
        rows = (table, trained_on)
        final, given, predictions, times["final"] = measure_bundle(exported, *rows)
        models["final"] = answer_table(task, given, predictions)
        student["final"] = {**final, "parameters": last["parameters"]}
        best, quantized_scores = student["final"], None
        if quantized is not None:
            scores, given, predictions, times["quantized"] = measure_bundle(quantized, *rows)
            models["quantized"] = answer_table(task, given, predictions)
            best = quantized_scores = {**scores, "parameters": last["parameters"]}
    metrics: dict[str, Any] = {
        "task": task,
        "languages": sorted(teacher["by_language"]),
        "teacher": teacher,
        "student": student,
        "quantized": quantized_scores,
        **ratios(best, teacher),
    }
    samples = []
    for language in metrics["languages"]:
        found = [row for row, lang in enumerate(table["lang"]) if lang == language]
        for row in found[:SAMPLES_A_LANGUAGE]:
            samples.append({"text": texts[row], **predictions[row].to_dict()})
    within = in_scope(gold_answers(table, task), data.labels.answers, len(table))
    known = {name: given.iloc[within].reset_index(drop=True) for name, given in models.items()}
    details = {
        "breakdown": break_down(task, table.iloc[within].reset_index(drop=True), known),
        "latency": {name: distribution(each) for name, each in times.items()},
        "samples": samples,
    }
    return metrics, details, _row_by_row(task, table, models)


def measure_bundle(
    bundle: Path, table: pd.DataFrame, trained_on: "pd.Series[str]"
) -> tuple[dict[str, Any], Answers, list[Prediction], npt.NDArray[np.float64]]:
    """Evaluate a bundle on labelled rows.

    Returns:
        Metrics (with calibration, size and latency), answers, predictions, and call times.
    """
    predictor = Predictor.load(bundle)
    scores, given, predictions = evaluate_table(predictor, table, trained_on)
    scores["calibration"] = selective_figures(predictor, table, given, predictions)
    times = time_calls(predictor, list(table["text"]))
    scores["latency_ms"] = summary(times)
    scores["size_bytes"] = folder_size(bundle)
    return scores, given, predictions, times


def ratios(delivered: dict[str, Any], teacher: dict[str, Any]) -> dict[str, Any]:
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
