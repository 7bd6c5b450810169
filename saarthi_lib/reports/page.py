"""Self-contained HTML pages: one style for all, and one format of numbers."""

from pathlib import Path
from typing import Any

from saarthi_lib.storage import whole_file

# Metrics by their keys in `metrics.json`, in the order of columns.
METRIC_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "token_accuracy": "accuracy by word",
    "span_precision": "precision",
    "span_recall": "recall",
    "span_f1": "span F1",
    "frame_accuracy": "right frames",
}


def write_page(path: Path, template: str, **content: Any) -> None:
    """Fill a template of this package and write the page, atomically.

    The template extends `page.html.j2`, which has the common styles. Jinja2 escapes every text.

    Args:
        path: HTML file to write.
        template: file name of the template.
        content: variables of the template.

    Raises:
        OSError: the file cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("saarthi_lib", "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "count": count,
        "megabytes": megabytes,
        "milliseconds": milliseconds,
        "seconds": seconds,
        "times": times,
        "sentence": sentence,
    }
    with whole_file(path) as aside:
        page = environment.get_template(template).render(**content)
        # The bytes of file names that are not UTF-8 are shown as escapes.
        aside.write_text(page, encoding="utf-8", errors="backslashreplace")


def sentence(text: str) -> str:
    """The text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


# Numbers for readers; a missing number is a dash.


def percent(value: float | None) -> str:
    """`0.123` is 12.3%."""
    return "–" if value is None else f"{100 * value:.1f}%"


def count(value: int | None) -> str:
    """`1_200_000` is 1.2M."""
    if value is None:
        return "–"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f}{unit}"
    return str(value)


def megabytes(value: int | None) -> str:
    """Bytes as megabytes; below 0.1 MB as kilobytes."""
    if value is None:
        return "–"
    return f"{value / 1e6:,.1f} MB" if value >= 1e5 else f"{value / 1e3:,.1f} KB"


def seconds(value: float) -> str:
    """One decimal; below 0.1 s as milliseconds."""
    return f"{value:.1f} s" if value >= 0.1 else milliseconds(1e3 * value)


def milliseconds(value: float | None) -> str:
    """Three significant digits."""
    return "–" if value is None else f"{value:.3g} ms"


def times(value: float | None) -> str:
    """A factor, such as 51×."""
    return "–" if value is None else f"{value:.0f}×" if value >= 10 else f"{value:.1f}×"
