"""Convert data to JSON lines, with a report; sentences with synonyms for distillation."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.detect import with_task
from saarthi_lib.data.exports.folder import (
    CONVERSION,
    ExportFolder,
    add,
    exports_in,
    leave_others,
    left_report,
    survey,
)
from saarthi_lib.data.exports.reading import UNFIT, Reading
from saarthi_lib.data.exports.registry import (
    EXPORTS,
    ROWS,
    contents_of,
    export_rows,
    kind_of,
    leave_aside,
)
from saarthi_lib.data.formats import raw_rows, recognize
from saarthi_lib.data.formats.cells import BadCellError, label_of
from saarthi_lib.data.formats.columns import REJECTED, Columns, Fault, RawRow
from saarthi_lib.data.formats.rivals import settled
from saarthi_lib.data.formats.rows import unread_columns
from saarthi_lib.data.read.convert import UNNAMED, are_numbers, no_text
from saarthi_lib.data.read.entities import BadEntityError, canonical_entities
from saarthi_lib.data.read.files import SplitFile, find_splits, relative_name
from saarthi_lib.data.read.problems import REPAIRED
from saarthi_lib.data.read.table import columns_for
from saarthi_lib.errors import DataError
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import read_json, whole_folder, write_json

logger = get_logger("data")

SENTENCES_OF_ROW = 4  # most sentences with synonyms made of one row
SENTENCES = 50_000
REFUSED = 100  # most refused rows listed


@dataclass
class Conversion:
    """Result of a conversion: the content of `conversion.json`.

    Attributes:
        export: the kind of export; "" for other data.
        rows: number of rows by split.
        carried: number of labels, entities and languages carried over.
        transfer: number of sentences with synonyms.
        refused: rows that cannot be taken over, each with file, row and reason.
        refused_count: number of these rows.
        left: parts that are not carried over as written: their number, and the first places.
        synonyms: the value for each synonym.
    """

    export: str
    rows: Counter[str] = field(default_factory=Counter)
    carried: Counter[str] = field(default_factory=Counter)
    transfer: int = 0
    refused: list[str] = field(default_factory=list)
    refused_count: int = 0
    left: dict[str, Any] = field(default_factory=dict)
    synonyms: dict[str, str] = field(default_factory=dict)


def convert(
    source: Path,
    destination: Path,
    columns: Columns | None = None,
    *,
    name: str = "",
    all_answers: bool = False,
) -> Conversion:
    """Write data as `train.jsonl` and perhaps other splits, `transfer.txt` and a report.

    Args:
        source: folder or file of an export, or of any other format that training reads.
        destination: new or empty folder; it appears when everything is written.
        columns: names of the text and the label, where an export has several.
        name: name of the source in the report; default: its path.
        all_answers: whether rows count that an annotator did not accept.

    Raises:
        DataError: the source cannot be read, or no row can be taken over; the destination has
            files.
    """
    if not source.exists():
        raise DataError(f"{source}: there is no such file or folder; correct the path")
    if destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
        raise DataError(f"{destination}: exists and is not empty; give a new folder")
    folder = exports_in(source)
    made = Conversion(folder.kind)
    columns = replace(columns or Columns(), sequence=True)
    reading = Reading(columns if folder.kind else _detected(source, columns), all_answers)
    leave_aside(folder.aside, folder.kind, reading)
    with whole_folder(destination) as aside:
        with ExitStack() as stack:
            files: dict[str, TextIO] = {}
            for split, raw in _rows(folder, reading, made):
                if split not in files:
                    path = aside / f"{split}.jsonl"
                    files[split] = stack.enter_context(path.open("w", encoding="utf-8"))
                files[split].write(json.dumps(_canonical(raw), ensure_ascii=False) + "\n")
                _count(raw, split, made)
        if not made.rows["train"]:
            first = f", the first: {made.refused[0]}" if made.refused else ""
            raise DataError(
                f"{source}: no row for train; {made.refused_count} rows cannot be taken over{first}"
            )
        made.synonyms = reading.synonyms
        made.transfer = _write_transfer(aside, made.synonyms)
        made.left = left_report(reading, source)
        report = {**vars(made), "source": name or str(source)}
        write_json(aside / CONVERSION, report)
    return made


def _rows(folder: ExportFolder, reading: Reading, made: Conversion) -> Iterator[tuple[str, RawRow]]:
    """Rows that can be taken over, each with its split; the others are counted."""
    takers: dict[Path, list[tuple[str, SplitFile]]] = {path: [] for path in folder.files}
    for split, files in find_splits(folder.root).items():
        for file in files:
            takers.setdefault(file.path, []).append((split, file))
    leave_others(folder, takers, reading)
    for path, taking in takers.items():
        own = Reading(reading.columns, reading.all_answers)
        if path in folder.files:
            raws = export_rows(path, folder.kind, own)
        else:
            labelled = any(split != "transfer" for split, _ in taking)
            columns = reading.columns if labelled else Columns(reading.columns.text, labelled=False)
            format = recognize(path, columns)
            columns = settled(path, format, columns)
            raws = raw_rows(path, format, columns)
            for name in unread_columns(path, format, columns):
                own.leave(f"column {name}", path)
        for raw in map(_checked, raws):
            for fault in raw.faults if raw.faults[:1] and raw.faults[0].kind != REJECTED else ():
                made.refused_count += 1
                place = f"{relative_name(path, folder.root)}: row {fault.row}: {fault.message}"
                if len(made.refused) < REFUSED:
                    made.refused.append(place)
            if raw.faults:
                if raw.faults[0].kind == REJECTED and path not in folder.files:
                    own.leave("row that an annotator rejected or ignored", path, raw.row)
                continue
            for note in raw.notes:
                own.leave(REPAIRED[note.kind], path, note.row)
            if not taking:
                own.leave("row of a file beside a train file, without a split", path, raw.row)
            for split, file in taking:
                if not file.parts or raw.split in file.parts:
                    yield split, raw._replace(lang=raw.lang or file.language or None)
        add(reading, own, path)


def _detected(source: Path, given: Columns) -> Columns:
    """Columns to read from data that are not an export."""
    named = {"text_column": given.text, "label_column": given.label}
    fields = {name: value for name, value in named.items() if value}
    config = with_task(TrainConfig.from_mapping({"input_path": str(source), **fields}))
    return columns_for(config, labelled=True)


def _checked(raw: RawRow) -> RawRow:
    """The row with the name of its label, or with a fault."""
    if raw.faults:
        return raw
    try:
        label = label_of(raw.label) or None
    except BadCellError as error:
        return raw._replace(faults=(Fault(raw.row, UNFIT, str(error)),))
    if isinstance(raw.words, list) and raw.words and isinstance(raw.words[0], dict):
        raw = raw._replace(words=None)  # tokens with offsets repeat the text
    if not raw.words and not (isinstance(raw.text, str) and raw.text.strip()):
        return raw._replace(faults=(Fault(raw.row, "empty-text", no_text(raw.text)),))
    raw = raw._replace(label=label)
    if not raw.tags:
        return raw
    if _are_word_tags(raw):
        words = raw.text.split() if raw.words is None else raw.words
        if _are_texts(words) and _are_texts(raw.tags) and len(words) == len(raw.tags):
            return raw
        message = "'words' and 'tags' must be lists of texts"
        if are_numbers(raw.tags):
            message = UNNAMED
        elif isinstance(words, list) and isinstance(raw.tags, list) and len(words) != len(raw.tags):
            message = f"{len(words)} words but {len(raw.tags)} tags; give each word one"
        return raw._replace(faults=(Fault(raw.row, "bad-words", message),))
    try:
        return raw._replace(tags=canonical_entities(raw.text, raw.tags))
    except BadEntityError as error:
        return raw._replace(faults=(Fault(raw.row, "bad-entity", str(error)),))


def _canonical(raw: RawRow) -> dict[str, Any]:
    """A row as an object of the canonical JSON lines."""
    row: dict[str, Any] = {} if raw.text is None else {"text": raw.text}
    if raw.label is not None:
        row["intent"] = raw.label
    if raw.words is not None:
        row["words"] = raw.words
    if raw.tags is not None:
        row["tags" if _are_word_tags(raw) else "entities"] = raw.tags
    return row | ({"lang": raw.lang} if raw.lang else {})


def _are_word_tags(raw: RawRow) -> bool:
    """Whether a row has a tag for each word, of a list of words or of its text."""
    return raw.words is not None or (bool(raw.tags) and _are_texts(raw.tags))


def _are_texts(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(each, str) for each in values)


def _count(raw: RawRow, split: str, made: Conversion) -> None:
    made.rows[split] += 1
    made.carried["labels"] += raw.label is not None
    made.carried["rows without a label"] += raw.label is None
    made.carried["entities"] += 0 if _are_word_tags(raw) else len(raw.tags or ())
    made.carried["rows with tags of words"] += _are_word_tags(raw)
    made.carried["languages"] += bool(raw.lang)


def _write_transfer(folder: Path, synonyms: Mapping[str, str]) -> int:
    """Write the sentences with synonyms of the training rows; returns their number."""
    if not synonyms:
        return 0
    with (folder / "train.jsonl").open(encoding="utf-8") as file:
        rows = (json.loads(line) for line in file)
        found = ((row["text"], row.get("entities") or [], "") for row in rows)
        made = [sentence for sentence, _ in sentences(found, synonyms)]
    if made:
        text = "".join(f"{' '.join(sentence.split())}\n" for sentence in made)
        (folder / "transfer.txt").write_text(text, encoding="utf-8")
    return len(made)


def sentences(
    rows: Iterable[tuple[str, Iterable[Mapping[str, Any]], str]], synonyms: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Sentences in which an entity's text is replaced by another text of the same value.

    At most `SENTENCES_OF_ROW` are made of a row, and `SENTENCES` in total.

    Args:
        rows: texts with their entities (`start`, `end`, and perhaps `value`) and languages.
        synonyms: the value for each synonym.

    Yields:
        Each sentence once, with the language of its row.
    """
    forms: dict[str, list[str]] = {}
    for synonym, value in synonyms.items():
        forms.setdefault(value, [value]).append(synonym)
    seen: set[str] = set()
    for text, entities, lang in rows:
        made = 0
        for each in entities:
            start, end = each["start"], each["end"]
            value = str(each.get("value") or synonyms.get(text[start:end], text[start:end]))
            for form in forms.get(value, ()):
                sentence = text[:start] + form + text[end:]
                if form == text[start:end] or sentence in seen or made >= SENTENCES_OF_ROW:
                    continue
                if len(seen) >= SENTENCES:
                    return
                seen.add(sentence)
                made += 1
                yield sentence, lang


