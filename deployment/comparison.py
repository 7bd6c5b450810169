"""Comparison of a canary with the stable version, from the predictors' own metrics."""

import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from deployment.cluster import REQUEST_SECONDS, Cluster
from deployment.state import POD, Predictor, Workload, condition, read_predictor, ready_pods
from deployment.wait import Show
from saarthi_lib.errors import SaarthiError

HTTP_PORT = 8080
_REQUESTS = "saarthi_requests_total"
_SECONDS = "saarthi_request_seconds_bucket"
_ABSTENTIONS = "saarthi_abstentions_total"
_TEXTS = "saarthi_input_characters_count"
_NAMES = (_REQUESTS, _SECONDS, _ABSTENTIONS, _TEXTS)
# Outcomes that the server caused; the client causes `invalid` and `gone`.
_FAULTS = {"error", "shed", "expired"}

Labels = tuple[tuple[str, str], ...]
Samples = dict[tuple[str, str, Labels], float]  # by pod, name and labels
Source = Callable[[Workload], Samples]


@dataclass(frozen=True)
class Figures:
    """Metrics of a workload in a period.

    Attributes:
        requests: requests with an answer or a server error.
        error_rate: share of requests with a server error.
        p95_ms: 95th percentile of the latency in milliseconds, interpolated in its bucket.
        abstention_rate: share of texts below the model's threshold.
    """

    requests: int
    error_rate: float
    p95_ms: float
    abstention_rate: float


@dataclass(frozen=True)
class Limits:
    """Limits of a canary, relative to the stable version.

    Attributes:
        errors: largest increase of the error rate.
        latency: largest ratio of the p95 latencies.
        abstentions: largest increase of the abstention rate.
        requests: requests that each of the two needs before a comparison.
    """

    errors: float
    latency: float
    abstentions: float
    requests: int


@dataclass(frozen=True)
class Verdict:
    """Metrics of both versions, and the limits that the canary missed.

    Attributes:
        stable: metrics of the stable version.
        canary: metrics of the canary.
        missed: missed limits, in words; empty if the canary meets all.
        enough: whether both got enough requests for a comparison.
    """

    stable: Figures
    canary: Figures
    missed: list[str]
    enough: bool


def from_pods(cluster: Cluster, namespace: str) -> Source:
    """Read each ready pod's `/metrics` through the API server."""
    from prometheus_client.parser import text_string_to_metric_families

    def read(workload: Workload) -> Samples:
        samples: Samples = {}
        for pod in ready_pods(cluster, namespace, workload):
            name = pod["metadata"]["name"]
            try:
                text = cluster.ask_pod(namespace, name, HTTP_PORT, "/metrics")
            except SaarthiError as error:
                now = cluster.find(POD, namespace, name)
                if now is None or condition(now, "Ready").get("status") != "True":
                    continue  # it has just ended
                raise SaarthiError(
                    f"{error}; a NetworkPolicy must allow the API server; or give --prometheus"
                ) from error
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name in _NAMES:
                        labels = tuple(sorted(sample.labels.items()))
                        samples[name, sample.name, labels] = sample.value
        return samples

    return read


def from_prometheus(url: str, namespace: str) -> Source:
    """Query a Prometheus that scrapes the pods with `manifests/components/pod-monitor`."""

    def read(workload: Workload) -> Samples:
        names, revision = "|".join(_NAMES), workload.name
        selector = (
            f'__name__=~"{names}",namespace="{namespace}",serving_knative_dev_revision="{revision}"'
        )
        query = urllib.parse.urlencode({"query": f"{{{selector}}}"})
        answer = json.loads(_get(f"{url.rstrip('/')}/api/v1/query?{query}"))
        if answer.get("status") != "success":
            raise SaarthiError(f"--prometheus {url}: {answer.get('error', 'no success')}")
        samples: Samples = {}
        for series in answer["data"]["result"]:
            labels = dict(series["metric"])
            pod, name = labels.pop("pod", ""), labels.pop("__name__")
            samples[pod, name, tuple(sorted(labels.items()))] = float(series["value"][1])
        return samples

    return read


def source_of(cluster: Cluster, predictor: Predictor, prometheus: str | None) -> Source:
    """Reader of a predictor's counters, by Prometheus if its URL is given."""
    if prometheus:
        return from_prometheus(prometheus, predictor.namespace)
    return from_pods(cluster, predictor.namespace)


