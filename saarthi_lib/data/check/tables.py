"""The labelled splits as arrays: texts, languages, names of labels."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from saarthi_lib.data.check.findings import (
    ROWS_LISTED,
    Finding,
    RowReference,
    listed,
    plural,
    share,
    shortened,
)
from saarthi_lib.tasks import has_sequence_head, has_token_head, uses_bio
from saarthi_lib.text.normalization_rules import LONGEST_MARK_RUN

# Combining marks, and letters that NFKC turns into some.
_MARK = r"[\p{M}\x{FF9E}\x{FF9F}]"

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """A split that has rows; in `keys`, equal texts of all splits have the same number."""

    name: str
    table: pd.DataFrame
    texts: pa.ChunkedArray
    keys: IntArray
    languages: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.keys)

    def references(
        self, rows: IntArray, detail: Callable[[int, str], str] = lambda row, text: ""
    ) -> list[RowReference]:
        """References to the first rows; `detail` describes a row from its number and text."""
        part = self.table.iloc[rows[:ROWS_LISTED]]
        return [
            RowReference(str(file), int(number), shortened(str(text)), detail(row, str(text)))
            for row, file, number, text in zip(
                rows[:ROWS_LISTED].tolist(), part["file"], part["row"], part["text"], strict=True
            )
        ]

    def found(
        self,
        check: str,
        severity: str,
        rows: IntArray,
        message: str,
        detail: Callable[[int, str], str],
    ) -> Iterator[Finding]:
        """Yield a finding if there are rows; the message follows their number."""
        if rows.size:
            yield Finding(
                check,
                severity,
                self.name,
                len(rows),
                len(self),
                f"{plural(len(rows), 'row')} of {self.name} ({share(len(rows), len(self))}) "
                + message,
                self.references(rows, detail),
            )

    def where(self, row: int, beside: int | None = None) -> str:
        """`train.csv, row 12`, or `row 12` if `beside` is a row of the same file."""
        files = self.table["file"]
        number = f"row {int(self.table['row'].iloc[row])}"
        if beside is not None and files.iloc[row] == files.iloc[beside]:
            return number
        return f"{files.iloc[row]}, {number}"

    def counts_by_language(self) -> dict[str, int]:
        """Number of rows by language, in alphabetical order."""
        return dict(sorted(Counter(self.languages.tolist()).items()))


@dataclass(frozen=True)
class Names:
    """Names of a head's labels, entity types or tags, and their occurrences."""

    kind: str  # label, entity type, tag
    unit: str  # unit of an occurrence: row, span, word
    names: list[str]
    numbers: dict[str, IntArray]  # by split, of each occurrence
    rows: dict[str, IntArray]  # by split, the row of each occurrence

    def counts(self, split: str) -> IntArray:
        """Occurrences in a split, by name."""
        return np.bincount(self.numbers[split], minlength=len(self.names))

    def rows_with(self, split: str, wanted: Iterable[int]) -> IntArray:
        """Rows of a split with one of the wanted names."""
        return np.unique(self.rows[split][np.isin(self.numbers[split], list(wanted))])

    def listed(self, wanted: Iterable[int], counts: IntArray | None = None) -> str:
        """Some names, and their counts."""
        names = ((self.names[number], number) for number in wanted)
        if counts is None:
            return listed(name for name, _ in names)
        return listed(f"{name} ({counts[number]})" for name, number in names)

    def references(self, split: Split, wanted: Iterable[int]) -> list[RowReference]:
        """References to the rows of a split with a wanted name, and the name."""
        wanted = list(wanted)
        rows = self.rows_with(split.name, wanted)[:ROWS_LISTED]
        within = np.isin(self.rows[split.name], rows) & np.isin(self.numbers[split.name], wanted)
        held: dict[int, dict[str, None]] = {}
        for row, number in zip(
            self.rows[split.name][within].tolist(), self.numbers[split.name][within], strict=True
        ):
            held.setdefault(row, {})[self.names[number]] = None
        return split.references(rows, lambda row, _: ", ".join(held[row]))

    def summary(self, splits: Mapping[str, Split]) -> dict[str, Any]:
        """Counts by split, and by language; the most frequent names of train first."""
        by_split = {name: self.counts(name) for name in splits}
        by_language: dict[str, IntArray] = {}
        for name, split in splits.items():
            languages = split.languages[self.rows[name]]
            for language in split.counts_by_language():
                counts = np.bincount(
                    self.numbers[name][languages == language], minlength=len(self.names)
                )
                by_language[language] = by_language.get(language, 0) + counts
        total = sum(by_split.values(), np.zeros(len(self.names), np.int64))
        order = np.lexsort((np.array(self.names), -total, -by_split.get("train", total)))
        return {
            "unit": self.unit,
            "splits": {name: self._by_name(counts, order) for name, counts in by_split.items()},
            "languages": {
                name: self._by_name(counts, order) for name, counts in sorted(by_language.items())
            },
        }

    def _by_name(self, counts: IntArray, order: IntArray) -> dict[str, int]:
        return {self.names[number]: int(counts[number]) for number in order if counts[number]}


