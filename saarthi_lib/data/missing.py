"""Cut missing splits from train, anew or as in an earlier run."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.cover import Names, Uncovered, uncovered
from saarthi_lib.data.earlier import NEW, SPLITS, Earlier, Kept
from saarthi_lib.data.split import Share, chosen_rows, cut, units_of
from saarthi_lib.errors import DataError
from saarthi_lib.logs import get_logger

logger = get_logger("data")


def cut_missing(
    tables: dict[str, pd.DataFrame], config: TrainConfig, earlier: Earlier | None
) -> tuple[list[Uncovered], Kept | None]:
    """Cut missing splits from train, in place.

    Args:
        tables: tables by split.
        config: configuration. A fraction other than the default is a limit.
        earlier: run whose splits the rows keep; None: cut all splits anew.

    Returns:
        The labels with three rows that each cut split lacks, and the rows that kept their split.

    Raises:
        DataError: train has too few rows.
    """
    missing = [split for split in ("test", "validation") if split not in tables]
    train, task = tables["train"], config.task
    names = Names(train, task)
    kept = _as_before(tables, missing, config, earlier, names) if earlier else None
    for later, split in zip(reversed(range(len(missing))), missing, strict=True):
        if not earlier:
            share = _share(config, split, later)
            tables["train"], tables[split] = cut(
                tables["train"], share, task, config.seed, names.frequent()
            )
        logger.info("no %s file: %d rows cut from train", split, len(tables[split]))
    cut_tables = {split: tables[split] for split in missing}
    return uncovered(train, names, cut_tables, task, units_of) if missing else [], kept


def _share(config: TrainConfig, split: str, later: int) -> Share:
    field = f"{split}_fraction"
    fraction: float = getattr(config, field)
    return Share(fraction, fraction != TrainConfig.model_fields[field].default, later)


def _as_before(
    tables: dict[str, pd.DataFrame],
    missing: Sequence[str],
    config: TrainConfig,
    earlier: Earlier,
    names: Names,
) -> Kept:
    """Cut splits with the rows that they have in the earlier run.

    New rows stay in train, so that the model learns them. Only of labels that a split lacks does it
    get a share of the new rows.
    """
    train, root = tables["train"], earlier.layout.root
    units = units_of(train)
    splits = earlier.splits_of(train, units, missing)
    new = int((splits == NEW).sum())
    rows = {split: int((splits == number).sum()) for number, split in enumerate(SPLITS)}
    for later, split in zip(reversed(range(len(missing))), missing, strict=True):
        number = SPLITS.index(split)
        candidates, wanted = _candidates(train, units, splits, number, config.task, names)
        places = np.flatnonzero(candidates)
        learned = earlier.is_unlabelled(list(train["text"].iloc[places]))
        places = places[~np.isin(units[places], units[places[learned]])]
        if places.size:
            share = Share(getattr(config, f"{split}_fraction"), later=later)
            part = train.iloc[places].reset_index(drop=True)
            taken = chosen_rows(part, share, config.task, config.seed, wanted)
            splits[places[taken]] = number
        if not (splits == number).any():
            raise DataError(
                f"start_from: {root}: none of the rows of its {split} split is left in "
                f"{config.input_path}, and its new rows are too few to cut the split from; train "
                "without start_from"
            )
    for split in missing:
        tables[split] = train[splits == SPLITS.index(split)].reset_index(drop=True)
    stays = ~np.isin(splits, [SPLITS.index(split) for split in missing])
    tables["train"] = train[stays].reset_index(drop=True)
    given = [split for split in ("validation", "test") if split not in missing]
    moved = sum(earlier.trained(tables[split]["text"]) for split in given)
    _log(root, rows, new, moved)
    return Kept(rows, new, moved)


def _candidates(
    train: pd.DataFrame,
    units: npt.NDArray[np.int64],
    splits: npt.NDArray[np.int64],
    number: int,
    task: str,
    names: Names,
) -> tuple[npt.NDArray[np.bool_], set[str]]:
    """New rows with a label that a split lacks, and these labels; all if the split is empty."""
    new, held = splits == NEW, train[splits == number]
    lacking = {*names.frequent()}
    if held.empty:
        return new, lacking
    lacking -= {*Names(held, task).names}
    columns = [at for at, name in enumerate(names.names) if name in lacking]
    has = np.asarray(names.by_unit(units)[:, columns].sum(axis=1)).ravel() > 0
    return np.asarray(new & has[units], bool), lacking


def _log(root: object, rows: dict[str, int], new: int, moved: int) -> None:
    counts = ", ".join(f"{split} {count}" for split, count in rows.items())
    logger.info("rows with the splits of %s: %s; new rows: %d", root, counts, new)
    if moved:
        logger.warning(
            "%d rows of the files for validation and test were training rows of %s, or of a run "
            "before it: its networks know them, so they are not trained further",
            moved,
            root,
        )
