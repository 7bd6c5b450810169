"""The result of a run in one sentence, and the names that people read for its models."""

import math

from saarthi_lib.config import TRIAL
from saarthi_lib.evaluation.calibration import wilson_interval
from saarthi_lib.evaluation.metrics import MAIN_METRIC
from saarthi_lib.evaluation.scores import Metrics, Scores

TASKS = {
    "intent_classification": "intent classification",
    "text_classification": "text classification",
    "ner": "entities",
    "pos": "parts of speech",
    "joint": "intents and entities",
}
# By main metric: the result if every text is answered, and if the model abstains.
_RESULTS = {
    "accuracy": (
        "answers {main} of the {texts} correctly",
        "answers {covered} of the {texts}, {main} of these correctly",
    ),
    "span F1": (
        "finds the entities of the {texts} with a span F1 of {main}",
        "answers {covered} of the {texts} and finds their entities with a span F1 of {main}",
    ),
    "accuracy by word": (
        "tags {main} of the words in the {texts} correctly",
        "answers {covered} of the {texts} and tags {main} of their words correctly",
    ),
    "right frames": (
        "finds the right intent and all entities in {main} of the {texts}",
        "answers {covered} of the {texts} and finds the right intent and all entities in {main} "
        "of these",
    ),
}
_NEARLY_EQUAL = 1.05  # a smaller factor of size or time is not mentioned


def models(metrics: Metrics, precision: str | None) -> dict[str, Scores]:
    """Scores of each model by the name that people read, in the order of training.

    Args:
        metrics: content of `metrics.json`.
        precision: `int8` or `float16`; None if the student was not quantized.
    """
    student = metrics["student"]
    named: dict[str, Scores | None] = {
        "baseline": metrics.get("baseline"),  # missing in older runs
        "teacher": metrics.get("teacher"),
        **{name.replace("_", " "): student[name] for name in sorted(student) if name != "final"},
        "float32": student.get("final"),
        precision or "quantized": metrics.get("quantized"),
    }
    return {name: scores for name, scores in named.items() if scores}


def summarize(metrics: Metrics, precision: str | None) -> str:
    """Summarize a run in one sentence about the answers of the delivered model.

    Args:
        metrics: content of `metrics.json`.
        precision: `int8` or `float16`; None if the student was not quantized.
    """
    if metrics.get("trial"):
        return f"{TRIAL[0].upper()}{TRIAL[1:]}."
    name, served = list(models(metrics, precision).items())[-1]
    distilled = any(stage != "final" for stage in metrics["student"])
    subject = f"The {name} {'model' if distilled else 'teacher'}"
    if name == "teacher":
        subject = "The teacher"
    metric = MAIN_METRIC[metrics["task"]]
    baseline = metrics.get("baseline")
    if baseline and served["main"] <= baseline["main"]:
        return (
            f"{subject} is not better than the simple baseline: {metric} "
            f"{_percent(served['main'])}, baseline {_percent(baseline['main'])}."
        )
    abstains, result = _result(metrics["task"], served)
    clauses = []
    if name != "teacher" and (compared := _compared(metrics, served, distilled)):
        clauses.append(compared)
    if baseline:
        clauses.append(_ahead(served, baseline, f" in {metric}" * abstains))
    between = "; it " if abstains else ", " if len(clauses) > 1 else " and "
    return f"{subject} {result}{between * bool(clauses)}{', and '.join(clauses)}."


def answered(task: str, scores: Scores) -> tuple[float, float] | None:
    """Share of the texts that a model answers, and its main metric on these texts.

    None if the model answers every text, or if a run of an earlier version lacks the metric.
    """
    found = scores.get("calibration")
    if not found or found.get("coverage", 1.0) == 1:
        return None
    main = found.get("answered_main")
    if main is None and MAIN_METRIC[task] == "accuracy" and "risk" in found:
        main = 1 - found["risk"]
    return None if main is None else (found["coverage"], main)


def clearly_better(served: Scores, other: Scores) -> bool:
    """Whether a model is better than another beyond chance, as far as the test texts show.

    The difference of two independent shares must exceed its 95% interval (Newcombe's, from two
    Wilson intervals). Both models answer the same texts, so the true interval is often narrower.
    A test of the pairs would need the answers, which `metrics.json` lacks.
    """
    texts = served.get("examples")
    if not texts:
        return served["main"] > other["main"]  # runs of earlier versions
    low, _ = wilson_interval(served["main"] * texts, texts)
    _, high = wilson_interval(other["main"] * texts, texts)
    least = math.hypot(served["main"] - low, high - other["main"])
    return served["main"] - other["main"] > least


def _ahead(served: Scores, baseline: Scores, where: str) -> str:
    """How much better the delivered model is than the baseline."""
    if not clearly_better(served, baseline):
        texts = f"{served.get('examples', 0):,} test texts are too few to tell"
        return f"is not clearly better than the simple baseline{where} ({texts})"
    ahead = 100 * (served["main"] - baseline["main"])
    points = f"{ahead:.1f} points" if ahead >= 0.05 else "less than 0.1 points"
    return f"beats the simple baseline by {points}{where}"


def _result(task: str, served: Scores) -> tuple[bool, str]:
    """Whether the model abstains, and the quality of its answers."""
    texts = "test texts"
    if "out_of_scope" in served.get("calibration", {}):
        texts = "in-scope test texts"
    whole, part = _RESULTS[MAIN_METRIC[task]]
    found = answered(task, served)
    if found is None:
        return False, whole.format(main=_percent(served["main"]), texts=texts)
    covered, main = found
    if not covered:
        return True, f"abstains from all {texts}"
    return True, part.format(main=_percent(main), covered=_percent(covered), texts=texts)


def _compared(metrics: Metrics, served: Scores, distilled: bool) -> str:
    """Size and speed of the delivered model, compared with its teacher; empty if equal."""
    ratios = (
        (smaller(metrics, served), "smaller", "larger"),
        (metrics.get("speedup"), "faster", "slower"),
    )
    parts = [
        f"{_times(ratio)} times {more if ratio > 1 else less}"
        for ratio, more, less in ratios
        if ratio and max(ratio, 1 / ratio) >= _NEARLY_EQUAL
    ]
    if not parts:
        return ""
    return f"is {' and '.join(parts)} than {'its' if distilled else 'the trained'} teacher"


def smaller(metrics: Metrics, served: Scores) -> float | None:
    """Size of the teacher on disk, divided by the delivered model's; None if one is missing."""
    before, after = metrics.get("teacher", {}).get("size_bytes"), served.get("size_bytes")
    return before / after if before and after else None


def _times(ratio: float) -> str:
    ratio = max(ratio, 1 / ratio)
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"
