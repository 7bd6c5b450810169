"""Commands on finished runs: `saarthi quantize`, `saarthi explain` and `saarthi compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.text import Text
from typer import Argument, Option

from saarthi_lib import logs
from saarthi_lib.cli.console import (
    HtmlOption,
    JsonOption,
    console,
    plain,
    relative,
    say,
    say_json,
    show_table,
    table,
)
from saarthi_lib.cli.gates import (
    JunitOption,
    MarkdownOption,
    check_forms,
    end_with,
    say_markdown,
)
from saarthi_lib.errors import ConfigError, InputError

if TYPE_CHECKING:
    from saarthi_lib.evaluation.explanation.rows import ExplainedRow, Explanations
    from saarthi_lib.reports.runs import ChangedAnswers, ComparedRuns

RunArgument = Annotated[Path, Argument(help="The folder of a finished run.", metavar="RUN")]

ROWS_SHOWN = 10
OTHER_RUNS = 3  # runs in a table besides the first one
LONGEST_HEAD = 16  # characters of a run's name; longer names are numbered
# Black text is readable on all of these, with any colors of the terminal.
FOR, AGAINST, NOTHING = (70, 190, 165), (240, 130, 110), (245, 245, 240)
FAINT = 0.05  # part of the strongest shade below which a word is not shaded


def quantize(
    run: RunArgument,
    to: Annotated[str, Option(help="int8 or float16.")] = "int8",
) -> None:
    """Quantize the student of a finished run again, into RUN/bundle-<precision>.

    Example:

      saarthi quantize runs/intents --to float16
    """
    from saarthi_lib.runs.finished import quantize_run

    logs.configure()
    say(relative(quantize_run(run, to)))


def explain(
    run: RunArgument,
    text: Annotated[str | None, Argument(help="A text.", metavar="TEXT")] = None,
    errors: Annotated[
        bool, Option("--errors", help="Explain the errors on the test split.")
    ] = False,
    model: Annotated[str, Option(help="student or teacher.")] = "student",
    method: Annotated[
        str | None, Option(help="integrated_gradients or leave_one_out; default: both.")
    ] = None,
    most: Annotated[
        int | None, Option("--most", min=1, help="Errors to explain; default: all.")
    ] = None,
    html: HtmlOption = None,
    json_: JsonOption = False,
) -> None:
    """Explain, word by word, why a run's student or teacher answers as it does.

    Green words support the answer, red words oppose it. With --errors, a page and a JSON file
    next to it explain all errors; by default, the page is RUN/errors-<model>.html.

    Examples:

      saarthi explain runs/intents "turn on the kitchen lights"

      saarthi explain runs/ner "रसोई की बत्ती जला दो" --model teacher --html why.html

      saarthi explain runs/intents --errors --most 100
    """
    from saarthi_lib.evaluation.explanation.attribution import METHODS
    from saarthi_lib.reports.explanations import write_explanations
    from saarthi_lib.runs.finished import explain_run
    from saarthi_lib.storage import write_json

    if (text is None) == (not errors):
        raise InputError("give either a text or --errors")
    methods = [each for each in METHODS if method in (None, each)]
    if not methods:
        raise InputError(f"--method {method}: must be one of {', '.join(METHODS)}")
    logs.configure()
    found = explain_run(run, model, methods, text=text, most=most)
    content = {"figures": found.metrics, "rows": found.rows}
    html = html or (run / f"errors-{model}.html" if errors else None)
    if html is not None:
        title = f"Why the {model} of {run.resolve().name} answers as it does"
        write_explanations(html, found, title)
    if html is not None and errors:
        write_json(html.with_suffix(".json"), content)
    if json_:
        say_json(content if errors else found.rows[0])
    else:
        _show_explanations(found, model, errors, html)


def compare(
    runs: Annotated[list[Path], Argument(help="Folders of finished runs.", metavar="RUN RUN …")],
    fail_on_loss: Annotated[
        bool, Option("--fail-on-loss", help="Exit with 1 if a run is worse than the first one.")
    ] = False,
    html: HtmlOption = None,
    junit: JunitOption = None,
    markdown: MarkdownOption = False,
    json_: JsonOption = False,
) -> None:
    """Compare finished runs with the first one: settings, metrics, and changed answers.

    A run is worse if its main metric is lower on the same test texts, or if it loses answers in a
    language by more than chance (p < 0.05). Where the test texts differ in part, the right answers
    to the common ones decide.

    Examples:

      saarthi compare runs/before runs/after

      saarthi compare runs/* --html runs.html

      saarthi compare runs/before runs/after --fail-on-loss --markdown >> "$GITHUB_STEP_SUMMARY"
    """
    from saarthi_lib.reports.gates import check_losses, comparison_as_markdown
    from saarthi_lib.reports.runs import compare_runs, read_runs, write_comparison_of_runs

    check_forms(junit, markdown, json_, "--fail-on-loss" if fail_on_loss else "")
    if len(runs) < 2:
        raise ConfigError("give two runs or more")
    compared = compare_runs(read_runs(runs))
    checks = check_losses(compared) if fail_on_loss else []
    if html is not None:
        write_comparison_of_runs(html, compared)
    if json_:
        say_json(compared)
    elif markdown:
        say_markdown(comparison_as_markdown(compared, checks))
    else:
        _show_compared(compared)
        if html is not None:
            say(f"page: {plain(html)}")
    end_with(checks, "saarthi compare", junit)


def _show_explanations(found: "Explanations", model: str, errors: bool, html: Path | None) -> None:
    """Print the first explanations, and for errors their metrics."""
    for row in found.rows[:ROWS_SHOWN]:
        _show_explained(row, model)
    if errors:
        say(plain(found.about))
        for name, value in found.metrics.items():
            interval = f"{value['low']:.3f} to {value['high']:.3f}"
            console.print(f"  {name.replace('_', ' ')}: {value['mean']:.3f} ({interval})")
    if html is not None:
        say(f"page: {plain(html)}")


def _show_explained(row: "ExplainedRow", model: str) -> None:
    from saarthi_lib.reports.explanations import METHOD_NAMES, about_text, gold_text, shades

    gold = gold_text(row)
    console.print(Text(row["text"], style="bold"), Text(f"  gold: {gold}" if gold else ""))
    for answer in row["models"][model]:
        concerned = about_text(row, answer)
        answered = f"{concerned}: {answer['answer']}" if concerned else answer["answer"]
        console.print(Text(f"  {answered}  {100 * answer['probability']:.1f}%"))
        for method, scores in answer["scores"].items():
            words = [Text(t, style=_style(shade)) for t, shade in shades(row, answer, method)]
            name = Text(f"    {METHOD_NAMES[method]:22}", style="dim")
            console.print(name, Text.assemble(*words), sep="", soft_wrap=True)
            ranked = sorted(zip(row["words"], scores, strict=True), key=lambda pair: -abs(pair[1]))
            strongest = ", ".join(f"{word} {score:+.2f}" for word, score in ranked[:5])
            console.print(Text(f"    {'':22}{strongest}", style="dim"), soft_wrap=True)
    console.print()


def _style(strength: float) -> str:
    """Style of a word: from no shade at 0 to the full color at 1 (for) and -1 (against)."""
    part = abs(strength)
    if part < FAINT:
        return ""
    full = FOR if strength > 0 else AGAINST
    mixed = [round(f * part + n * (1 - part)) for f, n in zip(full, NOTHING, strict=True)]
    return f"black on rgb({mixed[0]},{mixed[1]},{mixed[2]})"


def _show_compared(compared: "ComparedRuns") -> None:
    from saarthi_lib.reports.runs import conclusion

    names = compared["runs"]
    heads = list(map(plain, names))
    if max(map(len, names)) > LONGEST_HEAD:
        heads = [str(number) for number in range(1, len(names) + 1)]
        for head, name in zip(heads, names, strict=True):
            say(f"run {head}: {plain(name)}")
        console.print()
    for start in range(1, len(names), OTHER_RUNS):
        chosen = {0: heads[0]} | dict(list(enumerate(heads))[start : start + OTHER_RUNS])
        _show_settings(compared, chosen)
        _show_metrics(compared, chosen)
    for flips in compared["flips"]:
        _show_flips(flips, names[0])
    console.print(plain(conclusion(compared)), style="bold")
    if len(compared["flips"]) < len(names) - 1:
        console.print("runs without predictions.parquet are not compared text by text")


def _show_settings(compared: "ComparedRuns", chosen: dict[int, str]) -> None:
    """Print different settings; `chosen` has the heads of some runs by their places."""
    if not compared["settings"]:
        console.print("different settings: none")
        return
    settings = table("setting", *chosen.values())
    for row in compared["settings"]:
        settings.add_row(plain(row["name"]), *(plain(_value(row["values"][run])) for run in chosen))
    show_table(settings)


def _show_metrics(compared: "ComparedRuns", chosen: dict[int, str]) -> None:
    """Print the metrics of some runs."""
    from saarthi_lib.reports.runs import metric_text

    metrics = table("metric", *chosen.values())
    for column in metrics.columns[1:]:
        column.justify = "right"
    styles = {None: "", True: "green", False: "yellow"}
    marks = {None: "  ", True: " ▲", False: " ▼"}
    for row in compared["figures"]:
        cells = [
            Text(
                f"{metric_text(row, row['values'][run])}{marks[row['better'][run]]}",
                style=styles[row["better"][run]],
            )
            for run in chosen
        ]
        metrics.add_row(plain(row["title"]), *cells)
    show_table(metrics)


def _show_flips(flips: "ChangedAnswers", first: str) -> None:
    """Print how many answers of a run differ from those of the first run, and some of them."""
    run = plain(flips["run"])
    if not flips["common"]:
        console.print(f"{run}: other test texts than {plain(first)}")
        return
    console.print(
        f"{run}: {flips['changed']} of {flips['common']} common test texts have another answer: "
        f"[green]{flips['won']} won[/], [yellow]{flips['lost']} lost[/] "
        f"(p = {flips['chance']:.2g} by McNemar's exact test)"
    )
    if flips["rows"]:
        made = table("text", "gold", plain(first), run, "effect")
        for row in flips["rows"][:ROWS_SHOWN]:
            answers = (row["text"], row["gold"], row["before"], row["after"], row["effect"])
            made.add_row(*map(plain, answers))
        show_table(made)


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
