"""Prometheus metrics: plain numbers that only the event loop changes, collected on request.

A histogram of the client library needs a lock and microseconds for each value; these need neither.
The number of time series is bounded: models, protocols and outcomes are fixed, and a model's own
labels are counted by name up to a limit.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from predictors.codecs import Answer, Row
from predictors.log_queue import dropped_lines
from saarthi_lib.bundle import BundleManifest
from saarthi_lib.inference.batcher import AnyLane, BatchTimes

PROTOCOLS = ("predict", "v1", "v2", "grpc")
OTHER = "other"
NO_MODEL = ""  # for requests of unknown models

_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
_CHARACTERS = (10, 20, 40, 80, 160, 320, 640, 1280, 5120, 10240)


class Histogram:
    """Number of values up to each bound, and their sum."""

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
        """Each bound with the number of values up to it."""
        buckets, below = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(below)))
        return buckets


class ModelMetrics:
    """Metrics of one model.

    Args:
        max_labels: number of labels that are counted by name.
    """

    def __init__(self, max_labels: int) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()  # keys: protocol, outcome
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

    def observe_answers(self, rows: Sequence[Row], answers: Sequence[Answer]) -> None:
        """Count texts and their answers."""
        for row, answer in zip(rows, answers, strict=True):
            self.characters.observe(len(row.text))
            self.abstentions += answer["abstained"]
            self.truncations += "truncated" in answer
            if (label := answer.get("label")) is not None:
                self._count(label)
            for found in answer.get("entities") or answer.get("tokens") or ():
                self._count(found["label"])

    def _count(self, label: str) -> None:
        if label not in self.labels and len(self.labels) >= self._max_labels:
            label = OTHER
        self.labels[label] += 1


class Measured(Protocol):
    """A model with metrics."""

    metrics: ModelMetrics

    @property
    def lane(self) -> AnyLane:
        """Queue of the model."""
        ...

    @property
    def manifest(self) -> BundleManifest:
        """Manifest of the served version."""
        ...


class Metrics:
    """Collects the metrics of all models for a Prometheus registry.

    Args:
        models: models by name.
    """

    def __init__(self, models: Mapping[str, Measured]) -> None:
        self._models = models
        self._unknown: Counter[tuple[str, str]] = Counter()  # keys: protocol, outcome

    def count(self, model: Measured | None, protocol: str, outcome: str, seconds: float) -> None:
        """Count a request; the model is None if it is unknown."""
        if model is None:
            self._unknown[protocol, outcome] += 1
        else:
            model.metrics.requests[protocol, outcome] += 1
            model.metrics.seconds[protocol].observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """All metrics; called by the registry."""
        requests = CounterMetricFamily(
            "saarthi_requests", "Requests", labels=("model", "protocol", "outcome")
        )
        counts = {name: model.metrics.requests for name, model in self._models.items()}
        for name, by_kind in {**counts, NO_MODEL: self._unknown}.items():
            for (protocol, outcome), count in by_kind.items():
                requests.add_metric((name, protocol, outcome), count)
        yield requests
        seconds = _histogram("request_seconds", "Time from request to answer", "protocol")
        phases = _histogram(
            "phase_seconds", "Waiting time by request, prediction time by batch", "phase"
        )
        rows = _histogram("batch_rows", "Texts predicted together")
        characters = _histogram("input_characters", "Characters of a text")
        labels = _counter("labels", "Answered labels of texts, entities and words", "label")
        loads = _counter("loads", "Versions loaded or refused", "outcome")
        abstentions = _counter("abstentions", "Answers with abstention")
        truncations = _counter("truncations", "Texts above the model's maximum length")
        failures = _counter("failed_batches", "Batches that raised an error")
        queue = _gauge("queue_rows", "Waiting texts")
        info = _gauge("model_info", "Served version", "version", "task", "runtime", "precision")
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
        yield CounterMetricFamily(
            "saarthi_dropped_log_lines", "Log lines that were not written", dropped_lines()
        )
        yield from (abstentions, truncations, failures, queue, info)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"saarthi_{name}", text, labels=("model", *labels))


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"saarthi_{name}", text, labels=("model", *labels))


def _histogram(name: str, text: str, *labels: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"saarthi_{name}", text, labels=("model", *labels))


def _add(family: Any, histogram: Histogram, *labels: str) -> None:
    family.add_metric(labels, histogram.buckets(), histogram.total)
