"""`saarthi threshold`: move a bundle's threshold, with its curve and effect."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from saarthi_lib import logs
from saarthi_lib.cli.bundles import FormatOption, TextColumnOption
from saarthi_lib.cli.console import (
    BundleArgument,
    HtmlOption,
    JsonOption,
    options_in_errors,
    plain,
    relative,
    say,
    say_json,
    show_table,
    table,
)
from saarthi_lib.errors import InputError
from saarthi_lib.layout import SIGNATURE

if TYPE_CHECKING:
    from saarthi_lib.evaluation.operating_point import Moved

ALL = "all"  # in place of a language
CURVE = ("threshold", "answered", "wrong answers", "95% interval")
LANGUAGES = ("language", "texts", "threshold", "answered", "right", "wrong")

FileArgument = Annotated[
    Path | None,
    Argument(help="A labelled file; default: the rows of the bundle's run.", metavar="FILE"),
]
RiskOption = Annotated[
    float | None,
    Option(min=0, max=1, help="Largest share of wrong answers, kept with 95% confidence."),
]
CoverageOption = Annotated[
    float | None, Option(min=0, max=1, help="Share of texts to answer, on average.")
]
ValueOption = Annotated[
    float | None, Option(min=0, max=1, help="The threshold itself; 0 answers everything.")
]
LanguageOption = Annotated[
    list[str],
    Option(help="Only for this language, such as hindi; repeatable. Default: for all."),
]
OutputOption = Annotated[
    Path | None, Option(help="Folder of the new bundle; default: a free name beside the old one.")
]
LabelColumnOption = Annotated[str, Option(help="Column of labels; default: as --text-column.")]
TagsColumnOption = Annotated[
    str, Option(help="Column of tags or entities; default: as --text-column.")
]
LanguageColumnOption = Annotated[
    str, Option(help="Column of languages; default: as --text-column.")
]


def threshold(
    bundle: BundleArgument,
    file: FileArgument = None,
    risk: RiskOption = None,
    coverage: CoverageOption = None,
    value: ValueOption = None,
    language: LanguageOption = [],  # noqa: B006
    output: OutputOption = None,
    text_column: TextColumnOption = "",
    label_column: LabelColumnOption = "",
    tags_column: TagsColumnOption = "",
    language_column: LanguageColumnOption = "",
    data_format: FormatOption = "auto",
    html: HtmlOption = None,
    json_: JsonOption = False,
) -> None:
    """Set the threshold below which a bundle abstains, without training.

    Writes a new bundle; the old one stays as it is. Without --risk, --coverage and --value, only
    shows the curve, and the effect of the present threshold.

    Examples:

      saarthi threshold runs/intents/bundle-int8

      saarthi threshold runs/intents/bundle-int8 --coverage 0.95

      saarthi threshold runs/intents/bundle-int8 labelled.csv --risk 0.05 --html threshold.html

      saarthi threshold runs/intents/bundle-int8 --value 0.4 --language hindi
    """
    logs.configure("WARNING")
    columns = {"text_column": text_column, "label_column": label_column, "tags_column": tags_column}
    columns |= {"language_column": language_column, "data_format": data_format}
    fields = {name: column for name, column in columns.items() if column}
    numbers = {"risk": risk, "coverage": coverage, "value": value}
    given = {kind: number for kind, number in numbers.items() if number is not None}
    with options_in_errors():
        moved = _moved(bundle, file, given, language, output, fields)
    if html is not None:
        from saarthi_lib.reports.threshold import write_threshold

        write_threshold(html, moved)
    if json_:
        bundles = {"source": str(moved.source), "bundle": moved.bundle and str(moved.bundle)}
        say_json({**asdict(moved), **bundles})
        return
    _show(moved)
    if html is not None:
        say(f"page: {plain(html)}")


def _moved(
    bundle: Path,
    file: Path | None,
    targets: Mapping[str, float],
    languages: Sequence[str],
    output: Path | None,
    fields: Mapping[str, Any],
) -> "Moved":
    """Write the new bundle, or only look at the old one without a target.

    Raises:
        InputError: several targets are given, or options that need one without it.
    """
    from saarthi_lib.evaluation.operating_point import Target, move_threshold, show_threshold

    if len(targets) > 1:
        raise InputError(f"give only one of {', '.join(f'--{kind}' for kind in targets)}")
    if not targets:
        if languages or output:
            name = "--language" if languages else "--output"
            raise InputError(f"{name} needs --risk, --coverage or --value")
        return show_threshold(bundle, file, **fields)
    [(kind, number)] = targets.items()
    target = Target(kind, number)
    return move_threshold(bundle, target, file, languages=languages, output=output, **fields)


def _show(moved: "Moved") -> None:
    """Print curve and effect, and then the bundle that was written."""
    from saarthi_lib.reports.threshold import curve_rows, effect_rows, language_rows, thresholds

    for language, points in moved.curves.items():
        title = f"thresholds on {moved.rows}{'' if language == ALL else f', {language}'}"
        curve = table(*CURVE, numbers=CURVE, title=plain(title))
        for row in curve_rows(points):
            curve.add_row(*row)
        show_table(curve)
    if moved.effect:
        now = ["before", "after"] if moved.bundle else ["now"]
        title = f"effect on {moved.effect[0]['texts']} texts of {moved.measured_on}"
        overall = table("", *now, title=plain(title))
        for name, *cells in effect_rows(moved.effect[0]):
            overall.add_row(name, *cells[: len(now)])
        show_table(overall)
    if len(moved.effect) > 1:
        by_language = table(*LANGUAGES, numbers=LANGUAGES[1:])
        for name, *cells in language_rows(moved.effect[1:]):
            by_language.add_row(plain(name), *cells)
        show_table(by_language)
    if moved.left_out:
        say(f"{moved.left_out} malformed rows of {plain(moved.rows)} are left out")
    if moved.bundle is None:
        say(f"threshold: {plain(thresholds(moved.before))}")
        return
    chosen = f", on {moved.chosen_on}" if moved.chosen_on else ""
    change = f"{thresholds(moved.before)} → {thresholds(moved.after)}"
    say(plain(f"threshold: {change} ({moved.target}{chosen})"))
    if moved.expected_coverage:
        low, high = (100 * limit for limit in moved.expected_coverage)
        say(f"of texts like those of {plain(moved.rows)}, {low:.0f} to {high:.0f}% are answered")
    say(f"bundle: {relative(moved.bundle)}")
    if (moved.source / SIGNATURE).is_file():
        say("the new bundle is not signed; sign it: saarthi bundle sign")
