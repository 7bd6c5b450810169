"""Folds for cross-validation: rows that one model is tested on, and its input folder."""

import os
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.cover import Names
from saarthi_lib.data.gather import Gathered
from saarthi_lib.data.split import units_of
from saarthi_lib.errors import DataError
from saarthi_lib.storage import whole_folder
from saarthi_lib.tasks import has_sequence_head, has_token_head

ALWAYS_TRAINED = -1

IntArray = npt.NDArray[np.int64]


def folds_of(table: pd.DataFrame, folds: int, task: str, seed: int) -> IntArray:
    """Deal rows to folds with about the same share of each label and language.

    Rows with the same text, or the same value in a `group` column, stay together. A label, entity
    type or tag whose rows would all be in one fold cannot be tested, since the model of the fold
    would lack it: such rows are in the training part of every fold.

    Args:
        table: labelled rows.
        folds: number of folds, at least 2.
        task: task; determines whether rows have a label, tags or both.
        seed: seed of the order.

    Returns:
        The fold of each row, from 0, or `ALWAYS_TRAINED`.

    Raises:
        DataError: there are fewer texts or groups than folds, or none can be tested.
    """
    units = units_of(table)
    first = np.unique(units, return_index=True)[1]  # the first row represents its unit
    if len(first) < folds:
        raise DataError(
            f"{len(first)} distinct texts or groups are too few for {folds} folds; add rows, or "
            "give fewer --folds"
        )
    sizes = np.bincount(units)
    languages = pd.factorize(table["lang"].iloc[first], sort=True)[0]
    labels = np.zeros(len(first), np.int64)
    if has_sequence_head(task):
        labels = pd.factorize(table["label"].iloc[first], sort=True)[0].astype(np.int64)
    strata = labels * (languages.max() + 1) + languages
    shuffled = np.random.default_rng(seed).permutation(len(first))
    # Large units first: the later, smaller ones even the folds out.
    order = shuffled[np.lexsort((-sizes[shuffled], strata[shuffled]))]
    by_label = np.zeros((labels.max() + 1, folds), np.int64)
    by_stratum = np.zeros((strata.max() + 1, folds), np.int64)
    total = np.zeros(folds, np.int64)
    place = np.zeros(len(first), np.int64)
    for unit in order.tolist():
        rows = by_label[labels[unit]], by_stratum[strata[unit]], total
        fold = int(np.lexsort(rows[::-1])[0])  # fewest rows of the label, then of the stratum
        for counts in rows:
            counts[fold] += sizes[unit]
        place[unit] = fold
    has = Names(table, task).by_unit(units)
    in_fold = np.stack([has[place == fold].sum(axis=0) > 0 for fold in range(folds)])
    lone = (in_fold.sum(axis=0) == 1).astype(np.int64)
    place[has @ lone > 0] = ALWAYS_TRAINED
    if (place == ALWAYS_TRAINED).all():
        raise DataError(
            "no row can be tested: each has a label or tag of a single text or group; add rows of "
            "the same labels"
        )
    return np.asarray(place[units], np.int64)


def write_fold(
    folder: Path,
    table: pd.DataFrame,
    tested: npt.NDArray[np.bool_],
    gathered: Gathered,
    config: TrainConfig,
) -> None:
    """Write the input folder of a fold: train, test, and files of trusted and unlabelled rows.

    Trusted rows whose text is tested are left out. Training leaves out unlabelled ones.

    Args:
        folder: folder to write.
        table: all labelled rows.
        tested: whether each row is tested; the others are for training.
        gathered: content of the input, with trusted rows and unlabelled files.
        config: configuration with the names of columns.
    """
    names = columns_of(config)
    splits = {"train": table[~tested], "test": table[tested]}
    if "clean" in gathered.tables:
        clean = gathered.tables["clean"]
        splits["clean"] = clean[~clean["text"].isin(splits["test"]["text"])]
    with whole_folder(folder) as made:
        for split, rows in splits.items():
            if len(rows):
                kept = rows[[name for name in names if name in rows]].rename(columns=names)
                kept.to_parquet(made / f"{split}.parquet", index=False)
        for number, file in enumerate(gathered.transfer):
            language = f"{file.language}-" if file.language else ""
            suffix = "".join(file.path.suffixes[-2:])
            _link(file.path, made / f"{language}transfer-{number}{suffix}")


def columns_of(config: TrainConfig) -> dict[str, str]:
    """Names in the files of a fold, by the names in tables: those of the configuration, if any."""
    sequence = has_sequence_head(config.task)
    names = {"text": config.text_column or "text", "lang": config.language_column or "lang"}
    if sequence:
        names["label"] = config.label_column or "label"
    if has_token_head(config.task):
        tags = config.tags_column or ("" if sequence else config.label_column)
        names |= {"words": "words", "tags": tags or "tags"}
    if config.group_column:
        names["group"] = config.group_column
    return names


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copyfile(source, target)
