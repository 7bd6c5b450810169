"""Read labelled text of several formats into one table.

The table (pandas, pyarrow types) has one row per text: `file` and `row` (its origin), `text`
(normalized) and `lang`. Tasks with a sequence head add `label`; `group_column` adds `group`. Tasks
with a token head add `words`, `starts`, `ends` (character offsets in the text) and `tags` to
labelled rows. Part-of-speech tagging keeps the words of the file. Entity recognition uses the words
that the service splits, and cuts a word where an entity begins or ends inside it. Unusable rows are
listed, counted and left out.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pyarrow as pa

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.alignment import Span, cut_at_entities
from saarthi_lib.data.formats import (
    EXTENSIONS,
    Columns,
    Fault,
    RawRow,
    missing_word,
    raw_rows,
    recognize,
)
from saarthi_lib.data.tag_schemes import detect_scheme, is_well_formed, to_bio
from saarthi_lib.errors import DataError
from saarthi_lib.layout import is_run
from saarthi_lib.logs import get_logger
from saarthi_lib.tasks import OUTSIDE, bio_spans, has_sequence_head, has_token_head, uses_bio
from saarthi_lib.text.language_names import LANGUAGE_NAMES as LANGUAGE_NAMES
from saarthi_lib.text.language_names import UNKNOWN_LANGUAGE as UNKNOWN_LANGUAGE
from saarthi_lib.text.language_names import language_name as language_name
from saarthi_lib.text.normalize import Normalizer
from saarthi_lib.text.words import split_words, word_spans

logger = get_logger("data")

# Words in the name of a file or folder that name a split.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test",),
    "transfer": ("transfer", "unlabelled", "unlabeled"),
    "clean": ("clean", "trusted"),
}

_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
_LANGUAGES = {*LANGUAGE_NAMES.values()}
_UNIVERSAL_DEPENDENCIES = re.compile(r"([a-z]{2,3})_[a-z0-9]+-ud-([a-z]+)")
_NOT_DATA = {"readme", "license", "licence", "notice", "citation", "changelog", "copying", "notes"}
_FILLERS = {"of", "part", "shard", "split", "set", "data", "dataset"}
_SHOWN = 3  # most problems listed in an error
_KINDS = {
    "malformed-tag": "malformed tags",
    "malformed-line": "malformed lines",
    "empty-text": "empty texts",
    "empty-label": "empty labels",
    "bad-entity": "entities that cannot be used",
    "bad-words": "words that cannot be used",
    "not-json": "rows that are not JSON",
    "wrong-cells": "rows with wrong cells",
}

# Repairs of rows that stay in the table.
_REPAIRS = {
    "widened-entity": "entities begin or end inside a word; each was widened to whole words",
    "split-word": "rows have an entity that begins or ends inside a word; predictions cover whole "
    "words and cannot find it",
    "lost-word": "words are removed by normalization; they count as wrong",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A malformed or repaired row.

    Attributes:
        file: file name, relative to the input folder.
        row: line number in a text file (line of the word, for a malformed tag) or row number in a
            Parquet file; both start at 1.
        kind: "malformed-tag", "malformed-line", "empty-text", "empty-label", "bad-entity",
            "bad-words", "not-json", "wrong-cells", "widened-entity", "split-word" or "lost-word".
        message: description of the problem and its fix.
        left_out: whether the row is missing from the table.
        sentence: `row` of the first problem in the same sentence; groups several problems.
    """

    file: str
    row: int
    kind: str
    message: str
    left_out: bool
    sentence: int = 0


