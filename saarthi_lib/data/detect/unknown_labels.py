"""Find labels, entity types and tags of other splits that train lacks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.detect.misspelt import is_rare, likely_meant
from saarthi_lib.data.read import Problem
from saarthi_lib.errors import DataError
from saarthi_lib.logs import get_logger
from saarthi_lib.tasks import OUTSIDE, Labels, has_sequence_head, has_token_head, uses_bio

logger = get_logger("data")

UNKNOWN, REFUSED = "unknown-label", "refused-label"  # kinds of problems
_NAMES_SHOWN = 8


class Name(NamedTuple):
    """A label, entity type or tag."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'"


NamesOfRows = Mapping[int, Sequence[Name]]


def unknown_names(table: pd.DataFrame, labels: Labels, task: str) -> dict[int, list[Name]]:
    """Names that train lacks, by row; rows without such a name are missing."""
    found: dict[int, list[Name]] = {}
    if has_sequence_head(task):
        known = set(labels.sequence)
        for row, label in enumerate(table["label"]):
            if label not in known:
                found[row] = [Name("label", str(label))]
    if has_token_head(task):
        known = set(labels.token)
        for row, tags in enumerate(table["tags"]):
            unknown = [_of_tag(str(tag), task) for tag in tags if tag not in known]
            if unknown:
                found.setdefault(row, []).extend(dict.fromkeys(unknown))
    return found


def settle_unknown(
    tables: dict[str, pd.DataFrame],
    labels: Labels,
    config: TrainConfig,
    problems: list[Problem],
) -> dict[str, int]:
    """Handle the rows with names that train lacks, by the field `unknown_labels`.

    Rows of the test stay. Rows of other splits are removed from `tables`.

    Args:
        tables: a table for each split.
        labels: labels of train.
        config: the configuration.
        problems: list to which removed and refused rows are added; refused rows stop a run.

    Returns:
        Number of removed rows by reason.

    Raises:
        DataError: train lacks a label of every row of a split.
    """
    removed: dict[str, int] = {}
    out_of_scope = Name("label", config.out_of_scope_label)
    for split in [name for name in tables if name != "train"]:
        table = tables[split]
        unknown = {
            row: names
            for row, names in unknown_names(table, labels, config.task).items()
            if out_of_scope not in names
        }
        if not unknown:
            continue
        meant = _meant(table, split, unknown, labels, config)
        refused = _refused(unknown, meant, config)
        for row, names in unknown.items():
            if row in refused or split != "test":
                file, number = str(table["file"].iloc[row]), int(table["row"].iloc[row])
                kind = REFUSED if row in refused else UNKNOWN
                message = _described(refused.get(row, names[0]), meant)
                problems.append(Problem(file, number, kind, message, split != "test", number))
        lacking = _listed(unknown)
        if len(unknown) == len(table) and (split != "test" or has_sequence_head(config.task)):
            file = table["file"].iloc[0]
            raise DataError(
                f"{file}: all {len(table)} rows of {split} have {lacking}; correct the labels, or "
                "the files and columns"
            )
        if split == "test":
            message = "such a label is out of scope, and a word with such a tag counts as wrong"
            logger.warning("test: %d rows have %s; %s", len(unknown), lacking, message)
        else:
            tables[split] = table.drop(index=list(unknown)).reset_index(drop=True)
            removed[f"{split} rows with {lacking}"] = len(unknown)
    return removed


def _of_tag(tag: str, task: str) -> Name:
    return Name("entity type", tag[2:]) if uses_bio(task) else Name("tag", tag)


def _meant(
    table: pd.DataFrame, split: str, unknown: NamesOfRows, labels: Labels, config: TrainConfig
) -> dict[Name, str]:
    """Names that are probably misspelt, each with the intended name in train.

    Names with other case or separators count. Names one letter apart may be other words (hotel,
    hostel), so they count only with few rows; otherwise a warning lists them.
    """
    if config.unknown_labels == "keep":
        return {}
    known_labels = [*labels.answers, *filter(None, [config.out_of_scope_label])]
    known_tags = {_of_tag(tag, config.task).name: None for tag in labels.token if tag != OUTSIDE}
    found = {}
    for name, rows in _rows_of(unknown).items():
        known = known_labels if name.kind == "label" else list(known_tags)
        meant = likely_meant(name.name, known, letters=False)
        if not meant and name.kind != "tag":
            meant = likely_meant(name.name, known)
            if meant and not is_rare(rows, _rows_with(table, Name(name.kind, meant), config.task)):
                logger.warning(
                    "%s: the %s (%d rows) looks like '%s', but is frequent; correct it if it is "
                    "misspelt", split, name, rows, meant,
                )  # fmt: skip
                continue
        if meant:
            found[name] = meant
    return found


def _rows_of(unknown: NamesOfRows) -> Counter[Name]:
    return Counter(name for names in unknown.values() for name in names)


def _rows_with(table: pd.DataFrame, name: Name, task: str) -> int:
    """Number of the rows with a name."""
    if name.kind == "label":
        return int((table["label"] == name.name).sum())
    return sum(name in {_of_tag(str(tag), task) for tag in tags} for tags in table["tags"])


def _refused(
    unknown: NamesOfRows, meant: Mapping[Name, str], config: TrainConfig
) -> dict[int, Name]:
    """Rows that stop a run, each with the first refused name."""
    refused: dict[int, Name] = {}
    for row, names in unknown.items():
        for name in names:
            if config.unknown_labels == "error" or name in meant:
                refused.setdefault(row, name)
    return refused


def _listed(unknown: NamesOfRows) -> str:
    """The names that train lacks, with the number of their rows."""
    counts = _rows_of(unknown)
    listed = ", ".join(f"{name.name} ({n})" for name, n in counts.most_common(_NAMES_SHOWN))
    more = f" and {len(counts) - _NAMES_SHOWN} more" if len(counts) > _NAMES_SHOWN else ""
    kinds = " or ".join(f"{kind}s" for kind in dict.fromkeys(name.kind for name in counts))
    return f"{kinds} that train lacks: {listed}{more}"


def _described(name: Name, meant: Mapping[Name, str]) -> str:
    near = f" and looks like '{meant[name]}'" if name in meant else ""
    return f"the {name} does not occur in train{near}"
