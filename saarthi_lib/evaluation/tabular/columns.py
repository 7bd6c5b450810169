"""Columns that a bundle was trained with, as far as another file has them."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from saarthi_lib.bundle import read_verified
from saarthi_lib.bundle.manifest import HOW_TO_FIX, TRAINING_CONFIG
from saarthi_lib.data.formats import Columns, raw_rows, recognize
from saarthi_lib.data.formats.columns import CONLLU_COLUMNS
from saarthi_lib.data.formats.rows import TABLES, first_cells
from saarthi_lib.errors import BundleError
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.json_text import parse_json
from saarthi_lib.layout import current_names

COLUMN_FIELDS = ("text_column", "label_column", "tags_column", "language_column")
FIRST = 200  # rows whose columns are compared


def training_fields(predictor: Predictor) -> dict[str, Any]:
    """The configuration that a bundle was trained with; empty if the network is not a bundle's.

    Raises:
        BundleError: the file is not a JSON object.
    """
    folder, manifest = predictor.folder, predictor.manifest
    if folder is None:
        return {}
    try:
        content = parse_json(read_verified(folder, manifest, TRAINING_CONFIG))
    except ValueError as error:
        raise BundleError(f"{folder / TRAINING_CONFIG}: is not JSON ({error}); {HOW_TO_FIX}") from (
            error
        )
    if not isinstance(content, dict):
        raise BundleError(f"{folder / TRAINING_CONFIG}: must hold a JSON object; {HOW_TO_FIX}")
    return current_names(content)


def trained_columns(predictor: Predictor, path: Path, format: str) -> dict[str, str]:
    """Columns that the bundle was trained with, by field, without those that a file lacks.

    Bundles of earlier versions may lack fields. A file with other columns is read by its usual
    names, or by the columns that the user names.

    Raises:
        BundleError: see `training_fields`.
        DataError: the file cannot be read.
    """
    fields = training_fields(predictor)
    given = {name: fields[name] for name in COLUMN_FIELDS if isinstance(fields.get(name), str)}
    given = {name: column for name, column in given.items() if column}
    if not given or not path.is_file():
        return {}
    text = given.get("text_column", "")
    kind = recognize(path, Columns(text=text), format)
    if kind not in TABLES:
        return _of_conll(path, kind, given) if kind.startswith("conll") else {}
    names = _names(path, kind, text)
    if text and text.strip().lower() not in names:  # the text's column shows the delimiter
        names = _names(path, kind, "")
    return {name: column for name, column in given.items() if column.strip().lower() in names}


def _names(path: Path, kind: str, text: str) -> set[str]:
    cells = first_cells(path, kind, FIRST, Columns(text=text))
    return {str(name).strip().lower() for name in cells}


def _of_conll(path: Path, kind: str, given: Mapping[str, str]) -> dict[str, str]:
    """Numbers of columns, and names of comments that the first sentences have."""
    columns = {
        name: column
        for name, column in given.items()
        if column.isdecimal() or (kind == "conllu" and column.lower() in CONLLU_COLUMNS)
    }
    comments = {name: column for name, column in given.items() if name not in columns}
    label, language = comments.get("label_column", ""), comments.get("language_column", "")
    wanted = Columns(label=label, language=language, labelled=False)
    rows = [*islice(raw_rows(path, kind, wanted), FIRST)]
    if label and any(row.label is not None for row in rows):
        columns["label_column"] = label
    if language and any(row.lang is not None for row in rows):
        columns["language_column"] = language
    return columns
