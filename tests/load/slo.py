"""The service-level objective of a load test."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Slo:
    """Limits of a service's metrics, or measured metrics.

    Attributes:
        p95: milliseconds within which 95% of the requests are answered.
        p99: milliseconds within which 99% of the requests are answered.
        failures: share of the requests without an answer or with a wrong one.
        shed: share of the requests that are refused with 503 and Retry-After.
        rate: right answers a second, at least.
    """

    p95: float = 50.0
    p99: float = 100.0
    failures: float = 0.001
    shed: float = 0.01
    rate: float = 1.0

    def judge(self, seen: "Slo") -> tuple[bool, list[str]]:
        """Whether the measured metrics keep the limits, and a line for each metric."""
        kept, lines = True, []
        for name in (field.name for field in fields(self)):
            limit, value = getattr(self, name), getattr(seen, name)
            good = value >= limit if name == "rate" else value <= limit
            kept = kept and good
            bound = "at least" if name == "rate" else "at most"
            lines.append(
                f"{'kept' if good else 'MISSED':6} {name:8} {value:10.4g} {bound} {limit:g}"
            )
        return kept, lines
