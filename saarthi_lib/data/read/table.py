"""Read one file into a table."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from saarthi_lib.addresses import absent
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.formats import Columns, RawRow, raw_rows, recognize
from saarthi_lib.data.formats.columns import find_columns
from saarthi_lib.data.formats.layout import Pairs
from saarthi_lib.data.formats.rivals import settled
from saarthi_lib.data.formats.rows import NAMED, TABLES, first_cells, layout_of_tags, unread_columns
from saarthi_lib.data.read.convert import Converter, LeftOutError, are_texts
from saarthi_lib.data.read.files import SplitFile, relative_name
from saarthi_lib.data.read.names import missing_names, one_name_each
from saarthi_lib.data.read.problems import Problem, ProblemLog
from saarthi_lib.data.tag_schemes import TagForm, describe, detect_form, unread_positions
from saarthi_lib.errors import DataError, printable
from saarthi_lib.logs import get_logger
from saarthi_lib.tasks import OUTSIDE, has_sequence_head, has_token_head, uses_bio

logger = get_logger("data")

_BRACKET = re.compile(r"\*\)+|(?:\([\w-]+)+\*?\)*")
_FEW = 4  # rows with one word each may be whole sentences


def read_table(
    file: SplitFile | str | Path,
    config: TrainConfig,
    *,
    labelled: bool = True,
    problems: list[Problem] | None = None,
    root: Path | None = None,
    schemes: dict[str, str] | None = None,
) -> pd.DataFrame:
    """Read one whole file whose labels do not depend on others; see `read_chunks`."""
    found: list[Problem] = [] if problems is None else problems
    chunks = read_chunks(
        file, config, labelled=labelled, problems=found, root=root, schemes=schemes
    )
    table = pd.concat(chunks, ignore_index=True)
    return one_name_each([table], None, found)[0][0] if "label" in table else table


def read_chunks(
    file: SplitFile | str | Path,
    config: TrainConfig,
    *,
    labelled: bool = True,
    problems: list[Problem] | None = None,
    root: Path | None = None,
    rows: int = 50_000,
    schemes: dict[str, str] | None = None,
    unread: dict[str, list[str]] | None = None,
) -> Iterator[pd.DataFrame]:
    """Read one file in bounded memory.

    Args:
        file: file to read.
        config: task (determines the columns), and the fields of the data section.
        labelled: whether rows must carry labels; a transfer file needs only text.
        problems: list that receives the malformed and repaired rows.
        root: input folder; file names in the table are relative to it.
        rows: rows of the file per table, before unusable rows are left out.
        schemes: mapping that receives a description of the file's entity tags, by file name.
        unread: mapping that receives the names of columns that are not read, by file name.

    Raises:
        DataError: the file cannot be read. The message names the file, the row or column, and the
            fix. A share of unusable rows above `max_malformed_share` raises at the end of the
            file; a first table without a usable row raises at once.
    """
    file = file if isinstance(file, SplitFile) else SplitFile(Path(file))
    path, language = file.path, file.language
    if not path.is_file():
        raise DataError(f"{path}: {absent(path)}")
    kind, columns = _form_and_columns(path, config, labelled, unread, root)
    layout = layout_of_tags(path, columns) if kind == "conll" else None
    tagged = labelled and has_token_head(config.task)
    form = None
    if labelled and uses_bio(config.task):
        pairs = layout.pairs if layout else _pairs(path, kind, columns)
        form = _form_of(path, pairs, config, {} if schemes is None else schemes, root)
    convert = Converter(config, labelled, language, form)
    log = ProblemLog(path, relative_name(path, root), config.max_malformed_share, problems)
    raws = _of_parts(raw_rows(path, kind, columns, layout), file.parts)
    while batch := list(islice(raws, rows)):
        good = _converted(batch, convert, log)
        _check_sentences(path, batch if tagged and kind in TABLES and not log.rows else ())
        log.rows += len(batch)
        if not log.used and config.task == "pos" and not columns.tags and labelled:
            _check_speech(path, (raw.tags for raw in batch))
        if good:
            table = _table(good, convert.schema, log.name)
            if kind in TABLES:
                log.add([*missing_names(table, config.out_of_scope_label)], left_out=False)
            yield table
        elif not log.used:
            log.fail()
        log.used += len(good)
    log.finish()
    if labelled:
        convert.check_columns(path)


def _form_and_columns(
    path: Path,
    config: TrainConfig,
    labelled: bool,
    unread: dict[str, list[str]] | None,
    root: Path | None,
) -> tuple[str, Columns]:
    """Format of a file and the columns to read; the other columns are added to `unread`."""
    columns = columns_for(config, labelled)
    kind = recognize(path, columns, config.data_format)
    columns = settled(path, kind, columns)
    if unread is not None and (names := unread_columns(path, kind, columns)):
        name = relative_name(path, root)
        unread[name] = names
        logger.info("%s: columns that are not read: %s", name, ", ".join(names))
    return kind, columns


def _converted(
    batch: Iterable[RawRow], convert: Converter, log: ProblemLog
) -> list[tuple[Any, ...]]:
    """Values of the usable rows; the others, and repairs, are logged."""
    good: list[tuple[Any, ...]] = []
    for raw in batch:
        try:
            good.append(convert(raw))
        except LeftOutError as error:
            log.add(error.faults, left_out=True)
    log.add(convert.take_repairs(), left_out=False)
    return good


def _of_parts(raws: Iterator[RawRow], parts: Sequence[str]) -> Iterator[RawRow]:
    """Rows of the given splits; all rows without any."""
    return (raw for raw in raws if raw.split in parts) if parts else raws


def columns_for(config: TrainConfig, labelled: bool) -> Columns:
    """Columns to read; without a sequence head `label_column` names the tags too."""
    sequence = has_sequence_head(config.task)
    return Columns(
        text=config.text_column,
        label=config.label_column if sequence else "",
        language=config.language_column,
        group=config.group_column if labelled else "",
        tags=config.tags_column or ("" if sequence else config.label_column),
        labelled=labelled,
        sequence=sequence and labelled,
        tagged=has_token_head(config.task) or not labelled,
        entities=uses_bio(config.task) if labelled and has_token_head(config.task) else None,
    )


def unlabelled_columns(path: Path, config: TrainConfig) -> list[str]:
    """Names of the columns of a table whose first rows have neither labels nor tags; else none."""
    columns = columns_for(config, labelled=True)
    kind = recognize(path, columns, config.data_format)
    cells = first_cells(path, kind, NAMED, columns) if kind in TABLES else {}
    names = [*cells]
    at = find_columns(columns, names)
    values = [value for place in {at.label, at.tags} - {-1} for value in cells[names[place]]]
    empty = all(value is None or not str(value).strip() for value in values)
    has_text = at.text >= 0 or at.words >= 0  # else the text is missing, too
    return names if has_text and empty else []


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema, name: str) -> pd.DataFrame:
    columns = map(pa.array, zip(*rows, strict=True), schema.types)
    file = pa.repeat(pa.scalar(printable(name), pa.string()), len(rows))
    table = pa.table([file, *columns], names=["file", *schema.names])
    return table.to_pandas(types_mapper=pd.ArrowDtype)


def _form_of(
    path: Path, pairs: Pairs, config: TrainConfig, schemes: dict[str, str], root: Path | None
) -> TagForm:
    """Form of a file's tags, whose description is added to `schemes`.

    Raises:
        DataError: the tags are not entity tags.
    """
    counts: Counter[str] = Counter()
    for (_, tag), count in pairs.items():
        counts[tag] += count
    form = detect_form(counts)
    if not form.letters and len(counts) > 1 and not any(counts[tag] for tag in form.outside):
        common = ", ".join(tag for tag, _ in counts.most_common(3))
        raise DataError(
            f"{path}: the tags ({common}) are not entity tags, since none is O for other words; "
            f"set {columns_for(config, True).tags_field}, or task to pos"
        )
    if not form.letters and (unread := unread_positions(counts.keys() - {*form.outside})):
        raise DataError(
            f"{path}: the tags {unread[0]} and {unread[1]} look like positions in an entity, in a "
            "form that cannot be read; write O, B-label and I-label"
        )
    if "0" in form.outside and all(map(str.isdecimal, counts)):
        raise DataError(
            f"{path}: the tags are numbers without names; write the names, and O for other words"
        )
    if described := describe(form, pairs):
        schemes[relative_name(path, root)] = described
    return form


def _check_sentences(path: Path, rows: Sequence[RawRow]) -> None:
    """Raise a DataError if each row holds one word of a sentence, with its tag."""
    tags = [row.tags for row in rows if not row.faults]
    if len(tags) >= _FEW and all(are_texts(each) and len(each) == 1 for each in tags):
        raise DataError(
            f"{path}: each row holds one word and its tag, so the sentences are lost; write a "
            "sentence in each row, or CoNLL: a word and its tag in each line, and a blank line "
            "after each sentence"
        )


def _check_speech(path: Path, rows: Iterable[Any]) -> None:
    """Raise a DataError if the tags of parts of speech are entity tags."""
    counts = Counter(tag for tags in rows if are_texts(tags) for tag in tags)
    if counts and all(map(str.isdecimal, counts)):
        raise DataError(
            f"{path}: the tags are numbers without names; write the names, and O for words outside "
            "entities; or set label_column to another column"
        )
    if bracket := next(filter(_BRACKET.fullmatch, counts), ""):
        raise DataError(
            f"{path}: tags such as {bracket} are brackets around entities, a form that cannot be "
            "read; write O, B-label and I-label, or set label_column to another column"
        )
    form = detect_form(counts)
    if form.letters and counts[OUTSIDE] and (len(counts) > 2 or form.separator):
        common = ", ".join(tag for tag, _ in counts.most_common(3))
        raise DataError(
            f"{path}: the tags ({common}) are entity tags, not parts of speech; set label_column, "
            "or task to ner"
        )


def _pairs(path: Path, kind: str, columns: Columns) -> Pairs:
    """Successive tags of a file, up to the first row with entities instead.

    Raises:
        DataError: the column of entities in CoNLL-U is not given.
    """
    if kind == "conllu" and not columns.tags:
        raise DataError(
            f"{path}: CoNLL-U holds parts of speech, not entities; set label_column to the column "
            "that holds them, or give CoNLL"
        )
    pairs: Pairs = Counter()
    for raw in raw_rows(path, kind, columns):
        if raw.faults or not isinstance(raw.tags, list):
            continue
        if are_texts(raw.tags):
            pairs.update(pairwise((OUTSIDE, *raw.tags)))
        elif any(isinstance(tag, dict | list | tuple) for tag in raw.tags):
            break
    return pairs
