"""`saarthi errors`: wrong answers of a run, as a list of fixes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from saarthi_lib import logs
from saarthi_lib.cli.console import JsonOption, console, plain, relative, say, say_json

if TYPE_CHECKING:
    from saarthi_lib.evaluation.fixes.types import ErrorList, FixRow

FIXES_SHOWN, ROWS_SHOWN = 10, 3


def errors(
    run: Annotated[
        Path, Argument(help="The folder of a finished run or cross-validation.", metavar="RUN")
    ],
    json_: JsonOption = False,
) -> None:
    """Show what to fix next: errors on the test split by cause, with rows and an action.

    Causes are confused labels and entities, labels that are probably wrong, words that train
    lacks, and weak languages. --json has up to 50 rows of each.

    Examples:

      saarthi errors runs/my-bot

      saarthi errors runs/my-bot-crossval --json > errors.json
    """
    from saarthi_lib.config import TRIAL
    from saarthi_lib.evaluation.scores import read_metrics
    from saarthi_lib.layout import RunLayout
    from saarthi_lib.runs.finished import errors_of_run
    from saarthi_lib.sweep.crossval import PAGE, RESULTS, read_results

    logs.configure()
    if (run / RESULTS).is_file():
        results = read_results(run)
        found, trial, page = results["errors"], results["trial"], run / PAGE
    else:
        found, page = errors_of_run(run), RunLayout.of(run).report
        trial = read_metrics(run).get("trial", False)
    if json_:
        say_json(found)
        return
    show_fixes(found)
    if trial:
        say(f"[bold yellow]{TRIAL}[/]")
    say(f"page: {relative(page)}")


def show_fixes(found: "ErrorList") -> None:
    """Print the fixes, each with its action and its first rows."""
    from saarthi_lib.evaluation.calibration import wilson_interval

    texts, wrong = found["texts"], found["wrong"]
    low, high = wilson_interval(wrong, texts)
    interval = f" ({wrong / texts:.1%}; 95% interval {low:.1%} to {high:.1%})" if texts else ""
    console.print(f"{wrong:,} of {texts:,} texts have a wrong answer{interval}", style="bold")
    for number, fix in enumerate(found["fixes"][:FIXES_SHOWN], 1):
        console.print()
        say(f"[bold]{number:>2}  {plain(fix['title'])}[/]")
        say(f"    [green]{plain(fix['action'])}[/]")
        for row in fix["rows"][:ROWS_SHOWN]:
            say(f"      {_row(row)}")
        if (more := fix["count"] - ROWS_SHOWN) > 0:
            say(f"      [dim]… and {more:,} more[/]")
    console.print()
    if (more := len(found["fixes"]) - FIXES_SHOWN) > 0:
        say(f"… and {more:,} more fixes: --json has them all")
    if found["skipped"]:
        say(f"[yellow]{plain(found['skipped'])}[/]")


def _row(row: "FixRow") -> str:
    place = f"{row['file']}:{row['row']}  " if row["row"] is not None else ""
    note = f"  ({row['note']})" if row["note"] else ""
    answers = f"{plain(row['gold'])} → {plain(row['answer'])}"
    return f"[dim]{plain(place)}[/]{plain(row['text'])}  [cyan]{answers}[/][dim]{plain(note)}[/]"
