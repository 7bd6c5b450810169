"""Layout of a CoNLL file: its columns and its comments, known from all its lines."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

from saarthi_lib.data.formats.columns import PART_OF_SPEECH, Columns
from saarthi_lib.data.formats.layout_checks import (
    are_entities,
    check_choice,
    check_lines,
    check_sentences,
    is_header,
)
from saarthi_lib.data.tag_schemes import TagForm, detect_form, is_well_formed
from saarthi_lib.tasks import OUTSIDE

Pairs = Counter[tuple[str, str]]  # tags of two successive words; `O` before the first

_BLANK = "\ufeff \t\r\n\xa0\u200b"  # white space and byte order marks
_SPACES = re.compile(r"[ \t]+")
_KEY_AND_VALUE = re.compile(r"#\s+[A-Za-z_]\w*\s*[=:]\s")
_MOST_VALUES, _MOST_PAIRS = 10_000, 1_000_000  # counted, so that memory is bounded
_HEAD = re.compile(r"#\s*(?:sent[_-]?id|id|text|newdoc|newpar)\b\s*[=:]?\s*\S")  # above a sentence
_SAMPLE = 200  # first lines


class Layout(NamedTuple):
    """Layout of a CoNLL file.

    Attributes:
        width: number of columns; 0 for a file without lines.
        word_at, tag_at: positions of the columns of words and tags.
        form: form of the tags.
        tags: tags of the file with their counts.
        pairs: counts of successive tags.
        by_line: whether each line holds a sentence: words, a tab, and their tags.
        label_at: place of a sentence's label: "line" (a last line of one cell), "EOS" (tag of the
            last word), or "".
        header: line number of a first line that names the columns; 0: none.
    """

    width: int
    word_at: int
    tag_at: int
    form: TagForm
    tags: Counter[str]
    pairs: Pairs
    by_line: bool
    label_at: str
    header: int = 0

    def is_word(self, line: str, cells: Sequence[str]) -> bool:
        """Whether a line that begins with `#` is a word: as many columns as the file, and a tag."""
        if len(cells) != self.width or self.tag_at >= len(cells) or _KEY_AND_VALUE.match(line):
            return False
        if self.by_line:
            return is_sentence(cells)
        if self.width == 1:
            return len(line.split()) == 1 and "=" not in line
        tag = cells[self.tag_at]
        if tag in self.tags or tag == OUTSIDE or (self.form.letters and self._fits(tag)):
            return True
        usual = sum(n for known, n in self.tags.items() if PART_OF_SPEECH.fullmatch(known))
        if PART_OF_SPEECH.fullmatch(tag) and usual >= 0.9 * self.tags.total():
            return True
        return len(cells[0]) > 1 and " " not in cells[0] and tag.isalpha()

    def _fits(self, tag: str) -> bool:
        return is_well_formed(tag, self.form)


class _Lines:
    """Lines of one number of columns: values of each column, and successive tags."""

    def __init__(self) -> None:
        self.count = self.numbered = self.sentences = 0
        self.long = self.long_numbered = 0  # sentences of several words
        self.columns: list[Counter[str]] = []
        self.pairs: Pairs = Counter()

    def add(self, rows: Sequence[Sequence[str]], tag_at: int) -> None:
        columns = list(zip(*rows, strict=True))
        if not self.columns:
            self.columns = [Counter() for _ in columns]
        for counter, values in zip(self.columns[1:], columns[1:], strict=True):
            if len(counter) < _MOST_VALUES:  # a column of tags has few
                counter.update(values)
        if -len(columns) <= tag_at < len(columns) and len(self.pairs) < _MOST_PAIRS:
            self.pairs.update(pairwise((OUTSIDE, *columns[tag_at])))
        first = columns[0][0]
        if first in ("0", "1"):
            wanted = range(int(first), int(first) + len(rows))
            numbered = all(map(str.__eq__, columns[0], map(str, wanted)))
            self.numbered += numbered
            self.long_numbered += numbered and len(rows) > 1
        self.count += len(rows)
        self.long += len(rows) > 1
        self.sentences += 1

    @property
    def are_numbered(self) -> bool:
        """Whether the first column numbers most sentences; a word "1" alone is no evidence."""
        if self.long:
            return 2 * self.long_numbered > self.long
        return 2 * self.numbered > self.sentences


def blocks(lines: Iterable[str]) -> Iterator[list[tuple[int, str]]]:
    """Lines between blank lines, with their numbers."""
    block: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        if not (line.isspace() or (line[0] in _BLANK and not line.strip(_BLANK))):
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def cells_of(line: str, width: int = 0) -> list[str]:
    """Cells of a line, without those that trailing separators add.

    Args:
        line: a line with tabs or spaces between cells.
        width: number of columns, if known; a line may then mix tabs and spaces.
    """
    line = line.rstrip(" \t\r\n")
    if line[:1] == "\ufeff":
        line = line.lstrip("\ufeff")
    if "\t" not in line:
        cells = line.split(" ")
        return [cell for cell in cells if cell] if "" in cells else cells
    cells = line.split("\t")
    if width and len(cells) != width:
        mixed = _SPACES.split(line)
        if len(mixed) == width:
            return mixed
    return [cell.strip(" ") for cell in cells] if " " in line else cells


def layout_of(path: Path, columns: Columns, word_at: int | None, tag_at: int | None) -> Layout:
    """Read a CoNLL file once, and find its layout.

    Args:
        path: the file.
        columns: the task's columns.
        word_at, tag_at: positions that the user gives.

    Raises:
        DataError: the column of tags is not certain, a line holds several words and their tags, or
            blank lines are missing.
    """
    scan = _Scan(-1 if tag_at is None else tag_at)
    with path.open(encoding="utf-8-sig") as file:
        for block in blocks(file):
            scan.add(block)
    check_sentences(path, scan.sentences, scan.first, scan.restart)
    if tag_at is None:
        check_lines(path, scan.sample)
    by_width = scan.by_width
    if not by_width:
        by_width = {width: lines for width, lines in scan.hashes.items() if _are_words(lines)}
    width = max(by_width, key=lambda each: by_width[each].count, default=0)
    if columns.labelled:
        width = max(width, 2)
    lines = by_width.get(width, _Lines())
    word = int(width > 2 and lines.are_numbered) if word_at is None else word_at
    tag = width - 1 if tag_at is None else tag_at
    tags = lines.columns[tag] if 0 < tag < len(lines.columns) else Counter[str]()
    pairs = lines.pairs
    if scan.by_line:
        pairs = scan.pairs_by_line
        tags = Counter[str]()
        for (_, each), count in pairs.items():
            tags[each] += count
    elif scan.label_at == "EOS":
        pairs, tags = pairs - scan.ends, tags - Counter(scan.labels)
    if not scan.by_line and columns.labelled and tag_at is None and lines.columns:
        check_choice(path, lines.columns, word, columns)
    form, by_line = detect_form(tags), scan.by_line
    return Layout(width, word, tag, form, tags, pairs, by_line, scan.label_at, scan.header)


class _Scan:
    """All lines of a file, counted."""

    def __init__(self, tag_at: int) -> None:
        self.by_width: dict[int, _Lines] = {}
        self.hashes: dict[int, _Lines] = {}  # lines that begin with `#`
        self.pairs_by_line: Pairs = Counter()
        self.ends: Pairs = Counter()  # last tags of sentences that end in `EOS`
        self.labels: Counter[str] = Counter()
        self.first: list[list[str]] = []  # lines of the first sentence
        self.sample: list[str] = []  # first lines of words
        self.header = self.sentences = 0
        self._restarts: list[int] = []  # lines
        self._heads, self._inner_heads = 0, list[int]()
        self._tag_at = tag_at
        self._labelled = self._ended = self._whole = 0

    @property
    def by_line(self) -> bool:
        """Whether each line holds a sentence."""
        return 0 < self._whole == self.sentences

    @property
    def restart(self) -> int:
        """Line in which a sentence begins inside another, by its comment or number; 0: none."""
        if self._heads and self._inner_heads:
            return self._inner_heads[0]
        numbered = sum(lines.numbered for lines in self.by_width.values()) + len(self._restarts)
        return self._restarts[0] if self._restarts and 2 * numbered > self.sentences else 0

    @property
    def label_at(self) -> str:
        """Place of a sentence's label; see `Layout`."""
        if self.sentences > 1 and self._labelled == self.sentences:
            return "line"
        return "EOS" if 0 < self._ended == self.sentences else ""

    def add(self, block: Sequence[tuple[int, str]]) -> None:
        """Count the lines of a sentence."""
        rows: list[list[str]] = []
        for number, line in block:
            cells = cells_of(line)
            if line[0] == "#":
                self.hashes.setdefault(len(cells), _Lines()).add([cells], -1)
                if _HEAD.match(line) and cells[-1] not in (OUTSIDE, "_"):
                    self._heads += not rows
                    self._inner_heads += [number] * bool(rows)
            elif cells[0] != "-DOCSTART-":
                if not (rows or self.first or self.header) and is_header(cells):
                    self.header = number
                    continue
                if len(self.sample) < _SAMPLE:
                    self.sample.append(line)
                rows.append(cells)
        if not rows:
            return
        self.sentences += 1
        self.first = self.first or rows
        if rows[0][0] in ("0", "1") and (line_number := _restart(block, rows)):
            self._restarts.append(line_number)
        self._labelled += len(rows) > 1 and len(rows[-1]) == 1 < len(rows[-2])
        if rows[0][0] == "BOS" and rows[-1][0] == "EOS":
            self._ended += 1
            self.ends[rows[-2][-1], rows[-1][-1]] += 1
            self.labels[rows[-1][-1]] += 1
        if all(map(is_sentence, rows)):
            self._whole += 1
            for words, tags in ((cells[0].split(), cells[1].split()) for cells in rows):
                ended = words[0] == "BOS" and words[-1] == "EOS"
                self.pairs_by_line.update(pairwise((OUTSIDE, *(tags[1:-1] if ended else tags))))
        for width, same in groupby(rows, len):
            self.by_width.setdefault(width, _Lines()).add(list(same), self._tag_at)


def _restart(block: Sequence[tuple[int, str]], rows: Sequence[Sequence[str]]) -> int:
    """Line number of the second word that is the first of a sentence; 0: none."""
    first, numbers = rows[0][0], [cells[0] for cells in rows]
    if numbers.count(first) == 1 or not all(map(str.isdecimal, numbers)):
        return 0
    steps = pairwise(map(int, numbers))
    if len(rows[0]) < 3 or not all(b == a + 1 or str(b) == first for a, b in steps):
        return 0
    lines = [number for number, line in block if cells_of(line)[0] == first]
    return lines[1]


def is_sentence(cells: Sequence[str]) -> bool:
    """Whether a line's two cells hold several words and as many tags."""
    if len(cells) != 2 or " " not in cells[0]:
        return False
    return len(cells[0].split()) == len(cells[1].split())


def _are_words(lines: _Lines) -> bool:
    """Whether lines that begin with `#`, the only ones of a file, end in entity tags."""
    tags = lines.columns[-1] if len(lines.columns) > 1 else Counter[str]()
    return OUTSIDE in tags and are_entities(tags)
