"""Prepare the input data for all later steps: tables, labels, vocabulary and token ids."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.alike import most_alike
from saarthi_lib.data.augment import Neighbours, Sentence, augment
from saarthi_lib.data.check import DataCheck, check_data
from saarthi_lib.data.encode import Encoded, concatenate, encode
from saarthi_lib.data.gather import Gathered, gather, input_folder, labels_of
from saarthi_lib.data.read import read_chunks
from saarthi_lib.data.split import trial_rows
from saarthi_lib.errors import ArtifactError, DataError, TeacherError
from saarthi_lib.layout import current_names
from saarthi_lib.logs import get_logger
from saarthi_lib.models.sources import resolve_teacher, word_embeddings
from saarthi_lib.recipe import LONGEST, Facts, resolve
from saarthi_lib.storage import digest_folder, read_json, whole_file, write_json
from saarthi_lib.tasks import Labels, has_token_head, uses_bio
from saarthi_lib.text.language_names import UNKNOWN_LANGUAGE, language_name
from saarthi_lib.text.normalize import Normalizer
from saarthi_lib.text.tokenizer import SubwordTokenizer
from saarthi_lib.text.trim import trim_tokenizer
from saarthi_lib.text.words import words_of

logger = get_logger("data")

TRIAL_ROWS = 64  # rows per split in a trial run
CHUNK = 20_000
LEAST_SHARE = 0.02  # of a language's training rows, so that it counts for the recipe
AUGMENTED_FROM = 100_000  # most training rows to augment
GIVEN = "given"  # the `method` of the user's own transfer rows
CHECK, CHECK_PAGE = "check.json", "check.html"


@dataclass(frozen=True)
class Prepared:
    """Folder written by `prepare`."""

    folder: Path

    @cached_property
    def labels(self) -> Labels:
        """Labels of the training rows."""
        return Labels.load(self.folder / "labels.json")

    @cached_property
    def tokenizer(self) -> SubwordTokenizer:
        """Trimmed tokenizer."""
        return SubwordTokenizer.load(self.folder / "tokenizer.json")

    @cached_property
    def vocabulary(self) -> dict[str, Any]:
        """`kept_ids` (teacher ids of the kept subword tokens) and `special` (new ids by role)."""
        content: dict[str, Any] = read_json(self.folder / "vocabulary.json")
        return content

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Counts, digest, and settings that later steps read: task, length, normalization."""
        content = current_names(read_json(self.folder / "data.json"))
        if "facts" not in content:
            raise ArtifactError(
                f"{self.folder}: was prepared by an earlier version of Saarthi; train again"
            )
        return content

    def table(self, split: str) -> pd.DataFrame:
        """A split as a table."""
        return pd.read_parquet(self.folder / f"{split}.parquet", dtype_backend="pyarrow")

    def chunks(self, split: str) -> Iterator[pd.DataFrame]:
        """A split as tables of at most `CHUNK` rows; an empty split yields one empty table."""
        file = pq.ParquetFile(self.folder / f"{split}.parquet")
        if not file.metadata.num_rows:
            yield self.table(split)
        for batch in file.iter_batches(CHUNK):
            yield batch.to_pandas(types_mapper=pd.ArrowDtype)

    @property
    def out_of_scope(self) -> pd.DataFrame:
        """Validation rows out of scope."""
        return self.table("out_of_scope")

    def has(self, split: str) -> bool:
        """Whether the split exists."""
        return (self.folder / f"{split}.npz").is_file()

    def encoded(self, split: str) -> Encoded:
        """A split as token ids."""
        return Encoded.load(self.folder / f"{split}.npz")


