"""Detect the task from the first rows of a file."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from saarthi_lib.data.exports.registry import other_part
from saarthi_lib.data.formats import Columns, RawRow, raw_rows
from saarthi_lib.data.formats.cells import BadCellError, label_of, list_of
from saarthi_lib.data.formats.columns import (
    BIO_LIKE,
    CONLLU_COLUMNS,
    ENTITY_COLUMNS,
    SPEECH_COLUMNS,
    WORD_ROWS,
)
from saarthi_lib.data.formats.rows import TABLES, first_cells
from saarthi_lib.data.tag_schemes import detect_form
from saarthi_lib.errors import DataError
from saarthi_lib.tasks import OUTSIDE

ROWS = 200  # first rows examined
_SHOWN = 60  # characters


def task_of(file: Path, kind: str, given: Columns) -> str:
    """Detect the task of a file.

    A label alone, or with tags of another kind, means `intent_classification`; entities or BIO tags
    mean `ner`, both together `joint`; other tags mean `pos`.

    Args:
        file: the file.
        kind: its format.
        given: columns that the user gives, or that were detected.

    Raises:
        DataError: the first rows lack labels and tags.
    """
    if kind in TABLES and not given.label:
        _check_tasks(file, list(first_cells(file, kind, 1, given)))
    labelled, tagged, why = _sample(file, kind, given)
    has_label = 2 * sum(_is_label(row) for row in labelled) > len(labelled)
    lists = [_tags_of(row) for row in (labelled if has_label else tagged)]
    tags = [tag for row in lists if row is not None for tag in row]
    if kind == "conll" and not given.text and not given.tags:
        _check_order(file, tagged, tags)
    if has_label and kind != "conllu":
        _check_form(file, labelled)
        _check_words(file, labelled)
        return "joint" if tags and _are_entities(tags) else "intent_classification"
    missing = sum(row is None for row in lists)
    if missing == len(lists) or (2 * missing > len(lists) and not _are_entities(tags)):
        if other := other_part(file):
            raise DataError(f"{file}: {other}")
        raise DataError(
            f"{file}: the first rows have no label and no tags{why}; set task, text_column and "
            "label_column"
        )
    return "pos" if tags and not _are_entities(tags) else "ner"


def _check_form(file: Path, rows: Sequence[RawRow]) -> None:
    """Raise a DataError if entities beside a label are objects, such as `{"city": "Rome"}`."""
    for row in rows:
        if isinstance(row.tags, dict) and row.tags:
            raise DataError(
                f"{file}: row {row.row}: the entities are {str(row.tags)[:60]}, which cannot be "
                "read; write a list of entities with 'start', 'end' and 'label', or set task to "
                "intent_classification to leave them out"
            )


def _check_words(file: Path, rows: Sequence[RawRow]) -> None:
    """Raise a DataError if labels are entity tags: of single words, or joined by commas."""
    for row in rows:
        parts = str(row.label).split(",")
        if len(parts) == len(_words_of(row)) > 1 and all(map(BIO_LIKE.fullmatch, parts)):
            raise DataError(
                f"{file}: row {row.row}: the label is a tag for each word ({parts[0]}, {parts[1]}, "
                "…); write the tags as a JSON list, or with spaces between them"
            )
    tags = [str(row.label) for row in rows if len(str(row.text).split()) == 1]
    marked = sum(bool(BIO_LIKE.fullmatch(tag)) for tag in tags)
    if OUTSIDE in tags and 10 * marked > 9 * len(rows):
        raise DataError(f"{file}: {WORD_ROWS}")


def _check_order(file: Path, rows: Sequence[RawRow], tags: Sequence[Any]) -> None:
    """Raise a DataError if the first column holds entity tags instead of words."""
    words = [word for row in rows for word in _words_of(row)]
    marked = sum(bool(BIO_LIKE.fullmatch(word)) for word in words)
    if OUTSIDE in words and 10 * marked > 9 * len(words) and OUTSIDE not in tags:
        common = ", ".join(word for word in dict.fromkeys(words) if word != OUTSIDE)
        raise DataError(
            f"{file}: column 1 holds entity tags ({common[:60]}) instead of words; put the words "
            "first, or set task, and text_column and label_column to the columns' numbers"
        )


def _check_tasks(file: Path, names: Sequence[str]) -> None:
    """Raise a DataError if the columns hold the tags of two tasks."""
    lower = [name.strip().lower() for name in names]
    entities = [name for name in lower if name in ENTITY_COLUMNS]
    speech = [name for name in lower if name in SPEECH_COLUMNS]
    if entities and speech:
        listed = f"{', '.join(entities)} (ner) and {', '.join(speech)} (pos)"
        raise DataError(f"{file}: has tags of two tasks: {listed}; set task")


def _sample(file: Path, kind: str, given: Columns) -> tuple[list[RawRow], list[RawRow], str]:
    """First usable rows, read with labels and read with tags only; reason for missing labels."""
    as_label = Columns(text=given.text, label=given.label, tags=given.tags, sequence=True)
    as_tags = Columns(text=given.text, tags=given.tags or given.label)
    if kind in ("conll", "conllu"):
        # Numbers and the names of CoNLL-U are columns of tags; other names are comments.
        if not given.tags and (given.label.isdecimal() or given.label.lower() in CONLLU_COLUMNS):
            return [], _rows(file, kind, as_tags), ""
        as_tags = Columns(text=given.text, tags=given.tags)
    rows: list[RawRow] = []
    why = ""
    try:
        rows = list(islice(raw_rows(file, kind, as_label), ROWS))
        why = next(filter(None, map(_reason, rows)), "")
    except DataError as error:  # a column of labels is optional
        why = f" ({str(error).removeprefix(f'{file}: ')})"
    return [row for row in rows if not row.faults], _rows(file, kind, as_tags), why


def _reason(row: RawRow) -> str:
    """Why a row lacks a label and tags; "" if it is not known."""
    if row.faults:
        return f" (row {row.faults[0].row}: {row.faults[0].message})"
    if isinstance(row.label, dict):
        shown = str(row.label)
        shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
        return f" (row {row.row}: the label is the object {shown}; write its name as text)"
    try:
        label_of(row.label)
    except BadCellError as error:
        return f" (row {row.row}: {error})"
    return ""


def _rows(file: Path, kind: str, columns: Columns) -> list[RawRow]:
    return [row for row in islice(raw_rows(file, kind, columns), ROWS) if not row.faults]


def _is_label(row: RawRow) -> bool:
    """Whether a row has one label instead of a list of tags."""
    if isinstance(row.label, list) and len(row.label) == 1 and len(_words_of(row)) > 1:
        return not isinstance(row.label[0], list | dict)
    if row.label is None or isinstance(row.label, list | dict) or not str(row.label).strip():
        return False
    parts = str(row.label).split()
    one_each = len(_words_of(row)) == len(parts) > 1
    return not one_each and (not str(row.label).startswith("[") or _is_one(str(row.label)))


def _is_one(label: str) -> bool:
    """Whether a list that is written as text holds one label."""
    try:
        return isinstance(found := list_of(label), list) and [*map(type, found)] == [str]
    except BadCellError:
        return False


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
    if OUTSIDE in tags or 2 * sum(bool(BIO_LIKE.fullmatch(tag)) for tag in tags) > len(tags):
        return True
    form = detect_form(Counter(tags))  # with another name of O
    return bool(form.letters and form.separator) and not {*form.outside}.isdisjoint(tags)
