"""Commands on bundles: predict, evaluate, serve, verify, card, sign, publish."""

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from saarthi_lib.cli.console import (
    BundleArgument,
    JsonOption,
    console,
    errors,
    plain,
    say,
    say_json,
    show_table,
    table,
)
from saarthi_lib.cli.results import METRIC_NAMES, answer_line, calibration_line
from saarthi_lib.errors import InputError
from saarthi_lib.reports.page import percent

app = typer.Typer(help="Model bundles.", no_args_is_help=True)


def predict(
    bundle: BundleArgument,
    text: Annotated[str | None, Argument(help="A text.", metavar="TEXT")] = None,
    lang: Annotated[str | None, Option(help="Its language, such as hindi.")] = None,
    top_k: Annotated[int, Option(min=1, help="Labels to show.")] = 1,
    file: Annotated[Path | None, Option(help="A CSV, TSV or Parquet table.")] = None,
    output: Annotated[Path | None, Option(help="File for the answered table.")] = None,
    text_column: Annotated[str | None, Option(help="Name of the column of text.")] = None,
    json_: JsonOption = False,
) -> None:
    """Answer a text, or a table of texts.

    Examples:

      saarthi predict runs/intents/bundle-int8 "turn on the kitchen lights"

      saarthi predict runs/ner/bundle-int8 "रसोई की लाइट जलाओ" --lang hindi --json

      saarthi predict runs/intents/bundle-int8 --file rows.csv --output answered.csv
    """
    from saarthi_lib.inference.predictor import Predictor

    if (text is None) == (file is None):
        raise InputError("give either a text or --file")
    if file is not None:
        if output is None:
            raise InputError("--file needs --output, the path of the answered table")
        rows = _with_progress(bundle, file, output, text_column)
        say(f"{rows} rows answered: {plain(output)}")
        return
    answer = Predictor.load(bundle).predict([str(text)], [lang], top_k)[0].to_dict()
    if json_:
        say_json(answer)
    else:
        say(answer_line(answer))


def evaluate(
    bundle: BundleArgument,
    file: Annotated[Path, Argument(help="A labelled file.", metavar="FILE")],
    json_: JsonOption = False,
) -> None:
    """Score a bundle on a labelled file, overall and by language.

    Example:

      saarthi evaluate runs/intents/bundle-int8 test.jsonl --json
    """
    from saarthi_lib.evaluation.tabular import evaluate_file
    from saarthi_lib.inference.predictor import Predictor

    metrics = evaluate_file(Predictor.load(bundle), file)
    if json_:
        say_json(metrics)
        return
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


@app.command("verify")
def bundle_verify(
    bundle: BundleArgument,
    keys: Annotated[
        list[Path],
        Option(
            "--key", help="Trusted public key (PEM, Ed25519); one must have signed; repeatable."
        ),
    ] = [],  # noqa: B006
) -> None:
    """Check every file of a bundle against its digest, and the bundle against its signature.

    Examples:

      saarthi bundle verify runs/intents/bundle-int8

      saarthi bundle verify runs/intents/bundle-int8 --key public.pem
    """
    from saarthi_lib.bundle import verify_bundle

    manifest = verify_bundle(bundle, keys)
    signed = ", signed by a trusted key" if keys else ""
    trial = ", trial run" if manifest.trial else ""
    console.print(
        f"{manifest.name} version {manifest.version} ({manifest.task}, {manifest.precision}, "
        f"{manifest.runtime}{trial}): {len(manifest.files)} files are unchanged{signed}"
    )


@app.command("card")
def bundle_card(bundle: BundleArgument) -> None:
    """Print a bundle's model card: use, training, metrics, limits, in Markdown.

    Example:

      saarthi bundle card runs/intents/bundle-int8 > README.md
    """
    from saarthi_lib.bundle.card import model_card

    typer.echo(model_card(bundle), nl=False)


@app.command("sign")
def bundle_sign(
    bundle: BundleArgument,
    key: Annotated[Path, Option(help="A private key (PEM, Ed25519).", metavar="KEY.pem")],
) -> None:
    """Sign a bundle; servers with the public key then accept only bundles signed by it.

    Private key: openssl genpkey -algorithm ed25519 -out key.pem;
    public key: openssl pkey -in key.pem -pubout -out public.pem

    Example:

      saarthi bundle sign runs/intents/bundle-int8 --key key.pem
    """
    from saarthi_lib.bundle import sign_bundle

    manifest = sign_bundle(bundle, key)
    console.print(f"{manifest.name} version {manifest.version}: signed")


@app.command("publish")
def bundle_publish(
    bundle: BundleArgument,
    destination: Annotated[
        str, Argument(help="A folder, s3:// or gs://bucket/folder.", metavar="DESTINATION")
    ],
) -> None:
    """Publish a bundle to DESTINATION/<name>/<version>, which never changes afterwards.

    Bundles of trial runs (fast_dev_run: true) are refused.

    Example:

      saarthi bundle publish runs/intents/bundle-int8 s3://my-bucket/bundles
    """
    from saarthi_lib.bundle.publishing import publish_bundle

    say(plain(publish_bundle(bundle, destination)))


def _with_progress(bundle: Path, file: Path, output: Path, text_column: str | None) -> int:
    from rich.progress import Progress

    from saarthi_lib.evaluation.tabular import predict_file
    from saarthi_lib.inference.predictor import Predictor

    with Progress(
        *Progress.get_default_columns()[:2], "{task.completed} rows", console=errors
    ) as progress:
        task = progress.add_task(file.name, total=None)
        rows = predict_file(
            Predictor.load(bundle),
            file,
            output,
            text_column=text_column,
            progress=lambda count: progress.advance(task, count),
        )
        progress.update(task, total=rows)
    return rows
