"""Prometheus metrics: plain numbers, touched on the event loop only, read when they are asked for.

A client library's histogram takes a lock and microseconds for each value; these take neither.
Labels are few and bounded: models, protocols and outcomes are fixed, and a model's own labels are
counted by name up to a limit.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from saarthi_lib.inference.batcher import BatchTimes

if TYPE_CHECKING:
    from predictors.codecs import Answer, Row
    from predictors.model import BundleModel

PROTOCOLS = ("predict", "v1", "v2", "grpc")
OTHER = "other"
NO_MODEL = ""  # of requests that name none that is served

_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
_CHARACTERS = (10, 20, 40, 80, 160, 320, 640, 1280, 5120, 10240)


class Histogram:
    """Counts of values up to each bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """The bounds with how many values are not above them."""
        buckets, below = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(below)))
        return buckets


class ModelMetrics:
    """One model's numbers.

    Args:
        max_labels: labels that are counted by name.
    """

    def __init__(self, max_labels: int) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()  # by protocol and outcome
        self.seconds = {protocol: Histogram(_SECONDS) for protocol in PROTOCOLS}
        self.queue_seconds = Histogram(_SECONDS)
        self.predict_seconds = Histogram(_SECONDS)
        self.batch_rows = Histogram(_ROWS)
        self.characters = Histogram(_CHARACTERS)
        self.labels: Counter[str] = Counter()
        self.loads: Counter[str] = Counter(loaded=1, refused=0)
        self.abstentions = 0
        self.truncations = 0
        self.failed_batches = 0
        self._max_labels = max_labels

    def observe_batch(self, times: BatchTimes) -> None:
        """Count a batch."""
        self.batch_rows.observe(times.rows)
        self.predict_seconds.observe(times.seconds)
        self.failed_batches += times.failed
        for seconds in times.waits:
            self.queue_seconds.observe(seconds)

    def observe_answers(self, rows: "Sequence[Row]", answers: "Sequence[Answer]") -> None:
        """Count what was asked and answered."""
        for row, answer in zip(rows, answers, strict=True):
            self.characters.observe(len(row.text))
            self.abstentions += answer["abstained"]
            self.truncations += "truncated" in answer
            if "label" in answer:
                self._count(answer["label"])
            for found in answer.get("entities") or answer.get("tokens") or ():
                self._count(found["label"])

    def _count(self, label: str) -> None:
        if label not in self.labels and len(self.labels) >= self._max_labels:
            label = OTHER
        self.labels[label] += 1


class Metrics:
    """Collects all models' numbers for a Prometheus registry.

    Args:
        models: by name.
    """

    def __init__(self, models: "Mapping[str, BundleModel]") -> None:
        self._models = models
        self.unknown: Counter[tuple[str, str]] = Counter()  # of no model, by protocol and outcome

    def count(
        self, model: "BundleModel | None", protocol: str, outcome: str, seconds: float
    ) -> None:
        """Count a request."""
        if model is None:
            self.unknown[protocol, outcome] += 1
        else:
            model.metrics.requests[protocol, outcome] += 1
            model.metrics.seconds[protocol].observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """All metrics, as the registry wants them."""
        requests = CounterMetricFamily(
            "saarthi_requests", "Requests", labels=("model", "protocol", "outcome")
        )
        counts = {name: model.metrics.requests for name, model in self._models.items()}
        for name, by_kind in {**counts, NO_MODEL: self.unknown}.items():
            for (protocol, outcome), count in by_kind.items():
                requests.add_metric((name, protocol, outcome), count)
        yield requests
        seconds = _histogram("request_seconds", "From body to answer", "protocol")
        phases = _histogram("phase_seconds", "Waiting, by request; predicting, by batch", "phase")
        rows = _histogram("batch_rows", "Texts predicted together")
        characters = _histogram("input_characters", "Characters of a text")
        labels = _counter("labels", "Labels answered, of texts and of entities or words", "label")
        loads = _counter("loads", "Versions loaded or refused", "outcome")
        abstentions = _counter("abstentions", "Texts below the model's threshold")
        truncations = _counter("truncations", "Texts longer than the model reads")
        failures = _counter("failed_batches", "Batches that raised, for a fault or a text")
        queue = _gauge("queue_rows", "Texts that wait")
        info = _gauge("model_info", "What is served", "version", "task", "runtime", "precision")
        for name, model in self._models.items():
            numbers = model.metrics
            for protocol, histogram in numbers.seconds.items():
                _add(seconds, histogram, name, protocol)
            _add(phases, numbers.queue_seconds, name, "queue")
            _add(phases, numbers.predict_seconds, name, "predict")
            _add(rows, numbers.batch_rows, name)
            _add(characters, numbers.characters, name)
            for label, count in numbers.labels.items():
                labels.add_metric((name, label), count)
            for outcome, count in numbers.loads.items():
                loads.add_metric((name, outcome), count)
            abstentions.add_metric((name,), numbers.abstentions)
            truncations.add_metric((name,), numbers.truncations)
            failures.add_metric((name,), numbers.failed_batches)
            queue.add_metric((name,), model.lane.waiting)
            made = model.manifest
            info.add_metric((name, made.version, made.task, made.runtime, made.precision), 1)
        yield from (seconds, phases, rows, characters, labels, loads)
        yield from (abstentions, truncations, failures, queue, info)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"saarthi_{name}", text, labels=("model", *labels))


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"saarthi_{name}", text, labels=("model", *labels))


def _histogram(name: str, text: str, *labels: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"saarthi_{name}", text, labels=("model", *labels))


def _add(family: Any, histogram: Histogram, *labels: str) -> None:
    family.add_metric(labels, histogram.buckets(), histogram.total)
