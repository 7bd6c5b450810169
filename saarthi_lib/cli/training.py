"""`saarthi init` and `saarthi train`."""

import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from saarthi_lib import logs
from saarthi_lib.cli.configuration import (
    DATA_HINT,
    YAML,
    as_yaml,
    check_outside_data,
    checked_source,
    is_data,
    name_of,
    next_run,
    read_configuration,
    write_into_run,
)
from saarthi_lib.cli.console import (
    OverwriteOption,
    SetOption,
    console,
    plain,
    say,
    show_table,
    table,
)
from saarthi_lib.cli.results import show_results
from saarthi_lib.errors import ConfigError

if TYPE_CHECKING:
    from saarthi_lib.config import TrainConfig


def init(
    data: Annotated[
        str,
        Argument(
            help="A folder, file, address (s3://, gs://, https://, hf://) or demo:home-assistant.",
            metavar="DATA",
        ),
    ],
    output: Annotated[
        Path | None,
        Option(
            help="The new YAML file; default: <name of the folder>.yaml here.",
            metavar="CONFIG.yaml",
        ),
    ] = None,
    settings: SetOption = [],  # noqa: B006
) -> None:
    """Write a configuration for a folder or file of data, without training.

    Shows the task, the columns, and the rows of each split by language. Existing files are never
    replaced.

    Examples:

      saarthi init my-data

      saarthi init s3://bucket/my-data --output my.yaml --set teacher_name=minilm
    """
    from saarthi_lib.settings import read_settings

    data = checked_source(data)
    if not is_data(data):
        raise ConfigError(f"{data}: there is no such folder; {DATA_HINT}")
    logs.configure()
    output = output or Path(f"{name_of(data)}.yaml")
    if output.suffix not in YAML:
        raise ConfigError(f"--output {output}: must have the extension .yaml or .yml")
    if output.exists():
        raise ConfigError(f"{output}: exists already; remove it, or give another --output")
    config = read_configuration(data, None, read_settings(settings))
    if config.data_format != "auto":  # the extension decides otherwise
        check_outside_data(output, config, "--output")
    _show_data(config)
    text = as_yaml(config, f"saarthi init {shlex.quote(data)}", output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error}") from error
    say(f"written: {plain(output)}")
    say(f"train:   saarthi train {plain(shlex.quote(str(output)))}")


def train(
    source: Annotated[
        str,
        Argument(
            help="A YAML configuration, or a folder or file of data.", metavar="CONFIG.yaml|DATA"
        ),
    ],
    output: Annotated[
        Path | None,
        Option(
            help="The run's folder; default for DATA: runs/<its name>, with -trial for a trial."
        ),
    ] = None,
    start_from: Annotated[
        Path | None,
        Option(
            "--from",
            help="An earlier run: rows keep its splits, and its networks are trained further; "
            "default for --output then: RUN-2, RUN-3, …",
            metavar="RUN",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    settings: SetOption = [],  # noqa: B006
) -> None:
    """Train a teacher, distil a student, and bundle it, in this process.

    For data, task, columns and languages are detected, and the run's folder gets a
    config.yaml to edit. Run it again after an interruption: finished steps are reused. A
    finished run is not replaced by one with other data or networks.

    Examples:

      saarthi train my-data

      saarthi train configs/intents.yaml

      saarthi train my-data --from runs/my-data

      saarthi train my.yaml --set fast_dev_run=true --output /tmp/try
    """
    from saarthi_lib.runs.train import loggers_of, train
    from saarthi_lib.settings import read_settings
    from saarthi_lib.training.device import world

    logs.configure()
    world()  # before Lightning is imported
    source = checked_source(source)
    given = read_settings(settings)
    if start_from is not None:
        given["start_from"] = str(start_from)
        if output is None and "root_output_path" not in given:
            output = next_run(start_from)
    config = read_configuration(source, output, given)
    if is_data(source):
        config = write_into_run(config, source, overwrite=overwrite)
    show_results(train(config, loggers_of(config), overwrite=overwrite))


def _show_data(config: "TrainConfig") -> None:
    """Print task, columns, and the rows of each split by language."""
    from saarthi_lib.data.detect import columns_of
    from saarthi_lib.data.gather import gather, input_folder

    with (
        TemporaryDirectory(prefix="saarthi-init-") as scratch,
        input_folder(config, Path(scratch)) as folder,
    ):
        found = gather(folder, config)
        columns = columns_of(folder, config)
    console.print(f"task: [bold]{config.task}[/]")
    if columns:
        named = ", ".join(f"{role} '{plain(name)}'" for role, name in columns.items())
        say(f"columns: {named}")
    made = table("split", "rows", "languages", numbers=("rows",))
    for split, rows in found.tables.items():
        counts = rows["lang"].value_counts()
        languages = ", ".join(f"{language} {count}" for language, count in counts.items())
        made.add_row(split, str(len(rows)), plain(languages))
    if found.transfer:
        made.add_row("transfer", "", plain(", ".join(f.path.name for f in found.transfer)))
    show_table(made)
