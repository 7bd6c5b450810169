"""`saarthi explain` and `saarthi compare`: looking into finished runs."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from saarthi_lib import logs
from saarthi_lib.errors import ConfigError, InputError

console = Console(highlight=False)

RunArgument = Annotated[Path, typer.Argument(help="The folder of a finished run.", metavar="RUN")]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Write a page there too.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]

ROWS_SHOWN = 10
# Black text reads well on all of these, whatever the terminal's own colours are.
FOR, AGAINST, NOTHING = (70, 190, 165), (240, 130, 110), (245, 245, 240)
FAINT = 0.05  # of the strongest shade; what is fainter is not shaded


def explain(
    run: RunArgument,
    text: Annotated[str | None, typer.Argument(help="A text.", metavar="TEXT")] = None,
    errors: Annotated[
        bool, typer.Option("--errors", help="Explain what the run's test split shows wrong.")
    ] = False,
    model: Annotated[str, typer.Option(help="student or teacher.")] = "student",
    method: Annotated[
        str | None, typer.Option(help="integrated_gradients or leave_one_out; default: both.")
    ] = None,
    most: Annotated[
        int | None, typer.Option("--most", min=1, help="Errors to explain; default: all.")
    ] = None,
    html: HtmlOption = None,
    json_: JsonOption = False,
) -> None:
    """Explain, word by word, why a run's student or teacher answers as it does.

    Green words speak for the answer, red ones against it. With --errors, the page and a JSON file
    beside it hold all of them: by default RUN/errors-<model>.html.

    Examples:

      saarthi explain runs/intents "turn on the kitchen lights"

      saarthi explain runs/ner "रसोई की बत्ती जला दो" --model teacher --html why.html

      saarthi explain runs/intents --errors --most 100
    """
    from saarthi_lib.evaluation.attribution import METHODS
    from saarthi_lib.reports.explanations import write_explanations
    from saarthi_lib.runs.train import explain_run
    from saarthi_lib.storage import write_json

    if (text is None) == (not errors):
        raise InputError("give either a text or --errors")
    methods = [each for each in METHODS if method in (None, each)]
    if not methods:
        raise InputError(f"--method {method}: must be one of {', '.join(METHODS)}")
    logs.configure()
    described, measured, about = explain_run(run, model, methods, text=text, most=most)
    html = html or (run / f"errors-{model}.html" if errors else None)
    if html is not None:
        title = f"Why the {model} of {run.resolve().name} answers as it does"
        write_explanations(html, described, measured, title=title, about=about, methods=methods)
        if errors:
            content = {"figures": measured, "rows": described}
            write_json(html.with_suffix(".json"), content)
    if json_:
        found = {"figures": measured, "rows": described} if errors else described[0]
        console.print(json.dumps(found, ensure_ascii=False), soft_wrap=True, markup=False)
        return
    for row in described[:ROWS_SHOWN]:
        _show_explained(row, model)
    if errors:
        console.print(f"{about} {len(described)} are on the page.", soft_wrap=True)
        for name, value in measured.items():
            interval = f"{value['low']:.3f} to {value['high']:.3f}"
            console.print(f"  {name.replace('_', ' ')}: {value['mean']:.3f} ({interval})")
    if html is not None:
        console.print(f"page: {escape(str(html))}", soft_wrap=True)


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of finished runs.", metavar="RUN RUN …")
    ],
    html: HtmlOption = None,
    json_: JsonOption = False,
) -> None:
    """Hold finished runs against the first: settings, figures, and the answers that changed.

    Examples:

      saarthi compare runs/before runs/after

      saarthi compare runs/* --html runs.html
    """
    from saarthi_lib.reports.runs import compare_runs, read_runs, write_comparison_of_runs

    if len(runs) < 2:
        raise ConfigError("give two runs or more")
    compared = compare_runs(read_runs(runs))
    if html is not None:
        write_comparison_of_runs(html, compared)
    if json_:
        console.print(json.dumps(compared, ensure_ascii=False), soft_wrap=True, markup=False)
        return
    _show_compared(compared)
    if html is not None:
        console.print(f"page: {escape(str(html))}", soft_wrap=True)


def _show_explained(row: dict[str, Any], model: str) -> None:
    from saarthi_lib.reports.explanations import METHOD_NAMES, about_text, gold_text, shades

    gold = gold_text(row)
    console.print(Text(row["text"], style="bold"), Text(f"  gold: {gold}" if gold else ""))
    for answer in row["models"][model]:
        concerned = about_text(row, answer)
        answered = f"{concerned}: {answer['answer']}" if concerned else answer["answer"]
        console.print(Text(f"  {answered}  {100 * answer['probability']:.1f}%"))
        for method, scores in answer["scores"].items():
            line = Text(f"    {METHOD_NAMES[method]:22}", style="dim")
            shaded = [
                Text(t, style=_style(strength)) for t, strength in shades(row, answer, method)
            ]
            console.print(line, Text.assemble(*shaded), sep="", soft_wrap=True)
            ranked = sorted(zip(row["words"], scores, strict=True), key=lambda pair: -abs(pair[1]))
            told = ", ".join(f"{word} {score:+.2f}" for word, score in ranked[:5])
            console.print(Text(f"    {'':22}{told}", style="dim"), soft_wrap=True)
    console.print()


def _style(strength: float) -> str:
    part = abs(strength)
    if part < FAINT:
        return ""
    full = FOR if strength > 0 else AGAINST
    mixed = [round(f * part + n * (1 - part)) for f, n in zip(full, NOTHING, strict=True)]
    return f"black on rgb({mixed[0]},{mixed[1]},{mixed[2]})"


def _show_compared(compared: dict[str, Any]) -> None:
    names = compared["runs"]
    settings = Table("set otherwise", *map(escape, names), title=compared["task"])
    for row in compared["settings"]:
        settings.add_row(row["name"], *(escape(_value(value)) for value in row["values"]))
    if not compared["settings"]:
        settings.add_row("nothing", *[""] * len(names))
    console.print(settings)
    figures = Table("figure", *(escape(name) for name in names))
    for column in figures.columns[1:]:
        column.justify = "right"
    styles = {None: "", True: "green", False: "yellow"}
    marks = {None: "", True: " ▲", False: " ▼"}
    for row in compared["figures"]:
        cells = [
            Text(f"{_value(value)}{marks[better]}", style=styles[better])
            for value, better in zip(row["values"], row["better"], strict=True)
        ]
        figures.add_row(row["name"], *cells)
    console.print(figures)
    for flip in compared["flips"]:
        console.print(
            f"{escape(flip['run'])}: of {flip['common']} test texts in common {flip['changed']} "
            f"are answered otherwise: [green]{flip['won']} won[/], [yellow]{flip['lost']} lost[/] "
            f"(p = {flip['chance']:.2g} by McNemar's exact test)",
            soft_wrap=True,
        )
        if not flip["rows"]:
            continue
        table = Table("text", "gold", escape(names[0]), escape(flip["run"]), "effect")
        for row in flip["rows"][:ROWS_SHOWN]:
            said = (row["text"], row["gold"], row["before"], row["after"], row["effect"])
            table.add_row(*(escape(each) for each in said))
        console.print(table)
    if len(compared["flips"]) < len(names) - 1:
        console.print("runs without predictions.parquet are not compared text by text")


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
