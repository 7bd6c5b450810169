"""Commands that answer with bundles: predict, evaluate, serve."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from saarthi_lib import logs
from saarthi_lib.cli.console import (
    BundleArgument,
    JsonOption,
    console,
    errors,
    options_in_errors,
    plain,
    say,
    say_json,
    say_line,
    show_table,
    table,
)
from saarthi_lib.cli.gates import (
    AtLeastOption,
    JunitOption,
    MarkdownOption,
    check_forms,
    end_with,
    say_markdown,
)
from saarthi_lib.cli.results import answer_line, calibration_line
from saarthi_lib.errors import InputError
from saarthi_lib.reports.page import METRIC_NAMES, percent

if TYPE_CHECKING:
    from saarthi_lib.evaluation.scores import Scores
    from saarthi_lib.inference.answers import AnswerDict

TextColumnOption = Annotated[
    str, Option(help="Column of texts; default: that of the training data, or a usual name.")
]
ThresholdOption = Annotated[
    float | None,
    Option(min=0, max=1, help="Lowest confidence for an answer; default: the bundle's threshold."),
]
FormatOption = Annotated[str, Option(help="Format of the file; default: detected by content.")]


def predict(
    bundle: BundleArgument,
    text: Annotated[str | None, Argument(help="A text.", metavar="TEXT")] = None,
    lang: Annotated[str | None, Option(help="Its language, such as hindi.")] = None,
    top_k: Annotated[int, Option(min=1, help="Labels to show.")] = 1,
    file: Annotated[
        Path | None, Option(help="A table of texts, in any format of training data but CoNLL.")
    ] = None,
    output: Annotated[
        Path | None,
        Option(help="File for the answered table; its extension is the format. Default: print."),
    ] = None,
    text_column: TextColumnOption = "",
    language_column: Annotated[
        str, Option(help="Column of languages; default: as --text-column, if the file has one.")
    ] = "",
    data_format: FormatOption = "auto",
    threshold: ThresholdOption = None,
    prefix: Annotated[str, Option(help="Text before the names of the new columns.")] = "",
    json_: JsonOption = False,
) -> None:
    """Answer a text, or a table of texts.

    Each row of a table keeps its place and its columns; the new columns are prediction, entities or
    tokens, probability, confidence, threshold, abstained and reason. Rows without a text abstain.
    If the bundle has thresholds by language, a row's language selects its threshold.

    Examples:

      saarthi predict runs/intents/bundle-int8 "turn on the kitchen lights"

      saarthi predict runs/ner/bundle-int8 "रसोई की लाइट जलाओ" --lang hindi --json

      saarthi predict runs/intents/bundle-int8 --file rows.csv --output answered.csv

      saarthi predict runs/intents/bundle-int8 --file rows.parquet --top-k 3 --json
    """
    if (text is None) == (file is None):
        raise InputError("give either a text or --file")
    if file is None:
        given = {"--text-column": text_column, "--prefix": prefix, "--output": str(output or "")}
        given |= {"--language-column": language_column}
        given |= {"--data-format": data_format.removeprefix("auto")}
        _refuse(given, "needs --file; for a text, leave it out")
        answer = _answer_text(bundle, str(text), lang, top_k, threshold)
        if json_:
            say_json(answer)
        else:
            say(answer_line(answer))
        return
    _refuse({"--lang": lang}, "is for a text; for a table, give --language-column")
    _refuse({"--json": output and json_}, "is for printing; --output has its format by extension")
    options: dict[str, Any] = {"text_column": text_column, "data_format": data_format}
    options |= {"top_k": top_k, "prefix": prefix}
    options |= {"language_column": language_column, "threshold": threshold}
    if output is not None:
        rows = _answer_table(bundle, file, output, options)
        say(f"{rows} rows answered: {plain(output)}")
    else:
        _print_answers(bundle, file, options, "jsonl" if json_ else "csv")


def evaluate(
    bundle: BundleArgument,
    file: Annotated[Path, Argument(help="A labelled file.", metavar="FILE")],
    text_column: TextColumnOption = "",
    label_column: Annotated[str, Option(help="Column of labels; default: as --text-column.")] = "",
    tags_column: Annotated[
        str, Option(help="Column of tags or entities; default: as --text-column.")
    ] = "",
    language_column: Annotated[
        str, Option(help="Column of languages; default: as --text-column.")
    ] = "",
    language: Annotated[
        str, Option(help="Language of rows that lack one; default: as in training, or detected.")
    ] = "",
    data_format: FormatOption = "auto",
    max_malformed_share: Annotated[
        float | None,
        Option(min=0, max=1, help="Largest share of malformed rows, which are left out."),
    ] = None,
    at_least: AtLeastOption = [],  # noqa: B006
    junit: JunitOption = None,
    markdown: MarkdownOption = False,
    json_: JsonOption = False,
) -> None:
    """Score a bundle on a labelled file, overall and by language.

    Columns that the training data had are found by name. Metrics have the names of --json. The
    command exits with 1 if a metric is below its lowest value.

    Examples:

      saarthi evaluate runs/intents/bundle-int8 test.jsonl --json

      saarthi evaluate runs/joint/bundle-int8 test.tsv --tags-column slot_labels

      saarthi evaluate runs/intents/bundle-int8 golden.csv --at-least main=0.9 --junit report.xml
    """
    from saarthi_lib.evaluation.tabular import evaluate_file
    from saarthi_lib.inference.predictor import Predictor
    from saarthi_lib.reports.gates import check_metrics, scores_as_markdown

    check_forms(junit, markdown, json_, "--at-least" if at_least else "")
    logs.configure("WARNING")
    given = {"text_column": text_column, "label_column": label_column, "tags_column": tags_column}
    given |= {"language_column": language_column, "language": language, "data_format": data_format}
    fields: dict[str, Any] = {name: value for name, value in given.items() if value}
    if max_malformed_share is not None:
        fields["max_malformed_share"] = max_malformed_share
    with options_in_errors():
        predictor = Predictor.load(bundle)
        metrics = evaluate_file(predictor, file, **fields)
    checks = check_metrics(metrics, at_least)
    if json_:
        say_json(metrics)
    elif markdown:
        about = f"{predictor.manifest.name} version {predictor.manifest.version} on {file.name}"
        say_markdown(scores_as_markdown(about, metrics, checks))
    else:
        _show_scores(metrics)
    end_with(checks, f"saarthi evaluate {file.name}", junit)


def serve(context: typer.Context) -> None:
    """Serve bundles on a KServe model server; models are named after their bundles.

    Each setting of the server is an option; --help lists them.

    Examples:

      saarthi serve runs/intents/bundle-int8

      saarthi serve new=runs/2/bundle-int8 old=runs/1/bundle-int8 --playground

      curl -s 127.0.0.1:8080/predict -d '{"text": "turn on the lights"}'
    """
    from predictors.settings import parse

    arguments = parse(context.args, "saarthi serve", inspect.getdoc(serve))
    from predictors.server import serve as start

    start(**arguments)


def _show_scores(metrics: "Scores") -> None:
    """Print metrics by language, calibration, and labels that the bundle does not know."""
    names = {name: title for name, title in METRIC_NAMES.items() if name in metrics}
    made = table("language", *names.values(), "texts")
    for column in made.columns[1:]:
        column.justify = "right"
    for language, scores in {"all": metrics, **metrics["by_language"]}.items():
        values = (percent(dict[str, Any](scores)[name]) for name in names)
        made.add_row(plain(language), *values, str(scores["examples"]))
    show_table(made)
    console.print(calibration_line(metrics["calibration"]))
    if "unknown_labels" in metrics:
        unknown = ", ".join(metrics["unknown_labels"])
        errors.print(
            f"labels that the bundle does not know: {plain(unknown)}. Texts with such a label are "
            "out of scope; words with such a tag count as wrong",
            soft_wrap=True,
        )


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Refuse options that the command would ignore.

    Raises:
        InputError: names the first option that is given.
    """
    for name, value in options.items():
        if value:
            raise InputError(f"{name} {why}")


