"""Read labelled text of several formats into one table.

The table (pandas, pyarrow types) has a row a text: `row` (its place in the file), `text`, `lang`;
`label` for tasks with a sequence head; `words` and `tags` (lists) for tasks with a token head.
"""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from saarthi_lib.errors import DataError
from saarthi_lib.logs import get_logger
from saarthi_lib.tasks import (
    OUTSIDE,
    bio_spans,
    bio_tags,
    has_sequence_head,
    has_token_head,
    uses_bio,
)
from saarthi_lib.text.words import split_words

logger = get_logger("data")

# A file of the input folder is known by its name without the extension.
SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "dev"),
    "test": ("test",),
    "transfer": ("transfer",),
}
TEXT_COLUMNS = ("text", "sentence", "utterance", "query")
LABEL_COLUMNS = ("label", "intent", "class", "category")
LANGUAGE_COLUMNS = ("lang", "language", "locale")
LANGUAGE_NAMES = {
    "as": "assamese", "bn": "bengali", "en": "english", "gu": "gujarati", "hi": "hindi",
    "hi-en": "hinglish", "kn": "kannada", "ml": "malayalam", "mr": "marathi", "ne": "nepali",
    "or": "odia", "pa": "punjabi", "ta": "tamil", "te": "telugu", "ur": "urdu",
}  # fmt: skip
UNKNOWN_LANGUAGE = "unknown"

Row = dict[str, Any]


def find_splits(folder: str | Path) -> dict[str, Path]:
    """Find the file of each split in an input folder.

    Raises:
        DataError: no such folder, no train file, or two files for one split.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; set input_path to the data's folder")
    found: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        files = [
            path
            for path in sorted(root.iterdir())
            if path.is_file() and path.stem in names and path.suffix.lower() in READERS
        ]
        if len(files) > 1:
            listed = ", ".join(path.name for path in files)
            raise DataError(f"{root}: several files for the {split} split ({listed}); keep one")
        if files:
            found[split] = files[0]
    if "train" not in found:
        raise DataError(f"{root}: no train file; put in train with one of {', '.join(READERS)}")
    return found


def read_table(path: str | Path, task: str, labelled: bool = True) -> pd.DataFrame:
    """Read one file.

    Args:
        path: a file whose extension is one of `READERS`.
        task: decides which columns the table has.
        labelled: whether rows must carry labels; a transfer file needs only text.

    Raises:
        DataError: names the file, and the row or column, and says what to do.
    """
    source = Path(path)
    reader = READERS.get(source.suffix.lower())
    if reader is None:
        raise DataError(f"{source}: unknown extension; use one of {', '.join(READERS)}")
    rows: list[Row] = []
    malformed: list[str] = []
    try:
        for number, row in reader(source):
            problem = row.get("malformed") or (labelled and _malformed_tag(row, task))
            if problem:
                malformed.append(f"row {number}: {problem}")
            else:
                where = f"{source}: row {number}"
                rows.append({"row": number, **_check_row(row, where, task, labelled)})
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source}: row {_first_undecodable(source)}: is not UTF-8; save the file with the "
            "encoding UTF-8"
        ) from error
    except FileNotFoundError:
        raise DataError(f"{source}: there is no such file; correct the path") from None
    if malformed:
        logger.warning(
            "%s: %d sentences are malformed and left out, the first at %s",
            source.name,
            len(malformed),
            malformed[0],
        )
    if not rows:
        first = f" that can be used ({malformed[0]})" if malformed else ""
        raise DataError(f"{source}: holds no rows{first}; fill it in or remove it")
    widened = sum(row.pop("_widened") for row in rows)
    if widened:
        logger.warning(
            "%s: %d entities begin or end inside a word; each was widened to whole words",
            source.name,
            widened,
        )
    table = pd.DataFrame(rows)
    return table.convert_dtypes(dtype_backend="pyarrow")


def _check_row(row: Row, where: str, task: str, labelled: bool) -> Row:
    """Bring a row to the table's columns."""
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: the text is empty; remove the row or fill it in")
    lang = str(row.get("lang") or UNKNOWN_LANGUAGE).strip().lower()
    clean: Row = {"text": text, "lang": LANGUAGE_NAMES.get(lang, lang), "_widened": 0}
    if labelled and has_sequence_head(task):
        if "label" not in row:
            raise DataError(f"{where}: has no label; name its column one of {LABEL_COLUMNS}")
        label = row["label"]
        if label is None or not str(label).strip():
            raise DataError(f"{where}: the label is empty; remove the row or fill it in")
        clean["label"] = str(label).strip()
    if has_token_head(task):
        clean |= _words_and_tags(row, text, where, task, labelled)
    return clean