def prepare(
    config: TrainConfig, out: Path, *, refuse: bool = True
) -> tuple[dict[str, Any], DataCheck]:
    """Read, split, augment, trim the vocabulary, encode and check; write the results to `out`.

    Without `refuse`, labels that stop a run are findings of the check and raise no error.

    Returns:
        The summary (`data.json`) and the data check (`check.json`).

    Raises:
        DataError: the data cannot be read; the message names the file and the row or column.
        TeacherError: the teacher's tokenizer or embedding table cannot be read.
    """
    prepared = Prepared(out)
    with input_folder(config, out / "input") as source:
        digest = digest_folder(source)
        gathered = gather(source, config, refuse=refuse)
        facts = _first_facts(gathered.tables["train"], config)
        config = resolve(config, facts)
        teacher = _Teacher(config.teacher_name)
        labels = labels_of(gathered.tables["train"], config.task)
        if config.self_adaptive_training:
            labels = labels.abstaining()
        labels.save(out / "labels.json")
        tables = _trial(gathered, config) if config.fast_dev_run else gathered.tables
        for split, table in tables.items():
            table.to_parquet(out / f"{split}.parquet", index=False)
        gathered.out_of_scope.to_parquet(out / "out_of_scope.parquet", index=False)
        given = _given(gathered, config, source)
        _write_transfer(given, gathered, out / "transfer.parquet")
    # Trim before augmentation: tokens of generated misspellings would waste embedding rows.
    kept_pieces = _trim(config, prepared, teacher)
    every = chain(prepared.chunks("transfer"), [_augmented(gathered, config, teacher)])
    methods = _write_transfer(every, gathered, out / "transfer.parquet")
    encoded, facts = _encode_splits(prepared, [*tables, "transfer"], config, labels, facts)
    config = resolve(config, facts)
    for split, data in encoded.items():
        data.save(out / f"{split}.npz")
    _report_missing_languages(config, prepared)
    check = _checked(gathered, tables, encoded, config, out)
    summary: dict[str, Any] = {
        **_settings(config),
        "facts": facts.to_dict(),
        "digest": digest,
        "rows": {split: len(data) for split, data in encoded.items()},
        "languages": {split: _languages(table) for split, table in tables.items()},
        "labels": {"sequence": len(labels.sequence), "token": len(labels.token)},
        "vocabulary": kept_pieces,
        "truncated": {split: data.truncated for split, data in encoded.items()},
        "left_out": gathered.left_out,
        "transfer": methods,
        "check": check.status,
    }
    write_json(out / "data.json", summary)
    logger.info(
        "rows %s; %d labels, %d tags; %d tokens kept from the teacher's vocabulary",
        ", ".join(f"{split} {count}" for split, count in summary["rows"].items()),
        len(labels.sequence),
        len(labels.token),
        kept_pieces,
    )
    return summary, check


def _settings(config: TrainConfig) -> dict[str, Any]:
    """Settings that later steps read from the data."""
    return {
        "task": config.task,
        "seed": config.seed,
        "max_seq_len": config.max_seq_len,
        "normalization": config.normalization,
        "word_splitting": config.word_splitting,
        "trial": config.fast_dev_run,
        "input_path": _absolute(config.input_path),
    }


def _checked(
    gathered: Gathered,
    tables: dict[str, pd.DataFrame],
    encoded: dict[str, Encoded],
    config: TrainConfig,
    out: Path,
) -> DataCheck:
    """Check the data, and write the result as JSON."""
    check = check_data(
        tables,
        config.task,
        gathered.problems,
        max_seq_len=config.max_seq_len,
        lengths={split: encoded[split].whole_lengths for split in tables},
        seed=config.seed,
    )
    write_json(out / CHECK, check.to_dict())
    return check


def require_sound(check: DataCheck, config: TrainConfig) -> None:
    """Stop the run if the data check failed; log its warnings otherwise.

    Raises:
        DataError: the check found errors, or warnings with `data_check: warnings`.
    """
    stops = {"errors": ("error",), "warnings": ("error", "warning"), "nothing": ()}
    found = [finding for finding in check.findings if finding.severity in stops[config.data_check]]
    if found:
        told = "; ".join(f"{finding.split or 'all'}: {finding.message}" for finding in found[:5])
        raise DataError(
            f"{config.input_path}: the data's check stops the run ({len(found)} findings): {told}. "
            "'saarthi check' lists them all with their rows; to ignore them set data_check: nothing"
        )
    for finding in check.findings:
        if finding.severity == "warning":
            logger.warning("%s: %s", finding.split or "all", finding.message)


def _trial(gathered: Gathered, config: TrainConfig) -> dict[str, pd.DataFrame]:
    tables = {
        split: trial_rows(table, config.task, TRIAL_ROWS, config.seed)
        for split, table in gathered.tables.items()
    }
    taken = [f"{split} {len(tables[split])} of {len(gathered.tables[split])}" for split in tables]
    logger.warning("trial run: rows %s", ", ".join(taken))
    return tables


