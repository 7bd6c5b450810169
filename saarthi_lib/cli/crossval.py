"""`saarthi crossval`: the quality of a small bot, with every row tested once."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from saarthi_lib import logs
from saarthi_lib.cli.configuration import RUNS, checked_source, name_of, read_configuration
from saarthi_lib.cli.console import SetOption, console, plain, relative, say, show_table, table
from saarthi_lib.cli.errors import show_fixes
from saarthi_lib.cli.sweep import EVENT_STYLES
from saarthi_lib.reports.page import percent

if TYPE_CHECKING:
    from saarthi_lib.evaluation.details import Share
    from saarthi_lib.sweep.crossval import CrossvalResults
    from saarthi_lib.sweep.plan import SweepRun


def crossval(
    source: Annotated[
        str,
        Argument(
            help="A YAML configuration, or a folder or file of data.", metavar="CONFIG.yaml|DATA"
        ),
    ],
    folds: Annotated[int, Option(min=2, max=50, help="Models; each is tested on one fold.")] = 5,
    output: Annotated[
        Path | None, Option(help="Folder for the results; default: the run's, with -crossval.")
    ] = None,
    jobs: Annotated[int, Option(min=1, help="Folds at once; they share the cores.")] = 1,
    settings: SetOption = [],  # noqa: B006
) -> None:
    """Answer every row by a model that has not seen it, and show quality and errors.

    For small bots, whose test split is too small to measure. Rows of one text or group stay in one
    fold. Run it again after an interruption: finished steps are reused. Rows of a test file are
    not used.

    Examples:

      saarthi crossval my-data

      saarthi crossval my.yaml --folds 10 --jobs 2 --output runs/my-folds
    """
    from saarthi_lib.config import TRIAL, require
    from saarthi_lib.runs.folder import at_work
    from saarthi_lib.settings import read_settings
    from saarthi_lib.sweep.crossval import PAGE, collect_crossval, plan_crossval
    from saarthi_lib.sweep.execute import execute

    logs.configure()
    config = read_configuration(checked_source(source), None, read_settings(settings))
    require(config, "input_path")
    output = output or Path(f"{config.root_output_path or RUNS / name_of(source)}-crossval")
    with at_work(output):
        planned = plan_crossval(config, folds, output)
        runs, done = list(planned.runs.values()), 0

        def show(event: str, run: "SweepRun", text: str) -> None:
            nonlocal done
            done += event in ("finished", "failed")
            style = EVENT_STYLES[event]
            say(f"[{style}]{event:>8}[/] {done}/{len(runs)}  {plain(run.name)}  {plain(text)}")

        if failed := execute(runs, output, jobs, show):
            say(f"failed: {', '.join(failed)}; fix the cause, and run the same command again")
            raise typer.Exit(1)
        results = collect_crossval(planned, output)
    _show(results)
    if config.fast_dev_run:
        say(f"[bold yellow]{TRIAL}[/]")
    say(f"page: {relative(output / PAGE)}, with predictions.parquet and crossval.json next to it")


def _show(results: "CrossvalResults") -> None:
    metric = results["metric"]
    made = table("part", "rows", metric, "95% interval", numbers=("rows", metric, "95% interval"))
    made.add_row("all", f"{results['examples']:,}", *_interval(results["main"]))
    for row in results["languages"] if len(results["languages"]) > 1 else ():
        made.add_row(plain(row["name"]), f"{row['examples']:,}", *_interval(row["main"]))
    for fold in results["folds"]:
        made.add_row(f"fold {fold['fold']}", f"{fold['examples']:,}", *_interval(fold["main"]))
    made.add_row("teachers", f"{results['examples']:,}", *_interval(results["teacher"]))
    console.print()
    show_table(made)
    for note in results["notes"]:
        say(plain(note))
    show_fixes(results["errors"])


def _interval(share: "Share") -> tuple[str, str]:
    return percent(share["share"]), f"{percent(share['low'])} to {percent(share['high'])}"