def _malformed_tag(row: Row, task: str) -> str | None:
    """What is wrong with the first tag that is not of the BIO form, for tasks that have it."""
    tags = row.get("tags")
    for word, tag in enumerate(tags if uses_bio(task) and isinstance(tags, list) else [], 1):
        if tag != OUTSIDE and (str(tag)[:2] not in ("B-", "I-") or len(str(tag)) < 3):
            return f"word {word} has the tag {tag!r}, which is not O, B-label or I-label"
    return None


def _words_and_tags(row: Row, text: str, where: str, task: str, labelled: bool) -> Row:
    words, tags = row.get("words"), row.get("tags")
    widened = 0
    if words is None:
        spans = split_words(text)
        words = [text[start:end] for start, end in spans]
        if labelled:
            if row.get("entities") is None:
                raise DataError(
                    f"{where}: has neither 'entities' nor 'words' with 'tags'; give one of the two"
                )
            if not uses_bio(task):
                raise DataError(f"{where}: '{task}' needs a tag for each word (CoNLL, CoNLL-U)")
            tags, widened = _entity_tags(row["entities"], spans, text, where)
    else:
        _check_words(words, tags if labelled else None, text, where)
        if labelled and tags is None:
            raise DataError(f"{where}: the words have no 'tags'; give one for each word")
    if not labelled:
        return {"words": words, "_widened": widened}
    if uses_bio(task):
        # In IOB1 a span begins with I-; all later steps read spans that begin with B-.
        tags = bio_tags(bio_spans(tags or ()), len(words))
    return {"words": words, "tags": tags, "_widened": widened}


def _check_words(words: Any, tags: Any, text: str, where: str) -> None:
    """Words must stand in the text, in order, and have a tag each (unless there are none)."""
    for name, values in (("words", words), ("tags", words if tags is None else tags)):
        texts = values if isinstance(values, list) else []
        if not texts or not all(isinstance(value, str) and value for value in texts):
            raise DataError(f"{where}: '{name}' must be a list of texts that are not empty")
    if tags is not None and len(tags) != len(words):
        raise DataError(f"{where}: {len(words)} words but {len(tags)} tags; give each word one")
    position = 0
    for word in words:
        found = text.find(word, position)
        if found < 0:
            raise DataError(f"{where}: the word {word!r} is not in the text; correct one of them")
        position = found + len(word)


def _entity_tags(
    entities: Any, spans: list[tuple[int, int]], text: str, where: str
) -> tuple[list[str], int]:
    """BIO tags of character-offset entities, and how many had to be widened to whole words."""
    tags = [OUTSIDE] * len(spans)
    widened = 0
    try:
        ordered = sorted((int(e["start"]), int(e["end"]), str(e["label"])) for e in entities)
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"{where}: 'entities' must be a list of entities with 'start', 'end' and 'label'"
        ) from None
    for start, end, label in ordered:
        touched = [i for i, (left, right) in enumerate(spans) if left < end and right > start]
        if not 0 <= start < end <= len(text) or not touched:
            raise DataError(
                f"{where}: entity '{label}' ({start}, {end}) covers no text; correct its offsets"
            )
        if any(tags[word] != OUTSIDE for word in touched):
            raise DataError(
                f"{where}: entity '{label}' ({start}, {end}) overlaps another or shares a word "
                "with it; keep one of them"
            )
        covered = text[start:end]
        inner_start = start + len(covered) - len(covered.lstrip())
        inner_end = end - (len(covered) - len(covered.rstrip()))
        widened += spans[touched[0]][0] < inner_start or spans[touched[-1]][1] > inner_end
        for position, word in enumerate(touched):
            tags[word] = f"{'I' if position else 'B'}-{label}"
    return tags, widened


