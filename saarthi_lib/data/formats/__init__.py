"""Recognize the format of a file and read its raw rows; `read` turns these into a table.

Every reader streams, and so reads files of any size in bounded memory.
"""

import contextlib
import csv
import io
import json
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain, count, islice, repeat
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from saarthi_lib.errors import DataError

# The extension gives the likely format; unmistakable content overrides it.
EXTENSIONS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".conllu": "conllu",
}
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

_DELIMITERS = (",", ";", "\t")
_LASTING_COMMENTS = {*LANGUAGE_COLUMNS, "newdoc id", "newpar id"}
_COMMENT = re.compile(r"#\s*([^=:]+?)\s*[=:]\s*(.*?)\s*$")
_PART_OF_SPEECH = re.compile(r"[A-Z][A-Z0-9_$-]*|[^\w\s]{1,4}")
_BESIDE_WORDS = re.compile(r"\d+[-.]\d+")  # ids of multi-word tokens and of empty nodes
_HALF_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SAMPLE_BYTES = 2**16
_BLOCK = 2**20  # characters
_LONGEST_OBJECT = 2**26  # characters
_WHOLE = 2**22  # bytes of a file of which every row is read for a sample
_WINDOWS = 64  # places in a larger file, each of `_SAMPLE_BYTES`
_ARRAY_ROWS = 30_000  # rows read for a sample from Parquet, and from the start of a JSON array


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


def raw_rows(path: Path, format: str, columns: Columns) -> Iterator[RawRow]:
    """Read a file of a known format (one that `recognize` returns).

    Raises:
        DataError: the file is not UTF-8, is not of the format, or lacks a column.
    """
    try:
        yield from _READERS[format](path, columns)
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error


def recognize(path: Path, columns: Columns) -> str:
    """Recognize a file's format by its content and its extension.

    Returns:
        "csv", "tsv", "jsonl", "parquet", "conll", "conllu", or "lines" (unlabelled text).

    Raises:
        DataError: the extension is unknown.
    """
    by_name = EXTENSIONS.get(path.suffix.lower())
    if by_name is None:
        raise DataError(
            f"{path}: unknown extension; use one of {', '.join(EXTENSIONS)}, or set data_format"
        )
    sample = _sample(path)
    if by_name == "parquet" or sample.startswith("PAR1"):
        return "parquet"
    lines = sample.splitlines()
    if by_name == "jsonl" or _is_json(lines):
        return "jsonl"
    if by_name == "conllu" or _is_conllu(lines):
        return "conllu"
    if by_name == "conll" or (not _has_header(sample, columns) and _is_conll(lines)):
        return "conll"
    plain = path.suffix.lower() == ".txt" and not columns.labelled
    if plain and not _has_header(sample, columns) and not any("\t" in line for line in lines[:1]):
        return "lines"
    return by_name


def missing_word(words: Sequence[str], text: str) -> str | None:
    """The first word that the text lacks, if words are searched in their order."""
    position = 0
    for word in words:
        found = text.find(word, position)
        if found < 0:
            return word
        position = found + len(word)
    return None


