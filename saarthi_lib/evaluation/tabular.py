"""Run a bundle on a table of texts, in chunks, or evaluate it on a labelled file."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from saarthi_lib.data.formats import LANGUAGE_COLUMNS, TEXT_COLUMNS
from saarthi_lib.data.read import ReadOptions, read_table
from saarthi_lib.errors import DataError
from saarthi_lib.evaluation.abstention import selective_figures
from saarthi_lib.evaluation.evaluate import evaluate_table
from saarthi_lib.inference.predictor import Prediction, Predictor
from saarthi_lib.storage import whole_file
from saarthi_lib.tasks import has_sequence_head, has_token_head, uses_bio

CHUNK = 10_000


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
    with whole_file(target) as aside:
        writer = _writer(target, aside)
        for chunk in _chunks(source):
            chunk = chunk.assign(**_columns(predictor, chunk, source, written, text_column))
            writer(chunk, written == 0)
            written += len(chunk)
            progress(len(chunk))
        if not written:
            raise DataError(f"{source}: holds no rows")
        writer(None, False)
    return written


def evaluate_file(predictor: Predictor, source: Path) -> dict[str, Any]:
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
    metrics["calibration"] = selective_figures(predictor, table, answers, predictions)
    unknown = sorted(given - known)
    # Report unknown labels: leaving them out silently would hide wrong answers.
    return {**metrics, "unknown_labels": unknown} if unknown else metrics


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
    if uses_bio(predictor.task):
        columns["entities"] = [_json(answer, "entities") for answer in answers]
    elif has_token_head(predictor.task):
        columns["tokens"] = [_json(answer, "tokens") for answer in answers]
    columns["probability"] = [round(answer.probability, 6) for answer in answers]
    columns["abstained"] = [answer.abstained for answer in answers]
    columns["reason"] = [answer.reason or "" for answer in answers]
    return columns


def _json(answer: Prediction, field: str) -> str:
    return json.dumps(answer.to_dict().get(field), ensure_ascii=False)


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


def _chunks(source: Path) -> Iterator[pd.DataFrame]:
    if not source.is_file():
        raise DataError(f"{source}: there is no such file")
    kind = source.suffix.lower()
    if kind in (".csv", ".tsv"):
        try:
            yield from pd.read_csv(
                source,
                sep="\t" if kind == ".tsv" else ",",
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
                chunksize=CHUNK,
            )
        except UnicodeDecodeError:
            raise DataError(f"{source}: is not UTF-8; save it with the encoding UTF-8") from None
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise DataError(f"{source}: cannot be read as {kind[1:].upper()}: {error}") from None
    elif kind == ".parquet":
        import pyarrow.parquet

        for batch in pyarrow.parquet.ParquetFile(source).iter_batches(batch_size=CHUNK):
            yield batch.to_pandas(types_mapper=pd.ArrowDtype)
    else:
        raise DataError(f"{source}: unknown extension; use .csv, .tsv or .parquet")


def _writer(target: Path, aside: Path) -> Callable[[pd.DataFrame | None, bool], None]:
    """Return a function that appends a chunk, and closes the file on None."""
    kind = target.suffix.lower()
    if kind in (".csv", ".tsv"):
        separator = "\t" if kind == ".tsv" else ","

        def write_text(chunk: pd.DataFrame | None, first: bool) -> None:
            if chunk is not None:
                chunk.to_csv(aside, sep=separator, index=False, mode="a", header=first)

        return write_text
    if kind != ".parquet":
        raise DataError(f"{target}: unknown extension; use .csv, .tsv or .parquet")
    import pyarrow
    import pyarrow.parquet

    open_writer: list[pyarrow.parquet.ParquetWriter] = []

    def write_parquet(chunk: pd.DataFrame | None, first: bool) -> None:
        if chunk is None:
            open_writer[0].close()
            return
        table = pyarrow.Table.from_pandas(chunk, preserve_index=False)
        if first:
            open_writer.append(pyarrow.parquet.ParquetWriter(aside, table.schema))
        open_writer[0].write_table(table)

    return write_parquet