def _read_json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}: row {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(
                    f"{where}: is not JSON ({error}); write one JSON object a line"
                ) from None
            if not isinstance(row, dict):
                raise DataError(f"{where}: is not a JSON object; write one a line")
            yield number, _rename(row, where)


def _read_delimited(path: Path) -> Iterator[tuple[int, Row]]:
    """Rows of a CSV or TSV file; a row's number is its (last) line's."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            names = next(lines, [])
            _rename(dict.fromkeys(names), f"{path}: row 1")
            for cells in lines:
                if not cells:
                    continue
                where = f"{path}: row {lines.line_num}"
                if len(cells) != len(names):
                    raise DataError(
                        f"{where}: has {len(cells)} cells where row 1 has {len(names)}; put a "
                        "text that holds a separator in double quotes"
                    )
                yield lines.line_num, _rename(dict(zip(names, cells, strict=True)), where)
        except csv.Error as error:
            raise DataError(
                f"{path}: row {lines.line_num}: cannot be read as {path.suffix[1:].upper()} "
                f"({error}); correct its quotes"
            ) from None


def _read_parquet(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error}); write it again") from None
    _rename(dict.fromkeys(table.column_names), str(path))
    for number, row in enumerate(table.to_pylist(), 1):
        yield number, _rename(row, f"{path}: row {number}")


def _rename(row: Row, where: str) -> Row:
    """Give the usual column names ours; a table must have a column of text."""
    lowered = {str(name).strip().lower(): value for name, value in row.items()}
    for ours, usual in (
        ("text", TEXT_COLUMNS),
        ("label", LABEL_COLUMNS),
        ("lang", LANGUAGE_COLUMNS),
    ):
        name = next((name for name in usual if name in lowered), None)
        if name is not None:
            lowered[ours] = lowered[name]
    if "text" not in lowered and "words" not in lowered:
        raise DataError(
            f"{where}: no column of text among {sorted(lowered)}; name it one of {TEXT_COLUMNS}"
        )
    if isinstance(lowered.get("words"), list):
        lowered.setdefault("text", " ".join(map(str, lowered["words"])))
    return lowered


def _read_conll(path: Path) -> Iterator[tuple[int, Row]]:
    """Sentences of `word … tag` lines, split by blank lines; CoNLL-U takes its UPOS column.

    A sentence with a line of another form is told under the name `malformed`.
    """
    universal = path.suffix.lower() == ".conllu"
    words: list[str] = []
    tags: list[str] = []
    start = 1
    lang = malformed = None
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate([*file, "\n"], 1):
            cells = line.rstrip("\n\r").split("\t" if "\t" in line else None)
            if not line.strip():
                if words:
                    yield (
                        start,
                        {
                            "text": " ".join(words),
                            "words": words,
                            "tags": tags,
                            "lang": lang,
                            "malformed": malformed,
                        },
                    )
                words, tags, malformed = [], [], None
                continue
            if line.startswith("#") and (universal or not (words or _is_tagged_word(line, cells))):
                name, _, value = line[1:].partition("=")
                lang = value.strip() if name.strip() == "lang" else lang
                continue
            if cells[0] == "-DOCSTART-":
                continue
            if universal and len(cells) > 3 and not cells[0].isdigit():
                continue  # multi-word tokens and empty nodes stand beside the words they cover
            start = start if words else number
            word, tag = (1, 3) if universal else (0, -1)
            if len(cells) < (4 if universal else 2) or not (cells[word] and cells[tag]):
                malformed = malformed or f"line {number} is not a word and a tag"
                cells = [line.strip()] * 4
            words.append(cells[word])
            tags.append(cells[tag])


def _is_tagged_word(line: str, cells: list[str]) -> bool:
    """Whether a line that begins with `#` is a word (`#tag O`) rather than a comment."""
    return "\t" in line or (len(cells) == 2 and "=" not in line)


def _first_undecodable(path: Path) -> int:
    """The number of the first line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


READERS: dict[str, Callable[[Path], Iterator[tuple[int, Row]]]] = {
    ".jsonl": _read_json_lines,
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".parquet": _read_parquet,
    ".conll": _read_conll,
    ".conllu": _read_conll,
}
