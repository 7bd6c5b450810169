"""Configurations from YAML files and from data folders, for `init`, `check` and `train`."""

import hashlib
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from saarthi_lib.addresses import REMOTE, absent, checked_address, scheme_of
from saarthi_lib.cli.console import plain, say
from saarthi_lib.errors import ConfigError, printable, redacted

if TYPE_CHECKING:
    from saarthi_lib.config import TrainConfig
    from saarthi_lib.layout import RunRecord

RUNS = Path("runs")
YAML = (".yaml", ".yml")
_DIGEST = "# unedited: "
# Fields that a later run of other data does not take over.
_OF_ONE_RUN = (
    *("input_path", "root_output_path", "start_from"),
    *("bundle_version", "fast_dev_run", "teacher_exists"),
)
DATA_HINT = "give a data folder, such as my-data with train.csv in it, or a data file"


def checked_source(source: str) -> str:
    """Check the scheme of an argument that names data or a configuration; a path for `file://`.

    Raises:
        ConfigError: the scheme is unknown (the message lists the known ones), or the argument is
            empty.
    """
    if not source.strip():
        raise ConfigError(f"DATA is empty; {DATA_HINT}")
    return checked_address(source, "DATA", REMOTE)


def is_data(source: str) -> bool:
    """Whether an argument of the command line names data instead of a configuration.

    Raises:
        ConfigError: the folder is that of a run, or the path does not exist.
    """
    from saarthi_lib.layout import RunLayout, is_run

    path = Path(source)
    if is_run(path):
        file = RunLayout(path).config
        given = f"saarthi train {shlex.quote(str(file))}" if file.is_file() else ""
        raise ConfigError(
            f"{source}: is the folder of a run, not of data; resume the run with "
            + (given or "the configuration that you gave it: saarthi train CONFIG.yaml")
        )
    if source.startswith("demo:") or scheme_of(source) or path.is_dir():
        return True
    if source.endswith(YAML):
        return is_export(path)
    if path.is_file():
        return True
    if path.exists():
        raise ConfigError(f"{source}: {absent(path)}")
    raise ConfigError(
        f"{source}: there is no such file or folder; give a configuration, or {DATA_HINT}"
    )


def is_export(path: Path) -> bool:
    """Whether a file has rows of another tool's export, such as `nlu.yml` of Rasa."""
    from saarthi_lib.data.exports.registry import ROWS, kind_of

    return kind_of(path)[1] == ROWS


def read_configuration(
    source: str, output: Path | None, settings: Mapping[str, Any]
) -> "TrainConfig":
    """The configuration of a YAML file or of data, with fields detected from the data.

    Data that start from an earlier run get the settings of that run; other settings would train
    its networks from the beginning.

    Args:
        source: a YAML file, a folder or file of data, or the name of demonstration data.
        output: the run's folder; None: the file's, or `runs/<name of the data>`, with `-trial`
            for a trial.
        settings: fields that override those of the file.

    Raises:
        ConfigError: the file or a field is wrong.
        DataError: the data do not show their task.
    """
    from saarthi_lib.config import TrainConfig
    from saarthi_lib.data.detect import with_task

    given = dict(settings)
    if output is not None:
        given["root_output_path"] = str(output)
    if not is_data(source):
        config = TrainConfig.from_yaml(source, given)
    elif "input_path" in given:
        raise ConfigError(
            f"--set input_path={given['input_path']}: the data are {source} already; give one of "
            "the two"
        )
    else:
        fields = _settings_of(given["start_from"]) if given.get("start_from") else {}
        fields |= {"input_path": source, "root_output_path": str(RUNS / _in_utf8(name_of(source)))}
        config = TrainConfig.from_mapping({**fields, **given}, source)
        if config.fast_dev_run and "root_output_path" not in given:
            trial = f"{config.root_output_path}-trial"
            config = config.model_copy(update={"root_output_path": trial})
    _check_root(config)
    return with_task(config)


def _settings_of(run: str) -> dict[str, Any]:
    """Fields that the user gave to an earlier run, except those of one run only."""
    from saarthi_lib.config import TrainConfig
    from saarthi_lib.layout import RunLayout, read_record
    from saarthi_lib.settings import read_yaml

    file, record = RunLayout(Path(run)).config, read_record(Path(run))
    usual, chosen = TrainConfig().model_dump(), record.get("recipe", {})
    # Without a file, the run had a configuration of its own, and its record has all fields.
    before = read_yaml(file) if file.is_file() else record.get("config", {})
    fields = {
        name: value
        for name, value in before.items()
        if name not in _OF_ONE_RUN and name not in chosen
        if file.is_file() or value != usual.get(name, value)
    }
    if fields:
        say(f"settings of {plain(run)}: {', '.join(sorted(fields))}")
    return fields


def _check_root(config: "TrainConfig") -> None:
    """Check that a run can have its folder where the configuration says.

    Raises:
        ConfigError: the path leads through a file, or the folder would be read as data.
    """
    if not config.root_output_path:
        return
    root = Path(config.root_output_path)
    for place in (root, *root.parents):
        if place.is_file():
            raise ConfigError(
                f"root_output_path (--output): {place} is a file; give a folder for the run"
            )
    check_outside_data(root, config, "root_output_path (--output)")


