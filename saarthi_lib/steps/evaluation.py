"""All models → evaluation: metrics, answers and the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from saarthi_lib.config import SECTIONS, TrainConfig
from saarthi_lib.layout import PREDICTIONS
from saarthi_lib.lineage import made_by, origin
from saarthi_lib.logs import get_logger
from saarthi_lib.steps.data import prepared_data
from saarthi_lib.steps.network import TrainedNetwork, network_predictor, predictor_of
from saarthi_lib.steps.record import reads, recorded_step
from saarthi_lib.steps.teacher import ANSWERS, HISTORY
from saarthi_lib.storage import read_json, write_json

if TYPE_CHECKING:
    from saarthi_lib.data.preprocess import Summary
    from saarthi_lib.evaluation.comparison import Stage, TestedTeacher
    from saarthi_lib.evaluation.scores import Metrics

logger = get_logger("steps")


class Models(NamedTuple):
    """Folders of all models of a run.

    Attributes:
        teacher_test: folder written by `test_teacher`.
        stages: folders written by `distil`, in the order of the stages.
        exported: folder written by `export`.
        quantized: folder written by `quantize`, or None.
    """

    teacher_test: Path
    stages: Sequence[Path]
    exported: Path
    quantized: Path | None


@reads(*SECTIONS)  # the report shows the whole configuration
def evaluate(config: TrainConfig, data: Path, models: Models, out: Path) -> "Metrics":
    """Evaluate every model on the test split, and train and evaluate a baseline.

    Writes `metrics.json`, `details.json`, `report.html`, and `predictions.parquet` (test rows with
    the answers of teacher, student and quantized student).
    """
    from saarthi_lib.evaluation.baseline.evaluate import evaluate_baseline
    from saarthi_lib.evaluation.comparison import compare
    from saarthi_lib.reports.report import write_report

    teacher_test, stages, exported, quantized = models
    inputs = (data, teacher_test, *stages, exported, quantized)
    with recorded_step("evaluate", config, out, *inputs) as folder:
        prepared = prepared_data(data)
        histories = [read_json(path / HISTORY) for path in (teacher_test, *stages)]
        bundles = {"final": exported / "bundle"}
        if quantized:
            bundles["quantized"] = quantized / "bundle"
        # An empty history marks a skipped stage, which did not change the student.
        trained = {
            f"stage_{number}": _stage(data, path)
            for number, (path, history) in enumerate(zip(stages, histories[1:], strict=True), 1)
            if history
        }
        metrics, details, predictions = compare(
            prepared, _tested_teacher(data, teacher_test), trained, bundles
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
            details,
            config=config.model_dump(),
            # Rows of a student have their own stage.
            histories=[{"stage": "teacher", **row} for rows in histories for row in rows],
            check=read_json(data / "check.json"),
            provenance=_provenance(prepared.summary["digest"]),
            recipe=config.reasons,
        )
        return metrics


@reads("run", "teacher", "student")
def evaluate_bundle(
    config: TrainConfig, data: Path, quantized: Path, metrics_of_run: Path, out: Path
) -> "Metrics":
    """Evaluate one more quantized bundle of a finished run, compared with the run's teacher."""
    from saarthi_lib.evaluation.comparison import measure_bundle, ratios

    with recorded_step("evaluate bundle", config, out, data, quantized) as folder:
        metrics: Metrics = read_json(metrics_of_run)
        prepared = prepared_data(data)
        test, trained_on = prepared.table("test"), prepared.table("train")["text"]
        parameters = metrics["student"]["final"]["parameters"]
        scores = measure_bundle(quantized / "bundle", test, trained_on, parameters).scores
        metrics = {**metrics, "quantized": scores, **ratios(scores, metrics["teacher"])}
        if "baseline" in metrics:  # missing in older runs
            _compare_with_baseline(config, metrics, prepared.summary)
        write_json(folder / "metrics.json", metrics)
        return metrics


def confusion_matrix(evaluation: Path) -> tuple[list[str], list[list[int]]] | None:
    """Labels and confusion counts [gold, predicted] of an evaluation; None for entities."""
    confusion = read_json(evaluation / "details.json")["breakdown"]["confusion"]
    if confusion is None:
        return None
    labels, counts = confusion["labels"], confusion["counts"]
    return labels, [[counts.get(gold, {}).get(given, 0) for given in labels] for gold in labels]


def _tested_teacher(data: Path, teacher_test: Path) -> "TestedTeacher":
    """The teacher's metrics and answers, and a teacher of its shape, whose latency is the same."""
    from saarthi_lib.data.expansion import ParquetReader
    from saarthi_lib.evaluation.comparison import TestedTeacher
    from saarthi_lib.models.teacher import ServedTeacher, load_teacher

    with ParquetReader(teacher_test / ANSWERS) as file:
        answers = file.table().to_pandas()
    network = ServedTeacher(load_teacher(teacher_test, weights=False)).eval()
    predictor = predictor_of(data, network)
    return TestedTeacher(read_json(teacher_test / "metrics.json"), answers, predictor)


def _stage(data: Path, student: Path) -> "Stage":
    from saarthi_lib.evaluation.comparison import Stage

    network = TrainedNetwork("student", student)
    size = (student / "student.safetensors").stat().st_size
    return Stage(network_predictor(data, network), network.parameters, size)


def _provenance(data_digest: str) -> dict[str, str]:
    """Versions, code revision and data digest, by name."""
    named = {name.replace("_", " "): value for name, value in origin().items()}
    return {**named, "data digest": data_digest, **made_by()["versions"]}


def _compare_with_baseline(config: TrainConfig, metrics: "Metrics", summary: "Summary") -> None:
    """Add advice to the metrics, and log it, if the delivered model does not beat the baseline."""
    from saarthi_lib.evaluation.baseline.evaluate import advice
    from saarthi_lib.evaluation.summary import summarize

    said = metrics["baseline"]["advice"] = advice(config, metrics, summary)
    if said:
        logger.warning("%s %s", summarize(metrics, config.quantization), said)
