"""All models → evaluation: metrics, answers and the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saarthi_lib.config import SECTIONS, TrainConfig
from saarthi_lib.layout import PREDICTIONS
from saarthi_lib.lineage import made_by, origin
from saarthi_lib.logs import get_logger
from saarthi_lib.steps.data import prepared_data
from saarthi_lib.steps.network import TrainedNetwork, network_predictor
from saarthi_lib.steps.record import reads, recorded_step
from saarthi_lib.steps.teacher import ANSWERS
from saarthi_lib.storage import read_json, write_json

if TYPE_CHECKING:
    from saarthi_lib.data.preprocess import Summary

logger = get_logger("steps")


@reads(*SECTIONS)  # the report shows the whole configuration
def evaluate(
    config: TrainConfig,
    data: Path,
    teacher: Path,
    teacher_test: Path,
    stages: Sequence[Path],
    exported: Path,
    quantized: Path | None,
    out: Path,
) -> dict[str, Any]:
    """Evaluate every model on the test split, and train and evaluate a baseline.

    Writes `metrics.json`, `details.json`, `report.html`, and `predictions.parquet` (test rows with
    the answers of teacher, student and quantized student).
    """
    import pandas as pd

    from saarthi_lib.evaluation.baseline import evaluate_baseline
    from saarthi_lib.evaluation.comparison import compare
    from saarthi_lib.reports.report import write_report

    inputs = (data, teacher, teacher_test, *stages, exported, quantized)
    with recorded_step("evaluate", config, out, *inputs) as folder:
        prepared = prepared_data(data)
        history = {path: read_json(path / "history.json") for path in (teacher, *stages)}
        networks = {
            f"stage_{number}": (
                network_predictor(data, student := TrainedNetwork("student", path)),
                student.parameters,
                (path / "student.safetensors").stat().st_size,
            )
            for number, path in enumerate(stages, 1)
            if history[path]  # an empty history marks a skipped stage with an unchanged student
        }
        metrics, details, predictions = compare(
            config.task,
            prepared,
            read_json(teacher_test / "metrics.json"),
            pd.read_parquet(teacher_test / ANSWERS),
            network_predictor(data, TrainedNetwork("teacher", teacher)),
            networks,
            exported / "bundle",
            quantized / "bundle" if quantized else None,
        )
        metrics["baseline"] = evaluate_baseline(config, prepared)
        _compare_with_baseline(config, metrics, prepared.summary)
        if config.fast_dev_run:
            metrics = {"trial": True, **metrics}
        write_json(folder / "metrics.json", metrics)
        write_json(folder / "details.json", details)
        predictions.to_parquet(folder / PREDICTIONS, index=False)
        write_report(
            folder / "report.html",
            metrics,
            config=config.model_dump(),
            histories=[
                {"stage": "teacher", **row}  # rows of a student stage override "stage"
                for rows in history.values()
                for row in rows
            ],
            check=read_json(data / "check.json"),
            provenance=_provenance(prepared.summary["digest"]),
            recipe=config.reasons,
            **details,
        )
        return metrics


def _provenance(data_digest: str) -> dict[str, str]:
    """Versions, code revision and data digest, by name."""
    named = {name.replace("_", " "): value for name, value in origin().items()}
    return {**named, "data digest": data_digest, **made_by()["versions"]}


@reads("run", "teacher", "student")
def evaluate_bundle(
    config: TrainConfig, data: Path, quantized: Path, metrics_of_run: Path, out: Path
) -> dict[str, Any]:
    """Evaluate one more quantized bundle of a finished run, compared with the run's teacher."""
    from saarthi_lib.evaluation.comparison import measure_bundle, ratios

    with recorded_step("evaluate bundle", config, out, data, quantized) as folder:
        metrics, prepared = read_json(metrics_of_run), prepared_data(data)
        trained_on = prepared.table("train")["text"]
        scores, *_ = measure_bundle(quantized / "bundle", prepared.table("test"), trained_on)
        scores["parameters"] = metrics["student"]["final"]["parameters"]
        metrics |= {"quantized": scores, **ratios(scores, metrics["teacher"])}
        if "baseline" in metrics:  # missing in older runs
            _compare_with_baseline(config, metrics, prepared.summary)
        write_json(folder / "metrics.json", metrics)
        return metrics


def _compare_with_baseline(
    config: TrainConfig, metrics: dict[str, Any], summary: "Summary"
) -> None:
    """Add advice to the metrics, and log it, if the delivered model does not beat the baseline."""
    from saarthi_lib.evaluation.baseline import advice

    metrics["baseline"]["advice"] = advice(config, metrics, summary)
    if metrics["baseline"]["advice"]:
        logger.warning("%s", metrics["baseline"]["advice"])


def confusion_matrix(evaluation: Path) -> tuple[list[str], list[list[int]]] | None:
    """Labels and confusion counts [gold, predicted] of an evaluation; None for entities."""
    confusion = read_json(evaluation / "details.json")["breakdown"]["confusion"]
    if confusion is None:
        return None
    labels, counts = confusion["labels"], confusion["counts"]
    return labels, [[counts.get(gold, {}).get(given, 0) for given in labels] for gold in labels]
