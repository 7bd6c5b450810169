"""Answer every row of a table of texts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.formats import Fault
from saarthi_lib.errors import DataError
from saarthi_lib.evaluation.tabular.columns import trained_columns
from saarthi_lib.evaluation.tabular.source import Part, TextTable
from saarthi_lib.evaluation.tabular.target import Column, target_kind, writer
from saarthi_lib.inference.checks import check_top_k
from saarthi_lib.inference.predictor import Prediction, Predictor
from saarthi_lib.storage import whole_file
from saarthi_lib.tasks import has_sequence_head, has_token_head, uses_bio
from saarthi_lib.text.normalize import Normalizer

EMPTY_TEXT = "empty_text"  # reason of the rows without a text
SHOWN = 5  # row numbers


@dataclass
class Rows:
    """Some rows: how many, and the numbers of the first ones."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, numbers: Iterable[int]) -> None:
        """Count rows."""
        for number in numbers:
            self.count += 1
            if len(self.first) < SHOWN:
                self.first.append(number)


@dataclass
class Answered:
    """Rows of an answered table.

    Attributes:
        rows: number of rows.
        empty: rows without a text, which abstain.
        named: number of rows with a language.
        cut: rows with a text beyond the model's maximum length.
        notes: rows that were read in a way worth a remark, by kind; and the first remark.
    """

    rows: int = 0
    named: int = 0
    empty: Rows = field(default_factory=Rows)
    cut: Rows = field(default_factory=Rows)
    notes: dict[str, tuple[Rows, str]] = field(default_factory=dict)

    def note(self, faults: Iterable[Fault]) -> None:
        """Count remarks on rows."""
        for fault in faults:
            rows, _ = self.notes.setdefault(fault.kind, (Rows(), fault.message))
            rows.add([fault.row])


def predict_file(
    predictor: Predictor,
    source: Path,
    target: Path,
    *,
    text_column: str = "",
    language_column: str = "",
    data_format: str = "auto",
    top_k: int = 1,
    threshold: float | None = None,
    prefix: str = "",
    progress: Callable[[int], None] = lambda rows: None,
) -> Answered:
    """Add answers to a table of texts, in any format of training data but CoNLL.

    Each row keeps its place and all its columns. New columns: `prediction` for tasks with a label,
    `top_k` if more than one is wanted, `entities` or `tokens` for tasks that tag words, and always
    `probability`, `confidence`, `threshold`, `abstained` and `reason` (of the abstention). Lists
    are JSON. A row without a text abstains with the reason `empty_text`. The row's language selects
    the threshold, if the bundle has thresholds by language.

    Args:
        predictor: predictor of the bundle.
        source: table to read.
        target: table to write, atomically; the extension determines the format.
        text_column: column of texts; empty: that of the training data, or a usual name.
        language_column: column of languages; empty: as `text_column`, if the table has one.
        data_format: format of the source; "auto": detect it by content.
        top_k: number of labels for each text.
        threshold: lowest confidence for an answer; None: the bundle's.
        prefix: text before the names of the new columns.
        progress: callback that receives the number of rows of each part.

    Raises:
        DataError: the table cannot be read, or has a new column already; the message names the
            file and the row or column.
        ConfigError: `data_format` is unknown.
        InputError: the bundle gives no labels, but `top_k` asks for them.
    """
    check_top_k(predictor.task, top_k)
    TrainConfig.from_mapping({"data_format": data_format})  # checks the name
    kind = target_kind(target)
    given = {"text_column": text_column, "language_column": language_column}
    trained = trained_columns(predictor, source, data_format)
    named = trained | {name: column for name, column in given.items() if column}
    table = TextTable.of(source, named, data_format)
    if target.exists() and target.samefile(source):
        raise DataError(f"--output {target}: is the file of --file itself; give another name")
    answered = Answered()
    with whole_file(target) as aside, writer(kind, aside, table) as write:
        for part in table.parts():
            answers = _answers(predictor, part, top_k, threshold, answered)
            columns = _columns(predictor, answers, top_k)
            added = {prefix + name: values for name, values in columns.items()}
            _check_free(part, added)
            write(part, added)
            progress(len(answers))
        _check_answered(source, answered, language_column)
    return answered


