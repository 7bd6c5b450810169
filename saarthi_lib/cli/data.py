"""`saarthi check`: check data before training."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from saarthi_lib import logs
from saarthi_lib.cli.configuration import checked_source, read_configuration
from saarthi_lib.cli.console import (
    JsonOption,
    SetOption,
    console,
    plain,
    relative,
    say,
    say_json,
    show_table,
    table,
)

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def check(
    source: Annotated[
        str,
        Argument(
            help="A folder or file of data, an address (s3://…) or a YAML configuration.",
            metavar="DATA",
        ),
    ],
    task: Annotated[str | None, Option(help="Task to train for; default: detected.")] = None,
    report: Annotated[Path, Option(help="File for the HTML page.")] = Path("check.html"),
    strict: Annotated[bool, Option("--strict", help="Fail on warnings too.")] = False,
    json_: JsonOption = False,
    settings: SetOption = [],  # noqa: B006
) -> None:
    """Check data before training; fails if a run would stop.

    Examples:

      saarthi check data/my-bot

      saarthi check my.yaml --strict --json

      saarthi check s3://bucket/my-bot --task joint --report check.html --set language=hindi
    """
    from saarthi_lib.data.preprocess import stopping
    from saarthi_lib.reports.data_check import summarize_check
    from saarthi_lib.settings import read_settings
    from saarthi_lib.steps import check_data

    logs.configure()
    given = ({"task": task} if task else {}) | read_settings(settings)
    config = read_configuration(checked_source(source), None, given)
    found = check_data(config, report)
    stops = bool(stopping(found, config))
    if json_:
        say_json(found.to_dict())
    else:
        made = table("severity", "split", "rows", "finding", numbers=("rows",))
        for finding in found.findings:
            severity = f"[{_STYLES[finding.severity]}]{finding.severity}[/]"
            message = f"[bold]{finding.check}:[/] {plain(finding.message)}"
            made.add_row(severity, plain(finding.split or "all"), f"{finding.count:,}", message)
        if found.findings:
            show_table(made)
        say(f"page: {relative(report)}")
        console.print(plain(summarize_check(found)), style="bold")
        if config.data_check != "errors":
            say(f"data_check: {config.data_check}: a run {'stops' if stops else 'goes on'}")
    if stops or (strict and found.status in ("errors", "warnings")):
        raise typer.Exit(1)
