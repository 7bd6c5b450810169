"""Read an input path into one labelled table per split, and collect problems."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc

from saarthi_lib.bundle.limits import label_faults
from saarthi_lib.config import TrainConfig, require
from saarthi_lib.data.cloud import fetched, is_remote
from saarthi_lib.data.conversion import Carried, carried_over
from saarthi_lib.data.cover import Uncovered
from saarthi_lib.data.detect.languages import Languages, name_languages
from saarthi_lib.data.detect.unknown_labels import settle_unknown
from saarthi_lib.data.earlier import Earlier, Kept
from saarthi_lib.data.exports.folder import left_report
from saarthi_lib.data.exports.reading import Reading
from saarthi_lib.data.missing import cut_missing
from saarthi_lib.data.read import Problem, SplitFile, find_splits, read_chunks
from saarthi_lib.data.read.names import one_name_each
from saarthi_lib.data.read.table import columns_for, unlabelled_columns
from saarthi_lib.data.split import few_shot
from saarthi_lib.demo import DEMOS
from saarthi_lib.errors import DataError
from saarthi_lib.logs import get_logger
from saarthi_lib.tasks import (
    OUT_OF_SCOPE,
    OUTSIDE,
    Labels,
    has_sequence_head,
    has_token_head,
    uses_bio,
)

logger = get_logger("data")

_TWO = "add rows of another, or check the task and the column of labels"
LABELLED = ("train", "validation", "test", "clean")


@dataclass(frozen=True)
class Gathered:
    """Content of an input folder.

    Attributes:
        tables: train, validation, test and, if given, clean.
        transfer: files of unlabelled text, not read yet.
        languages: languages of rows that lack one.
        problems: malformed or repaired rows.
        left_out: number of rows left out, by reason.
        out_of_scope: validation rows without a fitting label.
        schemes: description of the entity tags, by file.
        uncovered: labels with three or more rows that a split cut from train lacks.
        carried: synonyms of an export, and its parts that are not carried over.
        unread: names of the columns of tables that are not read, by file.
        earlier: the run that this one starts from.
        kept: rows with the splits of that run.
    """

    tables: dict[str, pd.DataFrame]
    transfer: list[SplitFile]
    languages: Languages
    problems: list[Problem]
    left_out: dict[str, int]
    out_of_scope: pd.DataFrame
    schemes: dict[str, str]
    uncovered: list[Uncovered] = field(default_factory=list)
    carried: Carried = field(default_factory=Carried)
    unread: dict[str, list[str]] = field(default_factory=dict)
    earlier: Earlier | None = None
    kept: Kept | None = None

    @property
    def not_carried_over(self) -> dict[str, Any]:
        """Parts of exports and columns of tables that are not read; see `Carried.left`."""
        reading = Reading()
        for file, names in self.unread.items():
            for name in names:
                reading.leave(f"column {name}", Path(file))
        return self.carried.left | left_report(reading, Path())

    @property
    def held_out(self) -> "pd.Series[str]":
        """Texts that must not be used for training."""
        tables = [self.tables["validation"], self.tables["test"], self.out_of_scope]
        return pd.concat([table["text"] for table in tables])


@contextmanager
def input_folder(config: TrainConfig, demo_folder: Path) -> Iterator[Path]:
    """Yield the local folder with the input files; fetched files are removed afterwards.

    Args:
        config: configuration with the input path.
        demo_folder: folder for the demonstration data, which stay.
    """
    require(config, "input_path")
    if config.input_path in DEMOS:
        DEMOS[config.input_path].write(demo_folder, config.seed)
        yield demo_folder
    elif is_remote(config.input_path):
        with fetched(config.input_path) as folder:
            yield folder
    else:
        yield Path(config.input_path)


def gather(folder: Path, config: TrainConfig) -> Gathered:
    """Read the labelled files, cut missing splits, and list labels that train lacks.

    Raises:
        DataError: a file or label is wrong; the message names the file and the row or column.
    """
    earlier = Earlier.of(config)
    files = find_splits(folder, config.data_format)
    carried = Carried()
    if config.data_format == "auto":
        carried = carried_over(folder, files, columns_for(config, labelled=True))
    problems: list[Problem] = []
    schemes: dict[str, str] = {}
    unread: dict[str, list[str]] = {}
    tables = {
        split: _joined(
            [
                chunk
                for file in files[split]
                for chunk in _read(split, file, config, folder, problems, schemes, unread)
            ]
        )
        for split in LABELLED
        if split in files
    }
    tables = _with_one_name_each(tables, config.task, problems)
    _log_schemes(schemes)
    tables, languages = name_languages(tables)
    lacking, kept = cut_missing(tables, config, earlier)
    malformed = {(problem.file, problem.sentence) for problem in problems if problem.left_out}
    left_out = {"malformed rows": len(malformed)}
    if config.few_shot is not None:
        every = len(tables["train"])
        tables["train"] = few_shot(tables["train"], config.few_shot, config.task, config.seed)
        left_out["training rows beyond few_shot"] = every - len(tables["train"])
    out_of_scope = _set_apart(tables, config)
    tables = {split: tables[split] for split in LABELLED if split in tables}
    labels = labels_of(tables["train"], config.task)
    left_out |= settle_unknown(tables, labels, config, problems)
    for reason, count in left_out.items():
        if count:
            logger.warning("left out: %d %s", count, reason)
    transfer = files.get("transfer", [])
    return Gathered(
        tables,
        transfer,
        languages,
        problems,
        left_out,
        out_of_scope,
        schemes,
        uncovered=lacking,
        carried=carried,
        unread=unread,
        earlier=earlier,
        kept=kept,
    )


def _read(
    split: str,
    file: SplitFile,
    config: TrainConfig,
    root: Path,
    problems: list[Problem],
    schemes: dict[str, str],
    unread: dict[str, list[str]],
) -> Iterator[pd.DataFrame]:
    """Tables of a file; the error for one without labels says that it need not have a split."""
    try:
        yield from read_chunks(
            file, config, problems=problems, root=root, schemes=schemes, unread=unread
        )
    except DataError:
        if split == "train" or not (names := unlabelled_columns(file.path, config)):
            raise
        raise DataError(
            f"{file.path}: the rows have no labels (columns: {', '.join(names)}); rename it to "
            f"transfer{file.path.suffix}, or remove it; if a column holds labels, give it the name "
            "that it has in train"
        ) from None


def _log_schemes(schemes: dict[str, str]) -> None:
    for scheme in dict.fromkeys(schemes.values()):
        named = ", ".join(file for file, own in schemes.items() if own == scheme)
        logger.info("tags of %s: %s", named, scheme)


def _with_one_name_each(
    tables: dict[str, pd.DataFrame], task: str, problems: list[Problem]
) -> dict[str, pd.DataFrame]:
    """Give numbers as labels (1, 1.0) one name; the training rows decide."""
    if not has_sequence_head(task):
        return tables
    [train], known = one_name_each([tables["train"]], None, problems)
    others = {split: table for split, table in tables.items() if split != "train"}
    settled, _ = one_name_each([*others.values()], known, problems)
    return {"train": train, **dict(zip(others, settled, strict=True))}


def labels_of(train: pd.DataFrame, task: str) -> Labels:
    """Labels of the training rows, sorted; each entity type gets B- and I- tags.

    Raises:
        DataError: train has fewer than two labels or tags.
    """
    sequence: list[str] = []
    token: list[str] = []
    if has_sequence_head(task):
        sequence = sorted(set(train["label"].unique()) - {OUT_OF_SCOPE})
        if len(sequence) < 2:
            raise DataError(f"train has only the labels {sequence}; {_TWO}")
        if (train["label"] == OUT_OF_SCOPE).any():
            sequence.append(OUT_OF_SCOPE)
    if has_token_head(task):
        tags = set(_distinct_tags(train))
        if uses_bio(task):
            kinds = sorted({tag[2:] for tag in tags if tag != OUTSIDE})
            token = [OUTSIDE, *(f"{half}-{kind}" for kind in kinds for half in "BI")]
        else:
            token = sorted(tags)
        if len(token) < 2:
            raise DataError(f"train has only the tags {token}; {_TWO}")
    for fault in label_faults([*sequence, *token]):
        raise DataError(f"train: {fault}; correct the label in the data")
    labels = Labels(tuple(sequence), tuple(token))
    if uses_bio(task):
        labels = replace(labels, following=_following(train))
    return _with_slots(labels, train) if sequence and token else labels


def _following(train: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Counts of the tags that follow each tag, the most frequent first."""
    pairs = Counter(chain.from_iterable(map(pairwise, train["tags"])))
    following: dict[str, dict[str, int]] = {}
    for (tag, after), count in sorted(
        pairs.items(), key=lambda pair: (pair[0][0], -pair[1], pair[0])
    ):
        following.setdefault(tag, {})[after] = count
    return following