def as_splits(tables: Mapping[str, pd.DataFrame]) -> dict[str, Split]:
    """The splits that have rows."""
    filled = {name: table for name, table in tables.items() if len(table)}
    texts = [column(table, "text").cast(pa.large_string()) for table in filled.values()]
    keys, _ = numbered([normalized(each) for each in texts])
    return {
        name: Split(name, table, each, numbers, _shared_strings(column(table, "lang")))
        for (name, table), each, numbers in zip(filled.items(), texts, keys, strict=True)
    }


def as_names(splits: Mapping[str, Split], task: str) -> list[Names]:
    """Names of each head of the task, the sequence head first."""
    heads = []
    if has_sequence_head(task):
        numbers, names = numbered([column(split.table, "label") for split in splits.values()])
        rows = {name: np.arange(len(split)) for name, split in splits.items()}
        by_split = dict(zip(splits, numbers, strict=True))
        heads.append(Names("label", "row", names.to_pylist(), by_split, rows))
    if has_token_head(task):
        heads.append(_tag_names(splits, bio=uses_bio(task)))
    return heads


def _tag_names(splits: Mapping[str, Split], *, bio: bool) -> Names:
    """Entity types by their spans (`B-` tags), or tags by their words."""
    columns, rows = [], {}
    for name, split in splits.items():
        tags = column(split.table, "tags")
        row_of_tag = np.repeat(np.arange(len(split)), pc.list_value_length(tags).to_numpy())
        flat = pc.list_flatten(tags)
        if bio:
            begins = pc.starts_with(flat, "B-")
            row_of_tag = row_of_tag[begins.to_numpy().astype(bool)]
            flat = pc.utf8_slice_codeunits(flat.filter(begins), 2)
        columns.append(flat)
        rows[name] = row_of_tag
    numbers, names = numbered(columns)
    kind, unit = ("entity type", "span") if bio else ("tag", "word")
    return Names(kind, unit, names.to_pylist(), dict(zip(splits, numbers, strict=True)), rows)


def column(table: pd.DataFrame, name: str) -> pa.ChunkedArray:
    """A column as an Arrow array, without a copy if possible."""
    return pa.Table.from_pandas(table[[name]], preserve_index=False)[name]


def normalized(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts in lower case, without punctuation and repeated spaces; never empty."""
    if pc.any(pc.match_substring_regex(texts, f"{_MARK}{{{LONGEST_MARK_RUN + 1}}}")).as_py():
        run = f"({_MARK}{{{LONGEST_MARK_RUN}}}){_MARK}+"  # NFKC would take very long
        key = pc.replace_substring_regex(texts, run, r"\1")
    else:
        key = texts
    key = pc.utf8_lower(pc.utf8_normalize(key, form="NFKC"))
    key = pc.replace_substring_regex(key, r"\p{Cf}+", "")
    key = pc.utf8_trim_whitespace(pc.replace_substring_regex(key, r"[\p{P}\p{Z}\s]+", " "))
    return pc.if_else(pc.equal(key, ""), texts, key)


def numbered(columns: Sequence[pa.ChunkedArray]) -> tuple[list[IntArray], pa.Array]:
    """Number the strings of several columns together; returns numbers by column, and strings."""
    chunks = [chunk for each in columns for chunk in each.cast(pa.large_string()).chunks]
    joined = pa.chunked_array(chunks, pa.large_string()).combine_chunks().dictionary_encode()
    numbers = joined.indices.to_numpy().astype(np.int64)
    ends = np.cumsum([len(each) for each in columns])
    return np.split(numbers, ends)[: len(columns)], joined.dictionary


def _shared_strings(strings: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Strings that share an object if they are equal."""
    encoded = strings.combine_chunks().dictionary_encode()
    return np.array(encoded.dictionary.to_pylist(), dtype=object)[encoded.indices.to_numpy()]