def _write_transfer(
    chunks: Iterable[pd.DataFrame], gathered: Gathered, path: Path
) -> dict[str, int]:
    """Stream unlabelled rows into a Parquet file; leave out rows of validation and test.

    Args:
        chunks: rows to write; they may come from the same file, which is replaced at the end.
        gathered: gathered data, with the held-out texts; its `left_out` counts the rows left out.
        path: Parquet file.

    Returns:
        Number of rows by augmentation method.
    """
    fields = [("file", pa.string()), ("row", pa.int64()), ("text", pa.string())]
    fields += [("lang", pa.string()), ("method", pa.string())]
    schema = pa.schema(fields)
    held_out = gathered.held_out
    counts: dict[str, int] = {}
    leaks = 0
    with whole_file(path) as aside, pq.ParquetWriter(aside, schema) as writer:
        for chunk in chunks:
            known = chunk["text"].isin(held_out)
            leaks += int(known.sum())
            rows = chunk[~known]
            for method, count in rows["method"].value_counts(sort=False).items():
                counts[str(method)] = counts.get(str(method), 0) + int(count)
            writer.write_table(pa.Table.from_pandas(rows, schema=schema, preserve_index=False))
    if leaks:
        logger.warning("left out: %d transfer rows that stand in validation or test", leaks)
    reason = "transfer rows that stand in validation or test"
    gathered.left_out[reason] = gathered.left_out.get(reason, 0) + leaks
    return counts


def _given(gathered: Gathered, config: TrainConfig, root: Path) -> Iterator[pd.DataFrame]:
    for file in gathered.transfer:
        for chunk in read_chunks(
            file, gathered.options, labelled=False, problems=gathered.problems, root=root
        ):
            yield gathered.languages.fill(chunk)[0].assign(method=GIVEN)
            if config.fast_dev_run:
                return


def _augmented(gathered: Gathered, config: TrainConfig, teacher: "_Teacher") -> pd.DataFrame:
    train = gathered.tables["train"]
    if len(train) > AUGMENTED_FROM:
        train = train.sample(AUGMENTED_FROM, random_state=config.seed)
    tagged = has_token_head(config.task)
    sentences = [
        Sentence(
            words=tuple(row["words"] if tagged else row["text"].split()),
            lang=row["lang"],
            label=row.get("label"),
            tags=tuple(row["tags"]) if tagged else None,
        )
        for row in train.to_dict("records")
    ]
    made = augment(
        sentences,
        config.augmentation_methods,
        TRIAL_ROWS if config.fast_dev_run else config.augmentation_size,
        config.seed,
        _neighbours(config, teacher),
    )
    # The service normalizes text, so training text must be normalized too.
    normalize = Normalizer(config.normalization)
    rows = [(normalize(" ".join(each.words)), each.lang, each.method) for each in made]
    rows = [row for row in rows if row[0]]  # all words of a sentence may be invisible
    table = pd.DataFrame(rows, columns=["text", "lang", "method"])
    return table.assign(file="", row=range(1, len(table) + 1))


def _neighbours(config: TrainConfig, teacher: "_Teacher") -> Neighbours | None:
    needed = {"neighbours", "vocabulary"} & set(config.augmentation_methods)
    if not needed or not config.augmentation_size:
        return None
    return Neighbours(teacher.tokenizer, teacher.table)


def _trim(config: TrainConfig, prepared: Prepared, teacher: "_Teacher") -> int:
    """Trim the teacher's tokenizer to the train and transfer rows; returns the tokens kept."""

    def texts() -> Iterator[str]:
        for split in ("train", "transfer"):
            for chunk in prepared.chunks(split):
                yield from chunk["text"]

    by_word = has_token_head(config.task)
    trimmed = trim_tokenizer(
        teacher.tokenizer,
        texts(),
        (words_of(text, config.word_splitting) for text in texts()) if by_word else (),
        extra_pieces=config.vocabulary_extra_tokens,
        likeness=partial(most_alike, teacher.table) if config.vocabulary_extra_tokens else None,
    )
    out = prepared.folder
    write_json(out / "tokenizer.json", trimmed.tokenizer)
    write_json(out / "vocabulary.json", {"kept_ids": trimmed.kept_ids, "special": trimmed.special})
    pieces = sorted(prepared.tokenizer.vocabulary().items(), key=lambda item: item[1])
    write_json(out / "distil_vocab.json", dict(pieces))
    return len(trimmed.kept_ids)


