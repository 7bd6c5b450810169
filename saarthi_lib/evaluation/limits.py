"""Limits on measured metrics: the gates of a pipeline."""

from collections.abc import Iterator, Mapping
from typing import Any

from saarthi_lib.errors import ConfigError

BOUNDS = ("at_least", "at_most")


def missed(metrics: Mapping[str, Any], limits: Mapping[str, Any]) -> list[str]:
    """Describe each limit that the metrics miss; empty if they meet all limits.

    Args:
        metrics: as in `metrics.json`.
        limits: `at_least`, `at_most` or both, by the metric's place, such as
            `quantized.by_language.hindi.main`.

    Raises:
        ConfigError: a limit is malformed, or its metric does not exist.
    """
    return [line for place, bounds in limits.items() for line in _missed(place, metrics, bounds)]


def _missed(place: str, metrics: Mapping[str, Any], bounds: Any) -> Iterator[str]:
    well_formed = isinstance(bounds, Mapping) and bounds and set(bounds) <= set(BOUNDS)
    if not well_formed or not all(map(_is_number, bounds.values())):
        raise ConfigError(
            f"limit on {place}: must be a number for at_least, at_most or both, not {bounds!r}"
        )
    value = _metric(place, metrics)
    # A metric that is NaN meets no limit.
    if "at_least" in bounds and not value >= bounds["at_least"]:
        yield f"{place} is {_shown(value)}, and must be at least {_shown(bounds['at_least'])}"
    if "at_most" in bounds and not value <= bounds["at_most"]:
        yield f"{place} is {_shown(value)}, and must be at most {_shown(bounds['at_most'])}"


def _metric(place: str, metrics: Mapping[str, Any]) -> float:
    node: Any = metrics
    for name in place.split("."):
        if not isinstance(node, Mapping) or name not in node:
            known = ", ".join(map(str, node)) if isinstance(node, Mapping) else "none"
            raise ConfigError(f"limit on {place}: there is no metric {name}; known: {known}")
        node = node[name]
    if not _is_number(node):
        raise ConfigError(f"limit on {place}: not a number but {node!r}")
    return float(node)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: float) -> str:
    return f"{value:,.4f}".rstrip("0").rstrip(".")
