"""Fit a bundle's probabilities and abstention threshold on validation.

Fit the delivered network: quantization to int8 changes the scale of its logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.bundle import Calibration
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.encode import IGNORE, Encoded, batches
from saarthi_lib.errors import ConfigError
from saarthi_lib.evaluation.calibration import (
    area_under_risk_coverage,
    expected_calibration_error,
)
from saarthi_lib.evaluation.evaluate import gold_answers, predict_table
from saarthi_lib.evaluation.metrics import Answers, in_scope
from saarthi_lib.evaluation.selective import (
    CONFIDENCE,
    coverage_interval,
    crossfit_threshold,
    fit_temperature,
    out_of_scope_metrics,
    threshold_at_bounded_risk,
    threshold_at_coverage,
    threshold_at_risk,
    threshold_by_scope,
)
from saarthi_lib.inference.familiarity import Familiarity
from saarthi_lib.inference.predictor import Prediction, Predictor
from saarthi_lib.logs import get_logger
from saarthi_lib.tasks import Labels, bio_spans, has_sequence_head

logger = get_logger("evaluation")

BATCH = 64
ROWS = 5_000  # validation rows; more do not improve the threshold
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Threshold:
    """A chosen threshold.

    Attributes:
        value: lowest confidence for an answer.
        target: target that chose it: `coverage`, `risk` or `out_of_scope`.
        interval: share of new texts in scope that are answered, if they are like those of
            validation: a 95% interval. It ignores that thresholds by risk or out-of-scope texts
            also depend on other values than the confidence.
    """

    value: float
    target: str
    interval: tuple[float, float]


def familiarity_of(train: Encoded, labels: Labels) -> Familiarity:
    """Fit the familiarity score on the training rows that are in scope."""
    return Familiarity.of(_sentences(train.take(_in_scope(train, labels))))


def calibrate(
    predictor: Predictor,
    familiarity: Familiarity,
    validation: pd.DataFrame,
    encoded: Encoded,
    config: TrainConfig,
    out_of_scope: pd.DataFrame | None = None,
    train: Encoded | None = None,
) -> Predictor:
    """Fit temperatures, the weight of familiarity and the threshold that the configuration sets.

    Log-odds of the probability and familiarity have equal weight after division by their standard
    deviation on validation. This rule needs neither out-of-scope examples nor a tuned parameter.

    Args:
        predictor: uncalibrated predictor of the delivered network.
        familiarity: familiarity score fitted on the training rows.
        validation: labelled rows, at least one.
        encoded: the same rows, encoded.
        config: configuration; its fields `abstention…` apply.
        out_of_scope: validation texts to abstain on, if available.
        train: encoded training rows that `familiarity` was fitted on; they make a threshold by
            coverage more certain (`crossfit_threshold`). None: use validation only.

    Returns:
        The calibrated predictor.

    Raises:
        ConfigError: `abstention_target` is `out_of_scope`, but `out_of_scope` is empty; or it is
            `risk`, and validation cannot support `abstention_risk`.
    """
    rows = _some_in_scope(encoded, predictor.labels, config.seed)
    validation, encoded = validation.iloc[rows].reset_index(drop=True), encoded.take(rows)
    sequence, token = _logits(predictor, encoded)
    calibration = _temperatures(sequence, token, encoded)
    if config.abstention == "none":
        return predictor.calibrated(calibration, None, None)
    known = None
    values = np.array([familiarity(ids.tolist()) for ids in _sentences(encoded)])
    if config.abstention == "familiarity":
        odds = _log_odds(sequence, token, encoded, calibration)
        if values.std() > 1e-6 and odds.std() > 0:
            known = familiarity
            calibration = replace(
                calibration,
                familiarity_weight=float(odds.std() / values.std()),
                familiarity_mean=float(values.mean()),
            )
    silent_never = predictor.calibrated(calibration, None, known)
    familiar = None
    if train is not None:
        familiar = values, _familiarity_without_itself(familiarity, train, predictor.labels, config)
    threshold = _threshold(silent_never, validation, config, out_of_scope, familiar)
    return predictor.calibrated(calibration, threshold.value, known, threshold.interval)


def tempered(predictor: Predictor, validation: Encoded, seed: int) -> Predictor:
    """Fit temperatures on validation, as for a bundle, and return the predictor with them.

    Temperatures set the weight of each head in a joint task, and of tags relative to their
    transitions. A fair comparison therefore needs fitted temperatures for every model.
    """
    validation = validation.take(_some_in_scope(validation, predictor.labels, seed))
    fitted = _temperatures(*_logits(predictor, validation), validation)
    return predictor.calibrated(fitted, None, None)


def _threshold(
    predictor: Predictor,
    validation: pd.DataFrame,
    config: TrainConfig,
    out_of_scope: pd.DataFrame | None,
    familiar: tuple[Floats, Floats] | None,
) -> Threshold:
    given, predictions = predict_table(predictor, validation)
    confidence = np.array([answer.confidence for answer in predictions])
    right = answered_right(gold_answers(validation, predictor.task), given)
    outside = np.empty(0)
    if out_of_scope is not None and len(out_of_scope):
        refused = predictor.predict(list(out_of_scope["text"]), list(out_of_scope["lang"]))
        outside = np.array([answer.confidence for answer in refused])
    chosen = choose_threshold(
        confidence, right, outside, config, familiar, may_refuse=not config.fast_dev_run
    )
    answered = confidence >= chosen.value
    logger.info(
        "threshold %.4f by %s: answers %.1f%% of %d validation texts, of which %.1f%% wrong; on "
        "new texts of this kind %.0f to %.0f%% (95%% interval)",
        chosen.value,
        chosen.target,
        100 * answered.mean(),
        len(answered),
        100 * (1 - right[answered].mean()) if answered.any() else 0.0,
        *(100 * limit for limit in chosen.interval),
    )
    return chosen


def choose_threshold(
    confidence: Floats,
    right: npt.NDArray[np.bool_],
    outside: Floats,
    config: TrainConfig,
    familiar: tuple[Floats, Floats] | None = None,
    may_refuse: bool = True,
) -> Threshold:
    """Choose the threshold of any model by the target in the configuration.

    Args:
        confidence: confidence of validation rows in scope, at least one, [examples].
        right: whether their answers are right, [examples].
        outside: confidence of validation rows out of scope, [others].
        config: configuration; its fields `abstention…` apply.
        familiar: familiarity of the validation rows in scope, [examples], and of training rows,
            each without itself, [others]; None: thresholds by coverage use validation only.
        may_refuse: whether a risk that the rows cannot support is an error; otherwise the threshold
            keeps the risk on these rows, without a bound for new texts.

    Raises:
        ConfigError: `abstention_target` is `out_of_scope`, but `outside` is empty; or it is `risk`,
            and the rows cannot support `abstention_risk`.
    """
    target: str = config.abstention_target
    if target == "auto":
        target = "out_of_scope" if len(outside) else "coverage"
    if target == "out_of_scope":
        if not len(outside):
            raise ConfigError(
                "abstention_target: out_of_scope needs validation rows with the label that "
                "out_of_scope_label names; add some, or set abstention_target: coverage"
            )
        value = threshold_by_scope(confidence, right, outside)
    elif target == "risk":
        value = _by_risk(confidence, right, config.abstention_risk, may_refuse)
    else:
        share = config.abstention_coverage
        fitted = crossfit_threshold(confidence, *familiar, share) if familiar else None
        value = threshold_at_coverage(confidence, share) if fitted is None else fitted
    answered = int((confidence >= value).sum())
    return Threshold(value, target, coverage_interval(answered, len(confidence)))


def check_risk_target(config: TrainConfig, rows: int) -> None:
    """Check before training that validation can support the risk target.

    Args:
        config: configuration; its fields `abstention…` apply.
        rows: validation rows.

    Raises:
        ConfigError: the rows cannot support `abstention_risk`, even if all answers are right.
    """
    if config.abstention == "none" or config.abstention_target != "risk":
        return
    if rows and not config.fast_dev_run:
        right = np.ones(rows, dtype=bool)
        bounded = threshold_at_bounded_risk(
            np.arange(rows, dtype=np.float64), right, config.abstention_risk
        )
        if bounded.threshold is None:
            raise ConfigError(_refusal(config.abstention_risk, rows, bounded.bound))


def _by_risk(
    confidence: Floats, right: npt.NDArray[np.bool_], risk: float, may_refuse: bool
) -> float:
    """Threshold with a bounded risk; see `choose_threshold`."""
    bounded = threshold_at_bounded_risk(confidence, right, risk)
    if bounded.threshold is not None:
        logger.info(
            "abstention_risk: at most %.1f%% of the answers to new texts like those of validation "
            "are wrong (bound with %.0f%% confidence)",
            100 * bounded.bound,
            100 * CONFIDENCE,
        )
        return bounded.threshold
    problem = _refusal(risk, len(right), bounded.bound)
    if may_refuse:
        raise ConfigError(problem)
    logger.warning("%s. Without the bound, the risk is kept on these rows only", problem)
    value = threshold_at_risk(confidence, right, risk)
    return float(confidence.max()) if value is None else value


def _refusal(risk: float, rows: int, lowest: float) -> str:
    return (
        f"abstention_risk: {risk:g} cannot be guaranteed with {CONFIDENCE:.0%} confidence on "
        f"{rows} validation rows in scope; the lowest risk that they support is "
        f"{np.ceil(1000 * lowest) / 1000:g}. Add validation rows, raise abstention_risk, or set "
        "abstention_target: coverage"
    )


def _familiarity_without_itself(
    familiarity: Familiarity, train: Encoded, labels: Labels, config: TrainConfig
) -> Floats:
    """Familiarity of at most `ROWS` training rows in scope, each as if it was not counted."""
    texts = len(_in_scope(train, labels))
    sample = train.take(_some_in_scope(train, labels, config.seed))
    return familiarity.without_itself(_sentences(sample), texts)


def _in_scope(encoded: Encoded, labels: Labels) -> npt.NDArray[np.int64]:
    """Rows in scope, as indices."""
    outside = encoded.sequence_labels >= len(labels.answers) if labels.sequence else np.False_
    return np.flatnonzero(~np.broadcast_to(outside, len(encoded)))


def _sentences(encoded: Encoded) -> list[npt.NDArray[np.int32]]:
    return np.split(encoded.ids, encoded.offsets[1:-1])


def _logits(predictor: Predictor, encoded: Encoded) -> tuple[Floats | None, Floats | None]:
    """Logits of each text, [texts, labels], and of each subword token, [tokens, tags]."""
    sequence: Floats | None = None
    token: Floats | None = None
    for rows in batches(encoded.lengths, BATCH):
        ids = encoded.padded(encoded.ids, rows, 0).astype(np.int64)
        texts, pieces = predictor.engine.run(ids, encoded.lengths[rows])
        if texts is not None:
            if sequence is None:
                sequence = np.zeros((len(encoded), texts.shape[-1]), np.float32)
            sequence[rows] = texts
        if pieces is not None:
            if token is None:
                token = np.zeros((len(encoded.ids), pieces.shape[-1]), np.float32)
            real = np.arange(ids.shape[1]) < encoded.lengths[rows, None]
            token[encoded.pieces_of(rows)] = pieces[real]
    return sequence, token


def _some_in_scope(encoded: Encoded, labels: Labels, seed: int) -> npt.NDArray[np.int64]:
    """Random rows in scope, at most `ROWS`, sorted."""
    rows = np.random.default_rng(seed).permutation(_in_scope(encoded, labels))[:ROWS]
    return np.sort(rows)


def _temperatures(sequence: Floats | None, token: Floats | None, encoded: Encoded) -> Calibration:
    return Calibration(
        temperature=_temperature(sequence, encoded.sequence_labels),
        token_temperature=_temperature(token, encoded.token_labels),
    )


def _temperature(logits: Floats | None, labels: npt.NDArray[np.int64]) -> float:
    if logits is None:
        return 1.0
    return fit_temperature(logits[labels != IGNORE], labels[labels != IGNORE])


def _log_odds(
    sequence: Floats | None, token: Floats | None, encoded: Encoded, calibration: Calibration
) -> Floats:
    """Log-odds of each text's label, or of its least certain word's tag, [texts]."""
    if sequence is not None:
        return _best_against_others(sequence / calibration.temperature)
    assert token is not None
    odds = _best_against_others(token / calibration.token_temperature)
    return np.minimum.reduceat(np.where(encoded.first, odds, np.inf), encoded.offsets[:-1])


def _best_against_others(logits: Floats) -> Floats:
    """Log-odds of the most likely class: logits [..., classes] to [...]."""
    ranked = np.sort(logits.astype(np.float64), axis=-1)
    second = ranked[..., -2]
    others = np.exp(ranked[..., :-1] - second[..., None]).sum(axis=-1)
    odds: Floats = ranked[..., -1] - second - np.log(others)
    return odds


def selective_figures(
    predictor: Predictor, table: pd.DataFrame, given: Answers, predictions: Sequence[Prediction]
) -> dict[str, Any]:
    """Calibration of a model's probabilities, and effect of its abstention.

    Args:
        predictor: predictor that made the predictions.
        table: labelled rows.
        given: predicted labels and tags.
        predictions: predictions with probabilities and confidence.

    Returns:
        `ece` (from the probability of each label, entity or token), `temperature`, and the values
        of `at_threshold`; with a threshold, `expected_coverage`, the interval of its coverage on
        texts like those of validation. Texts out of scope count only in `out_of_scope`.
    """
    task = predictor.task
    gold = gold_answers(table, task)
    abstained = np.array([answer.abstained for answer in predictions])
    confidence = np.array([answer.confidence for answer in predictions])
    calibration, answers = predictor.manifest.calibration, predictor.labels.answers
    probability, was_right = _items(task, gold, given, predictions, _within(gold, answers))
    expected = predictor.manifest.expected_coverage
    return {
        "ece": round(expected_calibration_error(probability, was_right), 4),
        "temperature": calibration.temperature
        if has_sequence_head(task)
        else calibration.token_temperature,
        **at_threshold(gold, given, confidence, abstained, predictor.manifest.threshold, answers),
        **({} if expected is None else {"expected_coverage": [round(x, 4) for x in expected]}),
    }


def at_threshold(
    gold: Answers,
    given: Answers,
    confidence: Floats,
    abstained: npt.NDArray[np.bool_],
    threshold: float | None,
    labels: Sequence[str],
) -> dict[str, Any]:
    """Effect of a model's abstention.

    Args:
        gold: gold labels and tags.
        given: predicted labels and tags.
        confidence: confidence of each answer, [texts].
        abstained: whether the model abstains, [texts].
        threshold: confidence threshold; None without abstention.
        labels: labels that a model can predict.

    Returns:
        `aurc` (whole answers, ranked by confidence) and `threshold`. A threshold adds `coverage`
        (share of texts answered), `risk` (share of these answers that are wrong) and `lost` (share
        of right answers withheld). If some texts are out of scope, `out_of_scope` has the metrics
        over all texts, and the other metrics exclude them.
    """
    right, within = answered_right(gold, given), _within(gold, labels)
    found: dict[str, Any] = {
        "aurc": round(area_under_risk_coverage(confidence[within], right[within]), 4),
        "threshold": threshold,
    }
    if threshold is not None:
        answered = within & ~abstained
        found["coverage"] = round(float(answered.sum() / max(1, within.sum())), 4)
        found["risk"] = round(float((~right[answered]).sum() / max(1, answered.sum())), 4)
        lost = (within & right & abstained).sum() / max(1, (within & right).sum())
        found["lost"] = round(float(lost), 4)
    if not within.all():
        found["out_of_scope"] = out_of_scope_metrics(
            gold.labels, given.labels, abstained.tolist(), labels
        )
    return found


def _within(gold: Answers, labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Whether each row is in scope, [texts]."""
    texts = len(gold.labels or gold.tags)
    return np.isin(np.arange(texts), in_scope(gold, labels, texts))


def answered_right(gold: Answers, given: Answers) -> npt.NDArray[np.bool_]:
    """Whether each answer is right: the label, or all tags for tasks without a label."""
    if gold.labels:
        return np.array([g == p for g, p in zip(gold.labels, given.labels, strict=True)])
    return np.array(
        [list(g) == list(p) for g, p in zip(gold.tags, given.tags, strict=True)], dtype=bool
    )


def _items(
    task: str,
    gold: Answers,
    given: Answers,
    predictions: Sequence[Prediction],
    within: npt.NDArray[np.bool_],
) -> tuple[list[float], list[bool]]:
    """Probability of each label, entity or token, and whether it is right."""
    probability: list[float] = []
    right: list[bool] = []
    for row, answer in enumerate(predictions):
        if gold.labels:
            if within[row]:
                probability.append(answer.probability)
                right.append(gold.labels[row] == given.labels[row])
        elif task == "pos":
            probability += [token.probability for token in answer.tokens]
            right += [g == p for g, p in zip(gold.tags[row], given.tags[row], strict=False)]
        else:
            spans = set(bio_spans(gold.tags[row]))
            probability += [entity.probability for entity in answer.entities]
            right += [span in spans for span in bio_spans(given.tags[row])]
    return probability, right
