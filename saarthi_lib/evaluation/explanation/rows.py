"""Explain right and wrong answers of student and teacher on a test split.

Shaded words can mislead, so two metrics accompany them. Faithfulness: removing the most important
words first must lower the answer's probability faster than removing words in random order
(deletion curve of Petsiuk et al., arXiv 1806.07421). Agreement: whether teacher and student give
the same answers for the same words.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from saarthi_lib.evaluation.calibration import mean_interval
from saarthi_lib.evaluation.evaluate import entity_tags
from saarthi_lib.evaluation.explanation.attribution import (
    BATCH,
    METHODS,
    STEPS,
    Explainer,
    Floats,
    Method,
    Question,
    Reading,
)
from saarthi_lib.inference.predictor import Prediction
from saarthi_lib.logs import get_logger
from saarthi_lib.tasks import bio_spans, has_token_head, uses_bio

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


class ExplainedAnswer(TypedDict):
    """An answer with a score for each word, by method.

    `about` has the words concerned, None for the label. `probability` is that of `Prediction`;
    words of a missed entity, which have none there, get the network's. `total` is the
    log-probability of the answer minus its log-probability with all words unknown. `deletion` is
    the area below the deletion curve, by method and for `random`; None for a text with fewer than
    two words.
    """

    about: list[int] | None
    answer: str
    probability: float
    total: float
    scores: dict[Method, list[float]]
    deletion: NotRequired[dict[str, float] | None]


class Gold(TypedDict):
    """Gold label and tags; None if unknown."""

    label: str | None
    tags: list[str] | None


class ExplainedRow(TypedDict):
    """A text with the explained answers of each model; `spans` are the characters of each word."""

    text: str
    lang: str | None
    words: list[str]
    spans: list[list[int]]
    gold: Gold
    models: dict[str, list[ExplainedAnswer]]


class MeanInterval(TypedDict):
    """Mean of `n` values, with its 95% bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int


class Explanations(NamedTuple):
    """Explained rows, their metrics (empty for one text), and a sentence that describes them."""

    rows: list[ExplainedRow]
    metrics: dict[str, MeanInterval]
    about: str


def explain_rows(
    explainers: Mapping[str, Explainer],
    rows: Sequence[Row],
    methods: Sequence[Method] = METHODS,
    *,
    faithfulness: bool = True,
    steps: int = STEPS,
    seed: int = 0,
) -> list[ExplainedRow]:
    """Explain the answers of each model to each text.

    Args:
        explainers: explainer of each model, by model name.
        rows: texts to explain.
        methods: attribution methods.
        faithfulness: whether to measure the effect of removing words (`deletion`).
        steps: steps of the integral in integrated gradients.
        seed: seed of the random deletion orders, the baseline of faithfulness.
    """
    readings = [next(iter(explainers.values())).read(row.text) for row in rows]
    explained: list[ExplainedRow] = [
        {
            "text": row.text,
            "lang": row.lang,
            "words": reading.words,
            "spans": [list(span) for span in reading.spans],
            "gold": {"label": row.label, "tags": None if row.tags is None else list(row.tags)},
            "models": {name: [] for name in explainers},
        }
        for row, reading in zip(rows, readings, strict=True)
    ]
    for name, explainer in explainers.items():
        answers = explainer.predictor.predict([row.text for row in rows])
        asked = [
            (number, question)
            for number, (row, answer) in enumerate(zip(rows, answers, strict=True))
            for question in _questions(row, explainer.read(row.text), answer)
        ]
        questions = [question for _, question in asked]
        found = _explain(explainer, questions, methods, faithfulness, steps, seed, name)
        for (number, _), answer in zip(asked, found, strict=True):
            explained[number]["models"][name].append(answer)
    return explained


def explanation_metrics(
    rows: Sequence[ExplainedRow], methods: Sequence[Method] = METHODS
) -> dict[str, MeanInterval]:
    """Measure faithfulness and agreement of a split's explanations.

    Returns:
        Metrics by name:
        `faithfulness_<model>_<method>`: area below the random deletion curve minus area below the
        method's curve; above 0 if the scores are faithful;
        `deletion_<model>_<method>` and `deletion_<model>_random`: the areas themselves;
        `agreement_answers`: share of answers that both models give;
        `agreement_rank_<method>`: Spearman's correlation between the word scores of teacher and
        student, over the shared answers;
        `agreement_top_word_<method>`: share of the shared answers with the same top word;
        `incomplete_<model>`: share of an answer's `total` that integrated gradients miss.
    """
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for model, answers in row["models"].items():
            for answer in answers:
                whole = abs(answer["total"])
                if "integrated_gradients" in methods and whole > SMALLEST_TOTAL:
                    lost = abs(sum(answer["scores"]["integrated_gradients"]) - answer["total"])
                    values[f"incomplete_{model}"].append(lost / whole)
                areas = answer.get("deletion") or {}
                for name, area in areas.items():
                    values[f"deletion_{model}_{name}"].append(area)
                    if name != "random":
                        values[f"faithfulness_{model}_{name}"].append(areas["random"] - area)
        if len(row["models"]) == 2:
            for name, value in _agreement(row, methods):
                values[name].append(value)
    result: dict[str, MeanInterval] = {}
    for name, numbers in sorted(values.items()):
        low, high = mean_interval(numbers)
        mean = float(np.mean(numbers))
        result[name] = {"mean": mean, "low": low, "high": high, "n": len(numbers)}
    return result


