"""Columns of input files: their usual names, the columns to read, and the rows that hold them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

# Usual names in any letter case; the first one that a file has is used.
TEXT_COLUMNS = ("text", "sentence", "utterance", "query", "message", "question", "review", "tweet")
LABEL_COLUMNS = (
    "label",
    "intent",
    "class",
    "category",
    "target",
    "sentiment",
    "topic",
    "label_text",
)
LANGUAGE_COLUMNS = ("lang", "language", "locale")
WORD_COLUMNS = ("words", "tokens")
TAG_COLUMNS = (
    *("tags", "ner_tags", "pos_tags", "upos", "entities", "slots", "slot_labels", "spans"),
    *("labels", "label"),
)
CONLLU_COLUMNS = (
    *("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"),
)
# Tags of words in most files: entity tags of several forms, and parts of speech.
BIO_LIKE = re.compile(r"[Oo]|[BIESLUMWbi][-_:/|][^\s-]\S*|\w[^\s]*[-_:/|][BIESLUMW]|[BI]")
PART_OF_SPEECH = re.compile(r"[A-Z][A-Z0-9_$-]*|[^\w\s]{1,4}")
# Columns of tags for one task only.
ENTITY_COLUMNS = ("ner_tags", "ner", "entities", "slots", "spans", "slot_labels")
SPEECH_COLUMNS = ("pos_tags", "upos", "pos", "xpos")
_WORD, _TAG = ("word", "token"), ("tag", "ner", "ner_tag", "pos", "pos_tag", "bio", "iob")
WORD_ROWS = (
    "each row holds one word and its tag; write CoNLL (a word, a tab and its tag in a line, and a "
    "blank line after each sentence), or a row with lists 'words' and 'tags' for each sentence"
)
_OTHER_TASKS = ("chunk_tags", "chunks")


REJECTED = "rejected"  # kind of rows that an annotator rejected; they are not malformed


class Fault(NamedTuple):
    """A fault of a row: its line number (row number in Parquet), a kind, a message."""

    row: int
    kind: str
    message: str


class RawRow(NamedTuple):
    """A row of a file, not checked.

    `tags` are one tag per word, or entities with character offsets; `lines` are the line numbers of
    the words, if each has its own line. Rows with faults must not be used. `notes` are remarks on
    how the row was read. `split` is the split
    that the row itself names, in exports of other tools.
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
    notes: tuple[Fault, ...] = ()
    split: str = ""


class Record(NamedTuple):
    """A row of a table: its number, the names of the columns, and a value for each.

    `notes` are remarks on how the row was read.
    """

    row: int
    names: tuple[str, ...]
    values: Sequence[Any]
    notes: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Columns:
    """Columns to read.

    Attributes:
        text, label, language, group, tags: names given by the user; empty: a usual name. In CoNLL
            and CoNLL-U, `text` and `tags` are column numbers from 1 or (CoNLL-U) column names, and
            the others are names of comments.
        labelled: whether the rows have labels or tags.
        sequence: whether rows must have a label.
        tagged: whether tags are read; without them, words are read only if the text is missing.
        entities: whether tags are of entities (else parts of speech); None: unknown.
    """

    text: str = ""
    label: str = ""
    language: str = ""
    group: str = ""
    tags: str = ""
    labelled: bool = True
    sequence: bool = False
    tagged: bool = True
    entities: bool | None = None

    @property
    def tags_field(self) -> str:
        """Field of the configuration that names the column of tags."""
        return "tags_column" if self.sequence else "label_column"


class Places(NamedTuple):
    """Positions of the columns of a table; -1: missing."""

    text: int
    label: int
    language: int
    group: int
    words: int
    tags: int


