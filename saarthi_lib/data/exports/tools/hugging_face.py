"""Hugging Face data sets that `save_to_disk` has written as Arrow.

Source of the description: huggingface/datasets, `src/datasets/arrow_dataset.py` of a version 1
(`state.json` with `_data_files` and `_indices_data_files`, `dataset_info.json`, Arrow streams),
code that reads and writes such folders of later versions (`data-00000-of-00001.arrow`,
`dataset_dict.json` with `splits`), and the features shown in the catalog of TensorFlow Datasets
(`ClassLabel`, `Sequence`) and in tests (`List`).
`saarthi_lib.data.formats.names` reads the names of the classes, for Parquet and JSON, too.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saarthi_lib.data.expansion import arrow_rows
from saarthi_lib.data.exports.documents import Head, load_json
from saarthi_lib.data.exports.reading import Reading, unfit
from saarthi_lib.data.formats.cells import BadCellError
from saarthi_lib.data.formats.columns import Columns, RawRow, find_columns
from saarthi_lib.data.formats.names import SIDECAR, class_names, name_of
from saarthi_lib.errors import DataError

_TASKS = ("ner_tags", "pos_tags", "chunk_tags")


def recognize(head: Head) -> str:
    """Whether a file has rows of a saved data set, or describes one."""
    if head.path.name in (SIDECAR, "state.json", "dataset_dict.json"):
        return "aside"
    if head.suffix == ".arrow":
        return "rows" if _is_listed(head.path) else "aside"
    return ""


def rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Rows with texts or words; integers become the names of their classes.

    Raises:
        DataError: a column is missing, the column of the tags is not clear, a listed file is
            missing, or the folder has rows that are not part of the data set.
    """
    _check_state(path)
    names = class_names(path, "arrow")
    at: dict[str, str] | None = None
    for row, found in enumerate(arrow_rows(path), 1):
        if at is None:
            at = _columns(path, reading.columns, tuple(found), reading)
        values: dict[str, Any] = {role: found.get(column) for role, column in at.items()}
        try:
            for role in ("label", "tags"):
                if role in at:
                    values[role] = _named(values[role], names.get(at[role], []))
        except BadCellError as error:
            yield unfit(row, f"{at[role]}: {error}")
            continue
        yield RawRow(row, **values)


def _is_listed(path: Path) -> bool:
    """Whether a file is part of a saved data set, and not of its cache."""
    state = path.with_name("state.json")
    if not state.is_file():
        return True
    try:
        files = [str(each["filename"]) for each in load_json(state).get("_data_files") or []]
    except (AttributeError, KeyError, TypeError):
        raise DataError(f"{state}: lists no '_data_files'; save the data set again") from None
    return not files or path.name in files


def _check_state(path: Path) -> None:
    """Raise a DataError if the data set has fewer or other rows than its Arrow files.

    Rows that were filtered or shuffled are listed in files of their own.
    """
    state = path.with_name("state.json")
    if not state.is_file():
        return
    found = load_json(state)
    names = [str(each["filename"]) for each in found.get("_data_files") or []]
    missing = [name for name in names if not path.with_name(name).is_file()]
    if missing:
        raise DataError(
            f"{state}: lists {missing[0]}, which is missing ({len(missing)} of {len(names)} files "
            "are); copy the whole data set"
        )
    if found.get("_indices_files") or found.get("_indices_data_files"):
        raise DataError(
            f"{state}: only some rows of {path.name} are part of the data set; load it, call "
            "flatten_indices(), and save it again"
        )


def _columns(
    path: Path, given: Columns, names: tuple[str, ...], reading: Reading
) -> dict[str, str]:
    """Names of the columns by role."""
    tags = [name for name in _TASKS if name in names]
    chosen = given.tags or given.label
    if len(tags) > 1 and chosen not in tags and given.entities is None:
        listed = " and ".join(f"'{name}'" for name in tags)
        raise DataError(f"{path}: has the tags {listed}; set label_column to one")
    wanted = Columns(
        text=given.text,
        label="" if given.label in tags else given.label,
        language=given.language,
        group=given.group,
        tags=chosen if chosen in tags else given.tags,
        sequence=True,
        entities=given.entities,
    )
    places = find_columns(wanted, names)._asdict()
    fields = {"language": "lang"}
    at = {fields.get(role, role): names[place] for role, place in places.items() if place >= 0}
    if "text" not in at and "words" not in at:
        raise DataError(f"{path}: no column of text among {[*names]}; set text_column")
    for name in names:
        if name not in at.values():
            reading.leave(f"column {name}", path)
    return at


def _named(value: Any, names: list[str]) -> Any:
    """Names for the integers of classes; -1 means that a class is missing."""
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    if not names or not isinstance(value, int):
        return value
    return None if value == -1 else name_of(names, value)
