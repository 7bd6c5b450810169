"""Findings of the data check."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

SEVERITIES = ("error", "warning", "note")
ROWS_LISTED = 1_000
TEXT_SHOWN = 300


@dataclass(frozen=True)
class RowReference:
    """A row of an input file; `detail` describes the finding in it."""

    file: str
    row: int
    text: str
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        check: name of the check.
        severity: one of `SEVERITIES`.
        split: name of the split; empty for several splits.
        count: rows (or labels, as the message says) with the finding.
        total: rows (or labels) that were checked.
        message: the finding, and what to do.
        rows: at most 1,000 rows.
    """

    check: str
    severity: str
    split: str
    count: int
    total: int
    message: str
    rows: list[RowReference] = field(default_factory=list)


@dataclass(frozen=True)
class DataCheck:
    """All findings, the most severe first, and counts of the data."""

    findings: list[Finding]
    summary: dict[str, Any]

    @property
    def status(self) -> str:
        """`errors`, `warnings` or `ok` (notes at most)."""
        found = {finding.severity for finding in self.findings}
        return "errors" if "error" in found else "warnings" if "warning" in found else "ok"

    def to_dict(self) -> dict[str, Any]:
        """The content of `check.json`."""
        return {"status": self.status, **asdict(self)}


def plural(count: int, noun: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def listed(items: Iterable[str], limit: int = 8) -> str:
    """The first items, and how many more there are."""
    texts = list(items)
    more = f" and {len(texts) - limit:,} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def shortened(text: str, limit: int = TEXT_SHOWN) -> str:
    """At most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def share(count: int, total: int) -> str:
    """`3.7%`; a small share is `<0.1%`, never `0.0%`."""
    return "<0.1%" if 0 < count < 0.001 * total else f"{count / total:.1%}"
