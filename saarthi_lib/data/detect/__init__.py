"""Detect the task and the columns of text and labels, unless the configuration gives them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.cloud import is_remote
from saarthi_lib.data.formats import (
    BIO_LIKE,
    CONLLU_COLUMNS,
    LABEL_COLUMNS,
    LANGUAGE_COLUMNS,
    TAG_COLUMNS,
    TEXT_COLUMNS,
    WORD_COLUMNS,
    Columns,
    RawRow,
    Sample,
    has_rows,
    raw_rows,
    recognize,
    sample_cells,
    spread_cells,
)
from saarthi_lib.data.read import LANGUAGE_NAMES, SplitFile, find_splits, language_name
from saarthi_lib.errors import ConfigError, DataError
from saarthi_lib.logs import get_logger
from saarthi_lib.tasks import OUTSIDE, has_sequence_head

logger = get_logger("data")

DEMO_TASKS = {"demo:home-assistant": "intent_classification", "demo:porttinari": "pos"}
ROWS = 200  # first rows examined for the task and for columns with usual names
SPREAD = 3_000  # rows of all train files examined for other columns
MOST_FILES = 8  # train files among which these rows are spread
LONGEST_LABEL = 60  # characters
MOST_WORDS = 3  # average words of a label or of a column's name

_TABLES = ("csv", "tsv", "jsonl", "parquet")
_NOT_LABELS = {*LANGUAGE_COLUMNS, *WORD_COLUMNS, "id", "split", "source", "domain"}


@dataclass(frozen=True)
class Detected:
    """Task and columns of a folder's first train file.

    Attributes:
        file: the file, relative to the folder.
        task: the task; "" if the configuration gives it.
        fields: columns to set in the configuration, because their names are not usual.
        examples: an example of each of these columns, and the number of labels.
    """

    file: str
    task: str
    fields: dict[str, str] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)


class _ColumnError(DataError):
    """Columns cannot be detected; preprocessing would not say why."""


def with_task(config: TrainConfig) -> TrainConfig:
    """Add the task and the columns that a configuration lacks, as detected from its input.

    Detected fields become fields like given ones, and are logged.

    Raises:
        ConfigError: the task is not given, and the input is remote.
        DataError: the task is not given, and the input does not show it; or several columns would
            do, or a file lacks a detected one.
    """
    if not config.input_path:
        return config
    if config.input_path in DEMO_TASKS:
        found = Detected("", DEMO_TASKS[config.input_path])
    elif is_remote(config.input_path):
        if "task" not in config.model_fields_set:
            raise ConfigError(
                f"task is missing: it is detected only in local folders, not in {config.input_path}"
            )
        return config
    else:
        try:
            found = detect(Path(config.input_path), config)
        except DataError as error:
            if "task" in config.model_fields_set and not isinstance(error, _ColumnError):
                return config  # preprocessing reports it
            raise
    fields: dict[str, str] = dict(found.fields)
    if fields:
        told = ", ".join(
            f"{name.removesuffix('_column')} '{column}' ({found.examples[name]})"
            for name, column in fields.items()
        )
        logger.info("columns: %s; detected, set %s to correct", told, " and ".join(fields))
    if "task" not in config.model_fields_set:
        fields["task"] = found.task
        source = f"detected from {found.file}" if found.file else "of the demonstration data"
        logger.info("task: %s (%s)", found.task, source)
    if not fields:
        return config
    return type(config).from_mapping({**config.model_dump(exclude_unset=True), **fields})


def detect(folder: Path, config: TrainConfig) -> Detected:
    """Detect the columns and, unless the configuration gives it, the task of a local folder.

    A label alone means `intent_classification`; entities or BIO tags mean `ner`, both together
    `joint`; other tags mean `pos`.

    Raises:
        DataError: the train file is missing, empty or unreadable, or lacks both labels and tags;
            several columns would do, or a file lacks a detected column.
    """
    splits = find_splits(folder, config.data_format, log=False)
    file = splits["train"][0].path
    given = Columns(
        text=config.text_column, label=config.label_column, language=config.language_column
    )
    asked = "task" not in config.model_fields_set
    fields: dict[str, str] = {}
    examples: dict[str, str] = {}
    kind = _kind(file, config.data_format, given)
    if not has_rows(file, kind):
        raise DataError(f"{file}: has no rows; fill it in or remove it")
    if kind in _TABLES and (asked or has_sequence_head(config.task)):
        cells = sample_cells(file, kind, ROWS, given)
        if lacking := _lacking(cells, given):
            sample = _spread(splits["train"], config.data_format, given)
            fields = _columns_of(file, sample, lacking, given)
            examples = {name: _example(name, fields[name], sample) for name in fields}
            _require_columns(folder, splits, config.data_format, given, fields)
    columns = Columns(
        text=fields.get("text_column", given.text), label=fields.get("label_column", given.label)
    )
    task = _task_of(file, config.data_format, columns) if asked else ""
    return Detected(file.relative_to(folder).as_posix(), task, fields, examples)


def columns_of(folder: Path, config: TrainConfig) -> dict[str, str]:
    """Names of the columns to read from the first train file, by role.

    Files without named columns (CoNLL, plain text) give an empty mapping.
    """
    file = find_splits(folder, config.data_format, log=False)["train"][0].path
    given = Columns(
        text=config.text_column, label=config.label_column, language=config.language_column
    )
    kind = _kind(file, config.data_format, given)
    return _roles(sample_cells(file, kind, ROWS, given), given) if kind in _TABLES else {}


def _kind(file: Path, format: str, columns: Columns) -> str:
    return recognize(file, columns) if format == "auto" else format


# --- the task -------------------------------------------------------------------------------------


def _task_of(file: Path, format: str, given: Columns) -> str:
    kind = _kind(file, format, given)
    labelled, tagged, why = _sample(file, kind, given)
    has_label = 2 * sum(_is_label(row) for row in labelled) > len(labelled)
    lists = [_tags_of(row) for row in (labelled if has_label else tagged)]
    tags = [tag for row in lists if row is not None for tag in row]
    if has_label and kind != "conllu":
        return "joint" if tags else "intent_classification"
    if all(row is None for row in lists):
        raise DataError(
            f"{file}: its first rows have no label and no tags{why}; give the task, and the "
            "columns (task, text_column, label_column)"
        )
    return "pos" if tags and not _are_entities(tags) else "ner"


def _sample(file: Path, kind: str, given: Columns) -> tuple[list[RawRow], list[RawRow], str]:
    """First usable rows, read with labels and read with tags only; reason for missing labels."""
    as_label = Columns(text=given.text, label=given.label, sequence=True)
    as_tags = Columns(text=given.text, tags=given.label)
    if kind in ("conll", "conllu"):
        # Numbers and the names of CoNLL-U are columns of tags; other names are comments.
        if given.label.isdecimal() or given.label.lower() in CONLLU_COLUMNS:
            return [], _rows(file, kind, as_tags), ""
        as_tags = Columns(text=given.text)
    rows: list[RawRow] = []
    why = ""
    try:
        rows = list(islice(raw_rows(file, kind, as_label), ROWS))
        why = next((f" ({row.faults[0].message})" for row in rows if row.faults), "")
    except DataError as error:  # a column of labels is optional
        why = f" ({str(error).removeprefix(f'{file}: ')})"
    return [row for row in rows if not row.faults], _rows(file, kind, as_tags), why


def _rows(file: Path, kind: str, columns: Columns) -> list[RawRow]:
    return [row for row in islice(raw_rows(file, kind, columns), ROWS) if not row.faults]


def _is_label(row: RawRow) -> bool:
    """Whether a row has one label instead of a list of tags."""
    if row.label is None or isinstance(row.label, list | dict) or not str(row.label).strip():
        return False
    parts = str(row.label).split()
    one_each = len(_words_of(row)) == len(parts) > 1
    return not (one_each or str(row.label).startswith("["))


def _tags_of(row: RawRow) -> Sequence[Any] | None:
    """Entities with offsets, or a tag for each word; None if both are missing."""
    if not isinstance(row.tags, list):
        return None
    entities = not all(isinstance(tag, str) for tag in row.tags)
    fits = entities or not row.tags or len(row.tags) == len(_words_of(row))
    return row.tags if fits else None


def _words_of(row: RawRow) -> list[Any]:
    return row.words if isinstance(row.words, list) else str(row.text).split()


def _are_entities(tags: Sequence[Any]) -> bool:
    """Whether tags mark entities: by offsets, by prefixes, or by O for other words."""
    if not all(isinstance(tag, str) for tag in tags):
        return True
    tags = [tag for tag in tags if tag != "_"]  # an empty cell of CoNLL-U
    return OUTSIDE in tags or 2 * sum(bool(BIO_LIKE.fullmatch(tag)) for tag in tags) > len(tags)


# --- the columns ----------------------------------------------------------------------------------

Cells = dict[str, list[Any]]


def _lacking(cells: Cells, given: Columns) -> list[str]:
    """Fields of columns that are neither given nor have a usual name."""
    usual = _roles(cells, given).keys()
    lacks = {
        "text_column": not given.text and not usual & {"text", "words"},
        "label_column": not given.label and not usual & {"label", "tags"},
    }
    return [name for name, lacks_it in lacks.items() if lacks_it]


def _spread(files: Sequence[SplitFile], format: str, given: Columns) -> Sample:
    """Rows of all train files; columns that the first file lacks are left out."""
    count = min(MOST_FILES, len(files))
    chosen = [files[at * len(files) // count].path for at in range(count)]
    cells: Cells = {}
    whole = count == len(files)
    for path in chosen:
        kind = _kind(path, format, given)
        if kind not in _TABLES:
            continue
        sample = spread_cells(path, kind, SPREAD // count, given)
        whole &= sample.whole
        if path == chosen[0]:
            cells = sample.cells
            continue
        for name in cells.keys() & sample.cells.keys():
            cells[name] = cells[name] + sample.cells[name]
    return Sample(cells, whole)


def _columns_of(
    file: Path, sample: Sample, lacking: Sequence[str], given: Columns
) -> dict[str, str]:
    """Fields for columns without a usual name; empty if no column would do.

    Raises:
        _ColumnError: several columns would do.
    """
    cells, usual = sample.cells, _roles(sample.cells, given).values()
    others = [name for name in cells if name not in usual]
    found: dict[str, list[str]] = {}
    if "text_column" in lacking:
        found["text_column"] = [name for name in others if _is_text(name, cells[name])]
    if "label_column" in lacking:
        found["label_column"] = [name for name in others if _are_labels(name, cells[name])]
        if found["label_column"] and not sample.whole:  # other rows may have other labels
            constant = (name for name in others if _are_labels(name, cells[name], least=1))
            found["label_column"] = list(dict.fromkeys([*found["label_column"], *constant]))
    if not all(found.values()):
        return {}
    unclear = {name: columns for name, columns in found.items() if len(columns) > 1}
    if unclear:
        told = ", ".join(
            f"{name.removesuffix('_column')}s: {' or '.join(columns)}"
            for name, columns in unclear.items()
        )
        wanted = " and ".join(unclear)
        raise _ColumnError(f"{file}: the columns are not clear; {told}; set {wanted}")
    return {name: columns[0] for name, columns in found.items()}


def _example(name: str, column: str, sample: Sample) -> str:
    """First text of a column; first label and number of labels."""
    filled = [text for value in sample.cells[column] if (text := _text_of(value))]
    shown = filled[0] if len(filled[0]) <= LONGEST_LABEL else f"{filled[0][: LONGEST_LABEL - 3]}..."
    if name == "text_column":
        return f"such as '{shown}'"
    return f"{'' if sample.whole else 'at least '}{len(set(filled))} labels, such as '{shown}'"


def _text_of(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _require_columns(
    folder: Path,
    splits: dict[str, list[SplitFile]],
    format: str,
    given: Columns,
    fields: dict[str, str],
) -> None:
    """Check that the files of all splits have the detected columns.

    Raises:
        _ColumnError: a file lacks a column.
    """
    source = splits["train"][0].path.relative_to(folder).as_posix()
    for split, path, names in _names(splits, format, given):
        for name, column in fields.items():
            needed = split != "transfer" or name == "text_column"
            if needed and column.strip().lower() not in names:
                role = name.removesuffix("_column")
                raise _ColumnError(
                    f"{path}: has no column '{column}', which was detected in {source} as the "
                    f"{role} column; name the {role} column alike in all files, or set {name}"
                )


def _names(
    splits: dict[str, list[SplitFile]], format: str, given: Columns
) -> Iterator[tuple[str, Path, set[str]]]:
    """Split, path and lower-case column names of each file, except empty and plain text files."""
    for split, files in splits.items():
        columns = Columns(text=given.text, labelled=split != "transfer")
        for path in (file.path for file in files):
            kind = _kind(path, format, columns)
            cells = sample_cells(path, kind, ROWS, columns) if kind in _TABLES else {}
            if cells or kind in ("conll", "conllu"):  # which have no named columns
                yield split, path, {name.strip().lower() for name in cells}


def _roles(cells: Cells, given: Columns) -> dict[str, str]:
    """Names of the columns with a given or a usual name, by role."""
    by_name = {name.strip().lower(): name for name in reversed(list(cells))}
    roles = {
        "text": (given.text, TEXT_COLUMNS),
        "label": (given.label, LABEL_COLUMNS),
        "language": (given.language, LANGUAGE_COLUMNS),
        "words": ("", WORD_COLUMNS),
        "tags": ("", TAG_COLUMNS),
    }
    found: dict[str, str] = {}
    for role, (chosen, usual) in roles.items():
        wanted = [chosen.strip().lower()] if chosen else usual
        named = (by_name[name] for name in wanted if name in by_name)
        fitting = (
            name
            for name in named
            if name not in found.values() and (role != "tags" or _are_tags(cells[name]))
        )
        column = next(fitting, None)
        if column is not None:
            found[role] = column
    return found


def _are_tags(values: Sequence[Any]) -> bool:
    """Whether a column holds lists instead of one label per row."""
    filled = [value for value in values if value]
    lists = [v for v in filled if not isinstance(v, str) or v.startswith("[") or " " in v.strip()]
    return 2 * len(lists) >= len(filled)


def _is_text(name: str, values: Sequence[Any]) -> bool:
    """Whether a column holds texts: most are different, and have several words."""
    filled = [value for value in values if isinstance(value, str) and value.strip()]
    if not _is_name(name, values) or 2 * len(filled) < len(values):
        return False
    words = sum(len(value.split()) for value in filled)
    return 2 * len(set(filled)) > len(filled) and words >= 2 * len(filled)


def _are_labels(name: str, values: Sequence[Any], least: int = 2) -> bool:
    """Whether a column holds labels: at least two (`least`) that are short, and recur."""
    filled = [str(value).strip() for value in values if isinstance(value, str | int)]
    filled = [value for value in filled if value]
    kinds = set(filled)
    if not _is_name(name, values) or name.strip().lower() in _NOT_LABELS:
        return False
    if 2 * len(filled) < len(values) or len(kinds) < least or 2 * len(kinds) > len(filled):
        return False
    if all(language_name(value) in LANGUAGE_NAMES.values() for value in kinds):
        return False
    words = sum(len(value.split()) for value in kinds)
    return max(map(len, kinds)) <= LONGEST_LABEL and words <= MOST_WORDS * len(kinds)


def _is_name(name: str, values: Sequence[Any]) -> bool:
    """Whether a header names a column; without a header, it is a text or a label."""
    short = 0 < len(name.split()) <= MOST_WORDS and len(name) <= LONGEST_LABEL
    return short and name not in values
