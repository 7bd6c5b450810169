"""Published layouts with a tag for each word: MultiATIS++, ATIS with the intent last, GermEval.

Source of the description: amazon-science/multiatis, `code/scripts/utils.py` (TSV with u_id,
utterance, slot-labels and intent; other code reads slot_labels; the files are not public), code
that reads the files `atis.*.w-intent.iob` (words, tab, tags with the intent last),
LeePleased/StackPropagation-SLU, `utils/loader.py` (a word and a tag in a line, the intent in the
last one), and the page "Data and Task Setup" of GermEval 2014 (TSV: number, word, outer tag, inner
tag; sources in lines with `#`).
"""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from saarthi_lib.data.exports.documents import Head
from saarthi_lib.data.exports.reading import Reading, unfit
from saarthi_lib.data.formats.columns import BIO_LIKE, RawRow

_SUFFIXES = (".tsv", ".txt", ".iob", ".bio", ".conll")
_BLOCKS = 20  # most sentences examined
_MULTIATIS = {"utterance", "slot_labels", "intent"}  # or slot-labels
_ATIS = re.compile(r"BOS\s.*\sEOS\t\S+(?: \S+)+\s*")
_GERMEVAL = re.compile(r"\d+\t[^\t\n]+\t[^\t\n]+\t[^\t\n]+\s*")


def recognize(head: Head) -> str:
    """Whether a file has one of these layouts."""
    return "rows" if _layout(head) else ""


def rows(path: Path, reading: Reading) -> Iterator[RawRow]:
    """Words with tags; of ATIS with intents. Inner tags of GermEval are counted."""
    layout = _layout(Head(path))
    with path.open(encoding="utf-8-sig") as file:
        if layout == "germeval":
            yield from _germeval_rows(file, path, reading)
        elif layout == "atis":
            yield from _atis_rows(file)
        elif layout == "blocks":
            yield from _block_rows(file)
        else:
            yield from _multiatis_rows(file)


def _layout(head: Head) -> str:
    """Name of a file's layout; "" for other files."""
    if head.suffix not in _SUFFIXES:
        return ""
    lines = [line for line in head.text.split("\n")[:50] if line.strip()]
    if not lines:
        return ""
    if set(_names(lines[0])) >= _MULTIATIS:
        return "multiatis"
    if all(map(_ATIS.fullmatch, lines[:2])):
        return "atis"
    if head.suffix == ".conll":
        return _blocks(head)
    begins = lines[0].startswith("#\t") and len(lines) > 1
    rest = [line for line in lines[:-1] if not line.startswith("#\t")]
    if begins and rest and all(map(_GERMEVAL.fullmatch, rest)):
        return "germeval"
    return _blocks(head)


def _names(line: str) -> list[str]:
    """Names of the columns of MultiATIS++."""
    return line.strip().lower().replace("slot-labels", "slot_labels").split("\t")


def _blocks(head: Head) -> str:
    """ "blocks" if most sentences end with their intent."""
    blocks = re.split(r"\n[ \t\r]*\n", head.text.strip())
    blocks = blocks[:-1][:_BLOCKS] or blocks  # the last one may be cut
    fitting = sum(_intent_last(block.split("\n")) is not None for block in blocks)
    return "blocks" if fitting >= 0.8 * len(blocks) else ""


def _intent_last(lines: list[str]) -> tuple[list[str], list[str], str] | None:
    """Words, tags and the intent of a sentence: in a line of its own, or as the tag of EOS."""
    cells = [line.split() for line in lines if line.strip()]
    if not all(len(row) == 2 and BIO_LIKE.fullmatch(row[1]) for row in cells[:-1]):
        return None
    if len(cells) > 1 and len(cells[-1]) == 1:
        return [row[0] for row in cells[:-1]], [row[1] for row in cells[:-1]], cells[-1][0]
    if len(cells) < 3 or len(cells[-1]) != 2:
        return None
    if (cells[0][0], cells[-1][0]) != ("BOS", "EOS") or BIO_LIKE.fullmatch(cells[-1][1]):
        return None
    return [row[0] for row in cells[1:-1]], [row[1] for row in cells[1:-1]], cells[-1][1]


def _block_rows(file: Iterator[str]) -> Iterator[RawRow]:
    for is_blank, block in groupby(enumerate(file, 1), lambda pair: pair[1].isspace()):
        if is_blank:
            continue
        lines = [*block]
        found = _intent_last([line for _, line in lines])
        if found is None:
            yield unfit(lines[0][0], "is not words with tags and the intent in the last line")
            continue
        words, tags, intent = found
        yield RawRow(lines[0][0], " ".join(words), intent, words=words, tags=tags)


def _multiatis_rows(file: Iterator[str]) -> Iterator[RawRow]:
    names = _names(next(file))
    for row, line in enumerate(file, 2):
        cells = [cell.strip() for cell in line.rstrip("\r\n").split("\t")]
        if line.isspace():
            continue
        if len(cells) != len(names):
            yield unfit(row, f"has {len(cells)} cells where row 1 has {len(names)}; correct it")
            continue
        found = dict(zip(names, cells, strict=True))
        text, tags = found["utterance"], found["slot_labels"].split()
        if len(text.split()) != len(tags):
            count = len(text.split())
            yield unfit(row, f"{count} words but {len(tags)} slot_labels; give each word one")
            continue
        lang = found.get("locale") or found.get("language") or None
        yield RawRow(row, text, found["intent"], lang, words=text.split(), tags=tags)


def _atis_rows(file: Iterator[str]) -> Iterator[RawRow]:
    for row, line in enumerate(file, 1):
        if line.isspace():
            continue
        sentence, _, annotation = line.strip().partition("\t")
        words, tags = sentence.split()[1:-1], annotation.split()
        if not _ATIS.fullmatch(line) or len(tags) != len(words) + 2:
            yield unfit(row, "is not 'BOS words EOS', a tab, a tag for each word and the intent")
            continue
        yield RawRow(row, " ".join(words), tags[-1], words=words, tags=tags[1:-1])


def _germeval_rows(file: Iterator[str], path: Path, reading: Reading) -> Iterator[RawRow]:
    numbered = ((row, line) for row, line in enumerate(file, 1) if not line.startswith("#\t"))
    for is_blank, block in groupby(numbered, lambda pair: pair[1].isspace()):
        if is_blank:
            continue
        lines = [(row, line.rstrip("\r\n").split("\t")) for row, line in block]
        wrong = next((row for row, cells in lines if len(cells) != 4), 0)
        if wrong:
            yield unfit(wrong, "has not the four cells number, word, outer tag and inner tag")
            continue
        for row, cells in lines:
            reading.leave("inner tag", path, row, int(cells[3] != "O"))
        words, tags = [cells[1] for _, cells in lines], [cells[2] for _, cells in lines]
        at = [row for row, _ in lines]
        yield RawRow(at[0], " ".join(words), words=words, tags=tags, lines=at)
