"""Detect the task and the columns of text and labels, unless the configuration gives them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.cloud import fetched, is_remote
from saarthi_lib.data.detect.columns import (
    FIRST,
    ColumnError,
    certain_columns,
    unusual_columns,
    usual_columns,
)
from saarthi_lib.data.detect.task import task_of
from saarthi_lib.data.exports.folder import export_task, exports_in
from saarthi_lib.data.exports.registry import EXPORTS, other_part
from saarthi_lib.data.formats import Columns, recognize
from saarthi_lib.data.formats.rivals import RivalError
from saarthi_lib.data.formats.rows import TABLES, first_cells, has_rows
from saarthi_lib.data.read import SplitFile, find_splits
from saarthi_lib.data.read.files import relative_name
from saarthi_lib.demo import DEMOS
from saarthi_lib.errors import DataError
from saarthi_lib.logs import get_logger
from saarthi_lib.tasks import has_sequence_head

logger = get_logger("data")


def with_task(config: TrainConfig) -> TrainConfig:
    """Add the task and the columns that a configuration lacks, as detected from its input.

    Detected fields become fields like given ones, and are logged. Remote input is fetched for this
    only if the task is not given; perhaps only the tasks of a pipeline can read it, so its columns
    are detected by preprocessing.

    Raises:
        DataError: the task is not given, and the input does not show it or cannot be fetched; or
            several columns would do.
    """
    has_task = "task" in config.model_fields_set
    fields: dict[str, str] = {}
    if not config.input_path or (has_task and config.input_path in DEMOS):
        return config
    if config.input_path in DEMOS:
        fields["task"] = DEMOS[config.input_path].task
        logger.info("task: %s (of the demonstration data)", fields["task"])
    elif is_remote(config.input_path):
        if has_task:
            return config
        with fetched(config.input_path) as folder:
            fields = _detect(folder, config)
    else:
        fields = _detect(Path(config.input_path), config)
    if not fields:
        return config
    return type(config).from_mapping({**config.model_dump(exclude_unset=True), **fields})


def with_columns(config: TrainConfig, folder: Path) -> TrainConfig:
    """Add the unusual columns of an input folder that a configuration lacks.

    Input that only the tasks of a pipeline can read, or that is fetched, shows them only now.

    Raises:
        DataError: several columns would do.
    """
    known = config.model_copy(update={"task": config.task})
    return config.model_copy(update=_detect(folder, known))


def columns_of(folder: Path, config: TrainConfig) -> dict[str, str]:
    """Names of the columns to read from the first train file, by role.

    Files without named columns (CoNLL, plain text) give an empty mapping.
    """
    file = find_splits(folder, config.data_format, log=False)["train"][0].path
    given = _given(config)
    kind = recognize(file, given, config.data_format)
    return usual_columns(first_cells(file, kind, FIRST, given), given) if kind in TABLES else {}


def _given(config: TrainConfig) -> Columns:
    return Columns(
        text=config.text_column,
        label=config.label_column,
        language=config.language_column,
        tags=config.tags_column,
    )


def _detect(folder: Path, config: TrainConfig) -> dict[str, str]:
    """Detect the columns and, unless the configuration gives it, the task of a local folder.

    Raises:
        DataError: the train file is missing, empty or unreadable, or lacks both labels and tags;
            several columns would do.
    """
    has_task = "task" in config.model_fields_set
    given = _given(config)
    found: dict[str, str] = {}
    unclear: RivalError | None = None  # about labels, which perhaps are not needed
    try:
        files = find_splits(folder, config.data_format, log=False)["train"]
        file = files[0].path
        kind = recognize(file, given, config.data_format)
        _require_rows(file, kind)
        if kind in TABLES:
            given, found, unclear = _settle(files, config, given)
    except (ColumnError, RivalError):
        raise
    except DataError:
        if has_task:
            return {}  # preprocessing reports it
        raise
    if not has_task:
        if kind in EXPORTS:
            export = exports_in(folder)
            task = export_task(export, (each.path for each in files), given)
        else:
            task = task_of(file, kind, given)
        source = relative_name(file, folder)
        logger.info("task: %s (detected from %s)", task, source)
        found["task"] = task
    task = found.get("task", config.task)
    if unclear and has_sequence_head(task):
        raise unclear
    if not has_sequence_head(task) and "label_column" in found:
        del found["label_column"]
    return found


def _require_rows(file: Path, kind: str) -> None:
    """Raise a DataError if a file has no rows, or is a part of an export without rows."""
    try:
        found = has_rows(file, kind)
    except DataError:
        if other := other_part(file):
            raise DataError(f"{file}: {other}") from None
        raise
    if not found:
        raise DataError(f"{file}: has no rows; fill it in or remove it")


def _settle(
    files: Sequence[SplitFile], config: TrainConfig, given: Columns
) -> tuple[Columns, dict[str, str], RivalError | None]:
    """Columns of a table that has several of one kind, or lacks usual names.

    Returns:
        The columns, the fields that name them, and the error for labels that are not certain.
    """
    found = certain_columns(files, config.data_format, given)
    given = replace(given, text=found.get("text_column", given.text))
    unclear = None
    if "task" not in config.model_fields_set or has_sequence_head(config.task):
        try:
            labels = replace(given, sequence=True, language=given.language or "-")
            found |= certain_columns(files, config.data_format, labels)
        except RivalError as error:
            unclear = error
        given = replace(given, label=found.get("label_column", given.label))
        found |= unusual_columns(files, config.data_format, given)
    text, label = found.get("text_column", given.text), found.get("label_column", given.label)
    return replace(given, text=text, label=label), found, unclear
