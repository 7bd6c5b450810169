"""Prepare the input data for all later steps: tables, labels, vocabulary and token ids."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.check import DataCheck, check_data, check_problems
from saarthi_lib.data.check.findings import Finding, listed
from saarthi_lib.data.check.run import REFUSED_LABELS
from saarthi_lib.data.detect import with_columns
from saarthi_lib.data.encode import Encoded, concatenate, encode
from saarthi_lib.data.gather import Gathered, gather, input_folder, labels_of
from saarthi_lib.data.preprocess.prepared import Prepared, Summary
from saarthi_lib.data.preprocess.start import write_start
from saarthi_lib.data.preprocess.teacher import TeacherText, write_vocabulary
from saarthi_lib.data.preprocess.transfer import (
    GIVEN,
    TRIAL_ROWS,
    augmented_rows,
    given_rows,
    synonym_rows,
    write_transfer,
)
from saarthi_lib.data.split import trial_rows
from saarthi_lib.errors import DataError
from saarthi_lib.layout import SYNONYMS
from saarthi_lib.logs import get_logger
from saarthi_lib.recipe import LONGEST, Facts, resolve
from saarthi_lib.storage import digest_folder, write_json
from saarthi_lib.tasks import OUT_OF_SCOPE, Labels, uses_bio
from saarthi_lib.text.language_names import UNKNOWN_LANGUAGE, language_name

logger = get_logger("data")

# A language counts for the recipe from this share of the labelled or the unlabelled rows.
LEAST_SHARE = 0.02
LEAST_UNLABELLED = 5  # rows of a language in the transfer set; fewer may be detected wrongly
COLUMNS = ("text_column", "label_column")  # that are detected in tables without usual names
CHECK, CHECK_PAGE = "check.json", "check.html"


def prepare(config: TrainConfig, out: Path, *, refuse: bool = True) -> tuple[Summary, DataCheck]:
    """Read, split, augment, trim the vocabulary, encode and check; write the results to `out`.

    Without `refuse`, labels that stop a run are findings of the check and raise no error.

    Returns:
        The summary (`data.json`) and the data check (`check.json`).

    Raises:
        DataError: the data cannot be read, or a label is refused; the message names the file and
            the row or column.
        TeacherError: the teacher's tokenizer or embedding table cannot be read.
    """
    prepared = Prepared(out)
    with input_folder(config, out / "input") as source:
        config = with_columns(config, source)
        digest = digest_folder(source)
        gathered = gather(source, config)
        if refuse:
            _require_accepted(gathered)
        labels, tables = _write_tables(gathered, config, out)
        given = chain(given_rows(gathered, config, source), synonym_rows(gathered, config, source))
        write_transfer(given, gathered, out / "transfer.parquet")
    facts = _first_facts(gathered.tables["train"], prepared, config)
    config = resolve(config, facts)
    teacher = TeacherText(config.teacher_name)
    # Trim before augmentation: tokens of generated misspellings would waste embedding rows.
    kept_tokens = write_vocabulary(config, prepared, teacher)
    every = chain(prepared.chunks("transfer"), [augmented_rows(gathered, config, teacher)])
    methods = write_transfer(every, gathered, out / "transfer.parquet")
    encoded, facts = _encode_splits(prepared, [*tables, "transfer"], config, labels, facts)
    config = resolve(config, facts)
    _report_missing_languages(config, prepared)
    _write_start(gathered, tables, labels, config, out)
    check = _checked(gathered, tables, encoded, config, out)
    summary: Summary = {
        "task": config.task,
        "seed": config.seed,
        "max_seq_len": config.max_seq_len,
        "normalization": config.normalization,
        "word_splitting": config.word_splitting,
        "trial": config.fast_dev_run,
        "input_path": _absolute(config.input_path),
        "facts": facts.to_dict(),
        "columns": {name: getattr(config, name) for name in COLUMNS if getattr(config, name)},
        "digest": digest,
        "rows": {split: len(data) for split, data in encoded.items()},
        "languages": {split: _languages(table) for split, table in tables.items()},
        "labels": {"sequence": len(labels.sequence), "token": len(labels.token)},
        "vocabulary": kept_tokens,
        "truncated": {split: data.truncated for split, data in encoded.items()},
        "left_out": gathered.left_out,
        "not_carried_over": gathered.not_carried_over,
        "transfer": methods,
        "check": check.status,
    }
    write_json(out / "data.json", summary)
    _log(summary)
    return summary, check


def _require_accepted(gathered: Gathered) -> None:
    found = check_problems(gathered.problems, gathered.tables)
    refused = [finding.message for finding in found if finding.severity == "error"]
    if refused:
        raise DataError("\n".join(refused))


def stopping(check: DataCheck, config: TrainConfig) -> list[Finding]:
    """Findings that stop a run; refused labels always do."""
    stops = {"errors": ("error",), "warnings": ("error", "warning"), "nothing": ()}
    severities = stops[config.data_check]
    return [
        finding
        for finding in check.findings
        if finding.severity in severities or finding.check == REFUSED_LABELS
    ]


def require_sound(check: DataCheck, config: TrainConfig) -> None:
    """Stop the run if the data check failed; log its warnings otherwise.

    Raises:
        DataError: the check found errors, or warnings with `data_check: warnings`.
    """
    if found := stopping(check, config):
        first = "; ".join(f"{finding.split or 'all'}: {finding.message}" for finding in found[:5])
        raise DataError(
            f"{config.input_path}: the data check stops the run ({len(found)} findings): {first}. "
            "'saarthi check' lists them all with their rows; to ignore them set data_check: nothing"
        )
    for finding in check.findings:
        if finding.severity == "warning":
            logger.warning("%s: %s", finding.split or "all", finding.message)


def _first_facts(train: pd.DataFrame, prepared: Prepared, config: TrainConfig) -> Facts:
    """Facts that are known before the text is encoded; the transfer set has only given rows yet."""
    languages = {language_name(language) for language in config.languages}
    shares = train["lang"].value_counts(normalize=True)
    languages -= {UNKNOWN_LANGUAGE}
    languages |= {str(name) for name, share in shares.items() if share >= LEAST_SHARE}
    given: Counter[str] = Counter()
    for chunk in prepared.chunks("transfer"):
        given.update(chunk["lang"])
    least = max(LEAST_UNLABELLED, LEAST_SHARE * given.total())
    languages |= {language for language, rows in given.items() if rows >= least}
    return Facts(config.task, len(train), tuple(sorted(languages)))


def _write_tables(
    gathered: Gathered, config: TrainConfig, out: Path
) -> tuple[Labels, dict[str, pd.DataFrame]]:
    """Write labels, synonyms and labelled tables; a trial takes few rows of each split."""
    labels = labels_of(gathered.tables["train"], config.task)
    if config.self_adaptive_training:
        labels = labels.abstaining()
    labels.save(out / "labels.json")
    if gathered.carried.synonyms:
        write_json(out / SYNONYMS, gathered.carried.synonyms)
    tables = gathered.tables
    if config.fast_dev_run:
        tables = {
            split: trial_rows(table, config.task, TRIAL_ROWS, config.seed)
            for split, table in tables.items()
        }
        taken = [
            f"{split} {len(tables[split])} of {len(gathered.tables[split])}" for split in tables
        ]
        logger.warning("trial run: rows %s", ", ".join(taken))
    for split, table in [*tables.items(), ("out_of_scope", gathered.out_of_scope)]:
        table.to_parquet(out / f"{split}.parquet", index=False)
    return labels, tables


def _write_start(
    gathered: Gathered,
    tables: dict[str, pd.DataFrame],
    labels: Labels,
    config: TrainConfig,
    out: Path,
) -> None:
    """Write the facts about the run that this one starts from, if there is one."""
    if gathered.earlier and gathered.kept:
        every_row = {**tables, "out_of_scope": gathered.out_of_scope}
        write_start(gathered.earlier, gathered.kept, every_row, labels, config, out)


def _encode_splits(
    prepared: Prepared, splits: Sequence[str], config: TrainConfig, labels: Labels, facts: Facts
) -> tuple[dict[str, Encoded], Facts]:
    """Encode and write all splits, and add the facts that depend on tokens.

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
    encoded: dict[str, Encoded] = {}
    for split in splits:
        if split in whole:
            data = whole[split].cut(length)
        else:
            data = _encode(prepared, split, config, labels, length)
        data.save(prepared.folder / f"{split}.npz")
        encoded[split] = data
        if data.truncated:
            logger.warning(
                "%s: %d texts are longer than max_seq_len (%d subword tokens) and are cut",
                split, data.truncated, length,
            )  # fmt: skip
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