def watch(
    cluster: Cluster,
    predictor: Predictor,
    source: Source,
    limits: Limits,
    seconds: float,
    show: Show,
) -> Verdict:
    """Compare a canary with the stable version for some time; end early at a missed limit.

    Args:
        cluster: cluster of the predictor.
        predictor: predictor with a canary.
        source: reader of a workload's counters.
        limits: limits of the canary.
        seconds: duration of the comparison.
        show: function that gets a line after each reading.

    Raises:
        SaarthiError: the metrics cannot be read, or the canary is no longer ready.
    """
    stable, canary = predictor.stable, predictor.canary
    if canary is None:
        raise SaarthiError(f"{predictor.name}: no canary is running to compare")
    before = (source(stable), source(canary))
    latest = before  # includes the last counters of pods that have ended since
    end = time.monotonic() + seconds
    while True:
        time.sleep(max(0.0, min(seconds / 10, end - time.monotonic())))
        latest = (latest[0] | source(stable), latest[1] | source(canary))
        verdict = judge(
            figures_of(increase(before[0], latest[0])),
            figures_of(increase(before[1], latest[1])),
            limits,
        )
        show(f"{predictor.name}: stable {_line(verdict.stable)}; canary {_line(verdict.canary)}")
        now = read_predictor(cluster, predictor.name, predictor.namespace)
        over = time.monotonic() >= end
        if any(each.failure for each in now.workloads) or (over and not now.settled):
            raise SaarthiError(now.progress)
        if verdict.missed or over:
            return verdict


def increase(before: Samples, after: Samples) -> Samples:
    """Growth of each counter; a restarted counter starts at zero."""
    return {
        key: value - before.get(key, 0.0) if value >= before.get(key, 0.0) else value
        for key, value in after.items()
    }


def figures_of(samples: Samples) -> Figures:
    """Metrics from the growth of the counters."""
    outcomes: Counter[str] = Counter()
    buckets: Counter[float] = Counter()
    texts = abstentions = 0.0
    for (_, name, pairs), value in samples.items():
        labels = dict(pairs)
        if name == _REQUESTS:
            outcomes[labels["outcome"]] += value  # type: ignore[assignment]
        elif name == _SECONDS:
            buckets[float(labels["le"])] += value  # type: ignore[assignment]
        elif name == _TEXTS:
            texts += value
        else:
            abstentions += value
    faults = sum(outcomes[name] for name in _FAULTS)
    requests = outcomes["ok"] + faults
    return Figures(
        round(requests),
        faults / requests if requests else 0.0,
        1000 * quantile(buckets, 0.95),
        abstentions / texts if texts else 0.0,
    )


def quantile(buckets: Mapping[float, float], part: float) -> float:
    """Quantile of a histogram of cumulative counts by upper bound, computed like Prometheus."""
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    lower, below = 0.0, 0.0
    for bound in bounds:
        if total and buckets[bound] >= part * total:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (part * total - below) / (buckets[bound] - below)
        lower, below = bound, buckets[bound]
    return 0.0


def judge(stable: Figures, canary: Figures, limits: Limits) -> Verdict:
    """Check the limits, once both versions have enough requests."""
    enough = min(stable.requests, canary.requests) >= limits.requests
    return Verdict(stable, canary, list(_missed(stable, canary, limits)) if enough else [], enough)


def _missed(stable: Figures, canary: Figures, limits: Limits) -> Iterator[str]:
    errors = stable.error_rate + limits.errors
    if canary.error_rate > errors:
        yield (
            f"error rate {canary.error_rate:.2%}, limit {errors:.2%} "
            f"(stable {stable.error_rate:.2%} + {limits.errors:.2%})"
        )
    latency = stable.p95_ms * limits.latency
    if canary.p95_ms > latency:
        yield (
            f"p95 latency {canary.p95_ms:.2f} ms, limit {latency:.2f} ms "
            f"(stable {stable.p95_ms:.2f} ms × {limits.latency:g})"
        )
    abstentions = stable.abstention_rate + limits.abstentions
    if canary.abstention_rate > abstentions:
        yield (
            f"abstention rate {canary.abstention_rate:.2%}, limit {abstentions:.2%} "
            f"(stable {stable.abstention_rate:.2%} + {limits.abstentions:.2%})"
        )


def _line(figures: Figures) -> str:
    return (
        f"{figures.requests} requests, {figures.error_rate:.2%} errors, "
        f"p95 {figures.p95_ms:.2f} ms, {figures.abstention_rate:.2%} abstained"
    )


def _get(url: str) -> str:
    """GET a URL that does not pass the API server."""
    if not url.startswith(("http://", "https://")):
        raise SaarthiError(f"{url}: must begin with http:// or https://")
    try:
        with urllib.request.urlopen(url, timeout=REQUEST_SECONDS) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")[:300]
        raise SaarthiError(f"{url}: status {error.code}: {said or error.reason}") from error
    except (OSError, ValueError) as error:
        raise SaarthiError(f"{url}: no answer: {error}") from error
