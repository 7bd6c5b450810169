"""The page of the data check: one self-contained HTML file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saarthi_lib.data.check.findings import SEVERITIES, DataCheck, plural
from saarthi_lib.evaluation.summary import TASKS
from saarthi_lib.reports.figures import GRID, INK, SERIES, as_svg, new_figure, shorten
from saarthi_lib.reports.page import write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS_SHOWN = 20
LABELS_DRAWN = 30
LANGUAGES_NAMED = 4
LONGEST_NAME = 26  # characters
WIDTH = 5.4  # of a figure, in inches

_MARKS = {"errors": "✕", "warnings": "!", "ok": "✓"}


def summarize_check(check: DataCheck) -> str:
    """Say in one sentence whether the data are ready for training."""
    counts = Counter(finding.severity for finding in check.findings)
    if number := counts["error"]:
        return f"The data are not ready for training: fix {plural(number, 'error')} first."
    if number := counts["warning"]:
        return f"The data are ready for training, with {plural(number, 'warning')} to read first."
    return "The data are ready for training."


def write_check_report(path: Path, check: DataCheck) -> None:
    """Write the page, atomically.

    Args:
        path: HTML file to write.
        check: result of `check_data`.

    Raises:
        OSError: the file cannot be written.
    """
    summary = check.summary
    by_severity = {
        severity: [finding for finding in check.findings if finding.severity == severity]
        for severity in SEVERITIES
    }
    write_page(
        path,
        "check.html.j2",
        status=check.status,
        headline=summarize_check(check),
        mark=_MARKS[check.status],
        task=TASKS[summary["task"]],
        by_severity={severity: found for severity, found in by_severity.items() if found},
        counts={severity: len(found) for severity, found in by_severity.items()},
        summary=summary,
        cards=_cards(summary),
        rows_shown=ROWS_SHOWN,
        figures=_figures(summary),
        tables=_tables(summary),
    )


def _cards(summary: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """Name, number of rows and largest languages of each split."""
    cards = []
    for split, rows in summary["rows"].items():
        languages = Counter(summary["languages"].get(split, {}))
        largest = [f"{name} {count:,}" for name, count in languages.most_common(LANGUAGES_NAMED)]
        more = len(languages) - len(largest)
        cards.append((split, rows, " · ".join([*largest, *([f"{more} more"] if more else [])])))
    return cards


def _figures(summary: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """Title, note and drawing of each figure."""
    figures = []
    for kind, names in summary["names"].items():
        shown = _all_of(names["splits"])
        if shown:
            more = f"the first {LABELS_DRAWN} of {len(shown)}" if len(shown) > LABELS_DRAWN else ""
            drawing = _names_figure(kind, names, shown[:LABELS_DRAWN])
            figures.append((f"Share of each {kind} by split", more, drawing))
    if len(_all_of(summary["languages"])) > 1:
        drawing = _languages_figure(summary["languages"])
        figures.append(("Rows of each language by split", "", drawing))
    if summary["lengths"]:
        drawing = _lengths_figure(summary["lengths"]["histogram"], summary["max_seq_len"])
        figures.append(("Lengths", "the last step includes the longest 0.1%", drawing))
    return figures


def _tables(summary: Mapping[str, Any]) -> list[tuple[str, list[str], list[tuple[str, list[int]]]]]:
    """Title, columns and rows of each table: languages, and the names of each head."""
    tables = {"Rows of each language": summary["languages"]}
    for kind, names in summary["names"].items():
        by_language = names["languages"] if len(names["languages"]) > 1 else {}
        title = f"{names['unit'].capitalize()}s of each {kind}"
        tables[title] = {**names["splits"], **by_language}
    return [
        (
            title,
            list(columns),
            [(name, [each.get(name, 0) for each in columns.values()]) for name in _all_of(columns)],
        )
        for title, columns in tables.items()
    ]


def _all_of(columns: Mapping[str, dict[str, int]]) -> list[str]:
    """Names of all columns, in the order of their first occurrence."""
    return list(dict.fromkeys(name for counts in columns.values() for name in counts))


def _names_figure(kind: str, names: Mapping[str, Any], shown: Sequence[str]) -> Any:
    """Bars: share of each name in each split."""
    shares = {
        split: [100 * counts.get(name, 0) / max(sum(counts.values()), 1) for name in shown]
        for split, counts in names["splits"].items()
    }
    figure, axes = _bars(shown, shares)
    axes.set_xlabel(f"{names['unit']}s of the split, %")
    return as_svg(figure, f"names of {kind}", f"Share of each {kind} in each split")


def _languages_figure(languages: Mapping[str, dict[str, int]]) -> Any:
    shown = sorted(_all_of(languages))
    figure, axes = _bars(
        shown,
        {split: [counts.get(name, 0) for name in shown] for split, counts in languages.items()},
    )
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlabel("rows (logarithmic)")
    return as_svg(figure, "languages", "Rows of each language in each split")


def _bars(names: Sequence[str], series: Mapping[str, list[float]]) -> tuple["Figure", "Axes"]:
    """Horizontal bars: one group per name, one colour per split, the first name at the top."""
    inches = 0.9 + len(names) * max(0.2, 0.11 * len(series))
    figure, (axes,) = new_figure(rows=1, width=WIDTH, height=inches)
    height = 0.8 / len(series)
    for number, (split, values) in enumerate(series.items()):
        places = np.arange(len(values)) - 0.4 + height * (number + 0.5)
        axes.barh(places, values, height=0.9 * height, color=SERIES[number], label=split)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), [shorten(name, LONGEST_NAME) for name in names])
    figure.legend(frameon=False, loc="outside upper right", ncols=len(series))
    return figure, axes


def _lengths_figure(histogram: Mapping[str, Any], max_seq_len: int) -> Any:
    """Distribution of the texts' lengths in each split, with a line at the maximum length."""
    figure, (axes,) = new_figure(rows=1, width=WIDTH, height=2.6)
    for number, (split, counts) in enumerate(histogram["counts"].items()):
        shares = [100 * count / max(sum(counts), 1) for count in counts]
        axes.stairs(shares, histogram["edges"], color=SERIES[number], label=split, linewidth=1.6)
    axes.axvline(max_seq_len, color=INK, linestyle="--", linewidth=1, label="max_seq_len")
    axes.set_xlim(0, 1.04 * max(histogram["edges"][-1], max_seq_len))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens of a text")
    axes.set_ylabel("texts of the split, %")
    figure.legend(frameon=False, loc="outside upper right", ncols=2)
    return as_svg(figure, "lengths", f"Lengths of the texts; max_seq_len is {max_seq_len}")
