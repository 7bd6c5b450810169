"""Calibration of a real tiny bundle on validation, and metrics of its abstention."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from saarthi_lib import Predictor
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.encode import Encoded, encode
from saarthi_lib.errors import ConfigError
from saarthi_lib.evaluation.abstention import calibrate, familiarity_of
from saarthi_lib.evaluation.evaluate import evaluate_table, predict_table
from saarthi_lib.evaluation.selective_metrics import selective_metrics
from saarthi_lib.inference.familiarity import Familiarity
from saarthi_lib.text.tokenizer import SubwordTokenizer
from tests.tiny_bundle import SENTENCES, word_columns, write_tiny_bundle

Rows = tuple[Predictor, pd.DataFrame, Encoded]

WORDS = " ".join(SENTENCES).split()


def rows_of(task: str, root: Path) -> Rows:
    """Texts labelled with the network's own answers, except every fifth."""
    bundle = write_tiny_bundle(root / task, task, runtime="onnxruntime")
    predictor = Predictor.load(bundle)
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, size=generator.integers(2, 8))) for _ in range(200)]
    table = pd.DataFrame({"text": texts, "lang": "english", **word_columns(texts)})
    given, _ = predict_table(predictor, table)
    wrong = np.arange(len(table)) % 5 == 0
    if given.labels:
        names = predictor.labels.sequence
        table["label"] = [
            names[names.index(label) - 1] if bad else label
            for label, bad in zip(given.labels, wrong, strict=True)
        ]
    if given.tags:
        other = predictor.labels.token[-1]
        table["tags"] = [
            [other] * len(tags) if bad else tags
            for tags, bad in zip(given.tags, wrong, strict=True)
        ]
    tokenizer = SubwordTokenizer.load(bundle / "tokenizer.json")
    return predictor, table, encode(table, task, tokenizer, predictor.labels, 26)


