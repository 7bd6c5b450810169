"""Columns of input files: their usual names, the columns to read, and the rows that hold them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

# Usual names in any letter case; the first one that a file has is used.
TEXT_COLUMNS = ("text", "sentence", "utterance", "query", "message", "question", "review", "tweet")
LABEL_COLUMNS = ("label", "intent", "class", "category", "target", "sentiment", "topic")
LANGUAGE_COLUMNS = ("lang", "language", "locale")
WORD_COLUMNS = ("words", "tokens")
TAG_COLUMNS = ("tags", "ner_tags", "pos_tags", "entities", "slots", "spans", "labels", "label")
CONLLU_COLUMNS = (
    *("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"),
)
BIO_LIKE = re.compile(r"O|[BIESLU]-\S+")


class Fault(NamedTuple):
    """A fault of a row: its line number (row number in Parquet), a kind, a message."""

    row: int
    kind: str
    message: str


class RawRow(NamedTuple):
    """A row of a file, not checked.

    `tags` are one tag per word, or entities with character offsets; `lines` are the line numbers of
    the words, if each has its own line. Rows with faults must not be used.
    """

    row: int
    text: Any = None
    label: Any = None
    lang: Any = None
    group: Any = None
    words: Any = None
    tags: Any = None
    lines: Sequence[int] | None = None
    faults: tuple[Fault, ...] = ()


class Record(NamedTuple):
    """A row of a table: its number, the names of the columns, and a value for each."""

    row: int
    names: tuple[str, ...]
    values: Sequence[Any]


@dataclass(frozen=True)
class Columns:
    """Columns to read.

    Attributes:
        text, label, language, group, tags: names given by the user; empty: a usual name. In CoNLL
            and CoNLL-U, `text` and `tags` are column numbers from 1 or (CoNLL-U) column names, and
            the others are names of comments.
        labelled: whether the rows have labels or tags.
        sequence: whether rows must have a label.
    """

    text: str = ""
    label: str = ""
    language: str = ""
    group: str = ""
    tags: str = ""
    labelled: bool = True
    sequence: bool = False


class Places(NamedTuple):
    """Positions of the columns of a table; -1: missing."""

    text: int
    label: int
    language: int
    group: int
    words: int
    tags: int


class MissingColumnError(Exception):
    """A required column is missing; `kind` is the kind of fault for a row without it."""

    def __init__(self, kind: str, field: str, chosen: str, usual: Sequence[str], names: object):
        remedy = f"name it one of {usual} or set {field}_column"
        if chosen:
            remedy = f"name it alike in all files, or correct {field}_column"
        what = f"'{chosen}'" if chosen else f"of {field}"
        super().__init__(f"no column {what} among {names}; {remedy}")
        self.kind = kind


@lru_cache(maxsize=1024)
def locate(columns: Columns, names: tuple[str, ...]) -> Places:
    """Positions of the columns among the names.

    Raises:
        MissingColumnError: text or a required label is missing.
    """
    at = find_columns(columns, names)
    if at.text < 0 and (at.words < 0 or columns.text):
        raise MissingColumnError("empty-text", "text", columns.text, TEXT_COLUMNS, [*names])
    if columns.sequence and at.label < 0:
        raise MissingColumnError("empty-label", "label", columns.label, LABEL_COLUMNS, [*names])
    return at


def find_columns(columns: Columns, names: Sequence[str]) -> Places:
    """Positions of the columns among the names, without any that are required."""
    positions = {str(name).strip().lower(): at for at, name in reversed([*enumerate(names)])}

    def position(chosen: str, usual: Iterable[str]) -> int:
        wanted = [chosen.strip().lower()] if chosen else usual
        return next((positions[name] for name in wanted if name in positions), -1)

    label = position(columns.label, LABEL_COLUMNS) if columns.sequence else -1
    return Places(
        text=position(columns.text, TEXT_COLUMNS),
        label=label,
        language=position(columns.language, LANGUAGE_COLUMNS),
        group=position(columns.group, ()),
        words=position("", WORD_COLUMNS),
        tags=position(columns.tags, (n for n in TAG_COLUMNS if positions.get(n, label) != label)),
    )