@dataclass(frozen=True)
class ReadOptions:
    """Reading options: fields of the configuration's data section."""

    task: str
    format: str = "auto"
    text_column: str = ""
    label_column: str = ""
    language_column: str = ""
    group_column: str = ""
    language: str = ""
    normalization: str = "none"
    word_splitting: str = "punctuation"
    max_malformed_share: float = 0.05

    @classmethod
    def of(cls, config: TrainConfig) -> "ReadOptions":
        """Return the reading options of a configuration."""
        return cls(
            task=config.task,
            format=config.data_format,
            text_column=config.text_column,
            label_column=config.label_column,
            language_column=config.language_column,
            group_column=config.group_column,
            language=config.language,
            normalization=config.normalization,
            word_splitting=config.word_splitting,
            max_malformed_share=config.max_malformed_share,
        )

    def columns(self, labelled: bool) -> Columns:
        """Return the columns to read; without a sequence head `label_column` names the tags."""
        sequence = has_sequence_head(self.task)
        return Columns(
            text=self.text_column,
            label=self.label_column if sequence else "",
            language=self.language_column,
            group=self.group_column if labelled else "",
            tags="" if sequence else self.label_column,
            labelled=labelled,
            sequence=sequence and labelled,
        )


@dataclass(frozen=True)
class SplitFile:
    """A file of a split, and the language in its name ("" if the name contains none)."""

    path: Path
    language: str = ""


# --- the input folder -----------------------------------------------------------------------------