def sample_cells(
    path: Path, format: str, rows: int, columns: Columns | None = None
) -> dict[str, list[Any]]:
    """First rows of a table, by the names of its columns.

    Args:
        path: file of the format "csv", "tsv", "jsonl" or "parquet".
        format: format of the file.
        rows: most rows to read.
        columns: names given by the user; they help to find the delimiter.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        found = list(islice(_cells_by_name(path, format, columns or Columns()), rows))
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    return _by_column(found)


class Sample(NamedTuple):
    """Cells of a table by the names of its columns, and whether they are those of all rows."""

    cells: dict[str, list[Any]]
    whole: bool


def spread_cells(path: Path, format: str, rows: int, columns: Columns | None = None) -> Sample:
    """Random rows of a whole table, the same ones each time.

    Large files are read at evenly spaced places only, so a sample takes less than about a second.

    Args:
        path: file of the format "csv", "tsv", "jsonl" or "parquet".
        format: format of the file.
        rows: most rows of the sample.
        columns: names given by the user; they help to find the delimiter.

    Raises:
        DataError: the file cannot be read.
    """
    columns = columns or Columns()
    whole = True
    found: Iterable[dict[str, Any]]
    if format == "parquet":
        found, whole = _parquet_groups(path)
    elif path.stat().st_size <= _WHOLE:
        found = _cells_by_name(path, format, columns)
    elif format == "jsonl" and _sample(path).lstrip().startswith("["):
        found, whole = islice(_cells_by_name(path, format, columns), _ARRAY_ROWS), False
    else:
        found, whole = _cells_in_windows(path, format, columns), False
    choose = random.Random(0)
    kept: list[tuple[int, dict[str, Any]]] = []
    number = -1
    try:
        for number, row in enumerate(found):
            if number < rows:
                kept.append((number, row))
            elif (place := int(choose.random() * (number + 1))) < rows:
                kept[place] = (number, row)
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    kept.sort(key=lambda pair: pair[0])
    return Sample(_by_column([row for _, row in kept]), whole and number < rows)


def has_rows(path: Path, format: str) -> bool:
    """Whether a file of a format that `recognize` returns has a row, apart from a header.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        if format in ("csv", "tsv"):
            with path.open(encoding="utf-8-sig", newline="") as file:
                lines = csv.reader(file, delimiter=_delimiter(_sample(path), Columns(), ","))
                return len(list(islice(filter(None, _cells(lines, path)), 2))) > 1
        if format == "parquet":
            return next(_cells_by_name(path, format, Columns()), None) is not None
        return next(_READERS[format](path, Columns(labelled=False)), None) is not None
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error


