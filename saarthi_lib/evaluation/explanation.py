"""Explain right and wrong answers of student and teacher on a test split.

Shaded words can mislead, so two metrics accompany them. Faithfulness: removing the most important
words first must lower the answer's probability faster than removing words in random order
(deletion curve of Petsiuk et al., arXiv 1806.07421). Agreement: whether teacher and student give
the same answers for the same words.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saarthi_lib.evaluation.attribution import (
    METHODS,
    STEPS,
    Answer,
    Explainer,
    Method,
    Reading,
    Target,
)
from saarthi_lib.evaluation.calibration import mean_interval
from saarthi_lib.logs import get_logger
from saarthi_lib.tasks import Labels, bio_spans, uses_bio

logger = get_logger("explanation")

RANDOM_ORDERS = 3
DELETIONS = 6  # most points of a deletion curve after its start
SPANS_A_TEXT = 2
SMALLEST_TOTAL = 0.1  # nats; a share of a smaller total is meaningless
PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class Row:
    """A text to explain.

    Attributes:
        text: normalized text.
        lang: language, if known.
        label: gold label, if available.
        tags: gold tag of each word that the service splits, if available.
    """

    text: str
    lang: str | None = None
    label: str | None = None
    tags: Sequence[str] | None = None


def explain_rows(
    explainers: Mapping[str, Explainer],
    rows: Sequence[Row],
    methods: Sequence[Method] = METHODS,
    *,
    faithfulness: bool = True,
    steps: int = STEPS,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Explain the answers of each model to each text.

    Args:
        explainers: explainer of each model, by model name.
        rows: texts to explain.
        methods: attribution methods.
        faithfulness: whether to measure the effect of removing words (`deletion`).
        steps: steps of the integral in integrated gradients.
        seed: seed of the random deletion orders, the baseline of faithfulness.

    Returns:
        `text`, `lang`, `words`, `spans` (characters of each word), `gold` (`label`, `tags`) and
        `models` of each row. `models` has a list of explained answers for each model: `about`
        (None for the label, else the words concerned), `answer`, `probability`, `total`, `scores`
        (one number per word, by method), and with `faithfulness` `deletion`: the area below the
        deletion curve, by method and for `random`; None for a text with fewer than two words.
    """
    described: list[dict[str, Any]] = [{} for _ in rows]
    for name, explainer in explainers.items():
        readings = [explainer.read(row.text) for row in rows]
        answers = explainer.answer(readings)
        asked = [
            (number, about, target)
            for number, (row, reading, answer) in enumerate(
                zip(rows, readings, answers, strict=True)
            )
            for about, target in _targets(explainer, row, reading, answer)
        ]
        found = _explained(explainer, readings, asked, methods, faithfulness, steps, seed, name)
        for row, reading, content in zip(rows, readings, described, strict=True):
            content.setdefault("text", row.text)
            content.setdefault("lang", row.lang)
            content.setdefault("words", reading.words)
            content.setdefault("spans", [list(span) for span in reading.spans])
            tags = None if row.tags is None else list(row.tags)
            content.setdefault("gold", {"label": row.label, "tags": tags})
            content.setdefault("models", {})[name] = []
        for (number, about, target), explanation in zip(asked, found, strict=True):
            described[number]["models"][name].append(
                {**_said(explainer.labels, about, target), **explanation}
            )
    return described


def figures(
    described: Sequence[dict[str, Any]], methods: Sequence[Method] = METHODS
) -> dict[str, dict[str, float]]:
    """Measure faithfulness and agreement of a split's explanations.

    Returns:
        Metrics by name, each with `mean`, its 95% bootstrap interval `low` and `high`, and the
        number of values `n`:
        `faithfulness_<model>_<method>`: area below the random deletion curve minus area below the
        method's curve; above 0 if the scores are faithful;
        `deletion_<model>_<method>` and `deletion_<model>_random`: the areas themselves;
        `agreement_answers`: share of answers that both models give;
        `agreement_rank_<method>`: Spearman's correlation between the word scores of teacher and
        student, over the shared answers;
        `agreement_top_word_<method>`: share of the shared answers with the same top word;
        `incomplete_<model>`: share of an answer's `total` that integrated gradients miss.
    """
    values: dict[str, list[float]] = {}
    for row in described:
        for model, answers in row["models"].items():
            for answer in answers:
                whole = abs(answer["total"])
                if "integrated_gradients" in methods and whole > SMALLEST_TOTAL:
                    lost = abs(sum(answer["scores"]["integrated_gradients"]) - answer["total"])
                    values.setdefault(f"incomplete_{model}", []).append(lost / whole)
                areas = answer.get("deletion")
                if not areas:
                    continue
                for name, area in areas.items():
                    values.setdefault(f"deletion_{model}_{name}", []).append(area)
                for method in methods:
                    gain = areas["random"] - areas[method]
                    values.setdefault(f"faithfulness_{model}_{method}", []).append(gain)
        if len(row["models"]) == 2:
            for name, value in _agreement(row, methods):
                values.setdefault(name, []).append(value)
    result = {}
    for name, numbers in values.items():
        low, high = mean_interval(numbers)
        mean = float(np.mean(numbers))
        result[name] = {"mean": mean, "low": low, "high": high, "n": len(numbers)}
    return dict(sorted(result.items()))


def choose(right: npt.NDArray[np.bool_], errors: int, others: int, seed: int) -> list[int]:
    """Choose random rows: at most `errors` wrong ones, then at most `others` right ones."""
    generator = np.random.default_rng(seed)
    chosen = []
    for rows, most in ((np.flatnonzero(~right), errors), (np.flatnonzero(right), others)):
        chosen += sorted(generator.permutation(rows)[:most].tolist())
    return chosen


