"""Open the folder that preprocessing writes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from saarthi_lib.data.encode import Encoded
from saarthi_lib.data.expansion import ParquetReader
from saarthi_lib.errors import ArtifactError
from saarthi_lib.layout import current_names
from saarthi_lib.storage import read_json
from saarthi_lib.tasks import Labels
from saarthi_lib.text.tokenizer import SubwordTokenizer

CHUNK = 20_000  # rows


class Summary(TypedDict):
    """Content of `data.json`.

    The first seven are settings that later steps read from the data. `facts` are those of
    `saarthi_lib.recipe.Facts`; `columns` are given or detected, by field; `digest` is the SHA-256
    of the input folder. Counts are rows, by split, by split and language, by reason (`left_out`) or
    by augmentation method (`transfer`); `not_carried_over` has the number and the first places of
    parts of an export, by kind; `labels` counts the labels of each head, and `vocabulary` the
    tokens kept from the teacher's vocabulary. `check` is the status of the data check.
    """

    task: str
    seed: int
    max_seq_len: int
    normalization: str
    word_splitting: str
    trial: bool
    input_path: str
    facts: dict[str, Any]
    columns: dict[str, str]
    digest: str
    rows: dict[str, int]
    languages: dict[str, dict[str, int]]
    labels: dict[str, int]
    vocabulary: int
    truncated: dict[str, int]
    left_out: dict[str, int]
    not_carried_over: dict[str, Any]
    transfer: dict[str, int]
    check: str


class Vocabulary(TypedDict):
    """Content of `vocabulary.json`: teacher ids of the kept tokens, and new ids by role."""

    kept_ids: list[int]
    special: dict[str, int]


@dataclass(frozen=True)
class Prepared:
    """Folder written by `prepare`."""

    folder: Path

    @cached_property
    def labels(self) -> Labels:
        """Labels of the training rows."""
        return Labels.load(self.folder / "labels.json")

    @cached_property
    def tokenizer(self) -> SubwordTokenizer:
        """Trimmed tokenizer."""
        return SubwordTokenizer.load(self.folder / "tokenizer.json")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Origin of the trimmed vocabulary."""
        content: Vocabulary = read_json(self.folder / "vocabulary.json")
        return content

    @cached_property
    def summary(self) -> Summary:
        """Counts, digest, and settings that later steps read.

        Raises:
            ArtifactError: an earlier version wrote the folder.
        """
        content = current_names(read_json(self.folder / "data.json"))
        if "facts" not in content:
            raise ArtifactError(
                f"{self.folder}: was prepared by an earlier version of Saarthi; train again"
            )
        return content  # type: ignore[return-value]

    def table(self, split: str) -> pd.DataFrame:
        """A split as a table."""
        with ParquetReader(self.folder / f"{split}.parquet") as file:
            return file.table().to_pandas(types_mapper=pd.ArrowDtype)

    def chunks(self, split: str) -> Iterator[pd.DataFrame]:
        """A split as tables of at most `CHUNK` rows; an empty split yields one empty table."""
        with ParquetReader(self.folder / f"{split}.parquet") as file:
            if not file.rows:
                yield self.table(split)
            for batch in file.batches(rows=CHUNK):
                yield batch.to_pandas(types_mapper=pd.ArrowDtype)

    @property
    def out_of_scope(self) -> pd.DataFrame:
        """Validation rows out of scope."""
        return self.table("out_of_scope")

    def has(self, split: str) -> bool:
        """Whether the split exists."""
        return (self.folder / f"{split}.npz").is_file()

    def encoded(self, split: str) -> Encoded:
        """A split as token ids."""
        return Encoded.load(self.folder / f"{split}.npz")