def _by_column(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _parquet_groups(path: Path) -> tuple[Iterator[dict[str, Any]], bool]:
    """Rows of evenly spaced row groups, and whether these are all rows."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as table:
            groups, rows = table.num_row_groups, table.metadata.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise _not_parquet(path, error) from None
    chosen = _evenly(range(groups), _WINDOWS)
    most = math.ceil(_ARRAY_ROWS / max(1, len(chosen)))
    choose = random.Random(0)

    def found() -> Iterator[dict[str, Any]]:
        try:
            with parquet.ParquetFile(path) as table:
                for group in chosen:
                    share = min(1, most / max(1, table.metadata.row_group(group).num_rows))
                    for batch in table.iter_batches(2**13, row_groups=[group]):
                        count = math.ceil(share * len(batch))
                        places = sorted(choose.sample(range(len(batch)), count))
                        yield from batch.take(pyarrow.array(places, pyarrow.int64())).to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise _not_parquet(path, error) from None

    return found(), rows <= most and len(chosen) == groups


def _evenly(values: Sequence[int], most: int) -> list[int]:
    count = min(most, len(values))
    return [values[at * len(values) // count] for at in range(count)]


def _cells_in_windows(path: Path, format: str, columns: Columns) -> Iterator[dict[str, Any]]:
    """Rows of evenly spaced places; those that a place cuts are left out."""
    names: list[str] = []
    delimiter = ","
    if format != "jsonl":
        sample = _sample(path)
        delimiter = _delimiter(sample, columns, "\t" if format == "tsv" else ",")
        names = next(iter(_sample_rows(sample, delimiter)), [])
    last = path.stat().st_size - _SAMPLE_BYTES
    for window in range(_WINDOWS):
        with path.open("rb") as file:
            file.seek(window * last // (_WINDOWS - 1))
            block = file.read(_SAMPLE_BYTES)
        # The first line is a header, or cut; the last one may be cut.
        lines = [f"{line}\n" for line in block.decode(errors="replace").split("\n")[1:-1]]
        if format == "jsonl":
            values = (value for _, value in _json_lines(lines))
            yield from (value for value in values if isinstance(value, dict))
            continue
        rows: list[list[str]] = []
        with contextlib.suppress(csv.Error):
            rows.extend(csv.reader(lines, delimiter=delimiter))
        # A quoted text that the place cuts gives a row of another width.
        yield from (dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names))


def _cells_by_name(path: Path, format: str, columns: Columns) -> Iterator[dict[str, Any]]:
    if format == "parquet":
        import pyarrow
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(path) as table:
                for batch in table.iter_batches(batch_size=2**10):
                    yield from batch.to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise _not_parquet(path, error) from None
        return
    with path.open(encoding="utf-8-sig", newline="" if format != "jsonl" else None) as file:
        if format == "jsonl":
            yield from (value for _, value in _json_values(file, path) if isinstance(value, dict))
            return
        delimiter = _delimiter(_sample(path), columns, "\t" if format == "tsv" else ",")
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        rows = (cells for cells in _cells(lines, path) if not isinstance(cells, Fault))
        names = next(rows, [])
        yield from (dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names))


class _MissingColumnError(Exception):
    """A required column is missing; `kind` is the kind of fault for a row without it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@lru_cache(maxsize=1024)
def _locate(columns: Columns, names: tuple[str, ...]) -> tuple[int, ...]:
    """Positions of text, label, lang, group, words and tags among the names; -1: missing."""
    positions = {str(name).strip().lower(): at for at, name in reversed([*enumerate(names)])}

    def position(chosen: str, usual: Iterable[str]) -> int:
        wanted = [chosen.strip().lower()] if chosen else usual
        return next((positions[name] for name in wanted if name in positions), -1)

    words = position("", WORD_COLUMNS)
    text = position(columns.text, TEXT_COLUMNS)
    if text < 0 and (words < 0 or columns.text):
        raise _MissingColumnError("empty-text", _missing("text", columns.text, TEXT_COLUMNS, names))
    label = position(columns.label, LABEL_COLUMNS) if columns.sequence else -1
    if columns.sequence and label < 0:
        message = _missing("label", columns.label, LABEL_COLUMNS, names)
        raise _MissingColumnError("empty-label", message)
    lang = position(columns.language, LANGUAGE_COLUMNS)
    group = position(columns.group, ())
    tags = position(columns.tags, (n for n in TAG_COLUMNS if positions.get(n, label) != label))
    return text, label, lang, group, words, tags


def _missing(field: str, chosen: str, usual: Sequence[str], names: Sequence[str]) -> str:
    if chosen:
        return f"no column '{chosen}' among {list(names)}; correct {field}_column"
    return f"no column of {field} among {list(names)}; name it one of {usual} or set {field}_column"


# --- delimited ------------------------------------------------------------------------------------


def _read_delimited(path: Path, columns: Columns, usual: str) -> Iterator[RawRow]:
    """Rows of a delimited file; a row's number is that of its last line."""
    delimiter = _delimiter(_sample(path), columns, usual)
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        header = next(_cells(lines, path), [])
        if isinstance(header, Fault):
            raise DataError(f"{path}: row {header.row}: {header.message}")
        names = tuple(header)
        try:
            at = _locate(columns, names)
        except _MissingColumnError as error:
            raise DataError(f"{path}: row 1: {error} (row 1 must name the columns)") from None
        nested = max(at[4:]) >= 0
        for cells in _cells(lines, path):
            number = lines.line_num
            if isinstance(cells, Fault):
                yield RawRow(number, faults=(cells,))
            elif len(cells) == len(names):
                cells.append(None)  # value of missing columns, at position -1
                row = RawRow(number, *map(cells.__getitem__, at))
                yield _with_lists(row) if nested else row
            elif cells:
                message = (
                    f"has {len(cells)} cells where row 1 has {len(names)}; put a text that holds "
                    "a separator in double quotes"
                )
                yield RawRow(number, faults=(Fault(number, "wrong-cells", message),))


def _cells(lines: Any, path: Path) -> Iterator[list[Any] | Fault]:
    """Cells of each row; a wrong quote invalidates its row, an unclosed quote the file."""
    while True:
        before = lines.line_num
        try:
            yield next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            first, last = before + 1, lines.line_num
            if last > first:
                raise DataError(
                    f"{path}: rows {first} to {last}: a quote is not closed ({error}); correct "
                    "the quotes"
                ) from None
            yield Fault(last, "wrong-cells", f"cannot be read ({error}); correct its quotes")


def _delimiter(sample: str, columns: Columns, usual: str) -> str:
    """The delimiter that gives the header a known name, and most rows the header's width."""

    def merits(delimiter: str) -> tuple[bool, float, bool, bool]:
        rows = _sample_rows(sample, delimiter)
        width = len(rows[0]) if rows else 0
        fit = sum(len(row) == width for row in rows) / max(len(rows), 1)
        return _is_header(rows, columns), fit, width > 1, delimiter == usual

    return max(_DELIMITERS, key=merits)


def _has_header(sample: str, columns: Columns) -> bool:
    return any(_is_header(_sample_rows(sample, mark), columns) for mark in _DELIMITERS)


def _is_header(rows: list[list[str]], columns: Columns) -> bool:
    try:
        _locate(Columns(text=columns.text), tuple(rows[0] if rows else ()))
    except _MissingColumnError:
        return False
    return True


def _sample_rows(sample: str, delimiter: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(io.StringIO(sample), delimiter=delimiter) if row]
    except csv.Error:
        return []


def _read_lines(path: Path, columns: Columns) -> Iterator[RawRow]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.isspace():
                yield RawRow(number, line.strip())


# --- JSON -----------------------------------------------------------------------------------------


def _read_json(path: Path, columns: Columns) -> Iterator[RawRow]:
    """JSON objects, one per line or in one array; a row's number is that of its first line."""
    with path.open(encoding="utf-8-sig") as file:
        for number, value in _json_values(file, path):
            if isinstance(value, Fault):
                yield RawRow(number, faults=(value,))
            elif isinstance(value, dict):
                yield _json_row(number, value, columns)
            else:
                fault = Fault(number, "not-json", "is not a JSON object; write one a line")
                yield RawRow(number, faults=(fault,))


def _json_values(file: TextIO, path: Path) -> Iterator[tuple[int, Any]]:
    start = file.read(_BLOCK).lstrip()[:1]
    file.seek(0)
    return _array(file, path) if start == "[" else _json_lines(file)


def _json_row(number: int, row: dict[str, Any], columns: Columns) -> RawRow:
    try:
        at = _locate(columns, tuple(row))
    except _MissingColumnError as error:
        return RawRow(number, faults=(Fault(number, error.kind, str(error)),))
    values = [*row.values(), None]
    return _with_lists(RawRow(number, *map(values.__getitem__, at)))


def _json_lines(file: Iterable[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file, 1):
        if line.isspace():
            continue
        try:
            yield number, _sound(json.loads(line), number, line)
        except (ValueError, RecursionError) as error:
            message = f"is not JSON ({error}); write one JSON object a line"
            yield number, Fault(number, "not-json", message)


def _array(file: TextIO, path: Path) -> Iterator[tuple[int, Any]]:
    """Values of one JSON array, each with the number of its first line."""
    decode = json.JSONDecoder().raw_decode
    between = re.compile(r"[\s,]*")
    buffer = file.read(_BLOCK)
    position = buffer.index("[") + 1
    line = 1 + buffer.count("\n", 0, position)
    while True:
        begin = between.match(buffer, position).end()  # type: ignore[union-attr]
        line += buffer.count("\n", position, begin)
        if buffer.startswith("]", begin):
            return
        try:
            value, position = decode(buffer, begin)
        except (ValueError, RecursionError) as error:
            block = file.read(_BLOCK)
            if not block or len(buffer) > _LONGEST_OBJECT:
                raise DataError(
                    f"{path}: row {line}: the array cannot be read from here on ({error}); "
                    "correct it, or write one JSON object a line"
                ) from None
            buffer, position = buffer[begin:] + block, 0
            continue
        yield line, _sound(value, line, buffer[begin:position])
        line += buffer.count("\n", begin, position)


def _sound(value: Any, number: int, source: str) -> Any:
    """The value, or a fault if its escapes are half of a surrogate pair."""
    if _HALF_SURROGATE.search(source):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            return Fault(number, "not-json", f"is not valid Unicode ({error}); correct its escapes")
    return value


def _with_lists(row: RawRow) -> RawRow:
    """Parse lists that are written as text, in JSON or separated by spaces."""
    if isinstance(row.words, str) or isinstance(row.tags, str):
        return row._replace(words=_as_list(row.words), tags=_as_list(row.tags))
    return row


def _as_list(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.startswith("[") else value.split()
    except (ValueError, RecursionError):
        return value.split()


# --- Parquet --------------------------------------------------------------------------------------


def _read_parquet(path: Path, columns: Columns) -> Iterator[RawRow]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = tuple(file.schema_arrow.names)
            at = _locate(columns, names)
            wanted = [names[position] for position in at if position >= 0]
            numbers = count(1)
            for batch in file.iter_batches(batch_size=2**13, columns=wanted):
                lists = [
                    batch.column(names[position]).to_pylist() if position >= 0 else repeat(None)
                    for position in at
                ]
                for values in zip(*lists, strict=False):
                    yield _with_lists(RawRow(next(numbers), *values))
    except _MissingColumnError as error:
        raise DataError(f"{path}: {error}") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise _not_parquet(path, error) from None


# --- CoNLL ----------------------------------------------------------------------------------------


def _read_conll(path: Path, columns: Columns, universal: bool) -> Iterator[RawRow]:
    """Sentences separated by blank lines; each line has a word and a tag."""
    word_at, tag_at = _word_and_tag(path, columns, universal)
    width = max(word_at + 1, tag_at + 1, 2 if columns.labelled else 1)  # least cells of a line
    sentence = _Sentence(columns)
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(chain(file, "\n"), 1):
            if line.isspace():
                if sentence.row:
                    yield sentence.finish()
                continue
            cells = line.rstrip("\n").split("\t") if "\t" in line else line.split()
            if line.startswith("#") and (universal or _is_comment(line, cells, sentence.row)):
                sentence.comment(line)
            elif cells[0] != "-DOCSTART-" and not (universal and _BESIDE_WORDS.match(cells[0])):
                numbered = not universal or cells[0].isdecimal()
                if len(cells) >= width and numbered:
                    sentence.add(number, cells[word_at].strip(" "), cells[tag_at].strip(" "))
                else:
                    sentence.add(number, "", "")


class _Sentence:
    """The current sentence, and the comments above it."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._comments: dict[str, str] = {}
        self._clear()

    def _clear(self) -> None:
        self.row = 0  # line of the first word; 0: not read yet
        self._words: list[str] = []
        self._tags: list[str] = []
        self._lines: list[int] = []
        self._faults: list[Fault] = []

    def comment(self, line: str) -> None:
        if found := _COMMENT.match(line):
            self._comments[found[1].lower()] = found[2]

    def add(self, number: int, word: str, tag: str) -> None:
        self.row = self.row or number
        if word and tag:
            self._words.append(word)
            self._tags.append(tag)
            self._lines.append(number)
        else:
            message = "is not a word and a tag; correct it"
            self._faults.append(Fault(number, "malformed-line", message))

    def finish(self) -> RawRow:
        comments, columns = self._comments, self._columns
        text = comments.get("text", "")
        if not text or missing_word(self._words, text):
            text = " ".join(self._words)

        def of(chosen: str, usual: Sequence[str]) -> str | None:
            wanted = [chosen.lower()] if chosen else usual
            return next((comments[name] for name in wanted if name in comments), None)

        row = RawRow(
            self.row,
            text,
            of(columns.label, LABEL_COLUMNS),
            of(columns.language, LANGUAGE_COLUMNS),
            of(columns.group, ()),
            self._words,
            self._tags,
            self._lines,
            tuple(self._faults),
        )
        self._comments = {k: v for k, v in comments.items() if k in _LASTING_COMMENTS}
        self._clear()
        return row


def _word_and_tag(path: Path, columns: Columns, universal: bool) -> tuple[int, int]:
    """Positions of the columns of words and tags."""
    known = CONLLU_COLUMNS if universal else ()

    def position(field: str, chosen: str, usual: int) -> int:
        if not chosen:
            return usual
        if chosen.lower() in known:
            return known.index(chosen.lower())
        if chosen.isdecimal() and int(chosen) > 0:
            return int(chosen) - 1
        names = f" or one of {', '.join(known)}" if known else ""
        raise DataError(
            f"{path}: has no column '{chosen}'; set {field} to a column's number, from 1{names}"
        )

    word = position("text_column", columns.text, 1 if universal else 0)
    if not columns.labelled:
        return word, word
    return word, position("label_column", columns.tags, 3 if universal else -1)


def _is_comment(line: str, cells: list[str], inside: int) -> bool:
    """Whether a line that begins with `#` is a comment rather than a word (`#tag O`)."""
    return not inside and "\t" not in line and (len(cells) != 2 or "=" in line)


# --- recognizing ----------------------------------------------------------------------------------


def _sample(path: Path) -> str:
    """The first whole lines of a file."""
    with path.open("rb") as file:
        content = file.read(_SAMPLE_BYTES)
    if len(content) == _SAMPLE_BYTES:
        content = content[: content.rfind(b"\n") + 1] or content
    return content.decode("utf-8-sig", errors="replace")


def _is_json(lines: list[str]) -> bool:
    first = next((line.strip() for line in lines if line.strip()), "")
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return first == "[" or first.startswith("[{")
    return isinstance(value[0] if isinstance(value, list) and value else value, dict)


def _word_lines(lines: list[str]) -> list[str]:
    return [line for line in lines if line.strip() and line[0] != "#" and line[:10] != "-DOCSTART-"]


def _is_conllu(lines: list[str]) -> bool:
    cells = [line.split("\t") for line in _word_lines(lines)]
    return bool(cells) and all(len(row) == 10 and row[0][:1].isdigit() for row in cells[:20])


def _is_conll(lines: list[str]) -> bool:
    """Whether most lines end in a BIO tag, or all in upper-case tags with blank lines between."""
    rows = [line.split("\t") if "\t" in line else line.split() for line in _word_lines(lines)]
    tags = [row[-1].strip() for row in rows if 2 <= len(row) <= 4 and len(row) == len(rows[0])]
    if not tags or len(tags) < 0.9 * len(rows):
        return False
    if sum(bool(BIO_LIKE.fullmatch(tag)) for tag in tags) >= 0.9 * len(tags):
        return True
    parted = any(not line.strip() for line in lines[:-1])
    return parted and all(_PART_OF_SPEECH.fullmatch(tag) for tag in tags)


def _not_utf8(path: Path) -> DataError:
    return DataError(
        f"{path}: row {_first_undecodable(path)}: is not UTF-8; save the file with the encoding "
        "UTF-8"
    )


def _not_parquet(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be read as Parquet ({error}); write it again")


def _first_undecodable(path: Path) -> int:
    """Number of the first line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


_READERS: dict[str, Callable[[Path, Columns], Iterator[RawRow]]] = {
    "csv": partial(_read_delimited, usual=","),
    "tsv": partial(_read_delimited, usual="\t"),
    "lines": _read_lines,
    "jsonl": _read_json,
    "parquet": _read_parquet,
    "conll": partial(_read_conll, universal=False),
    "conllu": partial(_read_conll, universal=True),
}