# --- questions and metrics ------------------------------------------------------------------------


def _targets(
    explainer: Explainer, row: Row, reading: Reading, answer: Answer
) -> Iterable[tuple[list[int] | None, Target]]:
    """Yield the explained parts of an answer: its label, then entities or tags, wrong ones first.

    Each part is the words concerned (None for the label) and the target.
    """
    if answer.label is not None:
        yield None, Target(label=answer.label)
    if not answer.tags:
        return
    names = [explainer.labels.token[tag] for tag in answer.tags]
    gold = list(row.tags)[: len(names)] if row.tags is not None else None
    if uses_bio(explainer.task):
        regions = {span[:2] for span in bio_spans(names)}
        regions |= {span[:2] for span in bio_spans(gold)} if gold else set()
    elif gold is None:
        regions = {(word, word + 1) for word in range(len(names))}
    else:
        wrong = [word for word, tag in enumerate(gold) if tag != names[word]]
        regions = {(word, word + 1) for word in wrong or [int(np.argmin(answer.certainty))]}

    def order(region: tuple[int, int]) -> tuple[bool, tuple[int, int]]:
        part = slice(*region)
        return gold is None or gold[part] == names[part], region

    most = SPANS_A_TEXT if gold is not None else len(regions)
    for start, end in sorted(regions, key=order)[:most]:
        words = [reading.read[word] for word in range(start, end)]
        tags = tuple(zip(words, answer.tags[start:end], strict=True))
        yield words, Target(tags=tags)


def _said(labels: Labels, about: list[int] | None, target: Target) -> dict[str, Any]:
    """Answer as label names instead of columns."""
    if about is None or target.label is not None:
        return {"about": None, "answer": labels.sequence[target.label or 0]}
    tags = [labels.token[tag] for _, tag in target.tags]
    return {"about": about, "answer": " ".join(tags)}


def _explained(
    explainer: Explainer,
    readings: Sequence[Reading],
    asked: Sequence[tuple[int, Any, Target]],
    methods: Sequence[Method],
    faithfulness: bool,
    steps: int,
    seed: int,
    name: str,
) -> list[dict[str, Any]]:
    """Scores and deletion areas of each explained answer."""
    found: list[dict[str, Any]] = []
    generator = np.random.default_rng(seed)
    last = time.monotonic()
    size = 16
    for start in range(0, len(asked), size):
        questions = [(readings[row], target) for row, _, target in asked[start : start + size]]
        scored = {method: explainer.attribute(questions, method, steps) for method in methods}
        for number, question in enumerate(questions):
            scores = {method: scored[method][number].words for method in methods}
            content: dict[str, Any] = {
                "probability": float(explainer.probabilities(question)[0]),
                "total": round(scored[methods[0]][number].total, 5),
                "scores": {
                    method: [round(float(v), 5) for v in scores[method]] for method in scores
                },
            }
            if faithfulness:
                content["deletion"] = _deletion(explainer, question, scores, generator)
            found.append(content)
        now = time.monotonic()
        if now - last > PROGRESS_SECONDS:
            last = now
            logger.info("explained %d of %d answers of the %s", len(found), len(asked), name)
    return found


def _deletion(
    explainer: Explainer,
    question: tuple[Reading, Target],
    scores: Mapping[Method, npt.NDArray[np.float64]],
    generator: np.random.Generator,
) -> dict[str, float] | None:
    """Area below the deletion curve, 0 to 1, by method and for random orders.

    A method's curve removes its most important words first.
    """
    words = question[0].read
    if len(words) < 2:
        return None
    orders: dict[str, list[list[int]]] = {
        method: [sorted(words, key=lambda word: -values[word])] for method, values in scores.items()
    }
    orders["random"] = [generator.permutation(words).tolist() for _ in range(RANDOM_ORDERS)]
    taken = np.unique(np.linspace(0, len(words), DELETIONS + 1).round().astype(int))
    deletions = [order[:many] for several in orders.values() for order in several for many in taken]
    # Many word sets repeat across orders (the first and last always); run each set once.
    sets = {tuple(sorted(deletion)): deletion for deletion in deletions}
    values = dict(zip(sets, explainer.probabilities(question, list(sets.values())), strict=True))
    curves = np.array([values[tuple(sorted(deletion))] for deletion in deletions])
    curves = curves.reshape(-1, len(taken))
    # Trapezoid rule.
    heights, widths = (curves[:, :-1] + curves[:, 1:]) / 2, np.diff(taken)
    areas = (heights * widths).sum(axis=1) / len(words)
    first = len(orders) - 1
    result: dict[str, float] = {
        method: float(areas[number]) for number, method in enumerate(scores)
    }
    return {**result, "random": float(areas[first:].mean())}


def _agreement(row: dict[str, Any], methods: Sequence[Method]) -> Iterable[tuple[str, float]]:
    from scipy.stats import spearmanr

    one, other = (
        {(tuple(a["about"] or ()), a["answer"]): a for a in answers}
        for answers in row["models"].values()
    )
    yield from (("agreement_answers", float(key in other)) for key in one)
    for key in one.keys() & other.keys():
        for method in methods:
            ours, theirs = (np.array(side[key]["scores"][method]) for side in (one, other))
            if len(ours) < 2:
                continue
            same = float(ours.argmax() == theirs.argmax())
            yield f"agreement_top_word_{method}", same
            if len(ours) > 2 and np.ptp(ours) > 0 and np.ptp(theirs) > 0:
                yield f"agreement_rank_{method}", float(spearmanr(ours, theirs).statistic)
