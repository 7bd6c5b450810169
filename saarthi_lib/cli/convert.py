"""`saarthi convert`."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from saarthi_lib import logs
from saarthi_lib.cli.console import (
    JsonOption,
    plain,
    relative,
    say,
    say_json,
    show_table,
    table,
)

if TYPE_CHECKING:
    from saarthi_lib.data.conversion import Conversion

_SHOWN = 5  # most refused rows shown


def convert(
    source: Annotated[
        str,
        Argument(
            help="Folder, file or address of an export; unpack a ZIP first.", metavar="SOURCE"
        ),
    ],
    destination: Annotated[
        Path, Argument(help="A new or empty folder for the JSON lines.", metavar="DESTINATION")
    ],
    text_column: Annotated[
        str, Option(help="Field of the text, if an export has several texts.")
    ] = "",
    label_column: Annotated[
        str, Option(help="Field of the label or of the tags, if an export has several.")
    ] = "",
    all_answers: Annotated[
        bool, Option("--all-answers", help="Also rows that were not accepted (Prodigy).")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Convert the export of another tool, or other data, to JSON lines, with a report.

    Reads all formats of training, and Rasa, Dialogflow, CLU, LUIS, Label Studio, doccano, Prodigy,
    Wit.ai, Snips, Amazon Lex, spaCy, Hugging Face data sets, MASSIVE, MultiATIS++, ATIS and
    GermEval. Writes train.jsonl and other splits, transfer.txt with synonyms, and conversion.json:
    the rows that were refused, and the parts that are not carried over, each with file and place.
    `saarthi train` and `saarthi check` read the same data directly.

    Examples:

      saarthi convert my-rasa-bot my-data

      saarthi convert project.json my-data --json

      saarthi convert label-studio.json my-data --label-column intent
    """
    from saarthi_lib.data.cloud import fetch, is_remote
    from saarthi_lib.data.conversion import convert
    from saarthi_lib.data.formats import Columns

    logs.configure()
    columns = Columns(text=text_column, label=label_column)
    with TemporaryDirectory(prefix="saarthi-convert-") as scratch:
        place = Path(source)
        if is_remote(source):
            place = Path(scratch) / "export"
            fetch(source, place)
        made = convert(place, destination, columns, name=source, all_answers=all_answers)
    if json_:
        say_json(vars(made))
    else:
        _show(made, destination)


def _show(made: "Conversion", destination: Path) -> None:
    """Print the report of a conversion."""
    from saarthi_lib.data.exports.registry import EXPORTS

    if made.export:
        say(f"export of [bold]{EXPORTS[made.export].title}[/]")
    shown = table("carried over", "count", numbers=("count",))
    for split, count in made.rows.items():
        shown.add_row(f"rows of {split}", f"{count:,}")
    for name, count in made.carried.items():
        if count:
            shown.add_row(name, f"{count:,}")
    if made.synonyms:
        shown.add_row("synonyms", f"{len(made.synonyms):,}")
        shown.add_row("sentences with synonyms (transfer)", f"{made.transfer:,}")
    show_table(shown)
    if made.left:
        shown = table("not carried over as written", "count", "first place", numbers=("count",))
        for kind, found in made.left.items():
            shown.add_row(plain(kind), f"{found['count']:,}", plain(found["places"][0]))
        show_table(shown)
    if made.refused_count:
        say(f"[yellow]{made.refused_count} rows were refused:[/]")
        for place in made.refused[:_SHOWN]:
            say(f"  {plain(place)}")
    say(f"written: {relative(destination)}; the whole report: conversion.json in it")
