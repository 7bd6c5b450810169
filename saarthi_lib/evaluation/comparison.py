"""Teacher, stages and bundles on the test split, side by side: the content of `metrics.json`."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.evaluation.abstention import selective_figures
from saarthi_lib.evaluation.evaluate import evaluate_table, gold_answers, one_thread
from saarthi_lib.evaluation.latency import latency_at_batch_1
from saarthi_lib.evaluation.metrics import Answers
from saarthi_lib.inference.predictor import Prediction, Predictor
from saarthi_lib.storage import folder_size
from saarthi_lib.tasks import has_sequence_head

SAMPLES_A_LANGUAGE = 1
CONFUSION_EXAMPLES = 200
TEACHER_CALLS = 100


def compare(
    task: str,
    data: Prepared,
    teacher_metrics: dict[str, Any],
    teacher_predictor: Predictor,
    stages: dict[str, tuple[Predictor, int]],
    exported: Path,
    quantised: Path | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Evaluate the stages and the bundles on the test split.

    Args:
        task: of the run.
        data: what was prepared.
        teacher_metrics: the teacher's, on the test split.
        teacher_predictor: over its network, to time it beside the others.
        stages: for each stage a predictor over its network, and the size of its weights in bytes.
        exported: the bundle in float32.
        quantised: the quantised bundle, when there is one.

    Returns:
        The content of `metrics.json`, and what the report shows besides: `confusion`, `samples`.
    """
    table = data.table("test")
    texts = list(table["text"])
    student: dict[str, Any] = {}
    with one_thread():
        latency = latency_at_batch_1(teacher_predictor, texts, calls=TEACHER_CALLS)
        teacher = {**teacher_metrics, "latency_ms": latency}
        for name, (predictor, size) in stages.items():
            student[name], _, _ = evaluate_table(predictor, table)
            student[name]["parameters"] = _parameters(predictor)
            student[name]["size_bytes"] = size
            student[name]["latency_ms"] = latency_at_batch_1(predictor, texts, calls=100)
        last = next(reversed(student.values()), teacher)
        final, given, predictions = measure_bundle(exported, table)
        student["final"] = {**final, "parameters": last["parameters"]}
        best, quantized = student["final"], None
        if quantised is not None:
            scores, given, predictions = measure_bundle(quantised, table)
            best = quantized = {**scores, "parameters": last["parameters"]}
    metrics: dict[str, Any] = {
        "task": task,
        "languages": sorted(teacher["by_language"]),
        "teacher": teacher,
        "student": student,
        "quantized": quantized,
        **ratios(best, teacher),
    }
    confusion = None
    if has_sequence_head(task):
        gold = gold_answers(table, task).labels
        confusion = _confusion(gold, given.labels, texts, list(table["lang"]))
    samples = []
    for language in metrics["languages"]:
        rows = [row for row, lang in enumerate(table["lang"]) if lang == language]
        for row in rows[:SAMPLES_A_LANGUAGE]:
            samples.append({"text": texts[row], **predictions[row].to_dict()})
    return metrics, {"confusion": confusion, "samples": samples}


def measure_bundle(
    bundle: Path, table: pd.DataFrame
) -> tuple[dict[str, Any], Answers, list[Prediction]]:
    """Metrics, calibration, size and latency of a bundle on labelled rows, with its answers."""
    predictor = Predictor.load(bundle)
    scores, given, predictions = evaluate_table(predictor, table)
    scores["calibration"] = selective_figures(predictor, table, given, predictions)
    scores["latency_ms"] = latency_at_batch_1(predictor, list(table["text"]))
    scores["size_bytes"] = folder_size(bundle)
    return scores, given, predictions


def ratios(delivered: dict[str, Any], teacher: dict[str, Any]) -> dict[str, Any]:
    """What the delivered model keeps and saves: `retention`, `compression` and `speedup`."""
    return {
        "retention": _ratio(delivered["main"], teacher["main"]),
        "retention_by_language": {
            language: _ratio(scores["main"], teacher["by_language"][language]["main"])
            for language, scores in delivered["by_language"].items()
        },
        "compression": _ratio(teacher["parameters"], delivered["parameters"]),
        "speedup": _ratio(teacher["latency_ms"]["p50"], delivered["latency_ms"]["p50"]),
    }


def _parameters(predictor: Predictor) -> int:
    network = predictor.engine.network  # type: ignore[attr-defined]
    return sum(parameter.numel() for parameter in network.parameters())


def _ratio(value: float, base: float) -> float:
    return round(value / base, 4) if base else 0.0


def _confusion(
    gold: Sequence[str], given: Sequence[str], texts: Sequence[str], languages: Sequence[str]
) -> dict[str, Any]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    examples: list[dict[str, str]] = []
    for text, lang, right, answer in zip(texts, languages, gold, given, strict=True):
        counts[right][answer] += 1
        if right != answer and len(examples) < CONFUSION_EXAMPLES:
            examples.append({"text": text, "gold": right, "predicted": answer, "lang": lang})
    return {
        "labels": sorted({*gold, *given}),
        "counts": {label: dict(row) for label, row in counts.items()},
        "examples": examples,
    }
