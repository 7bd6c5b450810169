"""Unlabelled text for distillation: rows of the user and augmented sentences."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.augment import Neighbours, Sentence, augment
from saarthi_lib.data.conversion import training_sentences
from saarthi_lib.data.gather import Gathered
from saarthi_lib.data.preprocess.teacher import TeacherText
from saarthi_lib.data.read import read_chunks
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import whole_file
from saarthi_lib.tasks import has_token_head
from saarthi_lib.text.normalize import Normalizer

logger = get_logger("data")

TRIAL_ROWS = 64  # rows per split in a trial run
AUGMENTED_FROM = 100_000  # most training rows to augment
GIVEN = "given"  # the `method` of the user's own transfer rows
SYNONYMS = "synonyms"  # and of sentences with the synonyms of an export
_SCHEMA = pa.schema(
    {
        **{"file": pa.string(), "row": pa.int64(), "text": pa.string()},
        **{"lang": pa.string(), "method": pa.string()},
    }
)


def write_transfer(
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
    held_out = gathered.held_out
    counts: Counter[str] = Counter()
    leaks = 0
    with whole_file(path) as aside, pq.ParquetWriter(aside, _SCHEMA) as writer:
        for chunk in chunks:
            known = chunk["text"].isin(held_out)
            leaks += int(known.sum())
            rows = chunk[~known]
            counts.update(map(str, rows["method"]))
            writer.write_table(pa.Table.from_pandas(rows, schema=_SCHEMA, preserve_index=False))
    reason = "transfer rows that stand in validation or test"
    if leaks:
        logger.warning("left out: %d %s", leaks, reason)
    gathered.left_out[reason] = gathered.left_out.get(reason, 0) + leaks
    return dict(counts)


def given_rows(gathered: Gathered, config: TrainConfig, root: Path) -> Iterator[pd.DataFrame]:
    """The user's own transfer rows; a trial reads only the first chunk."""
    for file in gathered.transfer:
        for chunk in read_chunks(
            file,
            config,
            labelled=False,
            problems=gathered.problems,
            root=root,
            unread=gathered.unread,
        ):
            yield gathered.languages.fill(chunk)[0].assign(method=GIVEN)
            if config.fast_dev_run:
                return


def synonym_rows(gathered: Gathered, config: TrainConfig, root: Path) -> Iterator[pd.DataFrame]:
    """Sentences with the synonyms of an export, made of its training rows; a trial takes few."""
    if not gathered.carried.synonyms:
        return
    train = gathered.tables["train"]
    kept = dict(zip(zip(train["file"], train["row"], strict=True), train["lang"], strict=True))
    made = training_sentences(gathered.carried, root, kept)
    normalize = Normalizer(config.normalization)
    rows = [
        (normalize(text), lang, SYNONYMS)
        for text, lang in islice(made, TRIAL_ROWS if config.fast_dev_run else None)
    ]
    table = pd.DataFrame([row for row in rows if row[0]], columns=["text", "lang", "method"])
    yield table.assign(file="", row=range(1, len(table) + 1))


def augmented_rows(gathered: Gathered, config: TrainConfig, teacher: TeacherText) -> pd.DataFrame:
    """Sentences made from the training rows."""
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
    needs_teacher = {"neighbours", "vocabulary"} & set(config.augmentation_methods)
    made = augment(
        sentences,
        config.augmentation_methods,
        TRIAL_ROWS if config.fast_dev_run else config.augmentation_size,
        config.seed,
        Neighbours(teacher.tokenizer, teacher.table)
        if needs_teacher and config.augmentation_size
        else None,
    )
    # The service normalizes text, so training text must be normalized too.
    normalize = Normalizer(config.normalization)
    rows = [(normalize(" ".join(each.words)), each.lang, each.method) for each in made]
    rows = [row for row in rows if row[0]]  # all words of a sentence may be invisible
    table = pd.DataFrame(rows, columns=["text", "lang", "method"])
    return table.assign(file="", row=range(1, len(table) + 1))
