"""Terminal output of the deployment commands: tables, progress, questions."""

from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from deployment.state import Predictor

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def table_of(*columns: str) -> Table:
    """An empty table whose columns wrap instead of being cut."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def status_table(predictors: "list[Predictor]") -> Table:
    """Table of predictors, with a row for each stable version and canary."""
    table = table_of("predictor", "mode", "", "bundle", "traffic", "ready", "since")
    for predictor in predictors:
        shares = [100 - predictor.percent, predictor.percent]
        for index, workload in enumerate(predictor.workloads):
            ready = workload.ready and (predictor.pending is None or index > 0)
            detail = workload.detail if not workload.ready else predictor.pending or ""
            table.add_row(
                "" if index else predictor.name,
                "" if index else predictor.mode,
                "canary" if index else "stable",
                escape(workload.bundle),
                f"{shares[index]}%",
                f"[green]yes[/] ({workload.detail})" if ready else f"[red]no[/]: {escape(detail)}",
                workload.since,
            )
    return table


def as_json(predictors: "list[Predictor]") -> list[dict[str, Any]]:
    """Content of `saarthi rollout status --json`."""

    def workload(each: Any) -> dict[str, Any] | None:
        fields = ("name", "bundle", "version", "image", "ready", "detail", "since")
        return {field: getattr(each, field) for field in fields} if each else None

    return [
        {
            "name": each.name,
            "namespace": each.namespace,
            "mode": each.mode,
            "ready": each.settled,
            "pending": each.pending,
            "canary_percent": each.percent,
            "stable": workload(each.stable),
            "canary": workload(each.canary),
        }
        for each in predictors
    ]


def show(line: str) -> None:
    """Print a line of progress to stderr."""
    errors.print(line, style="dim", markup=False, soft_wrap=True)


def ask(question: str, yes: bool) -> None:
    """Ask before a change; exit with 1 unless the answer is yes."""
    if not yes and not typer.confirm(question, err=True):
        errors.print("nothing was changed")
        raise typer.Exit(1)