def find_splits(
    folder: str | Path, format: str = "auto", *, log: bool = True
) -> dict[str, list[SplitFile]]:
    """Find the files of each split in an input folder.

    File and folder names contain the split and the language: `train.csv`, `hindi-train.jsonl`,
    `test_en.csv`, `mr_ufal-ud-dev.conllu`, `train/part-0.parquet`, `hindi/train.conll`. Files whose
    name is a whole language (`hindi.conllu` next to `test.conllu`, not `hi.conllu`) belong to
    train. If all names lack a split, a single file or files with a language in their names do, too.
    Other files are ignored, and so are the folders of runs.

    Args:
        folder: the input folder.
        format: "auto", or the format of all files regardless of extension.
        log: whether to log the files and folders that are ignored.

    Returns:
        Files of each split found ("train", "validation", "test", "transfer", "clean"), sorted by
        name.

    Raises:
        DataError: the folder or a train file is missing, or two files differ only in extension.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; set input_path to the data's folder")
    runs: list[Path] = []
    files = [
        (split, SplitFile(path, language))
        for path, split, language in _data_files(root, runs)
        if format != "auto" or path.suffix.lower() in EXTENSIONS
    ]
    if runs and log:
        told = ", ".join(_relative(path, root) for path in runs)
        logger.info("%s: ignored, for they are folders of runs: %s", root, told)
    no_split = not any(split for split, _ in files)
    if no_split and (len(files) == 1 or all(file.language for _, file in files)):
        files = [("train", file) for _, file in files]
    elif named := [f.path for split, f in files if not split and _is_language(f.path, root)]:
        files = [("train" if file.path in named else split, file) for split, file in files]
        if log:
            told = ", ".join(_relative(path, root) for path in named)
            logger.warning("%s: read as train, for their names are languages: %s", root, told)
    found = {
        split: [file for its, file in files if its == split]
        for split in SPLIT_NAMES
        if any(its == split for its, _ in files)
    }
    ignored = ", ".join(_relative(file.path, root) for split, file in files if not split)
    if "train" not in found:
        also = f" (found: {ignored})" if ignored else ""
        raise DataError(
            f"{root}: no train file{also}; put in train with one of {', '.join(EXTENSIONS)}"
        )
    if ignored and log:
        logger.warning("%s: ignored, for their names tell no split: %s", root, ignored)
    for split, its_files in found.items():
        _check_extensions(root, split, its_files)
    return found


def lies_in_data(place: Path, folder: Path) -> bool:
    """Whether `find_splits` would take files in a place for data of an input folder.

    The place need not exist. Its name, or that of a folder around it, contains a split or language.
    """
    place, folder = place.resolve(), folder.resolve()
    if not place.is_relative_to(folder) or place == folder:
        return False
    first = place.relative_to(folder).parts[0]
    return not first.startswith((".", "_")) and any(name_tells(first))


def _data_files(root: Path, runs: list[Path]) -> Iterator[tuple[Path, str, str]]:
    """Candidate data files, each with the split and the language in its name.

    Args:
        root: the input folder.
        runs: list that receives the folders of runs, which are not searched.
    """
    for path in sorted(root.iterdir()):
        if path.is_file() and _may_be_data(path):
            yield path, *name_tells(path.stem)
        elif path.is_dir() and not path.name.startswith((".", "_")):
            split, language = name_tells(path.name)
            inner = _files_below(path, runs) if split or language else []
            for file in filter(_may_be_data, inner):
                own_split, own_language = name_tells(file.stem)
                yield file, own_split or split, own_language or language


def _files_below(folder: Path, runs: list[Path]) -> list[Path]:
    """All files below a folder, sorted, except those of runs."""
    inner = [folder, *sorted(folder.rglob("*"))]
    found = [path for path in inner if path.is_dir() and is_run(path)]
    runs += [path for path in found if set(found).isdisjoint(path.parents)]
    return [path for path in inner if path.is_file() and set(found).isdisjoint(path.parents)]


def _may_be_data(path: Path) -> bool:
    return not path.name.startswith((".", "_")) and path.stem.lower() not in _NOT_DATA


def name_tells(stem: str) -> tuple[str, str]:
    """Split and language in a file name; each is "" if the name lacks it."""
    stem = stem.lower()
    universal = _UNIVERSAL_DEPENDENCIES.fullmatch(stem)
    if universal and universal[2] in _SPLIT_OF:
        return _SPLIT_OF[universal[2]], language_name(universal[1])
    parts = _parts(stem)
    splits = [_SPLIT_OF[part] for part in parts if part in _SPLIT_OF]
    rest = [part for part in parts if part not in _SPLIT_OF]
    if len(splits) > 1 or (splits and _SPLIT_OF.keys().isdisjoint((parts[0], parts[-1]))):
        return "", ""
    return (splits[0] if splits else ""), _language_of(rest)


def _parts(stem: str) -> list[str]:
    return [
        part
        for part in re.split(r"[\W_]+", stem)
        if part and not part.isdigit() and part not in _FILLERS
    ]


def _is_language(path: Path, root: Path) -> bool:
    """Whether a file's name is a whole language ("id" is rather an identifier).

    A name without words (`hindi/part-1.csv`) has that of its folder.
    """
    parts = _parts(path.stem.lower()) or _parts(path.relative_to(root).parts[0].lower())
    return len(parts) == 1 and parts[0] in _LANGUAGES


def _language_of(parts: Sequence[str]) -> str:
    name = next((part for part in parts if part in _LANGUAGES), "")
    code = "-".join(parts)
    if not name and re.fullmatch(r"[a-z]{2,3}(-[a-z]{2}|-[a-z]{4})?", code):
        name = language_name(code)
    return name if name in _LANGUAGES else ""


def _check_extensions(root: Path, split: str, files: Sequence[SplitFile]) -> None:
    first: dict[Path, Path] = {}
    for path in (file.path for file in files):
        other = first.setdefault(path.with_suffix(""), path)
        if other is not path:
            listed = f"{_relative(other, root)}, {_relative(path, root)}"
            raise DataError(f"{root}: several files for the {split} split ({listed}); keep one")


def _relative(path: Path, root: Path | None) -> str:
    return path.relative_to(root).as_posix() if root else path.name


# --- the table ------------------------------------------------------------------------------------


def read_table(
    file: SplitFile | str | Path,
    options: ReadOptions,
    *,
    labelled: bool = True,
    problems: list[Problem] | None = None,
    root: Path | None = None,
) -> pd.DataFrame:
    """Read one whole file; see `read_chunks` for arguments and errors."""
    chunks = read_chunks(file, options, labelled=labelled, problems=problems, root=root)
    return pd.concat(chunks, ignore_index=True)


def read_chunks(
    file: SplitFile | str | Path,
    options: ReadOptions,
    *,
    labelled: bool = True,
    problems: list[Problem] | None = None,
    root: Path | None = None,
    rows: int = 50_000,
) -> Iterator[pd.DataFrame]:
    """Read one file in bounded memory.

    Args:
        file: file to read.
        options: task (determines the columns), column names and other options.
        labelled: whether rows must carry labels; a transfer file needs only text.
        problems: list that receives the malformed and repaired rows.
        root: input folder; file names in the table are relative to it.
        rows: rows of the file per table, before unusable rows are left out.

    Raises:
        DataError: the file cannot be read. The message names the file, the row or column, and the
            fix. A share of unusable rows above `max_malformed_share` raises at the end of the
            file; a first table without a usable row raises at once.
    """
    source = file if isinstance(file, SplitFile) else SplitFile(Path(file))
    if not source.path.is_file():
        raise DataError(f"{source.path}: there is no such file; correct the path")
    columns = options.columns(labelled)
    kind = recognize(source.path, columns) if options.format == "auto" else options.format
    if kind == "conllu" and labelled and uses_bio(options.task) and not columns.tags:
        raise DataError(
            f"{source.path}: CoNLL-U holds parts of speech, not entities; set label_column to the "
            "column that holds them, or give CoNLL"
        )
    scheme = _scheme(source.path, kind, columns) if labelled and uses_bio(options.task) else ""
    convert = _Converter(options, labelled, source.language, scheme)
    log = _Log(source.path, _relative(source.path, root), options.max_malformed_share, problems)
    raws = raw_rows(source.path, kind, columns)
    while batch := list(islice(raws, rows)):
        good = list(_converted(batch, convert, log))
        log.rows += len(batch)
        if good:
            yield _table(good, convert.schema, log.name)
        elif not log.used:
            log.fail()
        log.used += len(good)
    log.finish()
    if labelled:
        convert.check_columns(source.path)


def _converted(
    batch: list[RawRow], convert: "_Converter", log: "_Log"
) -> Iterator[tuple[Any, ...]]:
    for raw in batch:
        try:
            yield convert(raw)
        except _LeftOutError as error:
            log.add(error.faults, left_out=True)
    log.add(convert.take_repairs(), left_out=False)


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema, name: str) -> pd.DataFrame:
    columns = [
        pa.array(values, kind)
        for values, kind in zip(zip(*rows, strict=True), schema.types, strict=True)
    ]
    file = pa.repeat(pa.scalar(name, pa.string()), len(rows))
    table = pa.table([file, *columns], names=["file", *schema.names])
    return table.to_pandas(types_mapper=pd.ArrowDtype)


def _scheme(path: Path, kind: str, columns: Columns) -> str:
    """Scheme of a file's tags, detected up to the first row without a tag for each word."""
    counts: Counter[str] = Counter()
    for raw in raw_rows(path, kind, columns):
        if raw.faults:
            continue
        if not _are_texts(raw.tags):
            break
        counts.update(raw.tags)
    return detect_scheme(counts)


