"""The console, and options that several commands share."""

import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from typer import Argument, Option

from saarthi_lib.errors import ConfigError, DataError, printable


class SafeConsole(Console):
    """A console that sends no control characters of texts, labels and names to the terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as rich does, and escape what is not rich's own."""
        for text, style, control in super().render(renderable, options):
            if control is None:
                text = "\n".join(map(printable, text.split("\n")))
            yield Segment(text, style, control)


console = SafeConsole()
errors = SafeConsole(stderr=True)

BundleArgument = Annotated[Path, Argument(help="A bundle's folder.", metavar="BUNDLE")]
HtmlOption = Annotated[Path | None, Option("--html", help="Also write an HTML page here.")]
JsonOption = Annotated[bool, Option("--json", help="Answer in JSON.")]
OverwriteOption = Annotated[
    bool, Option("--overwrite", help="Replace a finished run of other data or networks.")
]
SetOption = Annotated[
    list[str], Option("--set", help="Override a field: --set student_epochs=20; repeatable.")
]


def table(*columns: str, numbers: Collection[str] = (), title: str | None = None) -> Table:
    """A table that fits narrow terminals.

    Numbers stay whole, on the right of their columns. Other columns wrap, and break words only if
    they must.
    """
    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in columns:
        if name in numbers:
            made.add_column(name, justify="right", no_wrap=True)
        else:
            made.add_column(name, overflow="fold")
    return made


def show_table(made: Table) -> None:
    """Print a table and an empty line."""
    console.print(made)
    console.print()


def say(text: str) -> None:
    """Print text with rich's markup, without wrapping it at the terminal's width."""
    console.print(text, soft_wrap=True)


def say_json(content: Any) -> None:
    """Print a JSON value in one line, with escapes of JSON for control characters."""
    unicode = "utf" in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    typer.echo(printable_json(json.dumps(content, ensure_ascii=not unicode)))


def say_line(line: str) -> None:
    """Print a line of a table exactly; on a terminal, with escaped control characters."""
    if sys.stdout.isatty():
        line = printable(line.rstrip("\r\n")) + "\n"
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if encoding.lower().replace("-", "") == "utf8":
        typer.echo(line, nl=False)
    else:
        typer.echo(line.encode(), nl=False)  # as in files


def printable_json(text: str) -> str:
    """JSON of the same value without characters that control a terminal."""
    return "".join(c if printable(c) == c else f"\\u{ord(c):04x}" for c in text)


def plain(text: object) -> str:
    """Escape user text that rich would read as markup, or that controls a terminal."""
    return escape(printable(str(text)))


def relative(path: Path) -> str:
    """A path from the working directory if it lies there, ready to print."""
    here = Path.cwd()
    inside = path.is_absolute() and path.is_relative_to(here)
    return plain(path.relative_to(here) if inside else path)


_FIELD = re.compile(
    r"(?<![\w'\"-])(set )?((?:text|label|tags|language)_column|data_format|max_malformed_share)"
    r"(?![\w'\"])"
)


@contextmanager
def options_in_errors() -> Iterator[None]:
    """Name the options of a command where an error names fields of the configuration."""
    try:
        yield
    except (ConfigError, DataError) as error:
        raise type(error)(_FIELD.sub(_option, str(error))) from None


def _option(found: "re.Match[str]") -> str:
    return ("give " if found[1] else "") + "--" + found[2].replace("_", "-")
