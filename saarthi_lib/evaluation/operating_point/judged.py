"""Answers of a bundle to labelled rows, as far as a threshold depends on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.evaluation.evaluate import gold_answers, predict_table
from saarthi_lib.evaluation.metrics import in_scope
from saarthi_lib.evaluation.selective_metrics import answered_right
from saarthi_lib.inference.answers import NO_ANSWER_FITS
from saarthi_lib.inference.predictor import Predictor

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Judged:
    """Answers to labelled rows, compared with the gold answers.

    Attributes:
        name: the rows, for people: a file, or a split of a run.
        languages: language of each text, [texts].
        confidence: confidence of each answer, [texts].
        right: whether the label, or else every tag, is right, [texts].
        within: whether the text is in scope: the bundle has its label, [texts].
        fits: whether the text gets an answer at the lowest threshold; without one, its likeliest
            label is the out-of-scope class, [texts].
    """

    name: str
    languages: Sequence[str]
    confidence: Floats
    right: Bools
    within: Bools
    fits: Bools

    @classmethod
    def of(cls, predictor: Predictor, table: pd.DataFrame, name: str) -> Self:
        """Answer labelled rows, and compare the answers."""
        given, predictions = predict_table(predictor, table)
        gold, labels = gold_answers(table, predictor.task), predictor.labels.answers
        return cls(
            name,
            list(table["lang"]),
            np.array([answer.confidence for answer in predictions], dtype=np.float64),
            answered_right(gold, given).astype(np.bool_),
            np.isin(np.arange(len(table)), in_scope(gold, labels, len(table))),
            np.array([answer.reason != NO_ANSWER_FITS for answer in predictions], dtype=np.bool_),
        )

    def rows(self, chosen: Bools) -> "Judged":
        """Select some rows."""
        return Judged(
            self.name,
            [lang for lang, kept in zip(self.languages, chosen.tolist(), strict=True) if kept],
            self.confidence[chosen],
            self.right[chosen],
            self.within[chosen],
            self.fits[chosen],
        )

    def of_language(self, language: str | None) -> "Judged":
        """Select the rows of a language; None: all rows."""
        if language is None:
            return self
        return self.rows(np.array([lang == language for lang in self.languages], dtype=np.bool_))
