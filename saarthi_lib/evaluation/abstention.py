"""Fit a bundle's probabilities and abstention threshold on validation.

Fit the delivered network: quantization to int8 changes the scale of its logits.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.bundle import Calibration
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.encode import IGNORE, Encoded, batches
from saarthi_lib.evaluation.evaluate import gold_answers, predict_table
from saarthi_lib.evaluation.selective import fit_temperature
from saarthi_lib.evaluation.selective_metrics import answered_right
from saarthi_lib.evaluation.thresholds import Threshold, choose_threshold
from saarthi_lib.inference.familiarity import Familiarity
from saarthi_lib.inference.predictor import Predictor
from saarthi_lib.logs import get_logger
from saarthi_lib.tasks import Labels

logger = get_logger("evaluation")

BATCH = 64
ROWS = 5_000  # validation rows; more do not improve the threshold
Floats = npt.NDArray[np.floating]


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
    labels = predictor.labels
    rows = _some_in_scope(encoded, labels, config.seed)
    validation, encoded = validation.iloc[rows].reset_index(drop=True), encoded.take(rows)
    sequence, token = _logits(predictor, encoded)
    calibration = _temperatures(sequence, token, encoded)
    if config.abstention == "none":
        return predictor.calibrated(calibration, None, None)
    values = np.array([familiarity(ids.tolist()) for ids in _sentences(encoded)])
    if config.abstention == "familiarity":
        odds = _log_odds(sequence, token, encoded, calibration)
        calibration = _weigh_familiarity(calibration, odds, values)
    known = familiarity if calibration.familiarity_weight else None
    familiar = None
    if train is not None:
        # Familiarity of training rows in scope, each as if it was not counted.
        sample = _sentences(train.take(_some_in_scope(train, labels, config.seed)))
        others = familiarity.without_itself(sample, len(_in_scope(train, labels)))
        familiar = values, others
    without_threshold = predictor.calibrated(calibration, None, known)
    chosen = _threshold(without_threshold, validation, config, out_of_scope, familiar)
    return predictor.calibrated(calibration, chosen.value, known, chosen.interval)


def tempered(predictor: Predictor, validation: Encoded, seed: int) -> Predictor:
    """Fit temperatures on validation, as for a bundle, and return the predictor with them.

    Temperatures set the weight of each head in a joint task, and of tags relative to their
    transitions. A fair comparison therefore needs fitted temperatures for every model.
    """
    validation = validation.take(_some_in_scope(validation, predictor.labels, seed))
    fitted = _temperatures(*_logits(predictor, validation), validation)
    return predictor.calibrated(fitted, None, None)


def _weigh_familiarity(calibration: Calibration, odds: Floats, values: Floats) -> Calibration:
    if values.std() <= 1e-6 or odds.std() <= 0:
        return calibration
    weight, mean = float(odds.std() / values.std()), float(values.mean())
    return replace(calibration, familiarity_weight=weight, familiarity_mean=mean)


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
        by_text, by_token = predictor.engine.run(ids, encoded.lengths[rows])
        if by_text is not None:
            if sequence is None:
                sequence = np.zeros((len(encoded), by_text.shape[-1]), np.float32)
            sequence[rows] = by_text
        if by_token is not None:
            if token is None:
                token = np.zeros((len(encoded.ids), by_token.shape[-1]), np.float32)
            real = np.arange(ids.shape[1]) < encoded.lengths[rows, None]
            token[encoded.pieces_of(rows)] = by_token[real]
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