def _with_one_name(tables: dict[str, pd.DataFrame], config: TrainConfig) -> dict[str, pd.DataFrame]:
    """Tables whose test has train's name of the class out of scope, so that the check knows it."""
    train, test = tables["train"], tables.get("test")
    if not config.out_of_scope_label or test is None or not (train["label"] == OUT_OF_SCOPE).any():
        return tables
    label = test["label"].where(test["label"] != config.out_of_scope_label, OUT_OF_SCOPE)
    return {**tables, "test": test.assign(label=label)}


def _checked(
    gathered: Gathered,
    tables: dict[str, pd.DataFrame],
    encoded: dict[str, Encoded],
    config: TrainConfig,
    out: Path,
) -> DataCheck:
    """Check the data, and write the result as JSON."""
    check = check_data(
        _with_one_name(tables, config),
        config.task,
        gathered.problems,
        max_seq_len=config.max_seq_len,
        lengths={split: encoded[split].whole_lengths for split in tables},
        schemes=gathered.schemes,
        uncovered=gathered.uncovered,
        seed=config.seed,
    )
    check.findings.extend(_not_carried_over(gathered))
    write_json(out / CHECK, check.to_dict())
    return check


def _not_carried_over(gathered: Gathered) -> Iterator[Finding]:
    """Notes on the parts of an export that are not carried over, and on columns of tables."""
    for file, names in gathered.unread.items():
        message = (
            f"{file}: columns that are not read: {listed(names, 50)}; if one should be, set its "
            "field, such as label_column or group_column"
        )
        yield Finding("unread-columns", "note", "", len(names), len(names), message)
    for kind, found in gathered.carried.left.items():
        count, place = found["count"], found["places"][0]
        message = f"{kind}: not carried over from the export; the first at {place}"
        yield Finding("not-carried-over", "note", "", count, count, message)


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


def _absolute(input_path: str) -> str:
    """Absolute path of local data, independent of the working directory; URIs unchanged."""
    return str(Path(input_path).absolute()) if Path(input_path).exists() else input_path


def _languages(table: pd.DataFrame) -> dict[str, int]:
    return {str(k): int(v) for k, v in table["lang"].value_counts().sort_index().items()}


def _log(summary: Summary) -> None:
    logger.info(
        "rows %s; %d labels, %d tags; %d tokens kept from the teacher's vocabulary",
        ", ".join(f"{split} {count}" for split, count in summary["rows"].items()),
        summary["labels"]["sequence"],
        summary["labels"]["token"],
        summary["vocabulary"],
    )
