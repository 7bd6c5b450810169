"""Metrics of calibration and abstention on labelled rows: the key `calibration` of scores."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.evaluation.calibration import (
    area_under_risk_coverage,
    expected_calibration_error,
)
from saarthi_lib.evaluation.evaluate import gold_answers
from saarthi_lib.evaluation.metrics import Answers, in_scope, score
from saarthi_lib.evaluation.scores import AbstentionScores, OutOfScopeScores
from saarthi_lib.evaluation.selective import out_of_scope_metrics
from saarthi_lib.inference.predictor import Prediction, Predictor
from saarthi_lib.tasks import bio_spans, has_sequence_head

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


def selective_metrics(
    predictor: Predictor, table: pd.DataFrame, given: Answers, predictions: Sequence[Prediction]
) -> AbstentionScores:
    """Calibration of a model's probabilities, and effect of its abstention.

    Args:
        predictor: predictor that made the predictions.
        table: labelled rows.
        given: predicted labels and tags.
        predictions: predictions with probabilities and confidence.

    Returns:
        `ece` (from the probability of each label, entity or token), `temperature`, and the values
        of `at_threshold`; with a threshold, `answered_main`, the main metric on the answered texts,
        `reasons`, the number of abstentions by reason, and `expected_coverage`, the interval of the
        coverage on texts like those of validation. Texts out of scope count only in
        `out_of_scope`.
    """
    task, manifest, labels = predictor.task, predictor.manifest, predictor.labels.answers
    gold = gold_answers(table, task)
    within = in_scope(gold, labels, len(table))
    probability, right = item_probabilities(
        task,
        gold.rows(within),
        given.rows(within),
        [predictions[row].probability for row in within],
        (probabilities_of(predictions[row]) for row in within),
    )
    calibration = manifest.calibration
    one_label = has_sequence_head(task)
    found: AbstentionScores = {
        "ece": round(expected_calibration_error(probability, right), 4),
        "temperature": calibration.temperature if one_label else calibration.token_temperature,
        **at_threshold(
            gold,
            given,
            np.array([answer.confidence for answer in predictions]),
            np.array([answer.abstained for answer in predictions]),
            manifest.threshold,
            labels,
            manifest.language_thresholds,
        ),
    }
    if manifest.abstains:
        answered = [row for row in within if not predictions[row].abstained]
        found["answered_main"] = score(task, gold.rows(answered), given.rows(answered))["main"]
        reasons = (predictions[row].reason for row in within)
        found["reasons"] = dict(Counter(reason for reason in reasons if reason))
    if manifest.expected_coverage is not None:
        found["expected_coverage"] = [round(limit, 4) for limit in manifest.expected_coverage]
    return found


def at_threshold(
    gold: Answers,
    given: Answers,
    confidence: Floats,
    abstained: Bools,
    threshold: float | None,
    labels: Sequence[str],
    language_thresholds: Mapping[str, float] | None = None,
) -> AbstentionScores:
    """Effect of a model's abstention.

    Args:
        gold: gold labels and tags.
        given: predicted labels and tags.
        confidence: confidence of each answer, [texts].
        abstained: whether the model abstains, [texts].
        threshold: confidence threshold; None without abstention.
        labels: labels that a model can predict.
        language_thresholds: thresholds of the languages that have their own.

    Returns:
        `aurc` (whole answers, ranked by confidence), `threshold` and, if there are any,
        `language_thresholds`. A threshold adds `coverage`
        (share of texts answered), `risk` (share of these answers that are wrong) and `lost` (share
        of right answers withheld). If some texts are out of scope, `out_of_scope` has the metrics
        over all texts, and the other metrics exclude them.
    """
    right = answered_right(gold, given)
    within = np.isin(np.arange(len(right)), in_scope(gold, labels, len(right)))
    found: AbstentionScores = {
        "aurc": round(area_under_risk_coverage(confidence[within], right[within]), 4),
        "threshold": threshold,
    }
    if language_thresholds:
        found["language_thresholds"] = dict(language_thresholds)
    if threshold is not None or language_thresholds:
        answered = within & ~abstained
        found["coverage"] = round(float(answered.sum() / max(1, within.sum())), 4)
        found["risk"] = round(float((~right[answered]).sum() / max(1, answered.sum())), 4)
        lost = (within & right & abstained).sum() / max(1, (within & right).sum())
        found["lost"] = round(float(lost), 4)
    if not within.all():
        refused = abstained.tolist()
        outside = out_of_scope_metrics(gold.labels, given.labels, refused, labels)
        found["out_of_scope"] = cast(OutOfScopeScores, outside)
    return found


def answered_right(gold: Answers, given: Answers) -> Bools:
    """Whether each answer is right: the label, or all tags for tasks without a label."""
    if gold.labels:
        return np.array([g == p for g, p in zip(gold.labels, given.labels, strict=True)])
    return np.array(
        [list(g) == list(p) for g, p in zip(gold.tags, given.tags, strict=True)], dtype=bool
    )


def probabilities_of(prediction: Prediction) -> list[float]:
    """Probability of each entity, or of each token for parts of speech."""
    return [found.probability for found in prediction.entities or prediction.tokens]


def item_probabilities(
    task: str,
    gold: Answers,
    given: Answers,
    probability: Sequence[float],
    probabilities: Iterable[Sequence[float]],
) -> tuple[list[float], Bools]:
    """Probability of each label, entity (`ner`) or token (`pos`), and whether it is right.

    Args:
        task: task of the run.
        gold: gold labels and tags.
        given: predicted labels and tags.
        probability: probability of each text's answer, [texts].
        probabilities: probabilities of each text's entities or tokens, as `probabilities_of`.
    """
    if has_sequence_head(task):
        return list(probability), answered_right(gold, given)
    right: list[bool] = []
    for g, p in zip(gold.tags, given.tags, strict=True):
        if task == "pos":
            right += [at == by for at, by in zip(g, p, strict=False)]
        else:
            known = set(bio_spans(g))
            right += [span in known for span in bio_spans(p)]
    return [value for row in probabilities for value in row], np.array(right, dtype=bool)
