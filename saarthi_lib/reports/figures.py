"""Figures of the pages: inline SVG by Matplotlib that follows the page's light or dark colours."""

import re
from io import StringIO
from typing import TYPE_CHECKING, Any

from saarthi_lib.errors import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Matplotlib needs colours. In the finished SVG, the page's CSS variables replace these marks.
INK, GRID = "#010203", "#010204"
SERIES = ("#010301", "#010302", "#010303", "#010304", "#010305")
_CSS_COLOURS = {INK: "currentColor", GRID: "var(--line)"} | {
    mark: f"var(--series-{number})" for number, mark in enumerate(SERIES)
}


def new_figure(*, rows: int, width: float, height: float) -> tuple["Figure", list["Axes"]]:
    """Create a transparent figure of `rows` panels on a common x axis; sizes are in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    panels = list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])
    figure.patch.set_visible(False)
    for axes in panels:
        axes.patch.set_visible(False)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GRID)
        axes.tick_params(color=GRID, labelcolor=INK)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
    return figure, panels


def as_svg(figure: "Figure", name: str, description: str) -> Any:
    """Convert a figure to an SVG element that scales with its column and uses the page's colours.

    Args:
        figure: figure from `new_figure`.
        name: name that is unique on the page.
        description: text for screen readers.
    """
    import matplotlib
    from markupsafe import Markup, escape
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.text import Text

    buffer = StringIO()
    # Text stays text. The salt makes the identifiers of a figure unique on the page.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}):
        for text in figure.findobj(Text):
            text.set(color=INK)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    for mark, colour in _CSS_COLOURS.items():
        svg = svg.replace(mark, colour)
    label = f'<svg role="img" aria-label="{escape(description)}"'
    return Markup(svg.replace("<svg", label, 1))


def shorten(name: str, longest: int) -> str:
    """Cut a name to at most `longest` characters, for the labels of an axis."""
    return literal(name if len(name) <= longest else f"{name[: longest - 1]}…")


def literal(name: str) -> str:
    """A name in one line, which Matplotlib draws as it is: neither formula nor hidden."""
    name = printable(name.replace("\t", " ")).replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name
