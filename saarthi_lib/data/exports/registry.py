"""The exports that can be read, and the content of their files."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from saarthi_lib.data.exports.documents import Head
from saarthi_lib.data.exports.reading import Reading, unfit
from saarthi_lib.data.exports.tools import (
    dialogflow,
    doccano,
    hugging_face,
    intents_json,
    label_studio,
    lex,
    massive,
    microsoft,
    prodigy,
    rasa,
    snips,
    spacy_files,
    wit,
    word_tags,
)
from saarthi_lib.data.formats.columns import Columns, Fault, RawRow
from saarthi_lib.errors import DataError

SUFFIXES = {
    *(".json", ".jsonl", ".ndjson", ".yml", ".yaml", ".md", ".txt", ".csv", ".tsv"),
    *(".arrow", ".spacy", ".iob", ".bio", ".conll"),
}
ROWS, ASIDE = "rows", "aside"
_TAGS = 1000  # most tags kept of a file's words


@dataclass(frozen=True)
class Export:
    """A kind of export.

    Attributes:
        title: name for users.
        recognize: whether a file has rows ("rows") or other parts ("aside"), by its content.
        rows: rows of a file; counts the parts that are not carried over.
        leave_aside: counts the parts of a file without rows, and keeps synonyms.
        named: whether the names of files and folders give the split; in others they are intents.
        parted: whether files can have several splits, or lack rows.
        table: whether its files are tables or lines, too, from which texts alone can be read.
    """

    title: str
    recognize: Callable[[Head], str]
    rows: Callable[[Path, Reading], Iterator[RawRow]]
    leave_aside: Callable[[Path, Reading], None] | None = None
    named: bool = True
    parted: bool = True
    table: bool = False


EXPORTS = {
    "rasa": Export("Rasa", rasa.recognize, rasa.rows, rasa.leave_aside),
    "dialogflow": Export(
        "Dialogflow", dialogflow.recognize, dialogflow.rows, dialogflow.leave_aside, named=False
    ),
    "clu": Export("CLU or LUIS", microsoft.recognize, microsoft.rows),
    "label-studio": Export("Label Studio", label_studio.recognize, label_studio.rows, parted=False),
    "prodigy": Export("Prodigy", prodigy.recognize, prodigy.rows, parted=False, table=True),
    "massive": Export("MASSIVE", massive.recognize, massive.rows, table=True),
    "doccano": Export("doccano", doccano.recognize, doccano.rows, parted=False, table=True),
    "intents-json": Export("intents.json", intents_json.recognize, intents_json.rows, parted=False),
    "wit": Export("Wit.ai", wit.recognize, wit.rows, wit.leave_aside),
    "snips": Export("Snips", snips.recognize, snips.rows),
    "lex": Export("Amazon Lex", lex.recognize, lex.rows, lex.leave_aside, named=False),
    "hugging-face": Export("Hugging Face", hugging_face.recognize, hugging_face.rows, parted=False),
    "spacy": Export("spaCy", spacy_files.recognize, spacy_files.rows, parted=False),
    "word-tags": Export(
        "MultiATIS++, ATIS or GermEval",
        word_tags.recognize,
        word_tags.rows,
        parted=False,
        table=True,
    ),
}


@dataclass
class Contents:
    """Content of a file with rows.

    Attributes:
        splits: number of rows by the split that they name ("": none).
        labelled: number of rows with a label.
        spans: whether a row has entities with offsets.
        tags: tags of words, not of all rows.
        refused: faults of rows that cannot be taken over.
        reading: parts that are not carried over, and synonyms.
    """

    splits: Counter[str] = field(default_factory=Counter)
    labelled: int = 0
    spans: bool = False
    tags: set[str] = field(default_factory=set)
    refused: list[Fault] = field(default_factory=list)
    reading: Reading = field(default_factory=Reading)


def kind_of(path: Path) -> tuple[str, str]:
    """The kind of export that a file belongs to, and "rows" or "aside"; both "" for other files."""
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return "", ""
    return _kind(path, _state(path))


def other_part(path: Path) -> str:
    """Says that a file is a part of an export without rows; "" for other files."""
    kind, part = kind_of(path)
    if part != ASIDE:
        return ""
    return f"is a part of an export of {EXPORTS[kind].title} without rows; give the whole export"


def _state(path: Path) -> tuple[int, ...]:
    """Numbers that differ if a file is changed or replaced."""
    state = path.stat()
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


@lru_cache(maxsize=2**14)
def _kind(path: Path, _unchanged: tuple[int, ...]) -> tuple[str, str]:
    head = Head(path)
    try:
        found = [(kind, export.recognize(head)) for kind, export in EXPORTS.items()]
    except OSError:
        return "", ""
    for wanted in (ROWS, ASIDE):
        for kind, part in found:
            if part == wanted:
                return kind, part
    return "", ""


def export_rows(path: Path, kind: str, reading: Reading) -> Iterator[RawRow]:
    """Rows of a file of an export.

    Raises:
        DataError: the file cannot be read.
    """
    last = 0
    with _errors_named(path, kind, lambda: f"after row {last}: "):
        for raw in EXPORTS[kind].rows(path, reading):
            last = raw.row
            message = "" if raw.faults else _fault_of(raw)
            yield unfit(raw.row, message, raw.split) if message else raw


def leave_aside(paths: Sequence[Path], kind: str, reading: Reading) -> None:
    """Count the parts of files without rows, and keep their synonyms.

    Raises:
        DataError: a file cannot be read.
    """
    leave = EXPORTS[kind].leave_aside if kind else None
    for path in paths if leave else ():
        with _errors_named(path, kind, str):
            leave(path, reading)  # type: ignore[misc]


@contextmanager
def _errors_named(path: Path, kind: str, place: Callable[[], str]) -> Iterator[None]:
    """Name the file and the place of content that has not the form of the export."""
    try:
        yield
    except UnicodeDecodeError as error:
        row = _first_undecodable(path)
        message = f"{path}: row {row}: is not UTF-8; save the file with the encoding UTF-8"
        raise DataError(message) from error
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: {place()}has not the form of an export of {EXPORTS[kind].title} "
            f"({type(error).__name__}: {error}); export it again"
        ) from error


def _fault_of(raw: RawRow) -> str:
    """The reason why a row cannot be used; "" for a good one."""
    if not raw.words and not (isinstance(raw.text, str) and raw.text.strip()):
        return "the text is empty; fill it in"
    if isinstance(raw.label, str) and not raw.label.strip():
        return "the label is empty; fill it in"
    if raw.words is not None or not raw.tags or isinstance(raw.tags[0], str):
        return ""
    spans = sorted((each["start"], each["end"], each["label"]) for each in raw.tags)
    for (_, end, label), (start, _, other) in pairwise(spans):
        if start < end:
            return f"the entities '{label}' and '{other}' overlap at {start}; keep one of them"
    return ""


def _first_undecodable(path: Path) -> int:
    """Number of the first line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def contents_of(path: Path, kind: str, columns: Columns) -> Contents:
    """Content of a file with rows; the result is kept while the file is unchanged.

    Raises:
        DataError: the file cannot be read.
    """
    return _contents(path, kind, columns, _state(path))


@lru_cache(maxsize=4096)
def _contents(path: Path, kind: str, columns: Columns, _unchanged: tuple[int, ...]) -> Contents:
    found = Contents(reading=Reading(columns))
    for raw in export_rows(path, kind, found.reading):
        found.splits[raw.split] += 1
        found.refused += raw.faults
        found.labelled += raw.label is not None
        if isinstance(raw.tags, list) and raw.tags:
            if isinstance(raw.tags[0], dict):
                found.spans = True
            elif len(found.tags) < _TAGS:
                found.tags.update(tag for tag in raw.tags if isinstance(tag, str))
    return found