def check_outside_data(place: Path, config: "TrainConfig", option: str) -> None:
    """Check that a file or folder would not be read as data.

    Raises:
        ConfigError: it lies in the data folder, and its name contains a split or a language.
    """
    from saarthi_lib.data.read import lies_in_data

    if Path(config.input_path or "demo:").is_dir() and lies_in_data(place, Path(config.input_path)):
        raise ConfigError(
            f"{option}: {place} would be read as data: it lies in {config.input_path}, and its "
            "name contains a split or a language; choose a place outside the data"
        )


def write_into_run(config: "TrainConfig", source: str, *, overwrite: bool = False) -> "TrainConfig":
    """Write a configuration into its run's folder, before training.

    Its paths become absolute, so that the file works in every working directory. The last line of
    its header is a digest that detects edited files; these are not replaced.

    Args:
        config: the configuration.
        source: the data, as given.
        overwrite: whether the run may replace another finished run.

    Returns:
        The configuration with absolute paths.

    Raises:
        ConfigError: the user has edited the file of an earlier run, or the folder is the run of
            other data, or the run to start from cannot be used.
        StorageError: the folder has a file with this name that was not made by a run.
    """
    from saarthi_lib.data.earlier import Earlier
    from saarthi_lib.runs.folder import RunFolder, at_work
    from saarthi_lib.runs.reuse import require_same_run
    from saarthi_lib.storage import whole_file

    Earlier.of(config)
    root = Path(config.root_output_path)
    with at_work(root):
        folder = RunFolder.of(config)
        folder.require_own(config)
        file = folder.layout.config
        if file.is_dir() and not file.is_symlink():
            raise ConfigError(
                f"{file}: is a folder, and the run writes its configuration there; remove it, or "
                "give another --output"
            )
        folder.require_free(file)
        if file.exists() and not _is_unedited(file):
            raise ConfigError(
                f"{file}: was edited; train with it (saarthi train {shlex.quote(str(file))}), or "
                "remove it, or give another --output"
            )
        _require_same_data(config, file, folder.record)
        if not overwrite:
            require_same_run(config, folder)
        places = {"root_output_path": str(root.absolute())}
        if Path(config.input_path).exists():
            places["input_path"] = str(Path(config.input_path).absolute())
        if config.start_from:
            places["start_from"] = str(Path(config.start_from).absolute())
        config = config.model_copy(update=places)
        folder.record.setdefault("steps", {})
        folder.claim(file)
        command = f"saarthi train {shlex.quote(source)}"
        with whole_file(file) as aside:
            aside.write_text(as_yaml(config, command, file), encoding="utf-8")
    say(f"configuration: {plain(file)}")
    return config


def _require_same_data(config: "TrainConfig", file: Path, record: "RunRecord") -> None:
    """Check that a folder holds no run of other data.

    Raises:
        ConfigError: the configuration or the record of its run has another input.
    """
    from saarthi_lib.settings import read_yaml

    before = read_yaml(file) if file.exists() else record.get("config")
    earlier = before.get("input_path") if isinstance(before, Mapping) else None
    if isinstance(earlier, str) and earlier and _place(earlier) != _place(config.input_path):
        raise ConfigError(
            f"{file.parent}: is the run of other data ({earlier}), which this run would replace; "
            "give another --output"
        )


def _place(input_path: str) -> str:
    """The same text for all spellings of an input's path."""
    if input_path.startswith("demo:") or scheme_of(input_path):
        return input_path.rstrip("/")
    return str(Path(input_path).resolve())


def _in_utf8(name: str) -> str:
    """A name with underscores for bytes that are not UTF-8."""
    return name.encode(errors="replace").decode().replace("?", "_")


def name_of(source: str) -> str:
    """Name of a run: the name of its data's folder, or of its file without the extension."""
    if scheme_of(source) == "https":
        source = Path(urlsplit(source).path).stem
    last = source.removeprefix("demo:").rstrip("/").rpartition("/")[2]
    if Path(source).is_file():
        last = Path(source).stem
    return last if last.strip(".") else Path(source).resolve().name or "run"


def next_run(earlier: Path) -> Path:
    """Folder of the run that starts from an earlier one: runs/bot-2 after runs/bot."""
    name = earlier.name or earlier.resolve().name
    base, _, number = name.rpartition("-")
    if base and number.isascii() and number.isdigit():
        return earlier.with_name(f"{base}-{int(number) + 1}")
    return earlier.with_name(f"{name}-2")


def as_yaml(config: "TrainConfig", command: str, file: Path) -> str:
    """The given and the detected fields, with a header of instructions."""
    header = (
        f"# Written by: {printable(redacted(command))}\n"
        f"# Edit it, and train again: saarthi train {printable(shlex.quote(str(file)))}\n"
        "# The recipe chooses other fields by the data; run.json has them with reasons. Examples:\n"
        "#   recipe: best         (more teachers and text, more time)\n"
        "#   language: hindi      (of rows without one; by default it is detected by row)\n"
        "#   text_column, label_column, tags_column, language_column: names of columns\n"
        "#   fast_dev_run: true   (a trial: one epoch on 64 rows; give it another --output)\n"
    )
    body = config.as_yaml()
    return f"{header}{_DIGEST}{_digest(header + body)}\n{body}"


def _is_unedited(file: Path) -> bool:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    found = re.search(rf"^{_DIGEST}([0-9a-f]+)\n", text, re.MULTILINE)
    if not found:
        return False
    return _digest(text[: found.start()] + text[found.end() :]) == found[1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
