"""Test rows with the delivered model's answers, and counts of the training rows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import pandas as pd

from saarthi_lib.data.preprocess import CHECK, Prepared
from saarthi_lib.errors import ArtifactError
from saarthi_lib.evaluation.breakdown import answer_text, answers_of
from saarthi_lib.evaluation.evaluate import gold_answers
from saarthi_lib.evaluation.fixes.types import Fix, FixRow
from saarthi_lib.evaluation.metrics import Answers, in_scope
from saarthi_lib.layout import PREDICTIONS
from saarthi_lib.storage import read_json
from saarthi_lib.tasks import bio_spans, uses_bio
from saarthi_lib.text.words import words_of

TEXT_SHOWN = 200  # characters
ROWS_KEPT = 50  # of a fix
LABEL, ENTITY = "label", "entity"  # labels of texts and tags of words, and entity types

Counts = Mapping[str, Counter[str]]  # of names, by their kind: LABEL or ENTITY


@dataclass(frozen=True)
class Answered:
    """Test rows in scope, in their order.

    Attributes:
        task: task of the run.
        table: rows of `predictions.parquet`, with `file` and `row` if they are known.
        model: prefix of the delivered model's columns.
        trained: training rows (spans, words) of each label, entity type or tag; empty if unknown.
        languages: training rows of each language; empty if unknown.
        unseen: words of each row that no training row has; empty if unknown.
        findings: findings of the data check.
        refused: test rows out of scope that the model refuses, as it should.
    """

    task: str
    table: pd.DataFrame
    model: str
    trained: Counts = field(default_factory=dict)
    languages: Counter[str] = field(default_factory=Counter)
    unseen: Sequence[list[str]] = ()
    findings: Sequence[Mapping[str, Any]] = ()
    refused: int = 0

    @cached_property
    def gold(self) -> Answers:
        """Gold labels and tags."""
        return self._answers("gold")

    @cached_property
    def given(self) -> Answers:
        """The delivered model's labels and tags."""
        return self._answers(self.model)

    @cached_property
    def right(self) -> list[bool]:
        """Whether each answer of the delivered model is right."""
        return [bool(each) for each in self.table[f"{self.model}_right"]]

    @cached_property
    def wrong(self) -> list[int]:
        """Rows with a wrong answer."""
        return [row for row, right in enumerate(self.right) if not right]

    def teacher_knows(self, rows: Sequence[int]) -> bool:
        """Whether the teacher is right in most of the rows."""
        if "teacher_right" not in self.table:
            return False
        right = self.table["teacher_right"].iloc[list(rows)]
        return bool(right.mean() > 0.5)

    def shown(self, row: int, gold: str = "", answer: str = "", note: str = "") -> FixRow:
        """A row to look at; by default with its whole gold answer and the given one."""
        line = self.table.iloc[row]
        if not gold and not answer:
            gold = answer_text(self.task, self.table, self.gold, row)
            answer = answer_text(self.task, self.table, self.given, row)
        known = "file" in self.table
        return {
            "file": str(line["file"]) if known else "",
            "row": int(line["row"]) if known else None,
            "text": shortened(str(line["text"])),
            "lang": str(line["lang"]),
            "gold": gold,
            "answer": answer,
            "note": note,
        }

    def _answers(self, source: str) -> Answers:
        kinds = [kind for kind in ("label", "tags") if f"gold_{kind}" in self.table]
        columns = self.table[[f"{source}_{kind}" for kind in kinds]]
        return answers_of(columns.set_axis(kinds, axis=1))


def shortened(text: str) -> str:
    """At most `TEXT_SHOWN` characters."""
    return text if len(text) <= TEXT_SHOWN else text[: TEXT_SHOWN - 1] + "…"


def fix(
    kind: str,
    title: str,
    action: str,
    rows: Iterable[FixRow],
    count: int,
    errors: float | None = None,
) -> Fix:
    """A fix that keeps the first of its `count` rows; by default, each row is an error."""
    return {
        "kind": kind,
        "title": title,
        "action": action,
        "errors": round(count if errors is None else errors, 1),
        "count": count,
        "rows": list(islice(rows, ROWS_KEPT)),
    }


def answered_rows(
    task: str, predictions: pd.DataFrame, known: Sequence[str], data: Prepared | None
) -> Answered:
    """Collect the test rows of a run.

    Args:
        task: task of the run.
        predictions: content of `predictions.parquet`, a row for each test text.
        known: labels that the model can give; rows with others are out of scope.
        data: prepared data of the run; None if they were removed.

    Raises:
        ArtifactError: the predictions have another number of rows than the test split.
    """
    model = "quantized" if "quantized_right" in predictions else "final"
    labels = list(predictions["gold_label"]) if "gold_label" in predictions else ()
    within = in_scope(Answers(labels, ()), known, len(predictions))
    refused = refused_rows(predictions.drop(index=predictions.index[within]), model)
    if data is None:
        table = predictions.iloc[within].reset_index(drop=True)
        return Answered(task, table, model, refused=refused)
    test, train = data.table("test"), data.table("train")
    if len(test) != len(predictions):
        raise ArtifactError(
            f"{PREDICTIONS}: has {len(predictions):,} rows, but {data.folder}/test.parquet "
            f"{len(test):,}; restore the file, or train the run again"
        )
    places = {name: list(test[name]) for name in ("file", "row") if name in test}
    table = predictions.assign(**places).iloc[within].reset_index(drop=True)
    return Answered(
        task,
        table,
        model,
        count_names(gold_answers(train, task), task),
        Counter(train["lang"]),
        unseen_words(table["text"], train["text"]),
        read_json(data.folder / CHECK)["findings"] if (data.folder / CHECK).is_file() else (),
        refused,
    )


def refused_rows(outside: pd.DataFrame, model: str) -> int:
    """Number of rows out of scope that a model refuses."""
    column = f"{model}_abstained"
    return int(outside[column].sum()) if column in outside else 0


def count_names(answers: Answers, task: str) -> Counts:
    """Number of texts of each label, of entities of each type, and of words of each tag."""
    labels, entities = Counter(answers.labels), Counter[str]()
    for tags in answers.tags:
        if uses_bio(task):
            entities.update(name for _, _, name in bio_spans(tags))
        else:
            labels.update(tags)
    return {LABEL: labels, ENTITY: entities}


def unseen_words(texts: Iterable[str], train: Iterable[str]) -> list[list[str]]:
    """Words of each text that no training text has, in lower case; numbers are left out."""
    known = {word for text in train for word in words_of(text.lower())}
    return [
        [
            word
            for word in dict.fromkeys(words_of(text.lower()))
            if len(word) > 1 and word not in known and any(map(str.isalpha, word))
        ]
        for text in texts
    ]