def _check_answered(source: Path, answered: Answered, language_column: str) -> None:
    """Check that a table has rows, and some of them have a text, and a language if it is named."""
    if not answered.rows:
        raise DataError(f"{source}: holds no rows; fill it in")
    if answered.empty.count == answered.rows:
        raise DataError(
            f"{source}: row {answered.empty.first[0]}: the text is empty, as in all "
            f"{answered.rows} rows; fill it in, or set text_column"
        )
    if language_column and not answered.named:
        raise DataError(
            f"{source}: no row has a language in '{language_column}'; correct language_column"
        )


def _answers(
    predictor: Predictor, part: Part, top_k: int, threshold: float | None, answered: Answered
) -> list[Prediction | None]:
    """An answer for each row; None for a row without a text."""
    normalize = Normalizer(predictor.manifest.normalization)
    answers: list[Prediction | None] = [None] * len(part.numbers)
    filled: dict[int, str] = {}
    for row, text in enumerate(part.texts):
        if text is None or text != text:  # NaN
            continue
        if not isinstance(text, str):
            raise DataError(
                f"{part.path}: row {part.numbers[row]}: the text is {text!r}, not a text; write it "
                "in quotes, or name another column with text_column"
            )
        # A letter or digit makes a text visible.
        if any(map(str.isalnum, text)) or normalize(text).strip():
            filled[row] = text
    langs = [part.langs[row] for row in filled]
    texts = [*filled.values()]
    found = predictor.predict(texts, langs, top_k, threshold) if texts else []
    for row, answer in zip(filled, found, strict=True):
        answers[row] = answer
    answered.rows += len(answers)
    answered.named += sum(lang is not None for lang in part.langs)
    rows = [*zip(part.numbers, answers, strict=True)]
    answered.empty.add(number for number, answer in rows if answer is None)
    answered.cut.add(number for number, answer in rows if answer and answer.truncated)
    answered.note(part.notes)
    return answers


def _columns(
    predictor: Predictor, answers: Sequence[Prediction | None], top_k: int
) -> dict[str, Column]:
    def of_each(
        take: Callable[[Prediction], Any], type: type = str, otherwise: Any = None
    ) -> Column:
        return Column([otherwise if each is None else take(each) for each in answers], type)

    columns: dict[str, Column] = {}
    if has_sequence_head(predictor.task):
        columns["prediction"] = of_each(lambda answer: answer.label)
        if top_k > 1:
            columns["top_k"] = of_each(
                lambda a: [{"label": label, "probability": p} for label, p in a.top_k], otherwise=[]
            )
    if has_token_head(predictor.task):
        name = "entities" if uses_bio(predictor.task) else "tokens"
        columns[name] = of_each(lambda answer: dict(answer.to_dict())[name], otherwise=[])
    columns["probability"] = of_each(lambda answer: float(answer.probability), float)
    columns["confidence"] = of_each(lambda answer: float(answer.confidence), float)
    columns["threshold"] = of_each(lambda answer: answer.threshold, float)
    columns["abstained"] = of_each(lambda answer: bool(answer.abstained), bool, True)
    columns["reason"] = of_each(lambda answer: answer.reason, otherwise=EMPTY_TEXT)
    return columns


def _check_free(part: Part, added: Iterable[str]) -> None:
    """Check that the table has none of the new columns.

    Raises:
        DataError: names the columns of the table that would be overwritten.
    """
    last: Sequence[str] = ()
    for number, names in zip(part.numbers, part.names, strict=True):
        if names is not last and (taken := [name for name in added if name in names]):
            raise DataError(
                f"{part.path}: row {number}: has the column{'s' * (len(taken) > 1)} "
                f"{', '.join(taken)} already, which the answers would overwrite; rename it, or "
                "name the new columns otherwise: --prefix answered_"
            )
        last = names
