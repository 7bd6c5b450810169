"""Types of `details.json`, the content of the report besides `metrics.json`."""

from typing import Any, NotRequired, TypedDict

from saarthi_lib.evaluation.fixes.types import ErrorList


class Share(TypedDict):
    """A share with its 95% interval; None without trials."""

    share: float | None
    low: float | None
    high: float | None


class Group(TypedDict):
    """Results of teacher and student on the examples of a language, length, label or type."""

    name: str
    examples: int
    teacher: Share
    student: Share


class CalibrationCurve(TypedDict):
    """Reliability, risk and coverage of a model; `unit` is counted in `examples`."""

    unit: str
    examples: int
    bins: list[dict[str, float]]
    ece: float
    aurc: float
    coverage: list[float]
    risk: list[float]


class SpanErrors(TypedDict):
    """Number of spans of each outcome in `SPAN_OUTCOMES`, and example errors."""

    counts: dict[str, int]
    examples: list[dict[str, str]]


class ConfusionExample(TypedDict):
    """A text (and word, for parts of speech) with a wrong answer."""

    text: str
    lang: str
    gold: str
    predicted: str
    word: NotRequired[str]


class Confusion(TypedDict):
    """Confusion counts by gold label, then by predicted label, with examples."""

    labels: list[str]
    counts: dict[str, dict[str, int]]
    examples: list[ConfusionExample]


class Flips(TypedDict):
    """Texts whose answer changed by quantization."""

    examples_of: int
    changed: int
    won: int
    lost: int
    examples: list[dict[str, str]]


class Breakdown(TypedDict):
    """Result of `break_down`, by kind of group and by model (`teacher`, `student`).

    `spans` is None without entities, `confusion` for `ner`, and `flips` without quantization.
    """

    groups: dict[str, list[Group]]
    calibration: dict[str, CalibrationCurve]
    spans: dict[str, SpanErrors] | None
    confusion: Confusion | None
    flips: Flips | None


class Details(TypedDict):
    """Content of `details.json`.

    `latency` has the percentiles 0 to 100 of single predictions in milliseconds, by model.
    `samples` are answers of the delivered bundle: `text` and the fields of `Prediction.to_dict`.
    """

    breakdown: Breakdown
    errors: ErrorList
    latency: dict[str, list[float]]
    samples: list[dict[str, Any]]