class _Log:
    """Collects the problems of a file's rows and reports them once."""

    def __init__(
        self, path: Path, name: str, max_share: float, problems: list[Problem] | None
    ) -> None:
        self.name = name
        self.rows = self.used = 0
        self._path = path
        self._max_share = max_share
        self._problems: list[Problem] = [] if problems is None else problems
        self._first: list[Problem] = []  # rows left out only
        self._counts: Counter[str] = Counter()

    def add(self, faults: Sequence[Fault], left_out: bool) -> None:
        new = [
            Problem(self.name, *fault, left_out, (faults[0] if left_out else fault).row)
            for fault in faults
        ]
        self._problems.extend(new)
        self._counts.update(problem.kind for problem in new)
        if left_out:
            self._first.extend(new[: _SHOWN - len(self._first)])

    def finish(self) -> None:
        """Log a warning that counts the rows left out or repaired.

        Raises:
            DataError: too many rows were left out, or the file is empty.
        """
        left_out = self.rows - self.used
        if not self.used or left_out > self._max_share * self.rows:
            self.fail()
        told = [
            f"{left_out} of {self.rows} rows are left out ({self._kinds()}), the first at row "
            f"{self._first[0].row}: {self._first[0].message}"
        ] if left_out else []  # fmt: skip
        told += [
            f"{count} {what}" for kind, what in _REPAIRS.items() if (count := self._counts[kind])
        ]
        if told:
            logger.warning("%s: %s", self.name, "; ".join(told))

    def fail(self) -> NoReturn:
        """Raise a DataError that lists the first problems and counts all."""
        if not self.rows:
            raise DataError(f"{self._path}: holds no rows; fill it in or remove it")
        first, *others = (f"row {problem.row}: {problem.message}" for problem in self._first)
        also = "".join(f"\n  also {other}" for other in others)
        limit = (
            f", more than max_malformed_share ({self._max_share:g}) allows: correct them or allow "
            "more"
        )
        raise DataError(
            f"{self._path}: {first}. {self.rows - self.used} of {self.rows} rows cannot be used "
            f"({self._kinds()}){limit if self.used else ''}{also}"
        )

    def _kinds(self) -> str:
        counts = ((kind, n) for kind, n in self._counts.most_common() if kind in _KINDS)
        return ", ".join(f"{_KINDS[kind]}: {n}" for kind, n in counts)


