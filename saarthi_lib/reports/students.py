"""The students of a sweep, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saarthi_lib.reports.page import write_page
from saarthi_lib.storage import read_json


def compare_evaluations(
    configurations: Sequence[Mapping[str, Any]], folders: Sequence[Path]
) -> list[dict[str, Any]]:
    """One row a configuration, best first: by the delivered bundle's main metric, then by latency.

    Args:
        configurations: what was trained with.
        folders: of `steps.evaluate`, in the same order.

    Returns:
        `configuration`, of which only what differs between them, and `figures`.
    """
    names = sorted({name for each in configurations for name in each})
    differing = [
        name for name in names if len({repr(each.get(name)) for each in configurations}) > 1
    ]
    rows = [
        {
            "configuration": {name: _plain(configuration.get(name)) for name in differing},
            "figures": _figures(read_json(folder / "metrics.json")),
        }
        for configuration, folder in zip(configurations, folders, strict=True)
    ]
    return sorted(rows, key=lambda row: (-row["figures"]["main"], row["figures"]["p50_ms"]))


def write_comparison(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table as a page."""
    write_page(path, "students.html.j2", rows=rows)


def _figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    delivered = metrics["quantized"] or metrics["student"]["final"]
    return {
        "main": delivered["main"],
        "retention": metrics["retention"],
        "parameters": delivered["parameters"],
        "size_bytes": delivered["size_bytes"],
        "p50_ms": delivered["latency_ms"]["p50"],
        "p99_ms": delivered["latency_ms"]["p99"],
        "compression": metrics["compression"],
        "speedup": metrics["speedup"],
    }


def _plain(value: Any) -> Any:
    """KFP passes every number as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