@pytest.fixture(scope="module")
def intents(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return rows_of("intent_classification", tmp_path_factory.mktemp("bundles"))


def fit(rows: Rows, **fields: Any) -> Predictor:
    predictor, table, encoded = rows
    outside = fields.pop("outside", None)
    config = TrainConfig.from_mapping({"task": predictor.task, **fields})
    known = familiarity_of(encoded, predictor.labels)
    return calibrate(predictor, known, table, encoded, config, outside)


@pytest.mark.parametrize("abstention", ["probability", "familiarity"])
def test_threshold_answers_the_target_share(intents: Rows, abstention: str) -> None:
    predictor = fit(intents, abstention=abstention, abstention_coverage=0.8)
    scores, given, predictions = evaluate_table(predictor, intents[1])
    assert sum(not answer.abstained for answer in predictions) == pytest.approx(160, abs=2)
    found = selective_metrics(predictor, intents[1], given, predictions)
    assert found["coverage"] == pytest.approx(0.8, abs=0.01)
    assert found["threshold"] == predictor.manifest.threshold
    # Four in five answers are right; the raw probabilities are much lower.
    assert predictor.manifest.calibration.temperature < 1
    untempered = fit(intents, abstention="none").calibrated(
        intents[0].manifest.calibration, None, None
    )
    before = selective_metrics(untempered, intents[1], *evaluate_table(untempered, intents[1])[1:])
    assert found["ece"] < before["ece"]
    assert before["threshold"] is None and "coverage" not in before
    assert scores["accuracy"] == pytest.approx(0.8)


@pytest.fixture
def certain(intents: Rows) -> Rows:
    """Rows whose answers are all right."""
    given, _ = predict_table(intents[0], intents[1])
    return intents[0], intents[1].assign(label=list(given.labels)), intents[2]


def test_risk_is_bounded_on_new_texts(certain: Rows, told: pytest.LogCaptureFixture) -> None:
    predictor = fit(certain, abstention_target="risk", abstention_risk=0.05)
    _, given, predictions = evaluate_table(predictor, certain[1])
    found = selective_metrics(predictor, certain[1], given, predictions)
    assert (found["risk"], found["coverage"]) == (0, 1)
    assert "at most 2.5% of the answers to new texts" in told.text  # 1 - (0.05 / 8) ** (1 / 200)


@pytest.mark.parametrize(("rows", "lowest"), [(20, 0.343), (200, 0.05)])
def test_risk_that_validation_cannot_support_is_refused(
    certain: Rows, rows: int, lowest: float
) -> None:
    predictor, table, encoded = certain
    few = (predictor, table[:rows], encoded.take(np.arange(rows)))
    expected = f"abstention_risk: 0.02 .* {rows} validation rows .* lowest .* is {lowest}.* raise"
    with pytest.raises(ConfigError, match=expected):
        fit(few, abstention_target="risk", abstention_risk=0.02)
    fit(few, abstention_target="risk", abstention_risk=lowest)


def test_trial_keeps_risk_without_bound(intents: Rows, told: pytest.LogCaptureFixture) -> None:
    wrong = intents[1].assign(label="nothing it knows")
    fields = {"abstention_target": "risk", "abstention_risk": 0.0, "fast_dev_run": True}
    found = fit((intents[0], wrong, intents[2]), **fields)
    answered = [not answer.abstained for answer in predict_table(found, wrong)[1]]
    assert sum(answered) <= 2
    assert "the risk is kept on these rows only" in told.text


def test_training_rows_make_the_threshold_more_certain(intents: Rows) -> None:
    predictor, table, encoded = intents
    rows, others = np.split(np.random.default_rng(1).permutation(200), [40])
    config = TrainConfig.from_mapping({"task": predictor.task, "abstention_coverage": 0.8})
    train = encoded.take(others)
    known = familiarity_of(train, predictor.labels)
    given = (predictor, known, table.iloc[rows], encoded.take(rows), config)
    alone, fitted = calibrate(*given), calibrate(*given, train=train)
    assert alone.manifest.threshold != fitted.manifest.threshold
    again = calibrate(*given, train=train)
    assert again.manifest.threshold == fitted.manifest.threshold
    # The network did not learn from these rows, so they show the real coverage.
    answers = predict_table(fitted, table.iloc[others])[1]
    assert np.mean([not answer.abstained for answer in answers]) == pytest.approx(0.8, abs=0.1)


def test_expected_coverage_is_reported(intents: Rows, told: pytest.LogCaptureFixture) -> None:
    predictor = fit(intents, abstention_coverage=0.9)
    expected = predictor.manifest.expected_coverage
    assert expected is not None
    assert expected == pytest.approx((0.85, 0.94), abs=0.01)
    _, given, predictions = evaluate_table(predictor, intents[1])
    found = selective_metrics(predictor, intents[1], given, predictions)
    assert found["expected_coverage"] == [round(limit, 4) for limit in expected]
    assert "on new texts of this kind 85 to 94% (95% interval)" in told.text
    unlimited = fit(intents, abstention="none")
    assert unlimited.manifest.expected_coverage is None


def test_out_of_scope_texts_set_the_threshold(
    intents: Rows,
) -> None:
    outside = pd.DataFrame({"text": ["zzz qqq jjj", "vvv kkk zzz qqq"], "lang": "english"})
    predictor = fit(intents, outside=outside)
    assert all(answer.abstained for answer in predictor.predict(list(outside["text"])))
    kept = [not answer.abstained for answer in predict_table(predictor, intents[1])[1]]
    assert np.mean(kept) > 0.5
    with pytest.raises(ConfigError, match="out_of_scope_label"):
        fit(intents, abstention_target="out_of_scope")


def test_out_of_scope_rows_have_their_own_metrics(
    intents: Rows,
) -> None:
    predictor = fit(intents, abstention_coverage=0.9)
    strange = pd.DataFrame({"text": ["zzz qqq jjj"] * 5, "lang": "english", "label": "NOTHING"})
    table = pd.concat([intents[1], strange], ignore_index=True)
    _, given, predictions = evaluate_table(predictor, table)
    found = selective_metrics(predictor, table, given, predictions)
    assert found["coverage"] == pytest.approx(0.9, abs=0.01)  # only rows in scope
    refused = [answer.abstained for answer in predictions[-5:]]
    assert found["out_of_scope"]["oos_recall"] == np.mean(refused)
    assert found["out_of_scope"]["best_in_scope_accuracy"] == pytest.approx(0.8)


@pytest.mark.parametrize("task", ["ner", "pos", "joint"])
def test_tags_get_a_temperature_and_a_threshold(tmp_path: Path, task: str) -> None:
    rows = rows_of(task, tmp_path)
    predictor = fit(rows, abstention_coverage=0.7)
    calibration = predictor.manifest.calibration
    assert calibration.token_temperature != 1
    assert (calibration.temperature != 1) == (task == "joint")
    _, given, predictions = evaluate_table(predictor, rows[1])
    found = selective_metrics(predictor, rows[1], given, predictions)
    assert found["coverage"] == pytest.approx(0.7, abs=0.02)
    assert 0 <= found["ece"] <= 1 and 0 <= found["risk"] <= 1


def test_familiarity_is_higher_for_training_rows(
    intents: Rows,
) -> None:
    known = familiarity_of(intents[2], intents[0].labels)
    assert isinstance(known, Familiarity)
    first = intents[2].ids[: intents[2].offsets[1]].tolist()
    assert known(first) > known([piece + 5000 for piece in first])


def test_word_with_different_or_unread_parts_has_no_tag(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "pos", "pos", max_seq_len=3)
    predictor = Predictor.load(bundle)
    text = "turn-on-the-lights"
    columns: dict[str, Any] = {"words": [[text]], "starts": [[0]], "ends": [[len(text)]]}
    table = pd.DataFrame({"text": [text], "lang": ["english"], **columns})

    given, predictions = predict_table(predictor, table)
    assert predictions[0].truncated
    assert given.tags == [["(none)"]]
