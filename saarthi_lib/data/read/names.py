"""Names of labels: one name for numbers such as 1 and 1.0, and names of missing values."""

import re
from collections.abc import Collection, Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from saarthi_lib.data.formats import Fault
from saarthi_lib.data.read.problems import Problem
from saarthi_lib.logs import get_logger

logger = get_logger("data")

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")
_WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))\.0+")
# Missing values as pandas, spreadsheets, databases and JavaScript write them.
_MISSING = (
    *("nan", "NaN", "NAN", "-nan", "-NaN", "NaT", "null", "NULL", "Null", "<NA>", "NA", "N/A"),
    *("n/a", "#N/A", "#NA", "None", "undefined"),
)
_MISSING_LANGUAGES = tuple({name.lower() for name in _MISSING})


def missing_names(table: pd.DataFrame, known: str) -> Iterator[Fault]:
    """Find rows whose label or language is the name of a missing value.

    Args:
        table: rows of a file.
        known: a label that the user names.
    """
    for column, names in (("label", _MISSING), ("lang", _MISSING_LANGUAGES)):
        if column not in table:
            continue
        found = pc.is_in(table[column].array.__arrow_array__(), pa.array(names))
        if not pc.any(found).as_py():
            continue
        what = "label" if column == "label" else "language"
        rows = table[found.to_numpy()]
        messages = {
            name: f"the {what} '{name}' looks like a missing value, and is kept as written; fill "
            "it in, or leave it empty"
            for name in rows[column].unique()
            if what == "language" or name != known
        }
        for row, name in zip(rows["row"], rows[column], strict=True):
            if name in messages:
                yield Fault(int(row), "missing-name", messages[name])


def one_name_each(
    tables: list[pd.DataFrame], known: Collection[str] | None, problems: list[Problem]
) -> tuple[list[pd.DataFrame], set[str]]:
    """Give numbers such as 1 and 1.0 one name in all tables.

    Without known labels, 1.0 is 1 if all labels are numbers, as pandas writes a column with gaps,
    or if 1 is a label, too.

    Args:
        tables: tables with labels.
        known: labels of the training rows; None: the tables are the training rows.
        problems: list that receives a note for each file with renamed labels.

    Returns:
        The tables, and their labels.
    """
    names = {str(name) for table in tables for name in table["label"].unique()}
    if known is None:
        whole = {name: found[1] for name in names if (found := _WHOLE.fullmatch(name))}
        if not all(map(_NUMBER.fullmatch, names)):
            whole = {name: number for name, number in whole.items() if number in names}
    else:
        of_number = {_number(name): name for name in known}
        whole = {
            name: of_number[_number(name)]
            for name in names.difference(known)
            if _number(name) in of_number and _NUMBER.fullmatch(name)
        }
    settled = [_renamed(table, whole, problems) for table in tables] if whole else tables
    return settled, {whole.get(name, name) for name in names}


def _number(name: str) -> str:
    found = _WHOLE.fullmatch(name)
    return found[1] if found else name


def _renamed(table: pd.DataFrame, names: dict[str, str], problems: list[Problem]) -> pd.DataFrame:
    """The table with other names of labels, and a note on the first such row of each file."""
    changed = table["label"].isin(list(names))
    if not changed.any():
        return table
    for file, rows in table[changed].groupby("file", sort=False):
        row, name = int(rows["row"].iloc[0]), str(rows["label"].iloc[0])
        message = f"the label {name} is read as {names[name]}, as in {len(rows)} rows"
        problems.append(Problem(str(file), row, "whole-number", message, False, row))
        logger.info("%s: row %d: %s", file, row, message)
    return table.assign(label=table["label"].replace(names).astype(table["label"].dtype))
