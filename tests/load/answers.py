"""Check that answers under load are valid and belong to their texts."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.load.utterances import Utterance

Answer = Mapping[str, Any]

# Two predictions of one text may differ in their last digits, because int8 has one scale for all
# activations of a batch. This changes a label only near a tie.
SURE = 0.6


class Answers:
    """Compares each answer with the first one that the same version gave to the same text.

    This detects a batch whose answers go to the wrong callers, for any model.
    """

    def __init__(self) -> None:
        self._first: dict[tuple[str, Utterance], Answer] = {}

    def problem(self, model: str, sent: Sequence[Utterance], answers: object) -> str | None:
        """Describe the first problem of the answers to a request; None if they are right.

        Args:
            model: name that the answers must have.
            sent: utterances of the request.
            answers: parsed answers, of any type.
        """
        if not isinstance(answers, list) or len(answers) != len(sent):
            return f"not a list of {len(sent)} answers"
        for utterance, answer in zip(sent, answers, strict=True):
            try:
                found = _malformed(model, utterance, answer)
            except (KeyError, TypeError, AttributeError) as error:
                found = f"not an answer ({type(error).__name__}: {error})"
            if found:
                return found
            first = self._first.setdefault((answer["version"], utterance), answer)
            if _says(first) != _says(answer) and min(_certainty(first), _certainty(answer)) > SURE:
                return "the same text was answered differently before"
        return None


def _malformed(model: str, utterance: Utterance, answer: Answer) -> str | None:
    if answer["model"] != model:
        return f"answered by {answer['model']!r}"
    if answer["lang"] != utterance.lang:
        return "answered for another language"
    if not isinstance(answer["version"], str) or not isinstance(answer["abstained"], bool):
        return "version or abstained is of another type"
    if not answer.keys() & {"label", "entities", "tokens"}:
        return "has neither label nor entities nor tokens"
    if "label" in answer and not (isinstance(answer["label"], str) and answer["label"]):
        return "the label is not a name"
    if not all(0 <= probability <= 1 for probability in _probabilities(answer)):
        return "a probability is not between 0 and 1"
    if any(utterance.text[s["start"] : s["end"]] != s["text"] for s in _spans(answer)):
        return "an entity is not at its offsets"
    return None


def _spans(answer: Answer) -> list[Answer]:
    return [*answer.get("entities", ()), *answer.get("tokens", ())]


def _says(answer: Answer) -> object:
    spans = [(span["start"], span["end"], span["label"]) for span in _spans(answer)]
    return answer.get("label"), spans


def _probabilities(answer: Answer) -> list[float]:
    own = [answer["probability"]] if "label" in answer else []
    return [*own, *(span["probability"] for span in _spans(answer))]


def _certainty(answer: Answer) -> float:
    return min(_probabilities(answer), default=1.0)