def _with_slots(labels: Labels, train: pd.DataFrame) -> Labels:
    """Add the entity types in the rows of each label."""
    kinds: dict[str, set[str]] = {label: set() for label in labels.answers}
    rows = dict.fromkeys(labels.answers, 0)
    for label, tags in zip(train["label"], train["tags"], strict=True):
        if label in kinds:
            rows[label] += 1
            kinds[label].update(tag[2:] for tag in tags if tag != OUTSIDE)
    slots = tuple(tuple(sorted(kinds[label])) for label in labels.answers)
    return replace(labels, slots=slots, rows=tuple(rows.values()))


def _set_apart(tables: dict[str, pd.DataFrame], config: TrainConfig) -> pd.DataFrame:
    """Turn out-of-scope rows into a separate class if train has such rows, else remove them.

    Rows of the test keep their label, which models cannot predict.

    Returns:
        The out-of-scope rows of validation.

    Raises:
        DataError: texts do not have labels in this task.
    """
    name = config.out_of_scope_label
    if not name:
        return tables["validation"].iloc[:0]
    if not has_sequence_head(config.task):
        raise DataError(
            f"out_of_scope_label: '{name}': the task {config.task} gives texts no label; leave the "
            "field empty"
        )
    is_class = bool((tables["train"]["label"] == name).any())
    held = tables["validation"][tables["validation"]["label"] == name].reset_index(drop=True)
    for split in [split for split in ("train", "validation", "clean") if split in tables]:
        rows = tables[split]["label"] == name
        if is_class:
            label = tables[split]["label"].where(~rows, OUT_OF_SCOPE)
            tables[split] = tables[split].assign(label=label)
        else:
            tables[split] = tables[split][~rows].reset_index(drop=True)
    tested = "test" in tables and (tables["test"]["label"] == name).any()
    if not (is_class or len(held) or tested):
        logger.warning("out_of_scope_label: no row has the label '%s'; correct it", name)
    logger.info(
        "out of scope: %s; %d rows of validation",
        "a class of its own" if is_class else "no rows in train",
        len(held),
    )
    return held


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)


def _distinct_tags(table: pd.DataFrame) -> list[str]:
    chunks = table["tags"].array.__arrow_array__()
    return [str(tag) for tag in pc.unique(pc.list_flatten(chunks)).to_pylist()]
