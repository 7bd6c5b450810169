"""The command line. Commands import their libraries when they run, so `--help` is instant."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deployment.commands import deploy, rollout
from saarthi_lib import __version__, logs
from saarthi_lib.cli.runs import compare, explain
from saarthi_lib.cli.sweep import sweep
from saarthi_lib.cli.training import SetOption, configuration, init, is_data, write_into_run
from saarthi_lib.errors import InputError, SaarthiError

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

app = typer.Typer(
    help="Labelled text in, a tiny and fast language-understanding service out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
pipeline = typer.Typer(
    help="The Kubeflow pipeline: compile, run here, submit.", no_args_is_help=True
)
bundle = typer.Typer(help="Model bundles.", no_args_is_help=True)
app.add_typer(pipeline, name="pipeline")
app.add_typer(bundle, name="bundle")
app.add_typer(rollout, name="rollout")

BundleArgument = Annotated[Path, typer.Argument(help="A bundle's folder.", metavar="BUNDLE")]
ConfigOption = Annotated[Path, typer.Option(help="A YAML configuration.", metavar="CONFIG.yaml")]
PipelineOption = Annotated[
    str | None,
    typer.Option("--pipeline", help="nlu, ner, joint, sweep or nightly; default: by the task."),
]
ParameterOption = Annotated[
    list[str],
    typer.Option(
        "--parameter", "-p", help="Pipeline parameter, as -p publish_to=gs://b/f; repeatable."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


def _version(wanted: bool) -> None:
    if wanted:
        console.print(__version__)
        raise typer.Exit


@app.callback()
def saarthi(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Labelled text in, a tiny and fast language-understanding service out."""


def main() -> None:
    """Run the command line; an error that the user can fix exits with its message and code 2."""
    # OpenMP threads that spin for long at barriers make training many times slower on shared
    # cores. Set this before torch is loaded, here and in tasks.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app(standalone_mode=True)
    except SaarthiError as error:
        errors.print(f"[bold red]error:[/] {_plain(str(error))}", soft_wrap=True)
        sys.exit(logs.USER_ERROR)
    except KeyboardInterrupt:
        errors.print("interrupted: run the same command again to resume at the last finished step")
        sys.exit(130)


app.command()(init)


@app.command()
def train(
    source: Annotated[
        str,
        typer.Argument(help="A YAML configuration, or a data folder.", metavar="CONFIG.yaml|DATA"),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="The run's folder; default for DATA: runs/<its name>, with -trial for a trial."
        ),
    ] = None,
    settings: SetOption = [],  # noqa: B006
) -> None:
    """Train a teacher, distil a student, and bundle it, in this process.

    For a data folder, task, columns and languages are detected, and the run's folder gets a
    config.yaml to edit. Run it again after an interruption: finished steps are reused.

    Examples:

      saarthi train my-data

      saarthi train configs/intents.yaml

      saarthi train my.yaml --set fast_dev_run=true --output /tmp/try
    """
    from saarthi_lib.config import read_settings
    from saarthi_lib.runs.train import loggers_of, train

    logs.configure()
    config = configuration(source, output, read_settings(settings))
    if is_data(source):
        config = write_into_run(config, source)
    show_results(train(config, loggers_of(config)))


@pipeline.command("run")
def pipeline_run(
    config: ConfigOption,
    name: PipelineOption = None,
    image: Annotated[
        str | None,
        typer.Option(help=f"Run tasks in containers of this image: saarthi/train:{__version__}."),
    ] = None,
    parameters: ParameterOption = [],  # noqa: B006
    settings: SetOption = [],  # noqa: B006
) -> None:
    """Run a whole Kubeflow pipeline on this machine, with KFP's local runner.

    Run it again after an interruption: finished tasks are reused. With --image, tasks run in
    containers as on a cluster, which needs a Docker engine.

    Examples:

      saarthi pipeline run --config configs/intents.yaml

      saarthi pipeline run --config configs/ner.yaml --set teacher_name=minilm

      saarthi pipeline run --config my.yaml -p 'student_limits={retention: {at_least: 0.95}}'

      saarthi pipeline run --config my.yaml --pipeline sweep \
        -p 'student_configs=[{student_lstm_dim: 64}, {student_lstm_dim: 128}]'
    """
    from pipelines.local import run_pipeline
    from saarthi_lib.config import TrainConfig, read_settings

    styles = {"task": "bold cyan", "reused": "green", "log": "dim", "error": "red"}
    styles["trial"] = "yellow"
    # The output of KFP is captured while the pipeline runs; this console writes past the capture.
    screen = Console(file=sys.stdout, highlight=False)

    def show(kind: str, line: str) -> None:
        screen.print(f"[{styles[kind]}]{_plain(line)}[/]", soft_wrap=True)

    configuration = TrainConfig.from_yaml(config, read_settings(settings))
    root = run_pipeline(configuration, show, name, read_settings(parameters, "--parameter"), image)
    if name == "sweep":
        console.print(f"the comparison: {_relative(root / 'sweep.html')}", soft_wrap=True)
    elif (root / "run.json").is_file():
        show_results(root)


