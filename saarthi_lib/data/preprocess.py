"""From an input folder to the data that every later step reads: tables, labels, vocabulary, ids."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from saarthi_lib.config import TrainConfig, require
from saarthi_lib.data.augment import augment
from saarthi_lib.data.encode import Encoded, encode
from saarthi_lib.data.read import find_splits, read_table
from saarthi_lib.data.split import cut
from saarthi_lib.errors import DataError, TeacherError
from saarthi_lib.logs import get_logger
from saarthi_lib.models.sources import resolve_teacher
from saarthi_lib.storage import digest_folder, read_json, write_json
from saarthi_lib.tasks import OUTSIDE, Labels, has_sequence_head, has_token_head, uses_bio
from saarthi_lib.text.tokeniser import Tokeniser
from saarthi_lib.text.trim import trim_tokenizer

logger = get_logger("data")

DEMO = "demo:home-assistant"
SPLITS = ("train", "validation", "test", "transfer")
DEV_ROWS = 64


@dataclass(frozen=True)
class Prepared:
    """What `prepare` wrote to a folder."""

    folder: Path

    @property
    def labels(self) -> Labels:
        """The labels of the training rows."""
        return Labels.load(self.folder / "labels.json")

    @property
    def tokeniser(self) -> Tokeniser:
        """The trimmed tokenizer."""
        return Tokeniser.load(self.folder / "tokenizer.json")

    @property
    def vocabulary(self) -> dict[str, Any]:
        """`kept_ids` (the teacher's ids of the kept pieces) and `special` (new ids by role)."""
        content: dict[str, Any] = read_json(self.folder / "vocabulary.json")
        return content

    @property
    def summary(self) -> dict[str, Any]:
        """Counts and digests."""
        content: dict[str, Any] = read_json(self.folder / "data.json")
        return content

    def table(self, split: str) -> pd.DataFrame:
        """A split as a table."""
        return pd.read_parquet(self.folder / f"{split}.parquet", dtype_backend="pyarrow")

    def encoded(self, split: str) -> Encoded:
        """A split as token ids."""
        return Encoded.load(self.folder / f"{split}.npz")


def prepare(config: TrainConfig, out: Path) -> dict[str, Any]:
    """Read, check, split, augment, trim the vocabulary, encode, and write all of it to `out`.

    Returns:
        The summary that `data.json` holds.

    Raises:
        DataError: names the file and the row or column.
        TeacherError: the teacher's tokenizer cannot be read.
    """
    source = _input_folder(config, out)
    tables, dropped = _read_splits(source, config)
    labels = _labels(tables, config.task)
    if config.fast_dev_run:
        tables = {split: table.head(DEV_ROWS) for split, table in tables.items()}
    tables["transfer"] = _with_augmented(tables, config)
    texts = [text for split in ("train", "transfer") for text in tables[split]["text"]]
    words = _word_lists(tables) if has_token_head(config.task) else []
    trimmed = trim_tokenizer(
        _teacher_tokenizer(config.teacher_name),
        texts,
        words,
        extra_pieces=config.vocabulary_extra_pieces,
    )
    write_json(out / "tokenizer.json", trimmed.tokenizer)
    write_json(out / "vocabulary.json", {"kept_ids": trimmed.kept_ids, "special": trimmed.special})
    tokeniser = Tokeniser.load(out / "tokenizer.json")
    pieces = sorted(tokeniser.vocabulary().items(), key=lambda item: item[1])
    write_json(out / "distil_vocab.json", dict(pieces))
    labels.save(out / "labels.json")
    truncated = {}
    for split, table in tables.items():
        table.to_parquet(out / f"{split}.parquet", index=False)
        encoded = encode(table, config.task, tokeniser, labels, config.max_seq_len)
        encoded.save(out / f"{split}.npz")
        truncated[split] = encoded.truncated
    for split, count in truncated.items():
        if count:
            logger.warning(
                "%s: %d texts are longer than max_seq_len (%d pieces) and are cut",
                split,
                count,
                config.max_seq_len,
            )
    summary: dict[str, Any] = {
        "input_path": config.input_path,
        "digest": digest_folder(source),
        "rows": {split: len(table) for split, table in tables.items()},
        "languages": _languages(tables),
        "labels": {"sequence": len(labels.sequence), "token": len(labels.token)},
        "vocabulary": len(trimmed.kept_ids),
        "truncated": truncated,
        "dropped": dropped,
    }
    write_json(out / "data.json", summary)
    logger.info(
        "rows %s; %d labels, %d tags; %d pieces kept of the teacher's vocabulary",
        ", ".join(f"{split} {count}" for split, count in summary["rows"].items()),
        len(labels.sequence),
        len(labels.token),
        len(trimmed.kept_ids),
    )
    return summary


def _input_folder(config: TrainConfig, out: Path) -> Path:
    require(config, "input_path")
    if config.input_path != DEMO:
        return Path(config.input_path)
    from saarthi_lib.data.home_assistant import write_home_assistant

    folder = out / "input"
    write_home_assistant(folder, seed=config.seed)
    return folder


def _read_splits(
    source: Path, config: TrainConfig
) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """The splits, those that are missing cut from train; and what was left out, by reason."""
    files = find_splits(source)
    tables = {
        split: read_table(path, config.task, labelled=split != "transfer")
        for split, path in files.items()
    }
    for split, fraction in (
        ("test", config.test_fraction),
        ("validation", config.validation_fraction),
    ):
        if split not in tables:
            tables["train"], tables[split] = cut(tables["train"], fraction, config.seed)
            logger.info("no %s file: %d rows cut from train", split, len(tables[split]))
    dropped = _check_labels(tables, files, config)
    if "transfer" in tables:
        leaks = tables["transfer"]["text"].isin(_held_out(tables))
        dropped["transfer rows that stand in validation or test"] = int(leaks.sum())
        tables["transfer"] = tables["transfer"][~leaks].reset_index(drop=True)
    for reason, count in dropped.items():
        if count:
            logger.warning("left out: %d %s", count, reason)
    return {split: tables[split] for split in SPLITS if split in tables}, dropped


def _labels(tables: dict[str, pd.DataFrame], task: str) -> Labels:
    """The labels of the training rows, sorted; BIO tags get their missing halves."""
    sequence: list[str] = []
    token: list[str] = []
    if has_sequence_head(task):
        sequence = sorted(set(tables["train"]["label"]))
        if len(sequence) < 2:
            raise DataError(f"the training rows have one label only ({sequence[0]!r}); give two")
    if has_token_head(task):
        tags = {tag for row in tables["train"]["tags"] for tag in row}
        if uses_bio(task):
            kinds = sorted({tag[2:] for tag in tags if tag != OUTSIDE})
            token = [OUTSIDE, *(f"{half}-{kind}" for kind in kinds for half in "BI")]
        else:
            token = sorted(tags)
    return Labels(tuple(sequence), tuple(token))


def _check_labels(
    tables: dict[str, pd.DataFrame], files: dict[str, Path], config: TrainConfig
) -> dict[str, int]:
    """Every label of validation and test must be one that can be learnt, unless they are kept.

    Returns:
        How many validation rows were left out, by reason.
    """
    labels = _labels(tables, config.task)
    dropped: dict[str, int] = {}
    for split in ("validation", "test"):
        table = tables[split]
        unknown = [_unknown_label(row, labels, config.task) for _, row in table.iterrows()]
        rows = [position for position, label in enumerate(unknown) if label is not None]
        if not rows:
            continue
        if config.unknown_labels == "error":
            raise DataError(
                f"{files.get(split, files['train'])}: {_row(table, rows[0])}: the label "
                f"'{unknown[rows[0]]}' does not occur in train ({len(rows)} such rows); add "
                "training rows for it, correct its spelling, or set unknown_labels: keep"
            )
        if split == "validation":
            tables[split] = table.drop(index=rows).reset_index(drop=True)
            dropped["validation rows with a label that train lacks"] = len(rows)
        else:
            logger.warning("test: %d rows have a label that train lacks; they are kept", len(rows))
    return dropped


def _unknown_label(row: Any, labels: Labels, task: str) -> str | None:
    """The first label or tag of a row that does not occur in train."""
    if has_sequence_head(task) and row["label"] not in labels.sequence:
        return str(row["label"])
    if has_token_head(task):
        return next((str(tag) for tag in row["tags"] if tag not in labels.token), None)
    return None


def _row(table: pd.DataFrame, row: int) -> str:
    text = str(table["text"].iloc[row])
    shown = text if len(text) <= 60 else text[:57] + "..."
    return f"row {int(table['row'].iloc[row])} ({shown!r})"


def _with_augmented(tables: dict[str, pd.DataFrame], config: TrainConfig) -> pd.DataFrame:
    """The user's transfer rows and the augmented training text."""
    train = tables["train"]
    if has_token_head(config.task):
        sentences = [list(words) for words in train["words"]]
    else:
        sentences = [text.split() for text in train["text"]]
    size = DEV_ROWS if config.fast_dev_run else config.augmentation_size
    made = augment(sentences, list(train["lang"]), size, config.seed)
    rows = pd.DataFrame(
        {
            "text": [" ".join(words) for words, _ in made],
            "lang": [language for _, language in made],
            "words": [words for words, _ in made],
        }
    )
    parts = [tables["transfer"]] if "transfer" in tables else []
    columns = ["text", "lang", "words"] if has_token_head(config.task) else ["text", "lang"]
    rows = rows[~rows["text"].isin(_held_out(tables))]
    joined = pd.concat([*(part[columns] for part in parts), rows[columns]], ignore_index=True)
    return joined.convert_dtypes(dtype_backend="pyarrow")


def _held_out(tables: dict[str, pd.DataFrame]) -> list[str]:
    return [*tables["test"]["text"], *tables["validation"]["text"]]


def _word_lists(tables: dict[str, pd.DataFrame]) -> list[list[str]]:
    return [list(row) for split in ("train", "transfer") for row in tables[split]["words"]]


def _teacher_tokenizer(name: str) -> dict[str, Any]:
    """The content of the teacher's `tokenizer.json`."""
    source = resolve_teacher(name)
    if isinstance(source, Path) and (source / "tokenizer.json").is_file():
        content: dict[str, Any] = read_json(source / "tokenizer.json")
        return content
    from transformers import AutoTokenizer

    try:
        fast = AutoTokenizer.from_pretrained(source, use_fast=True)
    except (OSError, ValueError) as error:
        raise TeacherError(
            f"the tokenizer of teacher '{name}' cannot be read from {source}: {error}"
        ) from error
    loaded: dict[str, Any] = json.loads(fast.backend_tokenizer.to_str())
    return loaded


def _languages(tables: dict[str, pd.DataFrame]) -> dict[str, dict[str, int]]:
    return {
        split: {str(k): int(v) for k, v in table["lang"].value_counts().sort_index().items()}
        for split, table in tables.items()
    }
