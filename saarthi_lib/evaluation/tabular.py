"""Run a bundle on a table of texts, in chunks, or evaluate it on a labelled file."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.formats.columns import Columns, find_columns
from saarthi_lib.data.formats.rows import whole_rows
from saarthi_lib.data.read import read_table
from saarthi_lib.errors import DataError
from saarthi_lib.evaluation.evaluate import evaluate_table
from saarthi_lib.evaluation.scores import Scores
from saarthi_lib.evaluation.selective_metrics import selective_metrics
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.storage import whole_file
from saarthi_lib.tasks import has_sequence_head, has_token_head, uses_bio

CHUNK = 10_000  # rows
SEPARATORS = {".csv": ",", ".tsv": "\t"}


def predict_file(
    predictor: Predictor,
    source: Path,
    target: Path,
    *,
    text_column: str | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> int:
    """Add predictions to a CSV, TSV or Parquet table, chunk by chunk.

    New columns: `prediction` for tasks with a label, `entities` (JSON) for entities and slots,
    `tokens` (JSON) for parts of speech, and always `probability`, `abstained` and `reason` (of the
    abstention, else empty).

    Args:
        predictor: predictor of the bundle.
        source: table to read; the extension determines the format.
        target: table to write, atomically; the extension determines the format.
        text_column: column of texts; None tries the usual names.
        progress: callback that receives the number of rows of each chunk.

    Returns:
        The number of rows.

    Raises:
        DataError: the table cannot be read; the message names the file and the row or column.
    """
    written, given = 0, Columns(text=text_column or "")
    with whole_file(target) as aside, _writer(target, aside) as write:
        for rows, table in _chunks(source, given):
            write(table.assign(**_columns(predictor, rows, table, source, given)))
            written += len(rows)
            progress(len(rows))
        if not written:
            raise DataError(f"{source}: holds no rows")
    return written


def evaluate_file(predictor: Predictor, source: Path) -> Scores:
    """Compute metrics and calibration of a bundle on a labelled file.

    The file may have any format of training data. Labels and tags that the bundle does not know
    are listed in `unknown_labels`.

    Raises:
        DataError: the file cannot be read.
    """
    manifest = predictor.manifest
    names = ("task", "normalization", "word_splitting")
    config = TrainConfig.from_mapping({name: getattr(manifest, name) for name in names})
    table = read_table(source, config)
    known = {*predictor.labels.sequence, *predictor.labels.token}
    given = set(table["label"]) if has_sequence_head(predictor.task) else set()
    if has_token_head(predictor.task):
        given |= {tag for tags in table["tags"] for tag in tags}
    metrics, answers, predictions = evaluate_table(predictor, table)
    metrics["calibration"] = selective_metrics(predictor, table, answers, predictions)
    if unknown := sorted(given - known):
        metrics["unknown_labels"] = unknown
    return metrics


def _columns(
    predictor: Predictor, rows: Sequence[int], table: pd.DataFrame, source: Path, given: Columns
) -> dict[str, list[Any]]:
    at = find_columns(given, tuple(table.columns))
    if at.text < 0:
        wanted = f"'{given.text}'" if given.text else "of text"
        raise DataError(
            f"{source}: no column {wanted} among {[*table.columns]}; name it with --text-column"
        )
    texts = list(table.iloc[:, at.text])
    for row, text in zip(rows, texts, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{source}: row {row}: the text is empty; remove the row or fill it in")
    langs = [None] * len(texts) if at.language < 0 else list(table.iloc[:, at.language])
    answers = predictor.predict(texts, [str(name) if name else None for name in langs])
    columns: dict[str, list[Any]] = {}
    if has_sequence_head(predictor.task):
        columns["prediction"] = [answer.label for answer in answers]
    if has_token_head(predictor.task):
        found = "entities" if uses_bio(predictor.task) else "tokens"
        lists = (dict(answer.to_dict())[found] for answer in answers)
        columns[found] = [json.dumps(each, ensure_ascii=False) for each in lists]
    columns["probability"] = [round(answer.probability, 6) for answer in answers]
    columns["abstained"] = [answer.abstained for answer in answers]
    columns["reason"] = [answer.reason or "" for answer in answers]
    return columns


def _kind_of(path: Path) -> str:
    kind = path.suffix.lower()
    if kind not in (*SEPARATORS, ".parquet"):
        raise DataError(f"{path}: unknown extension; use .csv, .tsv or .parquet")
    return kind


def _chunks(source: Path, columns: Columns) -> Iterator[tuple[Sequence[int], pd.DataFrame]]:
    """Row numbers and all columns of some rows at a time."""
    if not source.is_file():
        raise DataError(f"{source}: there is no such file")
    kind = _kind_of(source)
    if kind == ".parquet":  # keeps the types of all columns
        import pyarrow.parquet

        start = 1
        for batch in pyarrow.parquet.ParquetFile(source).iter_batches(batch_size=CHUNK):
            yield range(start, start + len(batch)), batch.to_pandas(types_mapper=pd.ArrowDtype)
            start += len(batch)
        return
    records = whole_rows(source, kind[1:], columns)
    while batch := list(islice(records, CHUNK)):
        table = pd.DataFrame([record.values for record in batch], columns=[*batch[0].names])
        yield [record.row for record in batch], table


@contextmanager
def _writer(target: Path, aside: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield a function that appends a chunk to `aside` in the format of `target`."""
    kind = _kind_of(target)
    if kind != ".parquet":
        yield lambda chunk: chunk.to_csv(
            aside, sep=SEPARATORS[kind], index=False, mode="a", header=not aside.stat().st_size
        )
        return
    import pyarrow
    import pyarrow.parquet

    writers: list[pyarrow.parquet.ParquetWriter] = []

    def write(chunk: pd.DataFrame) -> None:
        table = pyarrow.Table.from_pandas(chunk, preserve_index=False)
        if not writers:  # the first chunk has the schema
            writers.append(pyarrow.parquet.ParquetWriter(aside, table.schema))
        writers[0].write_table(table)

    yield write
    for writer in writers:
        writer.close()