@pipeline.command("compile")
def pipeline_compile(
    output: Annotated[Path, typer.Option(help="Folder for the compiled pipelines.")] = Path(
        "build"
    ),
    env: Annotated[
        list[str],
        typer.Option(
            help="local, dev, prod, or a YAML file like theirs; repeatable. Default: all."
        ),
    ] = [],  # noqa: B006
) -> None:
    """Compile all pipelines to YAML that any KFP client can upload.

    Examples:

      saarthi pipeline compile --output build/

      saarthi pipeline compile --env prod --output build/

      saarthi pipeline compile --env my-cluster.yaml
    """
    from pipelines.compile import compile_pipelines
    from pipelines.resources import ENVIRONMENTS

    for path in compile_pipelines(output, env or ENVIRONMENTS):
        console.print(str(path), soft_wrap=True)


@pipeline.command("submit")
def pipeline_submit(
    config: ConfigOption,
    host: Annotated[
        str | None,
        typer.Option(help="Address of the KFP API; default: the variable KF_PIPELINES_ENDPOINT."),
    ] = None,
    name: PipelineOption = None,
    experiment: Annotated[str, typer.Option(help="Experiment of the run.")] = "saarthi",
    env: Annotated[str, typer.Option(help="dev, prod, or a YAML file like theirs.")] = "prod",
    run_name: Annotated[str | None, typer.Option(help="Default: pipeline and time.")] = None,
    cron: Annotated[
        str | None,
        typer.Option(help="Create a recurring run; six fields, seconds first: '0 0 3 * * *'."),
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="Namespace in a multi-user KFP.")] = None,
    token: Annotated[
        str | None,
        typer.Option(help="Bearer token; safer in its variable.", envvar="SAARTHI_KFP_TOKEN"),
    ] = None,
    wait: Annotated[
        bool, typer.Option(help="Wait for the run to end, and show its tasks.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Minutes to wait.")] = 24 * 60,
    parameters: ParameterOption = [],  # noqa: B006
    settings: SetOption = [],  # noqa: B006
) -> None:
    """Upload a pipeline to a cluster and run it there, through the KFP client.

    With --wait, exits with 0 if the run succeeds, 1 if it fails, and 2 if the API refuses it.

    Examples:

      saarthi pipeline submit --config configs/intents.yaml --host http://localhost:8888 --wait

      saarthi pipeline submit --config my.yaml --pipeline nightly --cron '0 0 3 * * *' \
        -p publish_to=gs://my-bucket/bundles -p predictor=nlu
    """
    from pipelines.submit import Submission, submit_pipeline
    from saarthi_lib.config import TrainConfig, read_settings

    submission = Submission(
        config=TrainConfig.from_yaml(config, read_settings(settings)),
        host=host,
        pipeline=name,
        parameters=read_settings(parameters, "--parameter"),
        environment=env,
        experiment=experiment,
        run_name=run_name,
        cron=cron,
        namespace=namespace,
        token=token,
    )
    succeeded = submit_pipeline(
        submission, 60 * timeout if wait else None, lambda line: console.print(_plain(line))
    )
    if not succeeded:
        raise typer.Exit(1)


