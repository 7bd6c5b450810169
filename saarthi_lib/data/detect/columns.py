"""Detect the columns of text and labels in tables without usual names."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from saarthi_lib.data.formats import LANGUAGE_COLUMNS, Columns, recognize
from saarthi_lib.data.formats.columns import WORD_COLUMNS, find_columns
from saarthi_lib.data.formats.rivals import choose, rivals
from saarthi_lib.data.formats.rows import TABLES, Cells, Sample, first_cells, spread_cells
from saarthi_lib.data.read import SplitFile
from saarthi_lib.errors import DataError
from saarthi_lib.logs import get_logger
from saarthi_lib.text.language_names import LANGUAGE_NAMES, language_name

logger = get_logger("data")

_LEAST = 10  # rows of which a column should have several texts
FIRST = 200  # rows examined for columns with usual names
SPREAD = 3_000  # rows of all train files examined for other columns
MOST_FILES = 8  # train files among which these rows are spread
LONGEST_LABEL = 60  # characters
MOST_WORDS = 3  # average words of a label or of a column's name

_NOT_LABELS = {*LANGUAGE_COLUMNS, *WORD_COLUMNS, "id", "split", "source", "domain"}


class ColumnError(DataError):
    """Columns cannot be detected; preprocessing would not say why."""


def unusual_columns(files: Sequence[SplitFile], format: str, given: Columns) -> dict[str, str]:
    """Detect and log columns of text and labels that are not given and lack usual names.

    Args:
        files: train files.
        format: "auto", or the format of all files.
        given: columns that the user gives.

    Returns:
        Fields of the configuration; empty if no column would do.

    Raises:
        ColumnError: several columns would do.
    """
    file = files[0].path
    kind = recognize(file, given, format)
    cells = first_cells(file, kind, FIRST, given)
    named = usual_columns(cells, given)
    _check_varied(file, cells, named.get("text", ""), given)
    usual = named.keys()
    lacking = {
        "text_column": not given.text and not usual & {"text", "words"},
        "label_column": not given.label and not usual & {"label", "tags"},
    }
    if not any(lacking.values()):
        return {}
    sample = _spread(files, format, given)
    fields = _fitting(file, sample, [name for name, lacks in lacking.items() if lacks], given)
    if fields:
        shown = ", ".join(
            f"{_role(name)} '{column}' ({_example(name, column, sample)})"
            for name, column in fields.items()
        )
        logger.info("columns: %s; detected, set %s to correct", shown, " and ".join(fields))
    return fields


def _check_varied(file: Path, cells: Cells, text: str, given: Columns) -> None:
    """Raise a ColumnError if the usual column of texts has one text, and others have more."""
    values = cells.get(text, [])
    if given.text or len(values) < _LEAST or len({*map(str, values)}) > 1:
        return
    if others := [name for name in cells if name != text and _is_text(name, cells[name])]:
        raise ColumnError(
            f"{file}: all of the first {len(values)} rows have one text in '{text}', and others in "
            f"{' or '.join(others)}; set text_column"
        )


def certain_columns(files: Sequence[SplitFile], format: str, given: Columns) -> dict[str, str]:
    """Choose and log columns of texts, labels and languages if a table has several.

    Args:
        files: train files.
        format: "auto", or the format of all files.
        given: columns that the user gives; `sequence` says whether labels are needed.

    Returns:
        Fields of the configuration.

    Raises:
        RivalError: two columns vary, and differ.
    """
    file = files[0].path
    kind = recognize(file, given, format)
    if not rivals(given, [*first_cells(file, kind, FIRST, given)]):
        return {}
    chosen = choose(file, _spread(files, format, given).cells, given)
    for field, choice in chosen.items():
        logger.info("columns: %s; set %s to correct", choice, field)
    return {field: choice.column for field, choice in chosen.items()}


def usual_columns(cells: Cells, given: Columns) -> dict[str, str]:
    """Names of the columns with a given or a usual name, by role."""
    names = list(cells)
    at = find_columns(replace(given, sequence=True), names)._asdict()
    found = {role: names[place] for role, place in at.items() if place >= 0}
    if "tags" in found and not given.tags and not _are_tags(cells[found["tags"]]):
        del found["tags"]
    return found


def _spread(files: Sequence[SplitFile], format: str, given: Columns) -> Sample:
    """Rows of all train files; columns that the first file lacks are left out."""
    count = min(MOST_FILES, len(files))
    cells: Cells = {}
    whole = count == len(files)
    for at in range(count):
        path = files[at * len(files) // count].path
        kind = recognize(path, given, format)
        if kind not in TABLES:
            continue
        sample = spread_cells(path, kind, SPREAD // count, given)
        whole &= sample.whole
        if at == 0:
            cells = sample.cells
        else:
            for name in cells.keys() & sample.cells.keys():
                cells[name] = cells[name] + sample.cells[name]
    return Sample(cells, whole)


def _fitting(file: Path, sample: Sample, lacking: Sequence[str], given: Columns) -> dict[str, str]:
    """The only fitting column of each lacking field; empty if one is missing.

    Raises:
        ColumnError: several columns would do.
    """
    cells, usual = sample.cells, usual_columns(sample.cells, given).values()
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
    likely = {"text_column": _like_texts, "label_column": _like_labels}
    for field, columns in found.items():  # a heading of many words may name a column, too
        columns += [
            name
            for name in others
            if name not in columns and not _is_short(name) and likely[field](name, cells[name])
        ]
    unclear = {name: columns for name, columns in found.items() if len(columns) > 1}
    if unclear:
        listed = ", ".join(f"{_role(name)}s: {' or '.join(cs)}" for name, cs in unclear.items())
        raise ColumnError(
            f"{file}: the columns are not clear; {listed}; set {' and '.join(unclear)}"
        )
    return {name: columns[0] for name, columns in found.items()}


def _role(field: str) -> str:
    return field.removesuffix("_column")


def _example(name: str, column: str, sample: Sample) -> str:
    """First text of a column; first label and number of labels."""
    texts = ("" if value is None else str(value).strip() for value in sample.cells[column])
    filled = list(filter(None, texts))
    shown = filled[0] if len(filled[0]) <= LONGEST_LABEL else f"{filled[0][: LONGEST_LABEL - 3]}..."
    if name == "text_column":
        return f"such as '{shown}'"
    return f"{'' if sample.whole else 'at least '}{len(set(filled))} labels, such as '{shown}'"


def _are_tags(values: Sequence[Any]) -> bool:
    """Whether a column holds lists instead of one label per row."""
    filled = [value for value in values if value]
    lists = [v for v in filled if not isinstance(v, str) or v.startswith("[") or " " in v.strip()]
    return 2 * len(lists) >= len(filled)


def _is_text(name: str, values: Sequence[Any]) -> bool:
    """Whether a column is named, and holds texts."""
    return _is_name(name, values) and _like_texts(name, values)


def _like_texts(name: str, values: Sequence[Any]) -> bool:
    """Whether most values are different, and have several words that are not mostly digits."""
    filled = [value for value in values if isinstance(value, str) and value.strip()]
    if name in values or 2 * len(filled) < len(values):
        return False
    words = [word for value in filled for word in value.split()]
    digits = sum(sum(map(str.isdigit, word)) for word in words)  # dates, times and numbers
    several = len(words) >= 2 * len(filled) and 2 * digits < sum(map(len, words))
    return several and 2 * len(set(filled)) > len(filled)


def _are_labels(name: str, values: Sequence[Any], least: int = 2) -> bool:
    """Whether a column is named, and holds labels."""
    return _is_name(name, values) and _like_labels(name, values, least)


def _like_labels(name: str, values: Sequence[Any], least: int = 2) -> bool:
    """Whether a column has at least two (`least`) values that are short, and recur."""
    filled = [str(value).strip() for value in values if isinstance(value, str | int)]
    filled = [value for value in filled if value]
    kinds = set(filled)
    if name in values or name.strip().lower() in _NOT_LABELS:
        return False
    if 2 * len(filled) < len(values) or len(kinds) < least or 2 * len(kinds) > len(filled):
        return False
    if all(language_name(value) in LANGUAGE_NAMES.values() for value in kinds):
        return False
    words = sum(len(value.split()) for value in kinds)
    return max(map(len, kinds)) <= LONGEST_LABEL and words <= MOST_WORDS * len(kinds)


def _is_name(name: str, values: Sequence[Any]) -> bool:
    """Whether a header names a column; without a header, it is a text or a label."""
    return _is_short(name) and name not in values


def _is_short(name: str) -> bool:
    return 0 < len(name.split()) <= MOST_WORDS and len(name) <= LONGEST_LABEL
