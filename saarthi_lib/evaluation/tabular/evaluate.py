"""Evaluate a bundle on a labelled file."""

from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.detect.languages import name_languages
from saarthi_lib.data.gather import LABELLED
from saarthi_lib.data.read import Problem, find_splits, read_chunks
from saarthi_lib.data.read.names import one_name_each
from saarthi_lib.evaluation.evaluate import evaluate_table
from saarthi_lib.evaluation.scores import Scores
from saarthi_lib.evaluation.selective_metrics import selective_metrics
from saarthi_lib.evaluation.tabular.columns import trained_columns, training_fields
from saarthi_lib.evaluation.tabular.source import require_file
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.tasks import has_sequence_head, has_token_head

# Fields of the training data that also apply to other files.
_KEPT = ("language", "max_malformed_share")


def evaluate_file(predictor: Predictor, source: Path, **fields: Any) -> Scores:
    """Compute metrics and calibration of a bundle on a labelled file.

    The file may have any format of training data. It is read with the fields that the bundle was
    trained with: columns that it has, language and max_malformed_share. Labels and tags that the
    bundle does not know are listed in `unknown_labels`; `left_out` counts malformed rows.

    Args:
        predictor: predictor of the bundle.
        source: the labelled file.
        fields: fields of the data section that override those, such as `label_column`.

    Raises:
        ConfigError: a field is unknown or wrong.
        DataError: the file cannot be read.
    """
    problems: list[Problem] = []
    return _evaluated(predictor, read_labelled(predictor, source, problems, **fields), problems)


def read_labelled(
    predictor: Predictor, source: Path, problems: list[Problem], **fields: Any
) -> pd.DataFrame:
    """Read a labelled file as `evaluate_file` does, and append its problems to a list."""
    require_file(source)
    manifest = predictor.manifest
    format = fields.get("data_format", "auto")
    trained = training_fields(predictor)
    known = {name: trained[name] for name in _KEPT if name in trained}
    known |= trained_columns(predictor, source, format)
    known |= {name: getattr(manifest, name) for name in ("task", "normalization", "word_splitting")}
    config = TrainConfig.from_mapping({**known, **fields}, str(source))
    splits = find_splits(source, format, log=False)  # several in an export
    files = chain.from_iterable(splits.get(split, ()) for split in LABELLED)
    chunks = [chunk for file in files for chunk in read_chunks(file, config, problems=problems)]
    table = pd.concat(chunks, ignore_index=True)
    if has_sequence_head(predictor.task):
        [table], _ = one_name_each([table], predictor.labels.sequence, problems)
    named, _ = name_languages({"train": table})
    return named["train"]


def _evaluated(predictor: Predictor, table: pd.DataFrame, problems: list[Problem]) -> Scores:
    given = set(table["label"]) if has_sequence_head(predictor.task) else set()
    if has_token_head(predictor.task):
        given |= {tag for tags in table["tags"] for tag in tags}
    metrics, answers, predictions = evaluate_table(predictor, table)
    metrics["calibration"] = selective_metrics(predictor, table, answers, predictions)
    known = {*predictor.labels.sequence, *predictor.labels.token}
    if unknown := sorted(given - known):
        metrics["unknown_labels"] = unknown
    if left_out := len({problem.sentence for problem in problems if problem.left_out}):
        metrics["left_out"] = left_out
    return metrics