@app.command()
def predict(
    bundle: BundleArgument,
    text: Annotated[str | None, typer.Argument(help="A text.", metavar="TEXT")] = None,
    lang: Annotated[str | None, typer.Option(help="Its language, such as hindi.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Labels to show.")] = 1,
    file: Annotated[Path | None, typer.Option(help="A CSV, TSV or Parquet table.")] = None,
    output: Annotated[Path | None, typer.Option(help="File for the answered table.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Name of the column of text.")] = None,
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
        console.print(f"{rows} rows answered: {output}", soft_wrap=True)
        return
    answer = Predictor.load(bundle).predict([str(text)], [lang], top_k)[0].to_dict()
    if json_:
        console.print(json.dumps(answer, ensure_ascii=False), soft_wrap=True, markup=False)
        return
    console.print(_answer_line(answer), soft_wrap=True)


@app.command()
def evaluate(
    bundle: BundleArgument,
    file: Annotated[Path, typer.Argument(help="A labelled file.", metavar="FILE")],
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
        console.print(json.dumps(metrics, ensure_ascii=False), soft_wrap=True, markup=False)
        return
    table = Table("", *_metric_names(metrics), "examples")
    for name, scores in [("all", metrics), *metrics["by_language"].items()]:
        figures = [f"{scores[metric]:.4f}" for metric in _metric_names(metrics)]
        table.add_row(name, *figures, str(scores["examples"]))
    console.print(table)
    console.print(_calibration_line(metrics["calibration"]), soft_wrap=True)
    if "unknown_labels" in metrics:
        names = ", ".join(metrics["unknown_labels"])
        errors.print(
            f"labels that the bundle does not know: {_plain(names)}. Texts with such a label are "
            "out of scope; words with such a tag count as wrong",
            soft_wrap=True,
        )


@app.command()
def check(
    source: Annotated[
        str,
        typer.Argument(help="A data folder, a gs:// URI or a YAML configuration.", metavar="DATA"),
    ],
    task: Annotated[str | None, typer.Option(help="Task to train for; default: detected.")] = None,
    report: Annotated[Path, typer.Option(help="File for the HTML page.")] = Path("check.html"),
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    json_: JsonOption = False,
    settings: SetOption = [],  # noqa: B006
) -> None:
    """Check data before training; fails if a run would stop.

    Examples:

      saarthi check data/my-bot

      saarthi check my.yaml --strict --json

      saarthi check gs://bucket/my-bot --task joint --report check.html --set language=hindi
    """
    from saarthi_lib.config import TrainConfig, overridden, read_settings, read_yaml
    from saarthi_lib.data.detect import with_task
    from saarthi_lib.steps import check_data

    logs.configure()
    fields = read_yaml(source) if source.endswith((".yaml", ".yml")) else {"input_path": source}
    fields |= {"task": task} if task else {}
    config = with_task(
        TrainConfig.from_mapping(overridden(fields, read_settings(settings)), source)
    )
    found = check_data(config, report)
    if json_:
        console.print(json.dumps(found.to_dict(), ensure_ascii=False), soft_wrap=True, markup=False)
    else:
        table = Table("", "split", "check", "rows", "what")
        styles = {"error": "bold red", "warning": "yellow", "note": "dim"}
        for finding in found.findings:
            style = styles[finding.severity]
            table.add_row(
                f"[{style}]{finding.severity}[/]",
                finding.split or "all",
                finding.check,
                str(finding.count),
                _plain(finding.message),
            )
        console.print(table)
        console.print(
            f"{found.status}; the page with all rows: {_relative(report)}", soft_wrap=True
        )
    if found.status == "errors" or (strict and found.status == "warnings"):
        raise typer.Exit(1)


@app.command()
def quantize(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.", metavar="RUN")],
    to: Annotated[str, typer.Option(help="int8 or float16.")] = "int8",
) -> None:
    """Quantize the student of a finished run again, into RUN/bundle-<precision>.

    Example:

      saarthi quantize runs/intents --to float16
    """
    from saarthi_lib.runs.train import quantize_run

    logs.configure()
    console.print(str(_relative(quantize_run(run, to))), soft_wrap=True)


@app.command()
def serve(
    bundles: Annotated[
        list[str],
        typer.Argument(
            help="Folders of bundles, or URIs such as gs://bucket/folder; NAME=BUNDLE sets the "
            "name.",
            metavar="BUNDLE…",
        ),
    ],
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    http_port: Annotated[int | None, typer.Option(help="Port for V1, V2 and /predict.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port for V2 over gRPC; 0: none.")] = None,
    workers: Annotated[int | None, typer.Option(help="Concurrent predictions.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads per prediction.")] = None,
    reload_seconds: Annotated[
        float | None, typer.Option(help="Seconds between checks for new versions; 0: never.")
    ] = None,
    drain_seconds: Annotated[
        float | None, typer.Option(help="Seconds to keep answering after SIGTERM.")
    ] = None,
    access_log: Annotated[
        bool | None, typer.Option("--access-log", help="Log each request.")
    ] = None,
    playground: Annotated[
        bool | None, typer.Option("--playground", help="Serve a page to try them at /playground.")
    ] = None,
) -> None:
    """Serve bundles on a KServe model server; models are named after their bundles.

    Environment variables (SAARTHI_HTTP_PORT=80 …) set the other options. Defaults: 127.0.0.1,
    ports 8080 and 8081.

    Examples:

      saarthi serve runs/intents/bundle-int8

      saarthi serve new=runs/2/bundle-int8 old=runs/1/bundle-int8 --playground

      curl -s 127.0.0.1:8080/predict -d '{"text": "turn on the lights"}'
    """
    from predictors.server import serve

    serve(
        bundles,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        workers=workers,
        threads=threads,
        reload_seconds=reload_seconds,
        drain_seconds=drain_seconds,
        access_log=access_log,
        playground=playground,
    )


app.command()(explain)
app.command()(compare)
app.command()(deploy)
app.command()(sweep)


@bundle.command("verify")
def bundle_verify(
    bundle: BundleArgument,
    keys: Annotated[
        list[Path],
        typer.Option(
            "--key", help="A trusted public key (PEM, Ed25519); one must have signed; repeatable."
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
        f"{manifest.runtime}{trial}): {len(manifest.files)} files as they were made{signed}"
    )


@bundle.command("sign")
def bundle_sign(
    bundle: BundleArgument,
    key: Annotated[Path, typer.Option(help="A private key (PEM, Ed25519).", metavar="KEY.pem")],
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


@bundle.command("publish")
def bundle_publish(
    bundle: BundleArgument,
    destination: Annotated[
        str, typer.Argument(help="A folder, or gs://bucket/folder.", metavar="DESTINATION")
    ],
) -> None:
    """Publish a bundle to DESTINATION/<name>/<version>, which never changes afterwards.

    Bundles of trial runs (fast_dev_run: true) are refused.

    Example:

      saarthi bundle publish runs/intents/bundle-int8 gs://my-bucket/bundles
    """
    from saarthi_lib.bundle.publishing import publish_bundle

    console.print(publish_bundle(bundle, destination), soft_wrap=True, markup=False)


def _with_progress(bundle: Path, file: Path, output: Path, text_column: str | None) -> int:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from saarthi_lib.evaluation.tabular import predict_file
    from saarthi_lib.inference.predictor import Predictor

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} rows"))
    with Progress(*columns, TimeElapsedColumn(), console=errors) as progress:
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


def show_results(root: Path) -> None:
    """Print the results table, sample answers and next commands; omit conclusions in a trial."""
    from saarthi_lib.config import TRIAL
    from saarthi_lib.layout import RUN_BUNDLES
    from saarthi_lib.storage import read_json

    metrics = read_json(root / "metrics.json")
    trial = metrics.get("trial", False)
    console.print(_results_table(metrics))
    if not trial:
        if worse := metrics.get("baseline", {}).get("advice"):
            console.print(f"[yellow]{_plain(worse)}[/]", soft_wrap=True)
        best = metrics["quantized"] or metrics["student"]["final"]
        console.print(_main_line(best), soft_wrap=True)
        console.print(_retention_line(metrics))
        console.print(_calibration_line(best["calibration"]), soft_wrap=True)
    delivered = next(root / name for name in RUN_BUNDLES if (root / name).is_dir())
    for text, answer in _samples(root, delivered):
        console.print(f"  {_plain(text)}  [dim]→[/]  {_answer_line(answer)}", soft_wrap=True)
    console.print(f"report: {_relative(root / 'report.html')}", soft_wrap=True)
    if trial:
        console.print(f"[bold yellow]{TRIAL}[/]", soft_wrap=True)
    else:
        console.print(f"serve:  saarthi serve {_relative(delivered)}", soft_wrap=True)


def _main_line(scores: dict[str, Any]) -> str:
    """Main metric of the delivered model with related metrics, on one line."""
    parts = [f"main {scores['main']:.4f} on {scores['examples']} examples"]
    if "macro_f1" in scores:
        parts.append(f"macro F1 {scores['macro_f1']:.4f}")
    if unseen := scores.get("unseen"):
        main = f"main {unseen['main']:.4f} on " if unseen["examples"] else ""
        parts.append(f"{main}{unseen['examples']} that repeat no training text")
    return "delivered: " + "; ".join(parts)


def _retention_line(metrics: dict[str, Any]) -> str:
    return (
        f"retention {100 * metrics['retention']:.1f}% of the teacher"
        + "".join(f", {100 * v:.1f}% {k}" for k, v in metrics["retention_by_language"].items())
        + f"; compression {metrics['compression']:.0f}x; speedup {metrics['speedup']:.0f}x"
    )


def _results_table(metrics: dict[str, Any]) -> Table:
    languages = metrics["languages"]
    kind = "trial run: " if metrics.get("trial") else ""
    table = Table(title=f"{kind}{metrics['task']}, {metrics['teacher']['examples']} test examples")
    for name in ("model", "main", *languages, "parameters", "size MB", "p50 ms", "p99 ms"):
        table.add_column(name, justify="left" if name == "model" else "right")
    rows = {
        "baseline": metrics.get("baseline"),  # missing in older runs
        "teacher": metrics["teacher"],
        **metrics["student"],
        "quantized": metrics["quantized"],
    }
    for name, scores in rows.items():
        if scores is None:
            continue
        table.add_row(
            name,
            f"{scores['main']:.4f}",
            *(f"{scores['by_language'][language]['main']:.4f}" for language in languages),
            f"{scores['parameters'] / 1e6:.2f} M",
            f"{scores['size_bytes'] / 1e6:.2f}",
            f"{scores['latency_ms']['p50']:.3f}",
            f"{scores['latency_ms']['p99']:.3f}",
        )
    return table


def _calibration_line(found: dict[str, Any]) -> str:
    """Metrics of `evaluation.abstention.selective_figures` as one line of text."""
    parts = [
        f"calibration error {found['ece']:.3f}",
        f"area under risk-coverage {found['aurc']:.3f}",
    ]
    if found["threshold"] is not None:
        parts.append(
            f"at the threshold {found['threshold']:.3f}: {100 * found['coverage']:.1f}% answered, "
            f"{100 * found['risk']:.1f}% of these wrong"
        )
        if "expected_coverage" in found:  # missing in older bundles
            low, high = found["expected_coverage"]
            parts[-1] += f" ({100 * low:.0f} to {100 * high:.0f}% answered were expected)"
        if "lost" in found:  # missing in older runs
            parts[-1] += f", {100 * found['lost']:.1f}% of the right answers withheld"
    if "out_of_scope" in found:
        figures = found["out_of_scope"].items()
        named = (f"{name.replace('_', ' ')} {value:.3f}" for name, value in figures)
        parts.append("with the texts out of scope: " + ", ".join(named))
    return "; ".join(parts)


def _samples(root: Path, delivered: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """One test text in each of two languages, with answers of the delivered bundle."""
    from saarthi_lib.data.preprocess import Prepared
    from saarthi_lib.inference.predictor import Predictor
    from saarthi_lib.layout import data_folder

    if not data_folder(root).exists():
        return []
    table = Prepared(data_folder(root)).table("test").drop_duplicates("lang").head(2)
    answers = Predictor.load(delivered).predict(list(table["text"]), list(table["lang"]))
    return [(answer.text, answer.to_dict()) for answer in answers]


def _answer_line(answer: Mapping[str, Any]) -> str:
    parts = []
    if "label" in answer:
        choices = answer.get("top_k") or [answer]
        parts += [f"[bold]{_plain(c['label'])}[/] ({c['probability']:.3f})" for c in choices]
    for found in (*answer.get("entities", ()), *answer.get("tokens", ())):
        parts.append(f"{_plain(found['text'])} [bold]{_plain(found['label'])}[/]")
    if answer["abstained"]:
        parts.append(f"[yellow]abstained: {answer['reason'].replace('_', ' ')}[/]")
    return ", ".join(parts) or "no entities"


def _metric_names(metrics: dict[str, Any]) -> list[str]:
    return [name for name, value in metrics.items() if isinstance(value, float)]


def _relative(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path)


def _plain(text: str) -> str:
    """Escape user text that rich would read as markup."""
    from rich.markup import escape

    return escape(text)