class MissingColumnError(Exception):
    """A column is missing or not certain; `kind` is the kind of fault for a row without it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@lru_cache(maxsize=1024)
def locate(columns: Columns, names: tuple[str, ...]) -> Places:
    """Positions of the columns among the names.

    Raises:
        MissingColumnError: text or a required label is missing, two columns have one name, or the
            only tags are those of another task.
    """
    at = find_columns(columns, names)
    if at.text < 0 and at.words < 0 and not columns.text and _are_of_words(names):
        raise MissingColumnError("empty-text", f"{WORD_ROWS} (columns: {', '.join(names)})")
    if at.text < 0 and (at.words < 0 or columns.text):
        raise _missing("empty-text", "text", columns.text, TEXT_COLUMNS, names)
    if columns.tags and columns.labelled and columns.tagged and at.tags < 0:
        field = "tags" if columns.sequence else "label_column or tags"
        raise _missing("bad-words", field, columns.tags, TAG_COLUMNS, names)
    if columns.sequence and at.label < 0:
        raise _missing("empty-label", "label", columns.label, LABEL_COLUMNS, names)
    lower = [*map(plain_name, names)]
    used = [lower[place] for place in {*at} if place >= 0]
    if twice := next((name for name in used if name and lower.count(name) > 1), ""):
        message = f"two columns are named '{twice}' among {[*names]}; give each its own name"
        raise MissingColumnError("wrong-cells", message)
    if columns.labelled and columns.entities is not None and at.tags < 0 and not columns.tags:
        other = SPEECH_COLUMNS if columns.entities else (*ENTITY_COLUMNS[:2], "slot_labels")
        if found := [name for name in lower if name in (*other, *_OTHER_TASKS)]:
            what = "entity tags" if columns.entities else "parts of speech"
            remedy = f"set {columns.tags_field} to it, or correct task"
            message = f"no column of {what} among {[*names]}, unless it is {' or '.join(found)}; "
            raise MissingColumnError("bad-words", message + remedy)
    return at


def _are_of_words(names: Sequence[str]) -> bool:
    """Whether columns are named after one word and its tag."""
    lower = {*map(plain_name, names)}
    return not lower.isdisjoint(_WORD) and not lower.isdisjoint(_TAG)


def plain_name(name: object) -> str:
    """Name of a column in small letters, without spaces and byte order marks around it."""
    return str(name).strip().strip("\ufeff\u200b").strip().lower()


def _missing(
    kind: str, field: str, chosen: str, usual: Sequence[str], names: Sequence[str]
) -> MissingColumnError:
    remedy = f"name it one of {usual} or set {field}_column"
    if chosen:
        remedy = f"name it alike in all files, or correct {field}_column"
    what = f"'{chosen}'" if chosen else f"of {field}"
    return MissingColumnError(kind, f"no column {what} among {[*names]}; {remedy}")


def find_columns(columns: Columns, names: Sequence[str]) -> Places:
    """Positions of the columns among the names, without any that are required."""
    positions = {plain_name(name): at for at, name in reversed([*enumerate(names)])}

    def position(chosen: str, usual: Iterable[str]) -> int:
        wanted = [plain_name(chosen)] if chosen else usual
        return next((positions[name] for name in wanted if name in positions), -1)

    label = position(columns.label, LABEL_COLUMNS) if columns.sequence else -1
    tags = [name for name in _tag_names(columns) if positions.get(name, label) != label]
    text = position(columns.text, TEXT_COLUMNS)
    return Places(
        text=text,
        label=label,
        language=position(columns.language, LANGUAGE_COLUMNS),
        group=position(columns.group, ()),
        words=position("", WORD_COLUMNS) if columns.tagged or text < 0 else -1,
        tags=position(columns.tags, tags) if columns.tagged else -1,
    )


@lru_cache(maxsize=1024)
def other_tags(columns: Columns, names: tuple[str, ...]) -> tuple[int, ...]:
    """Positions of the usual columns of the task's tags that are not read."""
    usual = _tag_names(columns)
    chosen = find_columns(columns, names)
    places = (at for at, name in enumerate(names) if plain_name(name) in usual)
    return tuple(at for at in places if at not in (chosen.tags, chosen.label))


def usual_tags(columns: Columns, names: Sequence[str]) -> tuple[str, ...]:
    """Usual names of columns with the task's tags that the table has, and that may be read.

    Parts of speech have an order: treebanks have `upos` and `xpos`.
    """
    usual = _tag_names(columns)
    label = find_columns(columns, names).label
    here = {plain_name(name) for at, name in enumerate(names) if at != label}
    own = here.intersection(ENTITY_COLUMNS[:2] if columns.entities else SPEECH_COLUMNS)
    if own and not columns.entities:
        return ()
    return tuple(name for name in usual if name in (own or here))


def _tag_names(columns: Columns) -> tuple[str, ...]:
    """Usual names of the column of tags; those of the task only come first."""
    if columns.entities is None:
        return TAG_COLUMNS
    own = ENTITY_COLUMNS[:2] if columns.entities else SPEECH_COLUMNS
    usable = (*own, *TAG_COLUMNS, *ENTITY_COLUMNS) if columns.entities else (*own, *TAG_COLUMNS)
    other = SPEECH_COLUMNS if columns.entities else ENTITY_COLUMNS
    return tuple(name for name in usable if name not in other)