def _answer_text(
    bundle: Path, text: str, lang: str | None, top_k: int, threshold: float | None
) -> "AnswerDict":
    from saarthi_lib.inference.checks import check_top_k
    from saarthi_lib.inference.predictor import Predictor

    predictor = Predictor.load(bundle)
    check_top_k(predictor.task, top_k)
    return predictor.predict([text], [lang], top_k, threshold)[0].to_dict()


def _print_answers(bundle: Path, file: Path, options: Mapping[str, Any], kind: str) -> None:
    """Answer a table, and print the whole result; nothing if a row cannot be read."""
    with TemporaryDirectory(prefix="saarthi-predict-") as folder:
        answered = Path(folder) / f"answered.{kind}"
        _answer_table(bundle, file, answered, options)
        with answered.open(encoding="utf-8", newline="") as lines:
            for line in lines:
                say_line(line)


def _answer_table(bundle: Path, file: Path, output: Path, options: Mapping[str, Any]) -> int:
    """Answer a table, with a progress bar; report rows without an answer; return all rows."""
    from rich.progress import Progress

    from saarthi_lib.evaluation.tabular import predict_file
    from saarthi_lib.inference.predictor import Predictor

    bar = Progress(*Progress.get_default_columns()[:2], "{task.completed} rows", console=errors)
    with options_in_errors(), bar as progress:
        task = progress.add_task(plain(file.name), total=None)
        answered = predict_file(
            Predictor.load(bundle),
            file,
            output,
            **options,
            progress=lambda count: progress.advance(task, count),
        )
        progress.update(task, total=answered.rows)
    for rows, what in (
        (answered.empty, "without a text: no answer, reason empty_text"),
        (answered.cut, "longer than the model reads: answered without the end"),
        *((rows, f"{kind}: {message}") for kind, (rows, message) in answered.notes.items()),
    ):
        if rows.count:
            first = ", ".join(map(str, rows.first)) + (
                ", …" if rows.count > len(rows.first) else ""
            )
            many = "s" if rows.count > 1 else ""
            message = f"{plain(file)}: {rows.count} row{many} {plain(what)} (row{many} {first})"
            errors.print(message, soft_wrap=True)
    return answered.rows
