"""Read CoNLL and CoNLL-U: one word per line, sentences separated by blank lines."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from saarthi_lib.data.formats.columns import (
    CONLLU_COLUMNS,
    LABEL_COLUMNS,
    LANGUAGE_COLUMNS,
    Columns,
    Fault,
    RawRow,
)
from saarthi_lib.errors import DataError

_LASTING_COMMENTS = {*LANGUAGE_COLUMNS, "newdoc id", "newpar id"}
_COMMENT = re.compile(r"#\s*([^=:]+?)\s*[=:]\s*(.*?)\s*$")
_EXTRA_ID = re.compile(r"\d+[-.]\d+")  # ids of multi-word tokens and of empty nodes


def read_conll(path: Path, columns: Columns, universal: bool) -> Iterator[RawRow]:
    """Sentences, each with the comments above it.

    Args:
        path: the file.
        columns: columns of words and tags.
        universal: whether the format is CoNLL-U.

    Raises:
        DataError: a column is unknown.
    """
    word_at, tag_at = _word_and_tag(path, columns, universal)
    width = max(word_at + 1, tag_at + 1, 2 if columns.labelled else 1)  # least cells of a line
    comments: dict[str, str] = {}
    with path.open(encoding="utf-8-sig") as file:
        for is_blank, block in groupby(enumerate(file, 1), lambda pair: pair[1].isspace()):
            rows: list[tuple[int, str, str]] = []  # line, word, tag; empty if malformed
            for number, line in () if is_blank else block:
                cells = line.rstrip("\n").split("\t") if "\t" in line else line.split()
                if line.startswith("#") and (universal or _is_comment(line, cells, bool(rows))):
                    if found := _COMMENT.match(line):
                        comments[found[1].lower()] = found[2]
                elif cells[0] != "-DOCSTART-" and not (universal and _EXTRA_ID.match(cells[0])):
                    fits = len(cells) >= width and (not universal or cells[0].isdecimal())
                    word, tag = (cells[word_at], cells[tag_at]) if fits else ("", "")
                    rows.append((number, word.strip(" "), tag.strip(" ")))
            if rows:
                yield _sentence(rows, comments, columns)
                comments = {k: v for k, v in comments.items() if k in _LASTING_COMMENTS}


def missing_word(words: Sequence[str], text: str) -> str | None:
    """The first word that the text lacks, if words are searched in their order."""
    position = 0
    for word in words:
        found = text.find(word, position)
        if found < 0:
            return word
        position = found + len(word)
    return None


def _sentence(
    rows: Sequence[tuple[int, str, str]], comments: dict[str, str], columns: Columns
) -> RawRow:
    good = [row for row in rows if row[1] and row[2]]
    words = [word for _, word, _ in good]
    text = comments.get("text", "")
    if not text or missing_word(words, text):
        text = " ".join(words)

    def comment(chosen: str, usual: Sequence[str]) -> str | None:
        wanted = [chosen.lower()] if chosen else usual
        return next((comments[name] for name in wanted if name in comments), None)

    return RawRow(
        rows[0][0],
        text,
        comment(columns.label, LABEL_COLUMNS),
        comment(columns.language, LANGUAGE_COLUMNS),
        comment(columns.group, ()),
        words,
        [tag for _, _, tag in good],
        [line for line, _, _ in good],
        tuple(
            Fault(line, "malformed-line", "is not a word and a tag; correct it")
            for line, word, tag in rows
            if not (word and tag)
        ),
    )


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


def _is_comment(line: str, cells: list[str], inside: bool) -> bool:
    """Whether a line that begins with `#` is a comment rather than a word (`#tag O`)."""
    return not inside and "\t" not in line and (len(cells) != 2 or "=" in line)
