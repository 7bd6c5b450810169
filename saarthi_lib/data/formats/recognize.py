"""Recognize the format of a file by its content and its extension."""

import json
from pathlib import Path

from saarthi_lib.data.formats.columns import BIO_LIKE, PART_OF_SPEECH, Columns
from saarthi_lib.data.formats.delimited import first_lines, has_header
from saarthi_lib.data.formats.layout import cells_of
from saarthi_lib.data.formats.layout_checks import is_header, words_and_tags
from saarthi_lib.errors import DataError

# The extension gives the likely format; unmistakable content overrides it.
EXTENSIONS = {
    **{".csv": "csv", ".tsv": "tsv", ".txt": "tsv", ".parquet": "parquet"},
    **{".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"},
    ".xlsx": "xlsx",
    **{".conll": "conll", ".bio": "conll", ".iob": "conll", ".conllu": "conllu"},
}

COMPRESSED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".tar")


def recognize(path: Path, columns: Columns, format: str = "auto") -> str:
    """Recognize a file's format.

    Args:
        path: the file.
        columns: names given by the user; they help to recognize a header.
        format: "auto", or the format that the user gives.

    Returns:
        "csv", "tsv", "jsonl", "parquet", "xlsx", "conll", "conllu", "lines" (unlabelled text), or a
        key of `exports.registry.EXPORTS`.

    Raises:
        DataError: the extension is unknown.
    """
    from saarthi_lib.data.exports.registry import EXPORTS, ROWS, kind_of, other_part

    if format != "auto":
        return format
    by_name = EXTENSIONS.get(path.suffix.lower())
    kind, part = kind_of(path)
    is_table = part == ROWS and bool(by_name) and (EXPORTS[kind].table or by_name in ("csv", "tsv"))
    if part == ROWS and (columns.labelled or not is_table):
        return kind
    if by_name is None:
        if path.suffix.lower() in COMPRESSED:
            raise DataError(f"{path}: is compressed; unpack it")
        if part:
            raise DataError(f"{path}: {other_part(path)}")
        raise DataError(
            f"{path}: unknown extension; use one of {', '.join(EXTENSIONS)}, or set data_format"
        )
    if by_name == "xlsx":
        return "xlsx"
    sample = first_lines(path)
    if by_name == "parquet" or sample.startswith("PAR1"):
        return "parquet"
    lines = sample.splitlines()
    if by_name == "jsonl" or _is_json(lines):
        return "jsonl"
    if by_name == "conllu" or _is_conllu(lines):
        return "conllu"
    if by_name == "conll" or (not has_header(sample, columns) and _is_conll(lines)):
        return "conll"
    if (_names_columns(lines) and _is_conll(lines[1:])) or (
        columns.labelled and words_and_tags(_word_lines(lines))
    ):
        return "conll"
    plain = path.suffix.lower() == ".txt" and not columns.labelled
    if plain and not has_header(sample, columns) and not any("\t" in line for line in lines[:1]):
        return "lines"
    return by_name


def _names_columns(lines: list[str]) -> bool:
    """Whether the first line names columns of words and tags, and blank lines end sentences."""
    words = _word_lines(lines[1:])
    several = any(" " in line.partition("\t")[0] for line in words if "\t" in line)
    parted = any(not line.strip() for line in lines[2:-1])
    return bool(lines) and is_header(cells_of(lines[0])) and parted and not several


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
    """Whether most lines end in an entity tag, or all in upper-case tags with blank lines between.

    A line may also hold a whole sentence and its tags; a sentence may end in a line with its label.
    """
    pairs = zip(lines, [*lines[1:], ""], strict=False)
    labels = {line for line, after in pairs if " " not in line and not after.strip()}
    rows = [cells_of(line) for line in _word_lines(lines) if "\t" in line or line not in labels]
    rows = [row for row in rows if row and row[0] != "EOS"]
    tags = [row[-1] for row in rows if 2 <= len(row) <= 4 and len(row) == len(rows[0])]
    if not tags or len(tags) < 0.9 * len(rows):
        return False
    if all(
        " " in tag and len(tag.split()) == len(row[0].split())
        for tag, row in zip(tags, rows, strict=False)
    ):
        tags = [part for tag in tags for part in tag.split()[:-1]]
    if sum(bool(BIO_LIKE.fullmatch(tag)) for tag in tags) >= 0.9 * len(tags):
        return True
    parted = any(not line.strip() for line in lines[:-1])
    named = any(tag[:1].isalpha() for tag in tags)
    return parted and named and all(PART_OF_SPEECH.fullmatch(tag) for tag in tags)
