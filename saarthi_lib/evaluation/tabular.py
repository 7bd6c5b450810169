"""Run a bundle on a table of texts, in chunks, or evaluate it on a labelled file."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from saarthi_lib.data.formats import LANGUAGE_COLUMNS, TEXT_COLUMNS
from saarthi_lib.data.read import ReadOptions, read_table
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
    written = 0
    with whole_file(target) as aside, _writer(target, aside) as write:
        for chunk in _chunks(source):
            write(chunk.assign(**_columns(predictor, chunk, source, written, text_column)))
            written += len(chunk)
            progress(len(chunk))
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
    options = ReadOptions(
        task=predictor.task,
        normalization=manifest.normalization,
        word_splitting=manifest.word_splitting,
    )
    table = read_table(source, options)
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
    predictor: Predictor, chunk: pd.DataFrame, source: Path, start: int, text_column: str | None
) -> dict[str, list[Any]]:
    texts = _texts(chunk, source, start, text_column)
    lang = _column(chunk, LANGUAGE_COLUMNS)
    langs = [str(name) if name else None for name in chunk[lang]] if lang else None
    answers = predictor.predict(texts, langs)
    columns: dict[str, list[Any]] = {}
    if has_sequence_head(predictor.task):
        columns["prediction"] = [answer.label for answer in answers]
    if has_token_head(predictor.task):
        found = "entities" if uses_bio(predictor.task) else "tokens"
        rows = (dict(answer.to_dict())[found] for answer in answers)
        columns[found] = [json.dumps(row, ensure_ascii=False) for row in rows]
    columns["probability"] = [round(answer.probability, 6) for answer in answers]
    columns["abstained"] = [answer.abstained for answer in answers]
    columns["reason"] = [answer.reason or "" for answer in answers]
    return columns


def _texts(chunk: pd.DataFrame, source: Path, start: int, text_column: str | None) -> list[str]:
    column = text_column or _column(chunk, TEXT_COLUMNS)
    if column is None or column not in chunk:
        wanted = f"no column '{column}'" if column else "no column of text"
        raise DataError(
            f"{source}: {wanted} among {list(chunk.columns)}; name it with --text-column"
        )
    texts = list(chunk[column])
    # Number rows as a spreadsheet does: in a text file, row 1 holds the column names.
    first = 1 if source.suffix.lower() == ".parquet" else 2
    for row, text in enumerate(texts, start + first):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{source}: row {row}: the text is empty; remove the row or fill it in")
    return texts


def _column(chunk: pd.DataFrame, names: tuple[str, ...]) -> str | None:
    lowered = {str(name).strip().lower(): str(name) for name in chunk.columns}
    return next((lowered[name] for name in names if name in lowered), None)


def _kind_of(path: Path) -> str:
    kind = path.suffix.lower()
    if kind not in (*SEPARATORS, ".parquet"):
        raise DataError(f"{path}: unknown extension; use .csv, .tsv or .parquet")
    return kind


def _chunks(source: Path) -> Iterator[pd.DataFrame]:
    if not source.is_file():
        raise DataError(f"{source}: there is no such file")
    kind = _kind_of(source)
    if kind == ".parquet":
        import pyarrow.parquet

        for batch in pyarrow.parquet.ParquetFile(source).iter_batches(batch_size=CHUNK):
            yield batch.to_pandas(types_mapper=pd.ArrowDtype)
        return
    try:
        yield from pd.read_csv(
            source,
            sep=SEPARATORS[kind],
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            chunksize=CHUNK,
        )
    except UnicodeDecodeError:
        raise DataError(f"{source}: is not UTF-8; save it with the encoding UTF-8") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{source}: cannot be read as {kind[1:].upper()}: {error}") from None


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
