"""Leaving words out: the figures are those of the library's own answers without the word."""

import math
from pathlib import Path

import numpy as np
import pytest

from saarthi_lib import Predictor
from saarthi_lib.bundle import Calibration
from saarthi_lib.errors import InputError
from saarthi_lib.inference.occlusion import MOST_PARTS, Plan, Target, explain, explain_logits
from saarthi_lib.tasks import Labels
from tests.tiny_bundle import SENTENCES, write_tiny_bundle


@pytest.fixture(scope="module")
def intents(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("occlusion") / "a"
    plain = Predictor.load(write_tiny_bundle(folder, runtime="onnxruntime", max_seq_len=200))
    # Probabilities are those of the answers, which a temperature has made softer.
    return plain.calibrated(Calibration(temperature=2.5), None, None)


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.load(
        write_tiny_bundle(tmp_path_factory.mktemp("occlusion") / "b", "joint", max_seq_len=60)
    )


def _odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


@pytest.mark.parametrize("text", [SENTENCES[1], SENTENCES[7], "turn 😀 the lights"])
def test_a_words_evidence_is_what_the_answer_loses_without_it(
    intents: Predictor, text: str
) -> None:
    [answer] = intents.predict([text])

    explanation = explain(intents, text)

    assert explanation.label == answer.label
    assert explanation.probability == pytest.approx(answer.probability, abs=1e-5)
    assert [part.text for part in explanation.parts] == [
        text[start:end] for start, end in intents.words(text)
    ]
    for part in explanation.parts:
        [rest] = intents.predict([text[: part.start] + text[part.end :]], top_k=4)
        without = dict(rest.top_k)[explanation.label]
        assert part.probability == pytest.approx(without, abs=1e-5)
        lost = _odds(answer.probability) - _odds(without)
        assert part.evidence == pytest.approx(lost, abs=1e-3)
    assert max(abs(part.evidence) for part in explanation.parts) > 0.05


def test_an_entity_has_evidence_of_its_own_words_and_of_those_around_it(joint: Predictor) -> None:
    text = next(text for text in SENTENCES if joint.predict([text])[0].entities)
    entity = joint.predict([text])[0].entities[0]

    explanation = explain(joint, text, Target(entity.start, entity.end, entity.label))

    assert explanation.label == entity.label
    # An entity's tag is B or I; the type is asked about, which is at least as likely.
    assert explanation.probability >= entity.probability - 1e-6
    assert "".join(part.text for part in explanation.parts) == text.replace(" ", "")
    evidence = {part.start: part.evidence for part in explanation.parts}
    assert any(abs(value) > 0.01 for start, value in evidence.items() if start != entity.start)
    own = [v for s, v in evidence.items() if entity.start <= s < entity.end]
    assert any(abs(value) > 0.01 for value in own)


def test_the_only_word_and_a_very_long_text_can_be_explained(intents: Predictor) -> None:
    assert len(explain(intents, "lights").parts) == 1
    words = [f"word{number}" for number in range(3 * MOST_PARTS + 1)]

    parts = explain(intents, " ".join(words)).parts

    assert len(parts) <= MOST_PARTS
    assert " ".join(part.text for part in parts).split() == words


def test_a_class_that_abstains_is_no_answer_but_has_its_share() -> None:
    made = Plan(["play music", " music", "play "], None, [(0, 4), (5, 10)])
    rows = [[2.0, 0.0, 3.0], [1.0, 0.0, 3.0], [2.0, 0.0, 1.0]]
    logits = [(np.array(row, dtype=np.float32), None) for row in rows]

    explanation = explain_logits(
        Labels(sequence=("music", "alarm")).abstaining(),
        "intent_classification",
        made,
        logits,
        None,
    )

    assert explanation.label == "music"
    assert explanation.probability == pytest.approx(np.exp(2) / np.exp(rows[0]).sum())
    play, music = (part.evidence for part in explanation.parts)
    assert play == pytest.approx(1.0)
    assert music == pytest.approx(np.log((1 + np.exp(1)) / (1 + np.exp(3))))


def test_what_cannot_be_explained_is_said(
    intents: Predictor, joint: Predictor, tmp_path: Path
) -> None:
    tagger = Predictor.load(write_tiny_bundle(tmp_path / "c", "ner"))
    with pytest.raises(InputError, match="ner gives a label to words"):
        explain(tagger, "lights")
    with pytest.raises(InputError, match="target cannot be used"):
        explain(intents, "lights", Target(0, 6, "alarm"))
    with pytest.raises(InputError, match="not in the text"):
        explain(joint, "lights", Target(0, 6, "nobody"))
    with pytest.raises(InputError, match="not in the text"):
        explain(joint, "lights", Target(90, 96, "area"))
    with pytest.raises(InputError, match="empty"):
        explain(intents, " ")
