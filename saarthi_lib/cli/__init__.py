"""The console command `saarthi`. Commands import their libraries when they run.

Each module has the commands of one group. `saarthi --help` is therefore instant.
"""

import os
import sys
from inspect import cleandoc
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer import Option
from typer.exceptions import TyperException

from deployment.commands import deploy, rollout
from saarthi_lib import __version__, logs
from saarthi_lib.cli import bundle, bundles, pipelines
from saarthi_lib.cli.console import console
from saarthi_lib.cli.console import errors as error_console
from saarthi_lib.cli.convert import convert
from saarthi_lib.cli.crossval import crossval
from saarthi_lib.cli.data import check
from saarthi_lib.cli.errors import errors
from saarthi_lib.cli.fields import fields
from saarthi_lib.cli.paths import refuse_addresses
from saarthi_lib.cli.runs import compare, explain, quantize
from saarthi_lib.cli.sweep import sweep
from saarthi_lib.cli.threshold import threshold
from saarthi_lib.cli.training import init, train
from saarthi_lib.errors import SaarthiError, printable, printable_lines

app = typer.Typer(
    help="Labelled text in, a tiny and fast language-understanding service out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        console.print(__version__)
        raise typer.Exit


@app.callback()
def saarthi(
    version: Annotated[
        bool, Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Labelled text in, a tiny and fast language-understanding service out."""


# In this order, `saarthi --help` shows them.
COMMANDS = (
    *(init, train, bundles.predict, bundles.evaluate, check, quantize, bundles.serve),
    *(errors, threshold, convert, explain, compare, rollout, sweep, crossval, fields),
)


def _flowing(docstring: str) -> str:
    """A docstring without line breaks inside paragraphs: typer would keep them."""
    paragraphs = cleandoc(docstring).split("\n\n")
    return "\n\n".join(
        each if each.startswith(" ") else each.replace("\n", " ") for each in paragraphs
    )


# The parser of the server reads the arguments of `serve`, with `--help`.
_PASSED: dict[str, Any] = {
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
    "options_metavar": "[OPTIONS] BUNDLE…",
    "add_help_option": False,
}
for command in COMMANDS:
    app.command(**(_PASSED if command is bundles.serve else {}))(command)
app.add_typer(pipelines.app, name="pipeline")
app.add_typer(bundle.app, name="bundle")
app.command(hidden=True, context_settings=_PASSED["context_settings"])(deploy)
refuse_addresses(app)
for group in (app, pipelines.app, bundle.app):
    for each in group.registered_commands:
        each.help = each.help or _flowing(each.callback.__doc__ or "")


def main() -> None:
    """Run the command line; an error that the user can fix exits with its message and code 2."""
    # OpenMP threads that spin for long at barriers make training many times slower on shared
    # cores. Set this before torch is loaded, here and in tasks.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # neither closed nor replaced
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(app(standalone_mode=False))
    except TyperException as error:  # wrong arguments
        from typer.rich_utils import rich_format_error

        error.message = "\n".join(map(printable, error.message.split("\n")))
        rich_format_error(error)  # type: ignore[arg-type]  # typer raises its private subclass
        sys.exit(error.exit_code)
    except SaarthiError as error:
        message = escape(printable_lines(str(error)))
        error_console.print(f"[bold red]error:[/] {message}", soft_wrap=True)
        sys.exit(logs.USER_ERROR)
    except KeyboardInterrupt:
        error_console.print(
            "interrupted: run the same command again to resume at the last finished step"
        )
        sys.exit(130)
