"""Leave-one-out: evidence equals the difference of the library's own answers."""

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
    # A temperature has softened the answers' probabilities.
    return plain.calibrated(Calibration(temperature=2.5), None, None)


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.load(
        write_tiny_bundle(tmp_path_factory.mktemp("occlusion") / "b", "joint", max_seq_len=60)
    )


def _odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


@pytest.mark.parametrize("text", [SENTENCES[1], SENTENCES[7], "turn 😀 the lights"])
def test_evidence_is_the_loss_of_log_odds_without_the_word(intents: Predictor, text: str) -> None:
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


def test_entity_evidence_comes_from_own_and_other_words(joint: Predictor) -> None:
    text = next(text for text in SENTENCES if joint.predict([text])[0].entities)
    entity = joint.predict([text])[0].entities[0]

    explanation = explain(joint, text, Target(entity.start, entity.end, entity.label))

    assert explanation.label == entity.label
    # The type's probability is at least that of its tag, B or I.
    assert explanation.probability >= entity.probability - 1e-6
    assert "".join(part.text for part in explanation.parts) == text.replace(" ", "")
    evidence = {part.start: part.evidence for part in explanation.parts}
    assert any(abs(value) > 0.01 for start, value in evidence.items() if start != entity.start)
    own = [v for s, v in evidence.items() if entity.start <= s < entity.end]
    assert any(abs(value) > 0.01 for value in own)


def test_single_word_and_very_long_text_are_explained(intents: Predictor) -> None:
    assert len(explain(intents, "lights").parts) == 1
    words = [f"word{number}" for number in range(3 * MOST_PARTS + 1)]

    parts = explain(intents, " ".join(words)).parts

    assert len(parts) <= MOST_PARTS
    assert " ".join(part.text for part in parts).split() == words


def test_out_of_scope_class_counts_in_log_odds_only() -> None:
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


def test_unexplainable_requests_raise_input_error(
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
