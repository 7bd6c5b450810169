"""Splits of an earlier run: its training rows never become rows of validation or test.

A new run that starts from an earlier one keeps the split of each text. The networks of the earlier
run, and of the runs that it started from, have learned its training rows.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.expansion import ParquetReader
from saarthi_lib.errors import ConfigError
from saarthi_lib.layout import (
    RunLayout,
    RunRecord,
    current_names,
    digest_of_step,
    is_run,
    read_mapping,
    read_record,
)
from saarthi_lib.storage import digest_json, verify_record
from saarthi_lib.text.normalize import Normalizer

SPLITS = ("train", "validation", "test")  # a text of several splits counts for the first one
TRANSFER = "transfer"
NEW = len(SPLITS)  # in place of the number of a split
KNOWN_TEXTS = "texts.parquet"  # texts of all earlier runs, as numbers
_TABLES = {**{split: split for split in SPLITS}, "out_of_scope": "validation"}
_Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Kept:
    """Rows of a run that starts from an earlier one.

    Attributes:
        rows: rows by split that have it from the earlier run.
        new: rows that the earlier run did not have.
        moved: rows of a given validation or test file that the earlier run has trained on.
    """

    rows: dict[str, int]
    new: int
    moved: int


@dataclass(frozen=True)
class Earlier:
    """Texts of an earlier run.

    Attributes:
        layout: paths of the run.
    """

    layout: RunLayout

    @classmethod
    def of(cls, config: TrainConfig) -> "Earlier | None":
        """The run that a configuration starts from; None if it names none.

        Raises:
            ArtifactError: its data are damaged.
            ConfigError: it is not a run, keeps no data, or has data that do not fit.
        """
        if not config.start_from:
            return None
        root = Path(config.start_from)
        if not is_run(root):
            raise ConfigError(f"start_from: {root}: is not the folder of a run")
        earlier = cls(RunLayout.of(root))
        summary = current_names(read_mapping(earlier.data / "data.json"))
        if not summary:
            raise ConfigError(
                f"start_from: {root}: keeps no data, which show the splits of its rows (runs with "
                "production: true do not); train without start_from"
            )
        if summary.get("trial") and not config.fast_dev_run:
            raise ConfigError(
                f"start_from: {root}: is a trial run, which has few rows; train without start_from"
            )
        before, now = summary.get("normalization"), config.normalization
        if before != now:
            raise ConfigError(
                f"start_from: {root}: has normalization: {before}, so its rows cannot be found "
                f"among rows with {now}; set normalization: {before}"
            )
        verify_record(earlier.data)
        return earlier

    @property
    def data(self) -> Path:
        """Folder of its prepared data."""
        return self.layout.data

    @cached_property
    def record(self) -> RunRecord:
        """Content of its `run.json`."""
        return read_record(self.layout.root)

    @property
    def networks(self) -> dict[str, str]:
        """Digests of its teacher and its student, as far as it keeps them."""
        folders = {"teacher": self.layout.teacher, "student": self.layout.stage()}
        found = {name: digest_of_step(folder) for name, folder in folders.items()}
        return {name: digest for name, digest in found.items() if digest}

    @property
    def digest(self) -> str:
        """Digest of everything that a new run reads here."""
        fields = [self.record.get(name) for name in ("config", "recipe")]
        return digest_json([digest_of_step(self.data), self.networks, fields])

    @cached_property
    def _known(self) -> pd.DataFrame:
        """The texts of the run and of those before it: text, spelling and split, as numbers."""
        if (self.data / KNOWN_TEXTS).is_file():
            with ParquetReader(self.data / KNOWN_TEXTS) as file:
                return file.table().to_pandas()
        tables = {}
        for name, split in _TABLES.items():
            with ParquetReader(self.data / f"{name}.parquet") as file:
                texts = [text for batch in file.batches(["text"]) for text in batch["text"]]
                tables[name] = _numbered([text.as_py() for text in texts], SPLITS.index(split))
        return pd.concat(tables.values(), ignore_index=True)

    def splits_of(self, table: pd.DataFrame, units: _Numbers, cut: Sequence[str]) -> _Numbers:
        """Number of the split of each row; `NEW` for units without earlier rows.

        Args:
            table: rows of train, from which splits are cut.
            units: unit of each row; the rows of a unit stay together.
            cut: splits that are cut.
        """
        rows = _numbered(list(table["text"]), NEW)
        found = rows["text"].map(self._known.groupby("text")["split"].min())
        spelled = rows["spelling"].map(self._known.groupby("spelling")["split"].min())
        splits = found.fillna(spelled).fillna(NEW).to_numpy(np.int64)
        given = [number for number, split in enumerate(SPLITS) if split not in ("train", *cut)]
        splits[np.isin(splits, given)] = NEW  # its file decides which rows it has
        of_unit = np.full(int(units.max(initial=-1)) + 1, NEW)
        np.minimum.at(of_unit, units, splits)
        return of_unit[units]

    def is_unlabelled(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Whether the earlier student has learned each text without its label."""
        rows, found = pd.Series(texts, dtype="object"), np.zeros(len(texts), bool)
        with ParquetReader(self.data / f"{TRANSFER}.parquet") as file:
            for batch in file.batches(["text"]):
                found |= rows.isin(batch["text"].to_pylist()).to_numpy()
        return found

    def trained(self, texts: Iterable[str]) -> int:
        """Number of texts that earlier runs had in train, and not in validation or test."""
        numbers = _numbered(list(texts), NEW)["text"]
        learned = self._known["split"] == SPLITS.index("train")
        before, held = self._known["text"][learned], self._known["text"][~learned]
        return int((numbers.isin(before) & ~numbers.isin(held)).sum())

    def write_texts(self, tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
        """Write the texts of all runs so far; as numbers, so that deleted texts stay deleted.

        Args:
            tables: tables of the new run, by split.
            folder: folder of its data.
        """
        now = [
            _numbered(list(table["text"]), SPLITS.index(_TABLES[split]))
            for split, table in tables.items()
            if split in _TABLES
        ]
        every = pd.concat([self._known, *now]).drop_duplicates()
        every.to_parquet(folder / KNOWN_TEXTS, index=False)


def _numbered(texts: Sequence[str], split: int) -> pd.DataFrame:
    """Numbers of texts, and of their spellings in lower case."""
    return pd.DataFrame(
        {
            "text": pd.Series(map(_number, texts), dtype="int64"),
            "spelling": pd.Series(map(_number, _spellings(texts)), dtype="int64"),
            "split": pd.Series(split, index=range(len(texts)), dtype="int64"),
        }
    )


def _spellings(texts: Iterable[str]) -> Iterator[str]:
    normalize = Normalizer("standard")
    return (normalize(text).casefold() for text in texts)


def _number(text: str) -> int:
    """A 64-bit digest of a text."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
