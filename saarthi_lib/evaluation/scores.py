"""Types of `metrics.json` and of its parts. All shares are from 0 to 1.

Keys of the file never change. Runs of earlier versions lack some keys, which are `NotRequired`.
"""

from pathlib import Path
from typing import NotRequired, TypedDict

from saarthi_lib.errors import ArtifactError
from saarthi_lib.evaluation.stored import read_stored
from saarthi_lib.tasks import HEADS


class TaskScores(TypedDict):
    """Metrics of a task on some rows. `main` is the task's main metric."""

    main: float
    examples: NotRequired[int]
    accuracy: NotRequired[float]
    macro_f1: NotRequired[float]
    token_accuracy: NotRequired[float]
    span_precision: NotRequired[float]
    span_recall: NotRequired[float]
    span_f1: NotRequired[float]
    frame_accuracy: NotRequired[float]


class OutOfScopeScores(TypedDict):
    """Metrics of HINT3; see `out_of_scope_metrics`."""

    accuracy: float
    weighted_f1: float
    mcc: float
    in_scope_accuracy: NotRequired[float]
    best_in_scope_accuracy: NotRequired[float]
    oos_recall: NotRequired[float]


class AbstentionScores(TypedDict):
    """Calibration and abstention of a model; see `selective_metrics`."""

    aurc: float
    threshold: float | None
    ece: NotRequired[float]
    temperature: NotRequired[float]
    coverage: NotRequired[float]
    risk: NotRequired[float]
    lost: NotRequired[float]
    answered_main: NotRequired[float]
    expected_coverage: NotRequired[list[float]]
    language_thresholds: NotRequired[dict[str, float]]
    reasons: NotRequired[dict[str, int]]
    out_of_scope: NotRequired[OutOfScopeScores]


class Latency(TypedDict):
    """Milliseconds at batch 1."""

    p50: float
    p99: float


class Scores(TaskScores):
    """Metrics of a model on a split, overall and by language.

    `unseen` has the metrics of the rows whose text is not in train, if some rows repeat train.
    `left_out` counts the malformed rows of a file, which are not scored.
    """

    by_language: dict[str, TaskScores]
    unseen: NotRequired["Scores"]
    calibration: NotRequired[AbstentionScores]
    parameters: NotRequired[int]
    size_bytes: NotRequired[int]
    trimmed_size_bytes: NotRequired[int]
    weights: NotRequired[str]
    latency_ms: NotRequired[Latency]
    unknown_labels: NotRequired[list[str]]
    left_out: NotRequired[int]


class BaselineScores(Scores):
    """Metrics of the baseline, the seconds of its training, and advice for the user."""

    name: str
    seconds: float
    advice: NotRequired[str]


class Ratios(TypedDict):
    """The delivered model compared with the teacher."""

    retention: float
    retention_by_language: dict[str, float]
    compression: float
    speedup: float


class Metrics(Ratios):
    """Content of `metrics.json`. `student` has `stage_1` … `stage_5` and `final`."""

    task: str
    languages: list[str]
    teacher: Scores
    student: dict[str, Scores]
    quantized: Scores | None
    baseline: NotRequired[BaselineScores]
    trial: NotRequired[bool]


def read_metrics(folder: Path) -> Metrics:
    """Read `metrics.json` of a run or of an evaluation.

    Raises:
        ArtifactError: the file is missing or damaged, or a field has another type.
    """
    metrics: Metrics = read_stored(folder / "metrics.json", Metrics)
    if metrics["task"] not in HEADS:
        known = ", ".join(HEADS)
        raise ArtifactError(f"{folder / 'metrics.json'}: task must be one of {known}; train again")
    if not (metrics.get("quantized") or "final" in metrics["student"]):
        raise ArtifactError(
            f"{folder / 'metrics.json'}: has no scores of a delivered model; train the run again"
        )
    return metrics


def delivered(metrics: Metrics) -> Scores:
    """Scores of the model that is served: the quantized student, or else the float32 one."""
    return metrics.get("quantized") or metrics["student"]["final"]


class Headline(TypedDict):
    """Metrics of a run by which runs are compared."""

    test_main: float
    retention: float
    parameters: int
    size_bytes: int
    compression: float


def headline(metrics: Metrics) -> Headline:
    """Summarize the delivered model, except for its latency, which depends on the machine."""
    scores = delivered(metrics)
    return {
        "test_main": scores["main"],
        "retention": metrics["retention"],
        "parameters": scores["parameters"],
        "size_bytes": scores["size_bytes"],
        "compression": metrics["compression"],
    }
