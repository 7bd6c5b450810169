"""Whether what a predictor answers under load is an answer, and to the text that was sent."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.load.utterances import Utterance

Answer = Mapping[str, Any]

# Two predictions of one text may differ in their last digits (int8 ranges are taken over the whole
# batch), which turns a label only where it was nearly a tie.
SURE = 0.6


class Answers:
    """Compares each answer with the first one that the same version gave to the same text.

    So a batch whose answers went to the wrong callers is noticed, whatever the model knows.
    """

    def __init__(self) -> None:
        self._first: dict[tuple[str, Utterance], Answer] = {}

    def problem(self, model: str, sent: Sequence[Utterance], answers: object) -> str | None:
        """What is wrong with the answers to a request, if anything.

        Args:
            model: the name that answers must bear.
            sent: the request's utterances.
            answers: as they came, which may be anything.
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
        return "the label is no name"
    if not all(0 <= probability <= 1 for probability in _probabilities(answer)):
        return "a probability is not between 0 and 1"
    if any(utterance.text[s["start"] : s["end"]] != s["text"] for s in _spans(answer)):
        return "an entity is not where it is said to be"
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