def choose(right: npt.NDArray[np.bool_], errors: int, others: int, seed: int) -> list[int]:
    """Choose random rows: at most `errors` wrong ones, then at most `others` right ones."""
    generator = np.random.default_rng(seed)
    chosen = []
    for rows, most in ((np.flatnonzero(~right), errors), (np.flatnonzero(right), others)):
        chosen += sorted(generator.permutation(rows)[:most].tolist())
    return chosen


def _questions(row: Row, reading: Reading, answer: Prediction) -> Iterator[Question]:
    """Yield the explained parts of an answer: label, then entities or tags, wrong ones first."""
    if answer.label is not None:
        yield Question(reading, label=answer.label, probability=answer.probability)
    if not has_token_head(answer.task):
        return
    bio, read = uses_bio(answer.task), len(reading.read)
    tags = entity_tags(answer, reading.spans) if bio else [token.label for token in answer.tokens]
    tags = tags[:read]
    gold = list(row.tags)[:read] if row.tags is not None else None
    if bio:
        regions = {span[:2] for span in bio_spans(tags)}
        if gold is not None:  # words of gold entities that the answer leaves out
            pairs = zip(gold, tags, strict=True)
            regions |= {s[:2] for s in bio_spans([g if tag == "O" else "O" for g, tag in pairs])}
    else:
        words = list(range(len(tags)))
        if gold is not None:
            wrong = [word for word in words if gold[word] != tags[word]]
            least = min(words, key=lambda word: answer.tokens[word].probability)
            words = wrong or [least]
        regions = {(word, word + 1) for word in words}

    def order(region: tuple[int, int]) -> tuple[bool, tuple[int, int]]:
        part = slice(*region)
        return gold is None or gold[part] == tags[part], region

    found = {(each.start, each.end): each.probability for each in answer.entities or answer.tokens}
    for start, end in sorted(regions, key=order)[: SPANS_A_TEXT if gold is not None else None]:
        place = reading.spans[start][0], reading.spans[end - 1][1]
        tagged = {word: tags[word] for word in range(start, end)}
        yield Question(reading, tags=tagged, probability=found.get(place))


def _explain(
    explainer: Explainer,
    questions: Sequence[Question],
    methods: Sequence[Method],
    faithfulness: bool,
    steps: int,
    seed: int,
    name: str,
) -> list[ExplainedAnswer]:
    """Scores and deletion areas of each answer."""
    found: list[ExplainedAnswer] = []
    generator = np.random.default_rng(seed)
    last = time.monotonic()
    for start in range(0, len(questions), BATCH):
        part = questions[start : start + BATCH]
        scored = {method: explainer.attribute(part, method, steps) for method in methods}
        for number, question in enumerate(part):
            whole, nothing = explainer.log_probabilities(question, [(), question.reading.read])
            scores = {method: scored[method][number] for method in methods}
            answer: ExplainedAnswer = {
                "about": question.about,
                "answer": question.answer,
                "probability": float(
                    np.exp(whole) if question.probability is None else question.probability
                ),
                "total": round(float(whole - nothing), 5),
                "scores": {
                    method: [round(float(v), 5) for v in values]
                    for method, values in scores.items()
                },
            }
            if faithfulness:
                answer["deletion"] = _deletion(explainer, question, scores, generator)
            found.append(answer)
        if time.monotonic() - last > PROGRESS_SECONDS:
            last = time.monotonic()
            logger.info("explained %d of %d answers of the %s", len(found), len(questions), name)
    return found


def _deletion(
    explainer: Explainer,
    question: Question,
    scores: Mapping[Method, Floats],
    generator: np.random.Generator,
) -> dict[str, float] | None:
    """Area below the deletion curve, 0 to 1, by method and for random orders.

    A method's curve removes its most important words first.
    """
    words = question.reading.read
    if len(words) < 2:
        return None
    orders = [sorted(words, key=lambda word: -values[word]) for values in scores.values()]
    orders += [generator.permutation(words).tolist() for _ in range(RANDOM_ORDERS)]
    taken = np.unique(np.linspace(0, len(words), DELETIONS + 1).round().astype(int))
    deletions = [tuple(sorted(order[:many])) for order in orders for many in taken]
    # Many word sets repeat across orders (the first and last always); run each set once.
    sets = list(dict.fromkeys(deletions))
    values = dict(zip(sets, np.exp(explainer.log_probabilities(question, sets)), strict=True))
    curves = np.array([values[deletion] for deletion in deletions]).reshape(-1, len(taken))
    # Trapezoid rule.
    heights, widths = (curves[:, :-1] + curves[:, 1:]) / 2, np.diff(taken)
    areas = (heights * widths).sum(axis=1) / len(words)
    result: dict[str, float] = dict(zip(scores, areas.tolist(), strict=False))
    return {**result, "random": float(areas[len(scores) :].mean())}


def _agreement(row: ExplainedRow, methods: Sequence[Method]) -> Iterable[tuple[str, float]]:
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
