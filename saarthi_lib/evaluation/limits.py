"""Limits on measured figures: what a gate of the pipeline lets through."""

from collections.abc import Iterator, Mapping
from typing import Any

from saarthi_lib.errors import ConfigError

BOUNDS = ("at_least", "at_most")


def missed(figures: Mapping[str, Any], limits: Mapping[str, Any]) -> list[str]:
    """Which limits the figures miss, each in words; empty when they hold them all.

    Args:
        figures: as in `metrics.json`.
        limits: by the figure's place, such as `quantized.by_language.hindi.main`, with `at_least`,
            `at_most` or both.

    Raises:
        ConfigError: a limit is malformed, or there is no such figure.
    """
    return [line for place, bounds in limits.items() for line in _of(place, figures, bounds)]


def _of(place: str, figures: Mapping[str, Any], bounds: Any) -> Iterator[str]:
    well_formed = isinstance(bounds, Mapping) and bounds and set(bounds) <= set(BOUNDS)
    if not well_formed or not all(map(_is_number, bounds.values())):
        raise ConfigError(
            f"limit on {place}: must be a number for at_least, at_most or both, not {bounds!r}"
        )
    value = _figure(place, figures)
    if value < bounds.get("at_least", value):
        yield f"{place} is {_shown(value)}, and must be at least {_shown(bounds['at_least'])}"
    if value > bounds.get("at_most", value):
        yield f"{place} is {_shown(value)}, and must be at most {_shown(bounds['at_most'])}"


def _figure(place: str, figures: Mapping[str, Any]) -> float:
    node: Any = figures
    for name in place.split("."):
        if not isinstance(node, Mapping) or name not in node:
            there = ", ".join(map(str, node)) if isinstance(node, Mapping) else "no further ones"
            raise ConfigError(f"limit on {place}: there is no figure {name}; there are: {there}")
        node = node[name]
    if not _is_number(node):
        raise ConfigError(f"limit on {place}: it is not a number but {node!r}")
    return float(node)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: float) -> str:
    return f"{value:,.4f}".rstrip("0").rstrip(".")