@dataclass(frozen=True)
class Carried:
    """What reading an export directly, or a converted one, gives besides rows.

    Attributes:
        left: parts that are not carried over: their number, and the first places.
        synonyms: the value for each synonym.
        files: files of the export with training rows; empty for a converted one.
        kind: the kind of export, or "".
    """

    left: dict[str, Any] = field(default_factory=dict)
    synonyms: dict[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    kind: str = ""


def carried_over(
    folder: Path, splits: Mapping[str, Iterable[SplitFile]], columns: Columns
) -> Carried:
    """Survey the export in an input folder, and log the parts that are not carried over.

    Args:
        folder: the input folder or file.
        splits: its files by split.
        columns: columns to read.

    Raises:
        DataError: a file of the export or the report of a conversion cannot be read.
    """
    used = {file.path for files in splits.values() for file in files}
    if not any(kind_of(path)[1] == ROWS for path in used):
        return Carried(synonyms=_converted_synonyms(folder))
    export = exports_in(folder)
    # Files without rows can have synonyms; other unused files are not part of the data.
    counted = [
        path
        for path in export.files
        if path in used or not contents_of(path, export.kind, columns).splits
    ]
    reading = survey(replace(export, files=counted), columns)
    leave_others(export, used, reading)
    left = left_report(reading, folder)
    title = EXPORTS[export.kind].title
    for kind, found in left.items():
        first = found["places"][0]
        logger.warning("%s: not carried over: %s (%d), %s", title, kind, found["count"], first)
    if reading.synonyms:
        logger.info("%s: %d synonyms become transfer text", title, len(reading.synonyms))
    trained = tuple(dict.fromkeys(file.path for file in splits.get("train", ())))
    return Carried(left, reading.synonyms, trained, export.kind)


def training_sentences(
    carried: Carried, root: Path, kept: Mapping[tuple[str, int], str]
) -> Iterator[tuple[str, str]]:
    """Sentences with synonyms made of the training rows of an export, each with its language.

    Args:
        carried: the survey of the export.
        root: the input folder.
        kept: language of each training row by its file and number; other rows are left out, such
            as those cut for the test.
    """

    def rows() -> Iterator[tuple[str, list[dict[str, Any]], str]]:
        for path in carried.files:
            for raw in export_rows(path, carried.kind, Reading()):
                lang = kept.get((relative_name(path, root), raw.row))
                if lang is not None and raw.words is None and isinstance(raw.text, str):
                    yield raw.text, raw.tags or [], lang

    yield from sentences(rows(), carried.synonyms)


def _converted_synonyms(folder: Path) -> dict[str, str]:
    """Synonyms in the report of a converted folder; empty without one."""
    path = folder / CONVERSION
    if not path.is_file():
        return {}
    try:
        found = read_json(path)["synonyms"]
        return {str(synonym): str(value) for synonym, value in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); remove it, or convert again") from None
