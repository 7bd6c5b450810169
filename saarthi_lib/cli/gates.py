"""Options and exit codes of commands that are checks in continuous integration."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from saarthi_lib.cli.console import errors, plain, say_line
from saarthi_lib.errors import InputError

if TYPE_CHECKING:
    from saarthi_lib.reports.gates import Check

AtLeastOption = Annotated[
    list[str],
    Option(
        help="Lowest value of a metric: main=0.9, language.hindi.main=0.85; repeatable.",
        metavar="NAME=NUMBER",
    ),
]
JunitOption = Annotated[
    Path | None, Option("--junit", help="Write the checks here, as JUnit XML.", metavar="FILE.xml")
]
MarkdownOption = Annotated[
    bool, Option("--markdown", help="Answer in Markdown, as for the summary of a job.")
]


def check_forms(junit: Path | None, markdown: bool, json_: bool, checks: str) -> None:
    """Refuse two forms of the output, and a report of checks without checks.

    Raises:
        InputError: names the options.
    """
    if markdown and json_:
        raise InputError("--markdown and --json are two forms of the output: give one of them")
    if junit and not checks:
        raise InputError(
            "--junit reports checks: add --at-least (evaluate), --fail-on-loss (compare)"
        )


def say_markdown(text: str) -> None:
    """Print Markdown exactly, line by line."""
    for line in text.splitlines(keepends=True):
        say_line(line)


def end_with(checks: "Sequence[Check]", suite: str, junit: Path | None) -> None:
    """Write the report of checks; print those that failed, and exit with 1 if there are any."""
    if junit:
        from saarthi_lib.reports.gates import write_junit

        write_junit(junit, suite, checks)
    failed = [check for check in checks if check.reason]
    for check in failed:
        errors.print(
            f"[bold red]failed:[/] {plain(f'{check.name}: {check.reason}')}", soft_wrap=True
        )
    if failed:
        raise typer.Exit(1)
