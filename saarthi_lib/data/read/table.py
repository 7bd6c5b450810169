"""Read one file into a table."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.formats import Columns, raw_rows, recognize
from saarthi_lib.data.read.convert import Converter, LeftOutError, are_texts
from saarthi_lib.data.read.files import SplitFile, relative_name
from saarthi_lib.data.read.problems import Problem, ProblemLog
from saarthi_lib.data.tag_schemes import detect_scheme
from saarthi_lib.errors import DataError
from saarthi_lib.tasks import has_sequence_head, uses_bio


def read_table(
    file: SplitFile | str | Path,
    config: TrainConfig,
    *,
    labelled: bool = True,
    problems: list[Problem] | None = None,
    root: Path | None = None,
) -> pd.DataFrame:
    """Read one whole file; see `read_chunks` for arguments and errors."""
    chunks = read_chunks(file, config, labelled=labelled, problems=problems, root=root)
    return pd.concat(chunks, ignore_index=True)


def read_chunks(
    file: SplitFile | str | Path,
    config: TrainConfig,
    *,
    labelled: bool = True,
    problems: list[Problem] | None = None,
    root: Path | None = None,
    rows: int = 50_000,
) -> Iterator[pd.DataFrame]:
    """Read one file in bounded memory.

    Args:
        file: file to read.
        config: task (determines the columns), and the fields of the data section.
        labelled: whether rows must carry labels; a transfer file needs only text.
        problems: list that receives the malformed and repaired rows.
        root: input folder; file names in the table are relative to it.
        rows: rows of the file per table, before unusable rows are left out.

    Raises:
        DataError: the file cannot be read. The message names the file, the row or column, and the
            fix. A share of unusable rows above `max_malformed_share` raises at the end of the
            file; a first table without a usable row raises at once.
    """
    path, language = (file.path, file.language) if isinstance(file, SplitFile) else (Path(file), "")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; correct the path")
    columns = columns_for(config, labelled)
    kind = recognize(path, columns, config.data_format)
    bio = labelled and uses_bio(config.task)
    if kind == "conllu" and bio and not columns.tags:
        raise DataError(
            f"{path}: CoNLL-U holds parts of speech, not entities; set label_column to the column "
            "that holds them, or give CoNLL"
        )
    scheme = _scheme(path, kind, columns) if bio else ""
    convert = Converter(config, labelled, language, scheme)
    log = ProblemLog(path, relative_name(path, root), config.max_malformed_share, problems)
    raws = raw_rows(path, kind, columns)
    while batch := list(islice(raws, rows)):
        good: list[tuple[Any, ...]] = []
        for raw in batch:
            try:
                good.append(convert(raw))
            except LeftOutError as error:
                log.add(error.faults, left_out=True)
        log.add(convert.take_repairs(), left_out=False)
        log.rows += len(batch)
        if good:
            yield _table(good, convert.schema, log.name)
        elif not log.used:
            log.fail()
        log.used += len(good)
    log.finish()
    if labelled:
        convert.check_columns(path)


def columns_for(config: TrainConfig, labelled: bool) -> Columns:
    """Columns to read; without a sequence head `label_column` names the tags."""
    sequence = has_sequence_head(config.task)
    return Columns(
        text=config.text_column,
        label=config.label_column if sequence else "",
        language=config.language_column,
        group=config.group_column if labelled else "",
        tags="" if sequence else config.label_column,
        labelled=labelled,
        sequence=sequence and labelled,
    )


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema, name: str) -> pd.DataFrame:
    columns = map(pa.array, zip(*rows, strict=True), schema.types)
    file = pa.repeat(pa.scalar(name, pa.string()), len(rows))
    table = pa.table([file, *columns], names=["file", *schema.names])
    return table.to_pandas(types_mapper=pd.ArrowDtype)


def _scheme(path: Path, kind: str, columns: Columns) -> str:
    """Scheme of a file's tags, detected up to the first row without a tag for each word."""
    counts: Counter[str] = Counter()
    for raw in raw_rows(path, kind, columns):
        if raw.faults:
            continue
        if not are_texts(raw.tags):
            break
        counts.update(raw.tags)
    return detect_scheme(counts)