class _LeftOutError(Exception):
    """A row that cannot be used."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__()
        self.faults = faults


class _Converter:
    """Converts a raw row to the table's columns, or raises `_LeftOutError` with the faults.

    Attributes:
        schema: columns without `file`, in the order of the values that a call returns.
    """

    def __init__(self, options: ReadOptions, labelled: bool, language: str, scheme: str) -> None:
        self._task = options.task
        self._labelled = labelled
        self._scheme = scheme
        self._has_label = labelled and has_sequence_head(options.task)
        self._has_words = has_token_head(options.task)
        self._has_group = labelled and bool(options.group_column)
        self._normalizer = Normalizer(options.normalization)
        self._splitting = options.word_splitting
        self._language = lru_cache(1024)(language_name)
        self._default_language = language_name(language or options.language)
        self._repairs: list[Fault] = []
        named = {
            "language_column": options.language_column,
            "group_column": options.group_column,
        }
        self._unseen = {option: column for option, column in named.items() if column}
        texts, lists = pa.string(), pa.list_(pa.string())
        fields = [("row", pa.int64()), ("text", texts), ("lang", texts)]
        fields += [("label", texts)] * self._has_label
        if self._has_words and labelled:
            places = pa.list_(pa.int32())
            fields += [("words", lists), ("starts", places), ("ends", places), ("tags", lists)]
        self.schema = pa.schema(fields + [("group", texts)] * self._has_group)

    def take_repairs(self) -> list[Fault]:
        """Return the repairs since the last call."""
        repairs, self._repairs = self._repairs, []
        return repairs

    def __call__(self, raw: RawRow) -> tuple[Any, ...]:
        if raw.faults:
            raise _LeftOutError(*raw.faults)
        lang = self._default_language
        if isinstance(raw.lang, str) and raw.lang.strip():
            self._unseen.pop("language_column", None)
            lang = self._language(raw.lang)
        values: tuple[Any, ...]
        if self._has_words:
            text, *lists = self._words_of(raw)
            values = (raw.row, text, lang, *self._label_of(raw), *lists)
        else:
            values = (raw.row, self._normalized(raw, raw.text), lang, *self._label_of(raw))
        if not self._has_group:
            return values
        if raw.group is not None:
            self._unseen.pop("group_column", None)
        return (*values, None if raw.group is None else str(raw.group))

    def check_columns(self, path: Path) -> None:
        """Raise a DataError for a configured column that is missing in every row."""
        for option, column in self._unseen.items():
            raise DataError(f"{path}: no row has a '{column}'; correct {option}")

    def _normalized(self, raw: RawRow, text: Any) -> str:
        if isinstance(text, str) and not text.isspace():
            text = self._normalizer(text)
            if text:
                return text
        raise _left_out(raw, "empty-text", "the text is empty; remove the row or fill it in")

    def _label_of(self, raw: RawRow) -> tuple[str, ...]:
        if not self._has_label:
            return ()
        label = raw.label
        if isinstance(label, list | dict):
            raise _left_out(raw, "empty-label", f"the label is {label!r}; give one label")
        text = "" if label is None or label != label else str(label).strip()  # NaN != NaN
        if not text:
            raise _left_out(raw, "empty-label", "the label is empty; remove the row or fill it in")
        return (text,)

    def _words_of(self, raw: RawRow) -> tuple[Any, ...]:
        """Normalized text; labelled rows add words, starts, ends and tags."""
        text, words, tags = raw.text, raw.words, raw.tags if self._labelled else None
        if isinstance(words, list) and words and isinstance(words[0], dict):
            words = None  # tokens with offsets repeat the text
        if words is None and tags and _are_texts(tags) and isinstance(text, str):
            words = text.split()
        if words is None:
            normal = self._normalized(raw, text)
            return self._split(raw, normal) if self._labelled else (normal,)
        self._check_words(raw, words, tags)
        if text is None:
            text = " ".join(words)
        normal = self._normalized(raw, text)
        if tags is None:
            return (normal,)
        tags = self._bio(raw, words, tags)
        spans = self._places(raw, text, normal, words)
        if not uses_bio(self._task):
            shown = [normal[a:b] or word for (a, b), word in zip(spans, words, strict=True)]
            return (normal, shown, *zip(*spans, strict=True), tags)
        return self._cut(raw, normal, spans, tags)

    def _places(self, raw: RawRow, text: str, normal: str, words: list[str]) -> list[Span]:
        """Character spans of the file's words in the normalized text."""
        alignment = None if text == normal else self._normalizer.align(text)
        spans: list[Span] = []
        for word, (start, end) in zip(words, word_spans(text, words), strict=True):
            place = alignment.to_normalized(start, end) if alignment else (start, end)
            if spans and place[0] < spans[-1][1]:
                place = (spans[-1][1], max(place[1], spans[-1][1]))
            if place[0] == place[1]:
                message = f"normalization removes the word {word!r}; no prediction can find it"
                self._repairs.append(Fault(raw.row, "lost-word", message))
            spans.append(place)
        return spans

    def _cut(self, raw: RawRow, text: str, given: list[Span], tags: list[str]) -> tuple[Any, ...]:
        """Text, and the words that the service splits, tagged with the file's entities."""
        entities: list[tuple[int, int, str]] = []
        for first, after, label in bio_spans(tags):
            real = [span for span in given[first:after] if span[0] < span[1]] or [given[first]]
            entities.append((real[0][0], real[-1][1], label))
        words = split_words(text, self._splitting)
        spans, found = cut_at_entities(words, entities)
        if len(spans) > len(words):
            message = "an entity begins or ends inside a word; predictions cover whole words"
            self._repairs.append(Fault(raw.row, "split-word", message))
        return (text, [text[a:b] for a, b in spans], *zip(*spans, strict=True), found)

    def _check_words(self, raw: RawRow, words: Any, tags: Any) -> None:
        """Check that the words occur in the text in order and have one tag each."""
        message = ""
        if not words or not _are_texts(words) or not all(words):
            message = "'words' must be a list of texts that are not empty"
        elif self._labelled and tags is None:
            message = "the words have no 'tags'; give one for each word"
        elif self._labelled and not (_are_texts(tags) and all(tags)):
            message = "'tags' must be a list of texts that are not empty"
        elif self._labelled and len(tags) != len(words):
            message = f"{len(words)} words but {len(tags)} tags; give each word one"
        elif isinstance(raw.text, str) and raw.lines is None:
            missing = missing_word(words, raw.text)
            message = f"the word {missing!r} is not in the text; correct one" if missing else ""
        if message:
            raise _left_out(raw, "bad-words", message)

    def _bio(self, raw: RawRow, words: list[str], tags: list[str]) -> list[str]:
        """Check the tags; convert entity tags from the file's scheme to BIO, keep POS tags."""
        if not uses_bio(self._task):
            wrong = [at for at, tag in enumerate(tags) if tag == "_" or not tag.isprintable()]
            form = "a tag"
        else:
            wrong = [at for at, tag in enumerate(tags) if not is_well_formed(tag, self._scheme)]
            form = "O, B-label or I-label" if self._scheme == "bio" else "a tag of its file's form"
        if wrong:
            raise _LeftOutError(
                *(
                    Fault(
                        raw.lines[at] if raw.lines else raw.row,
                        "malformed-tag",
                        f"the word {words[at]!r} has the tag {tags[at]!r}, which is not {form}; "
                        "correct it",
                    )
                    for at in wrong
                )
            )
        return to_bio(tags, self._scheme) if uses_bio(self._task) else tags

    def _split(self, raw: RawRow, text: str) -> tuple[Any, ...]:
        """Text, words, starts, ends, and tags converted from entity offsets."""
        if raw.tags is None:
            raise _left_out(
                raw,
                "bad-entity",
                "has neither 'entities' nor 'words' with 'tags'; give one of the two",
            )
        if not uses_bio(self._task):
            message = f"'{self._task}' needs a tag for each word (CoNLL, CoNLL-U)"
            raise _left_out(raw, "bad-words", message)
        spans = split_words(text, self._splitting)
        try:
            tags = self._entity_tags(raw, text, spans)
        except _BadEntityError as error:
            raise _left_out(raw, "bad-entity", str(error)) from None
        return (text, [text[a:b] for a, b in spans], *zip(*spans, strict=True), tags)

    def _entity_tags(self, raw: RawRow, text: str, spans: list[tuple[int, int]]) -> list[str]:
        """BIO tags for entities with character offsets, each widened to whole words."""
        entities = [_Entity.of(value) for value in raw.tags] if _is_list(raw.tags) else None
        if entities is None:
            raise _BadEntityError(_ENTITY_FORM)
        alignment = self._normalizer.align(raw.text) if entities else None
        tags = [OUTSIDE] * len(spans)
        for entity in sorted(entities, key=lambda entity: (entity.start, entity.end)):
            if not 0 <= entity.start < entity.end <= len(raw.text):
                raise _BadEntityError(f"{entity} covers no text; correct its offsets")
            assert alignment is not None
            start, end = alignment.to_normalized(entity.start, entity.end)
            touched = [at for at, (left, right) in enumerate(spans) if left < end and right > start]
            if start >= end or not touched:
                raise _BadEntityError(f"{entity} covers no text; correct its offsets")
            if any(tags[word] != OUTSIDE for word in touched):
                raise _BadEntityError(
                    f"{entity} overlaps another or shares a word with it; keep one of them"
                )
            covered = text[start:end]
            inner_start = start + len(covered) - len(covered.lstrip())
            inner_end = end - (len(covered) - len(covered.rstrip()))
            if spans[touched[0]][0] < inner_start or spans[touched[-1]][1] > inner_end:
                message = f"{entity} begins or ends inside a word; it was widened to whole words"
                self._repairs.append(Fault(raw.row, "widened-entity", message))
            for position, word in enumerate(touched):
                tags[word] = f"{'I' if position else 'B'}-{entity.label}"
        return tags


_ENTITY_FORM = "'entities' must be a list of entities with 'start', 'end' and 'label'"


class _BadEntityError(Exception):
    """The entities of a row cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class _Entity:
    start: int
    end: int
    label: str

    @classmethod
    def of(cls, value: Any) -> "_Entity":
        """Read an entity from an object or a list (start, end, label)."""
        try:
            if isinstance(value, dict):
                value = [
                    next(value[name] for name in names if value.get(name) is not None)
                    for names in (
                        ("start", "start_offset", "begin"),
                        ("end", "end_offset", "stop"),
                        ("label", "type", "entity", "slot"),
                    )
                ]
            start, end, label = value
            label = str(label).strip()
            if not label:
                raise ValueError
            return cls(int(start), int(end), label)
        except (StopIteration, RuntimeError, TypeError, ValueError):
            raise _BadEntityError(_ENTITY_FORM) from None

    def __str__(self) -> str:
        return f"entity '{self.label}' ({self.start}, {self.end})"


def _left_out(raw: RawRow, kind: str, message: str) -> _LeftOutError:
    return _LeftOutError(Fault(raw.row, kind, message))


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