def _first_facts(train: pd.DataFrame, config: TrainConfig) -> Facts:
    """Facts that are known before the text is encoded."""
    languages = {language_name(language) for language in config.languages}
    shares = train["lang"].value_counts(normalize=True)
    languages -= {UNKNOWN_LANGUAGE}
    languages |= {str(name) for name, share in shares.items() if share >= LEAST_SHARE}
    return Facts(config.task, len(train), tuple(sorted(languages)))


def _encode_splits(
    prepared: Prepared,
    splits: Sequence[str],
    config: TrainConfig,
    labels: Labels,
    facts: Facts,
) -> tuple[dict[str, Encoded], Facts]:
    """Encode all splits, and add the facts that depend on tokens.

    The maximum length depends on train and validation, so these are encoded whole first.
    """
    whole = {
        split: _encode(prepared, split, config, labels, LONGEST)
        for split in ("train", "validation")
    }
    entities = uses_bio(config.task)
    needed = max(_needed_length(data, entities) for data in whole.values())
    facts = replace(facts, needed_length=needed)
    length = resolve(config, facts).max_seq_len
    encoded = {
        split: whole[split].cut(length)
        if split in whole
        else _encode(prepared, split, config, labels, length)
        for split in splits
    }
    for split, data in encoded.items():
        if data.truncated:
            logger.warning(
                "%s: %d texts are longer than max_seq_len (%d subword tokens) and are cut",
                split,
                data.truncated,
                length,
            )
    tokens = {split: int(encoded[split].offsets[-1]) for split in ("train", "transfer")}
    return encoded, replace(facts, train_tokens=tokens["train"], transfer_tokens=tokens["transfer"])


def _needed_length(encoded: Encoded, entities: bool) -> int:
    """Subword tokens that cover 99.5% of the texts, and all their entities."""
    covered = int(np.quantile(encoded.whole_lengths, 0.995, method="higher"))
    return max(covered, encoded.last_entity() if entities else 0)


def _encode(
    prepared: Prepared, split: str, config: TrainConfig, labels: Labels, max_length: int
) -> Encoded:
    # Encode in chunks: token ids as Python integers take ten times the memory.
    rule, tokenizer = config.word_splitting, prepared.tokenizer
    return concatenate(
        [
            encode(chunk, config.task, tokenizer, labels, max_length, rule)
            for chunk in prepared.chunks(split)
        ]
    )


def _report_missing_languages(config: TrainConfig, prepared: Prepared) -> None:
    """Warn of languages of the service without training rows, unlabelled text or test rows."""
    wanted = {language_name(language) for language in config.languages}
    for language in sorted(wanted - set(prepared.table("test")["lang"])):
        logger.warning("%s: no test rows, so no metric shows its quality", language)
    wanted -= set(prepared.table("train")["lang"])
    if not wanted:
        return
    given: Counter[str] = Counter()
    for chunk in prepared.chunks("transfer"):
        given.update(chunk["lang"][chunk["method"] == GIVEN])
    for language in sorted(wanted):
        if given[language]:
            logger.info("%s: no training rows; %d unlabelled texts", language, given[language])
        else:
            logger.warning(
                "%s: no training rows and no unlabelled text; add sentences of users in %s to "
                "transfer.*, without labels",
                language,
                language,
            )


@dataclass
class _Teacher:
    """Tokenizer and embedding table of a pretrained teacher, loaded on first use."""

    name: str

    @cached_property
    def tokenizer(self) -> dict[str, Any]:
        """Content of its `tokenizer.json`."""
        source = resolve_teacher(self.name)
        if isinstance(source, Path) and (source / "tokenizer.json").is_file():
            content: dict[str, Any] = read_json(source / "tokenizer.json")
            return content
        from transformers import AutoTokenizer

        try:
            fast = AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False)
        except (OSError, ValueError, RecursionError) as error:
            raise TeacherError(
                f"the tokenizer of teacher '{self.name}' cannot be read from {source}: {error}"
            ) from error
        loaded: dict[str, Any] = json.loads(fast.backend_tokenizer.to_str())
        return loaded

    @cached_property
    def table(self) -> NDArray[np.float32]:
        """Word embeddings, [vocabulary, width]."""
        return word_embeddings(self.name)


def _absolute(input_path: str) -> str:
    """Absolute path of a local folder, independent of the working directory; URIs unchanged."""
    return str(Path(input_path).absolute()) if Path(input_path).is_dir() else input_path


def _languages(table: pd.DataFrame) -> dict[str, int]:
    return {str(k): int(v) for k, v in table["lang"].value_counts().sort_index().items()}
