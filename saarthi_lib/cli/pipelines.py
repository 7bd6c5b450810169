"""`saarthi pipeline`: compile pipelines, run them on this machine, submit them to a cluster."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from saarthi_lib import __version__
from saarthi_lib.cli.console import (
    OverwriteOption,
    SafeConsole,
    SetOption,
    console,
    plain,
    relative,
    say,
)
from saarthi_lib.cli.results import show_results

app = typer.Typer(help="The Kubeflow pipeline: compile, run here, submit.", no_args_is_help=True)

ConfigOption = Annotated[Path, Option(help="A YAML configuration.", metavar="CONFIG.yaml")]
PipelineOption = Annotated[
    str | None, Option("--pipeline", help="nlu, ner, joint, sweep or nightly; default: by task.")
]
ParameterOption = Annotated[
    list[str], Option("--parameter", "-p", help="Parameter: -p publish_to=s3://b/f; repeatable.")
]
ImageOption = Annotated[
    str | None, Option(help="Image of the tasks; default: SAARTHI_TRAIN_IMAGE, or env's.")
]
TokenOption = Annotated[
    str | None, Option(help="Bearer token; safer in its variable.", envvar="SAARTHI_KFP_TOKEN")
]
CookiesOption = Annotated[
    str | None, Option(help="Cookies of a session, name=value.", envvar="SAARTHI_KFP_COOKIE")
]
_STYLES = {"task": "bold cyan", "reused": "green", "log": "dim", "trial": "yellow", "error": "red"}


@app.command("run")
def pipeline_run(
    config: ConfigOption,
    name: PipelineOption = None,
    image: Annotated[
        str | None,
        Option(help=f"Run tasks in containers of this image: saarthi/train:{__version__}."),
    ] = None,
    overwrite: OverwriteOption = False,
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
    from saarthi_lib.config import TrainConfig
    from saarthi_lib.layout import RunLayout
    from saarthi_lib.settings import read_settings

    # The output of KFP is captured while the pipeline runs; this console writes past the capture.
    screen = SafeConsole(file=sys.stdout)

    def show(kind: str, line: str) -> None:
        screen.print(f"[{_STYLES[kind]}]{plain(line)}[/]", soft_wrap=True)

    configuration = TrainConfig.from_yaml(config, read_settings(settings))
    given = read_settings(parameters, "--parameter")
    done = run_pipeline(configuration, show, name, given, image, overwrite=overwrite)
    layout = RunLayout(done)
    if name == "sweep":
        say(f"the comparison: {relative(layout.sweep_page)}")
    elif layout.record.is_file():
        show_results(layout.root)


@app.command("compile")
def pipeline_compile(
    output: Annotated[Path, Option(help="Folder for the compiled pipelines.")] = Path("build"),
    env: Annotated[
        list[str], Option(help="local, dev, prod or a YAML file; repeatable; default: all.")
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
        say(plain(path))


@app.command("submit")
def pipeline_submit(
    config: ConfigOption,
    host: Annotated[
        str | None, Option(help="Address of the KFP API; default: KF_PIPELINES_ENDPOINT.")
    ] = None,
    name: PipelineOption = None,
    experiment: Annotated[str, Option(help="Experiment of the run.")] = "saarthi",
    env: Annotated[str, Option(help="dev, prod or a YAML file.")] = "dev",
    image: ImageOption = None,
    cache: Annotated[bool, Option(help="Reuse results of earlier runs.")] = True,
    run_name: Annotated[str | None, Option(help="Default: pipeline and time.")] = None,
    cron: Annotated[
        str | None, Option(help="Recurring run; six fields, seconds first: '0 0 3 * * *'.")
    ] = None,
    namespace: Annotated[str | None, Option(help="Namespace in a multi-user KFP.")] = None,
    token: TokenOption = None,
    cookies: CookiesOption = None,
    ca: Annotated[Path | None, Option(help="Certificates (PEM) that sign the API's.")] = None,
    wait: Annotated[bool, Option(help="Wait for the end, and show the tasks.")] = False,
    timeout: Annotated[float, Option(help="Minutes to wait.")] = 24 * 60,
    parameters: ParameterOption = [],  # noqa: B006
    settings: SetOption = [],  # noqa: B006
) -> None:
    """Upload a pipeline to a cluster and run it there, through the KFP client.

    With --wait, exits with 0 if the run succeeds, 1 if it fails, and 2 if the API refuses it.

    Examples:

      saarthi pipeline submit --config configs/intents.yaml --host http://localhost:8888 \
        --image registry.example/saarthi/train:0.1.0 --wait

      saarthi pipeline submit --config my.yaml --env my-cluster.yaml --pipeline nightly \
        --cron '0 0 3 * * *' -p publish_to=s3://my-bucket/bundles -p predictor=nlu
    """
    from pipelines.submit import Submission, submit_pipeline
    from saarthi_lib.config import TrainConfig
    from saarthi_lib.settings import read_settings

    submission = Submission(
        config=TrainConfig.from_yaml(config, read_settings(settings)),
        host=host,
        pipeline=name,
        parameters=read_settings(parameters, "--parameter"),
        environment=env,
        image=image,
        cached=cache,
        experiment=experiment,
        run_name=run_name,
        cron=cron,
        namespace=namespace,
        token=token,
        cookies=cookies,
        ca=ca,
    )
    succeeded = submit_pipeline(
        submission, 60 * timeout if wait else None, lambda line: console.print(plain(line))
    )
    if not succeeded:
        raise typer.Exit(1)
