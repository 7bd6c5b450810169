"""Break down the results on a test split by language, label and length, and by kind of error.

The result holds counts and a few examples, so its size does not grow with the number of rows.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from saarthi_lib.evaluation.calibration import (
    area_under_risk_coverage,
    expected_calibration_error,
    reliability,
    risk_coverage,
    wilson_interval,
)
from saarthi_lib.evaluation.details import (
    Breakdown,
    CalibrationCurve,
    Confusion,
    ConfusionExample,
    Flips,
    Group,
    Share,
    SpanErrors,
)
from saarthi_lib.evaluation.evaluate import gold_answers
from saarthi_lib.evaluation.metrics import Answers, aligned_tags, right_rows
from saarthi_lib.evaluation.selective_metrics import item_probabilities, probabilities_of
from saarthi_lib.inference.predictor import Prediction
from saarthi_lib.tasks import bio_spans, has_sequence_head, has_token_head, uses_bio

LENGTHS = ((1, 2), (3, 4), (5, 7), (8, 12), (13, 20), (21, None))
CURVE_POINTS = 100
EXAMPLES_A_PAIR, CONFUSION_EXAMPLES = 2, 400
FLIPS_SHOWN = 20
SPAN_EXAMPLES = 3
SPAN_OUTCOMES = ("right", "boundary", "type", "boundary and type", "missed", "spurious")

Span = tuple[int, int, str]


def answer_table(task: str, answers: Answers, predictions: Sequence[Prediction]) -> pd.DataFrame:
    """A model's answers, one row per text.

    Columns are `probability`, `confidence`, `threshold`, `abstained` and `reason`, `label` for
    tasks with a label, and `tags` and `probabilities` for tasks with tags. `probabilities` has one
    value per entity, or per word for parts of speech, in the order of the text.
    """
    columns: dict[str, Any] = {
        "probability": [each.probability for each in predictions],
        "confidence": [each.confidence for each in predictions],
        "threshold": np.array([each.threshold for each in predictions], dtype=np.float64),
        "abstained": [each.abstained for each in predictions],
        "reason": pd.Series([each.reason for each in predictions], dtype=object),
    }
    if has_sequence_head(task):
        columns["label"] = list(answers.labels)
    if has_token_head(task):
        columns["tags"] = [list(tags) for tags in answers.tags]
        columns["probabilities"] = [probabilities_of(each) for each in predictions]
    return pd.DataFrame(columns)


def answers_of(given: pd.DataFrame) -> Answers:
    """Labels and tags in a table made by `answer_table`."""
    tags = [list(row) for row in given["tags"]] if "tags" in given else ()
    return Answers(list(given["label"]) if "label" in given else (), tags)


def break_down(task: str, table: pd.DataFrame, models: Mapping[str, pd.DataFrame]) -> Breakdown:
    """Compute the counts that the report shows.

    Args:
        task: task of the run.
        table: test split, with gold labels.
        models: `answer_table` of `teacher`, `final` and, if available, `quantized`.
    """
    gold = gold_answers(table, task)
    answers = {name: answers_of(given) for name, given in models.items()}
    delivered = "quantized" if "quantized" in models else "final"
    shown = {"teacher": answers["teacher"], "student": answers[delivered]}
    spans, flips = None, None
    if uses_bio(task):
        spans = {name: _span_errors(table, gold, given) for name, given in shown.items()}
    if delivered == "quantized":
        flips = _flips(task, table, gold, answers["final"], answers["quantized"])
    return {
        "groups": _groups(task, table, gold, shown),
        "calibration": {
            name: _calibration(task, gold, answers[source], models[source])
            for name, source in (("teacher", "teacher"), ("student", delivered))
        },
        "spans": spans,
        "confusion": _confusion(task, table, gold, answers[delivered]),
        "flips": flips,
    }


# --- teacher and student, by group ----------------------------------------------------------------

# A trial of the main metric, with its label or type: whether it is a hit, and whether it is gold.
# A trial is a text or, for `pos`, a word. For entities it is a span that is gold, predicted or
# both, and a hit is both.
Trial = tuple[str, bool, bool]


def _groups(
    task: str, table: pd.DataFrame, gold: Answers, models: Mapping[str, Answers]
) -> dict[str, list[Group]]:
    by_row = {name: trials_of(task, gold, given) for name, given in models.items()}
    keys = {
        "language": list(table["lang"]),
        "length": [_length_of(text) for text in table["text"]],
    }
    if has_sequence_head(task):
        keys["label"] = list(gold.labels)
    groups = {}
    for kind, names in keys.items():
        counts = {
            model: _count((names[row], hit) for row, part in enumerate(rows) for _, hit, _ in part)
            for model, rows in by_row.items()
        }
        groups[kind] = _rows(Counter(names), counts, task == "ner")
    order = [_length_name(*bounds) for bounds in LENGTHS]
    groups["length"].sort(key=lambda row: order.index(row["name"]))
    if has_token_head(task):
        by_tag = {
            name: [trial for row in _tag_trials(task, gold, given) for trial in row]
            for name, given in models.items()
        }
        examples = Counter({tag: 0 for part in by_tag.values() for tag, _, _ in part})
        examples.update(tag for tag, _, is_gold in by_tag["teacher"] if is_gold)
        counts = {name: _count((tag, hit) for tag, hit, _ in part) for name, part in by_tag.items()}
        groups["entity" if uses_bio(task) else "label"] = _rows(examples, counts, uses_bio(task))
    return groups


def trials_of(task: str, gold: Answers, given: Answers) -> list[list[Trial]]:
    """Trials of each text, [texts]."""
    if has_sequence_head(task):
        return [[("", right, True)] for right in right_rows(task, gold, given).tolist()]
    return _tag_trials(task, gold, given)


def _tag_trials(task: str, gold: Answers, given: Answers) -> list[list[Trial]]:
    rows = list(zip(gold.tags, aligned_tags(gold, given), strict=True))
    if task == "pos":
        return [[(g, g == p, True) for g, p in zip(*row, strict=True)] for row in rows]
    spans = [(set(bio_spans(g)), set(bio_spans(p))) for g, p in rows]
    return [[(each[2], each in g & p, each in g) for each in g | p] for g, p in spans]


def _count(trials: Iterable[tuple[str, bool]]) -> dict[str, tuple[int, int]]:
    """Hits and trials by name."""
    hits, every = Counter[str](), Counter[str]()
    for name, hit in trials:
        hits[name] += hit
        every[name] += 1
    return {name: (hits[name], count) for name, count in every.items()}


def _rows(
    examples: Mapping[str, int],
    counts: Mapping[str, Mapping[str, tuple[int, int]]],
    of_spans: bool,
) -> list[Group]:
    def share(model: str, name: str) -> Share:
        return share_of(*counts[model].get(name, (0, 0)), of_spans)

    return [
        {
            "name": str(name),
            "examples": examples[name],
            "teacher": share("teacher", name),
            "student": share("student", name),
        }
        for name in sorted(examples)
    ]


def share_of(hits: float, trials: float, of_spans: bool) -> Share:
    """A share with its 95% interval.

    For spans, the share is F1. A trial is a span that is gold, predicted or both; a hit is both.
    F1 = 2s / (1 + s) grows monotonically with the share s of hits, so the interval of s transforms
    into an interval of F1.
    """
    if not trials:
        return {"share": None, "low": None, "high": None}
    values = [float(value) for value in (hits / trials, *wilson_interval(hits, trials))]
    share, low, high = (2 * value / (1 + value) for value in values) if of_spans else values
    return {"share": share, "low": low, "high": high}


def _length_of(text: str) -> str:
    words = len(text.split())
    return next(_length_name(low, high) for low, high in LENGTHS if high is None or words <= high)


def _length_name(low: int, high: int | None) -> str:
    return f"{low}+ words" if high is None else f"{low}–{high} words"


def _calibration(task: str, gold: Answers, given: Answers, table: pd.DataFrame) -> CalibrationCurve:
    """Reliability, risk and coverage of labels, entities (`ner`) or words (`pos`)."""
    rows = table.get("probabilities", ())
    found, right = item_probabilities(task, gold, given, list(table["probability"]), rows)
    probability = np.clip(np.array(found, dtype=float), 0.0, 1.0)
    coverage, risk = risk_coverage(probability, right)
    points = np.unique(np.linspace(0, len(coverage) - 1, CURVE_POINTS).round().astype(int))
    points = points if len(coverage) else np.zeros(0, int)
    words = "words" if task == "pos" else "entities"
    return {
        "unit": "texts" if has_sequence_head(task) else words,
        "examples": len(right),
        "bins": [vars(each) for each in reliability(probability, right)],
        "ece": expected_calibration_error(probability, right),
        "aurc": area_under_risk_coverage(probability, right),
        "coverage": coverage[points].round(4).tolist(),
        "risk": risk[points].round(4).tolist(),
    }


# --- errors ---------------------------------------------------------------------------------------


def _confusion(task: str, table: pd.DataFrame, gold: Answers, given: Answers) -> Confusion | None:
    if task == "ner":
        return None
    counts: dict[str, Counter[str]] = {}
    examples: list[ConfusionExample] = []
    shown: Counter[tuple[str, str]] = Counter()
    for row, word, right, answer in _pairs(task, gold, given):
        counts.setdefault(right, Counter())[answer] += 1
        pair = (right, answer)
        if right == answer or shown[pair] >= EXAMPLES_A_PAIR or len(examples) >= CONFUSION_EXAMPLES:
            continue
        shown[pair] += 1
        text, lang = table["text"].iloc[row], table["lang"].iloc[row]
        example: ConfusionExample = {"text": text, "lang": lang, "gold": right, "predicted": answer}
        if word is not None:
            example["word"] = table["words"].iloc[row][word]
        examples.append(example)
    return {
        "labels": sorted({*counts, *(name for row in counts.values() for name in row)}),
        "counts": {label: dict(row) for label, row in counts.items()},
        "examples": examples,
    }


def _pairs(task: str, gold: Answers, given: Answers) -> Iterator[tuple[int, int | None, str, str]]:
    """Row, word (None for labels), gold and predicted label."""
    if has_sequence_head(task):
        for row, (right, answer) in enumerate(zip(gold.labels, given.labels, strict=True)):
            yield row, None, right, answer
        return
    for row, (g, p) in enumerate(zip(gold.tags, given.tags, strict=True)):
        for word, (right, answer) in enumerate(zip(g, p, strict=False)):
            yield row, word, right, answer


def span_outcomes(gold: Sequence[Span], given: Sequence[Span]) -> list[tuple[str, Span, Span]]:
    """Pair gold and predicted spans of a text; each pair has an outcome of `SPAN_OUTCOMES`.

    Exact matches are `right`. The other spans are paired by overlap, from left to right. The same
    words with another label are `type`, other words with the same label `boundary`, and other words
    with another label `boundary and type`. Unpaired gold spans are `missed`, unpaired predicted
    spans `spurious`; they are paired with themselves.
    """
    exact = set(gold) & set(given)
    found = [("right", span, span) for span in gold if span in exact]
    missing = [span for span in gold if span not in exact]
    extra = [span for span in given if span not in exact]
    tests = (
        ("type", lambda g, p: g[:2] == p[:2]),
        ("boundary", lambda g, p: _overlap(g, p) and g[2] == p[2]),
        ("boundary and type", lambda g, p: _overlap(g, p)),
    )
    for outcome, matches in tests:
        for span in list(missing):
            partner = next((other for other in extra if matches(span, other)), None)
            if partner is not None:
                found.append((outcome, span, partner))
                missing.remove(span)
                extra.remove(partner)
    found += [("missed", span, span) for span in missing]
    return found + [("spurious", span, span) for span in extra]


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _span_errors(table: pd.DataFrame, gold: Answers, given: Answers) -> SpanErrors:
    counts = dict.fromkeys(SPAN_OUTCOMES, 0)
    examples: list[dict[str, str]] = []
    for row, (g, p) in enumerate(zip(gold.tags, aligned_tags(gold, given), strict=True)):
        for outcome, right, answer in span_outcomes(bio_spans(g), bio_spans(p)):
            counts[outcome] += 1
            if outcome == "right" or counts[outcome] > SPAN_EXAMPLES:
                continue
            words = list(table["words"].iloc[row])
            example = {"outcome": outcome, "text": table["text"].iloc[row]}
            if outcome != "spurious":
                example["gold"] = _span_text(words, right)
            if outcome != "missed":
                example["given"] = _span_text(words, answer)
            examples.append(example)
    return {"counts": counts, "examples": examples}


def _flips(task: str, table: pd.DataFrame, gold: Answers, before: Answers, after: Answers) -> Flips:
    same = right_rows(task, before, after)
    was, now = right_rows(task, gold, before), right_rows(task, gold, after)
    examples = [
        {
            "text": table["text"].iloc[row],
            "gold": answer_text(task, table, gold, row),
            "before": answer_text(task, table, before, row),
            "after": answer_text(task, table, after, row),
            "effect": effect(was[row], now[row]),
        }
        for row in np.flatnonzero(~same)[:FLIPS_SHOWN].tolist()
    ]
    return {
        "examples_of": len(table),
        "changed": int((~same).sum()),
        "won": int((~was & now).sum()),
        "lost": int((was & ~now).sum()),
        "examples": examples,
    }


def effect(was: bool, now: bool) -> str:
    """Effect of a changed answer: `won` if it is now right, `lost` if it was, else `neither`."""
    return "neither" if was == now else "won" if now else "lost"


def answer_text(task: str, table: pd.DataFrame, answers: Answers, row: int) -> str:
    """One-line form of an answer: label, and entities or tags."""
    parts = [answers.labels[row]] if has_sequence_head(task) else []
    if has_token_head(task):
        words = list(table["words"].iloc[row])
        tags = list(answers.tags[row])
        if uses_bio(task):
            parts += [_span_text(words, span) for span in bio_spans(tags)]
        else:
            parts += [f"{word}/{tag}" for word, tag in zip(words, tags, strict=False)]
    return ", ".join(parts) or "nothing"


def _span_text(words: Sequence[str], span: Span) -> str:
    return f"{span[2]}: {' '.join(words[span[0] : span[1]])}"
