"""`saarthi sweep`: train and compare many runs of one configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from saarthi_lib import logs
from saarthi_lib.cli.console import SetOption, plain, say, show_table, table
from saarthi_lib.errors import ConfigError
from saarthi_lib.reports.page import percent

if TYPE_CHECKING:
    from saarthi_lib.reports.ranking import Candidate
    from saarthi_lib.sweep.plan import SweepRun

EVENT_STYLES = {
    "started": "bold cyan",
    "finished": "bold green",
    "failed": "bold red",
    "running": "dim",
}


def sweep(
    config: Annotated[Path, Argument(help="A YAML configuration.", metavar="CONFIG.yaml")],
    over: Annotated[
        list[str], Option("--over", help="A field and its values: field=value,value; repeatable.")
    ] = [],  # noqa: B006
    seeds: Annotated[int, Option(min=0, help="Runs of each combination.")] = 0,
    output: Annotated[Path, Option(help="The sweep's folder.")] = Path("runs/sweep"),
    jobs: Annotated[int, Option(min=1, help="Runs at once; they share the cores.")] = 1,
    settings: SetOption = [],  # noqa: B006
    dry_run: Annotated[bool, Option("--dry-run", help="List the runs only.")] = False,
    katib: Annotated[str | None, Option(hidden=True)] = None,
    image: Annotated[str | None, Option(hidden=True)] = None,
) -> None:
    """Train every combination of some fields' values, and compare them.

    Steps that runs share (data, teacher, signals …) run once. Rerun after an interruption or with
    more values: finished steps are reused. Results are sorted by validation. The file may set
    `over:` (fields and lists of values) and `seeds:`.

    Examples:

      saarthi sweep my.yaml --over student_family=lstm,gru --over student_lstm_dim=64,128 --seeds 3

      saarthi sweep my.yaml --over student_preset=tiny,small --jobs 2 --output runs/sizes
    """
    from saarthi_lib.settings import overridden, read_over, read_settings, read_yaml
    from saarthi_lib.sweep.plan import plan_sweep

    if katib is not None or image is not None:
        raise ConfigError(
            "--katib and --image were removed. To sweep on a cluster, use 'saarthi pipeline submit "
            "--pipeline sweep'; to run several configurations at once on this machine, use --jobs"
        )
    fields = overridden(read_yaml(config), read_settings(settings))
    runs = plan_sweep(fields, read_over(over), seeds, output, str(config))
    if dry_run:
        _list(runs)
    else:
        logs.configure()
        _run(runs, output, jobs, config.stem)


def _run(runs: "Sequence[SweepRun]", output: Path, jobs: int, title: str) -> None:
    from saarthi_lib.config import TRIAL, require
    from saarthi_lib.data.detect import with_task
    from saarthi_lib.evaluation.metrics import MAIN_METRIC
    from saarthi_lib.sweep.execute import execute
    from saarthi_lib.sweep.results import collect, write_results

    require(runs[0].config, "input_path")
    task = with_task(runs[0].config).task
    trial = any(run.config.fast_dev_run for run in runs)
    title = f"trial run: {title}" if trial else title
    done = 0

    def show(event: str, run: "SweepRun", text: str) -> None:
        nonlocal done
        done += event in ("finished", "failed")
        style = EVENT_STYLES[event]
        say(f"[{style}]{event:>8}[/] {done}/{len(runs)}  {plain(run.name)}  {plain(text)}")

    failed = execute(runs, output, jobs, show)
    results = collect(runs, [run.name for run in runs if run.name not in failed])
    write_results(output, results, title, MAIN_METRIC[task])
    if results["configurations"]:
        _show_results(results["configurations"], MAIN_METRIC[task])
        say(f"{plain(output / 'sweep.html')}, with sweep.csv and sweep.json next to it")
    if trial:
        say(f"[bold yellow]{TRIAL}[/]")
    if failed:
        raise typer.Exit(1)


def _list(runs: "Sequence[SweepRun]") -> None:
    for run in runs:
        varied = ", ".join(f"{field}={value}" for field, value in run.varied.items())
        say(plain(f"{run.name}  {varied}  seed={run.config.seed}"))
    teachers = len({run.teaching for run in runs})
    say(f"{len(runs)} runs, {teachers} teacher{'s' if teachers > 1 else ''}")


def _show_results(rows: "Sequence[Candidate]", metric: str) -> None:
    heads = ("validation", "test", "kept", "MB", "p50 ms", "front")
    title = f"{metric}, best first by validation"
    made = table("configuration", *heads, numbers=heads, title=title)
    for row in rows:
        made.add_row(
            "\n".join(plain(f"{field} {value}") for field, value in row["varied"].items()),
            *(percent(row[key]) for key in ("validation_main", "test_main", "retention")),
            f"{row['size_bytes'] / 1e6:.2f}",
            f"{row['latency_ms']:.3f}",
            "yes" if row["pareto"] else "",
        )
    show_table(made)
