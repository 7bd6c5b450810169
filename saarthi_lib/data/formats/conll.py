"""Read CoNLL and CoNLL-U: one word per line, sentences separated by blank lines."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from saarthi_lib.data.formats.columns import (
    CONLLU_COLUMNS,
    LABEL_COLUMNS,
    LANGUAGE_COLUMNS,
    Columns,
    Fault,
    RawRow,
)
from saarthi_lib.data.formats.layout import Layout, blocks, cells_of, layout_of
from saarthi_lib.data.formats.layout_checks import check_sentences, is_header
from saarthi_lib.errors import DataError

_LASTING_COMMENTS = {*LANGUAGE_COLUMNS, "newdoc id", "newpar id"}
_COMMENT = re.compile(r"#\s*([^=:]+?)\s*[=:]\s*(.*?)\s*$")
_EXTRA_ID = re.compile(r"\d+[-.]\d+")  # ids of multi-word tokens and of empty nodes
_HEADER = "names the columns, and is not read as a word"
_PARTS = "%s is a multiword token, and is read as its parts"
_NOT_A_WORD = "is not a word and a tag in the file's columns; correct it"

Lines = list[tuple[int, str, str]]  # line, word, tag; empty if malformed


def conll_layout(path: Path, columns: Columns) -> Layout:
    """Read a CoNLL file once, and find its layout.

    Raises:
        DataError: a column is unknown, or the layout is not certain.
    """
    word_at, tag_at = _given_columns(path, columns, universal=False)
    return layout_of(path, columns, word_at, tag_at)


def read_conll(path: Path, columns: Columns, layout: Layout) -> Iterator[RawRow]:
    """Sentences of a CoNLL file, each with the comments above it."""
    tag_at = layout.tag_at if columns.labelled else layout.word_at
    least = max(layout.word_at, tag_at) + 1
    exact = columns.labelled and not columns.tags
    comments: dict[str, str] = {}
    notes = _header_notes(layout.header)
    with path.open(encoding="utf-8-sig") as file:
        for block in blocks(file):
            rows: Lines = []
            for number, line in block:
                if number == layout.header:
                    continue
                cells = cells_of(line, layout.width)
                if line[0] == "#" and not layout.is_word(line, cells):
                    if not (rows and columns.labelled and _is_broken(line, cells)):
                        _keep_comment(line, comments)
                        continue
                elif cells[0] == "-DOCSTART-":
                    continue
                fits = len(cells) >= least and (not exact or len(cells) == layout.width)
                word, tag = (cells[layout.word_at], cells[tag_at]) if fits else ("", "")
                if layout.label_at == "line" and len(cells) == 1:
                    word, tag = "", cells[0]
                if layout.by_line:
                    yield _line_sentence(number, word, tag, comments, columns)
                else:
                    rows.append((number, word, tag))
            if rows:
                sentence = _sentence(*_without_label(rows, layout), comments, columns)
                yield sentence._replace(notes=notes) if notes else sentence
                notes = ()
                comments = {k: v for k, v in comments.items() if k in _LASTING_COMMENTS}


def read_conllu(path: Path, columns: Columns) -> Iterator[RawRow]:
    """Sentences of a CoNLL-U file, each with the comments above it.

    Raises:
        DataError: a column is unknown, or a blank line between sentences is missing.
    """
    word_at, tag_at = _given_columns(path, columns, universal=True)
    word_at = 1 if word_at is None else word_at
    tag_at = 3 if tag_at is None else tag_at
    if not columns.labelled:
        tag_at = word_at
    least = max(word_at, tag_at) + 1
    comments: dict[str, str] = {}
    notes: tuple[Fault, ...] | None = None
    with path.open(encoding="utf-8-sig") as file:
        for block in blocks(file):
            rows: Lines = []
            parts: list[Fault] = []
            for number, line in block:
                cells = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
                if line[0] == "#":
                    _keep_comment(line, comments)
                elif notes is None and is_header(cells):
                    notes = _header_notes(number)
                elif cells[0] == "1" and rows:
                    check_sentences(path, 0, (), number)
                elif _EXTRA_ID.match(cells[0]):
                    if "-" in cells[0] and len(cells) > word_at:
                        parts.append(Fault(number, "multiword-token", _PARTS % cells[word_at]))
                else:
                    fits = len(cells) >= least and cells[0].isdecimal()
                    word, tag = (cells[word_at], cells[tag_at]) if fits else ("", "")
                    rows.append((number, word.strip(" "), tag.strip(" ")))
            if rows:
                yield _sentence(rows, "", comments, columns)._replace(
                    notes=(*(notes or ()), *parts)
                )
                notes = ()
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


def _header_notes(header: int) -> tuple[Fault, ...]:
    """Note on a first line that names the columns."""
    return (Fault(header, "header-row", _HEADER),) if header else ()


def _keep_comment(line: str, comments: dict[str, str]) -> None:
    for part in line.split("\t"):
        if found := _COMMENT.match(part if part[:1] == "#" else f"#{part}"):
            comments[found[1].lower()] = found[2]


def _is_broken(line: str, cells: Sequence[str]) -> bool:
    """Whether a line inside a sentence that begins with `#` is rather a word without its tag."""
    return len(cells) == 1 and " " not in line.strip()


def _without_label(rows: Lines, layout: Layout) -> tuple[Lines, str]:
    """Words of a sentence, and the label in its last line."""
    if layout.label_at == "line":
        return rows[:-1], rows[-1][2]
    if layout.label_at == "EOS":
        label = rows[-1][2]
        is_tag = label in layout.form.outside or (
            layout.form.letters and layout.form.parts(label) is not None
        )
        return rows[1:-1], "" if is_tag else label
    return rows, ""


def _line_sentence(
    number: int, text: str, tags: str, comments: dict[str, str], columns: Columns
) -> RawRow:
    """A sentence in one line; the last tag may be the label, as that of `EOS`."""
    rows = [(number, *pair) for pair in zip(text.split(), tags.split(), strict=False)]
    if not rows or len(rows) != len(text.split()):
        return RawRow(number, faults=(Fault(number, "malformed-line", _NOT_A_WORD),))
    label = ""
    if len(rows) > 2 and rows[0][1] == "BOS" and rows[-1][1] == "EOS":
        label = rows[-1][2]
        rows = rows[1:-1]
    return _sentence(rows, label, comments, columns)


def _sentence(rows: Lines, label: str, comments: dict[str, str], columns: Columns) -> RawRow:
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
        label or comment(columns.label, LABEL_COLUMNS),
        comment(columns.language, LANGUAGE_COLUMNS),
        comment(columns.group, ()),
        words,
        [tag for _, _, tag in good],
        [line for line, _, _ in good],
        tuple(
            Fault(line, "malformed-line", _NOT_A_WORD)
            for line, word, tag in rows
            if not (word and tag)
        ),
    )


def _given_columns(path: Path, columns: Columns, universal: bool) -> tuple[int | None, int | None]:
    """Positions of the columns of words and tags that the user gives."""
    known = CONLLU_COLUMNS if universal else ()

    def position(field: str, chosen: str) -> int | None:
        if not chosen:
            return None
        if chosen.lower() in known:
            return known.index(chosen.lower())
        if chosen.isdecimal() and int(chosen) > 0:
            return int(chosen) - 1
        names = f" or one of {', '.join(known)}" if known else ""
        raise DataError(
            f"{path}: has no column '{chosen}'; set {field} to a column's number, from 1{names}"
        )

    word = position("text_column", columns.text)
    field = "tags_column" if columns.sequence else "label_column or tags_column"
    return word, position(field, columns.tags) if columns.labelled else None
