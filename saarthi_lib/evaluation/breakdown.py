"""Break down the results on a test split by language, label and length, and by kind of error.

The result holds counts and a few examples, so its size does not grow with the number of rows.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.evaluation.calibration import (
    area_under_risk_coverage,
    expected_calibration_error,
    reliability,
    risk_coverage,
    wilson_interval,
)
from saarthi_lib.evaluation.evaluate import gold_answers
from saarthi_lib.evaluation.metrics import Answers, right_rows
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

    Columns are `probability` and `abstained`, `label` for tasks with a label, and `tags` and
    `probabilities` for tasks with tags. `probabilities` has one value per entity, or per word for
    parts of speech, in the order of the text.
    """
    columns: dict[str, Any] = {
        "probability": [each.probability for each in predictions],
        "abstained": [each.abstained for each in predictions],
    }
    if has_sequence_head(task):
        columns["label"] = list(answers.labels)
    if has_token_head(task):
        columns["tags"] = [list(tags) for tags in answers.tags]
        columns["probabilities"] = [
            [found.probability for found in each.entities or each.tokens] for each in predictions
        ]
    return pd.DataFrame(columns)


def answers_of(given: pd.DataFrame) -> Answers:
    """Labels and tags in a table made by `answer_table`."""
    tags = [list(row) for row in given["tags"]] if "tags" in given else ()
    return Answers(list(given["label"]) if "label" in given else (), tags)


def break_down(
    task: str, table: pd.DataFrame, models: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    """Compute the counts that the report shows.

    Args:
        task: task of the run.
        table: test split, with gold labels.
        models: `answer_table` of `teacher`, `final` and, if available, `quantized`.

    Returns:
        `groups` (by kind, a list of `name`, `examples`, and `share`, `low` and `high` of each
        model), `calibration` by model, `spans` by model (None without entities), `confusion` of
        the delivered model (None for `ner`), and `flips` between float32 and quantized (None
        without quantization).
    """
    gold = gold_answers(table, task)
    answers = {name: answers_of(given) for name, given in models.items()}
    delivered = "quantized" if "quantized" in models else "final"
    shown = {"teacher": answers["teacher"], "student": answers[delivered]}
    spans = None
    if uses_bio(task):
        spans = {name: _span_errors(table, gold, given) for name, given in shown.items()}
    flips = None
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


def _groups(
    task: str, table: pd.DataFrame, gold: Answers, models: Mapping[str, Answers]
) -> dict[str, list[dict[str, Any]]]:
    counts = {name: _counts(task, gold, given) for name, given in models.items()}
    of_spans = task == "ner"
    names = {
        "language": list(table["lang"]),
        "length": [_length_of(text) for text in table["text"]],
    }
    if has_sequence_head(task):
        names["label"] = list(gold.labels)
    groups: dict[str, list[dict[str, Any]]] = {}
    for kind, keys in names.items():
        codes, found = pd.factorize(pd.Series(keys, dtype="object"), sort=True)
        sums = {
            model: [np.bincount(codes, part, len(found)) for part in (hits, trials)]
            for model, (hits, trials) in counts.items()
        }
        examples = np.bincount(codes, minlength=len(found))
        groups[kind] = [
            {
                "name": str(name),
                "examples": int(examples[at]),
                **{
                    model: _share(hits[at], trials[at], of_spans)
                    for model, (hits, trials) in sums.items()
                },
            }
            for at, name in enumerate(found)
        ]
    order = [_length_name(*bounds) for bounds in LENGTHS]
    groups["length"].sort(key=lambda row: order.index(row["name"]))
    if has_token_head(task):
        by_tag = {name: _counts_by_tag(task, gold, given) for name, given in models.items()}
        kind = "entity" if uses_bio(task) else "label"
        every = sorted(set().union(*by_tag.values()))
        groups[kind] = [
            {
                "name": tag,
                "examples": max(counted[tag][2] for counted in by_tag.values()),
                **{
                    model: _share(counted[tag][0], counted[tag][1], uses_bio(task))
                    for model, counted in by_tag.items()
                },
            }
            for tag in every
        ]
    return groups


def _counts(
    task: str, gold: Answers, given: Answers
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Hits and trials of each text, [texts] each: text, words (`pos`) or entities (`ner`)."""
    if task == "pos":
        pairs = list(zip(gold.tags, _padded(gold, given), strict=True))
        hits = [sum(g == p for g, p in zip(*row, strict=True)) for row in pairs]
        return np.array(hits, float), np.array([len(g) for g, _ in pairs], float)
    if task == "ner":
        found = [
            (len(g & p), len(g | p))
            for g, p in (
                (set(bio_spans(g)), set(bio_spans(p)))
                for g, p in zip(gold.tags, _padded(gold, given), strict=True)
            )
        ]
        return np.array([hits for hits, _ in found], float), np.array([n for _, n in found], float)
    right = right_rows(task, gold, given).astype(float)
    return right, np.ones_like(right)


def _counts_by_tag(task: str, gold: Answers, given: Answers) -> dict[str, list[int]]:
    """Hits, trials and number of gold examples of each entity type or tag."""
    counted: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for g, p in zip(gold.tags, _padded(gold, given), strict=True):
        if task == "pos":
            for right, answer in zip(g, p, strict=True):
                counted[right][0] += right == answer
                counted[right][1] += 1
                counted[right][2] += 1
            continue
        ours, theirs = set(bio_spans(g)), set(bio_spans(p))
        for span in ours | theirs:
            counted[span[2]][0] += span in ours and span in theirs
            counted[span[2]][1] += 1
            counted[span[2]][2] += span in ours
    return counted


def _share(hits: float, trials: float, of_spans: bool) -> dict[str, float | None]:
    """A share with its 95% interval.

    For spans, the share is F1. A trial is a span that is gold, predicted or both; a hit is both.
    F1 = 2s / (1 + s) grows monotonically with the share s of hits, so the interval of s transforms
    into an interval of F1.
    """
    if not trials:
        return {"share": None, "low": None, "high": None}
    values = [hits / trials, *wilson_interval(hits, trials)]
    if of_spans:
        values = [2 * value / (1 + value) for value in values]
    return dict(zip(("share", "low", "high"), map(float, values), strict=True))


def _length_of(text: str) -> str:
    words = len(text.split())
    return next(_length_name(low, high) for low, high in LENGTHS if high is None or words <= high)


def _length_name(low: int, high: int | None) -> str:
    return f"{low}+ words" if high is None else f"{low}–{high} words"


def _padded(gold: Answers, given: Answers) -> Iterator[list[str]]:
    """Pad predicted tags to the gold length; words beyond the maximum length get O."""
    for g, p in zip(gold.tags, given.tags, strict=True):
        yield [*list(p)[: len(g)], *["O"] * (len(g) - len(p))]


# --- confidence -----------------------------------------------------------------------------------


def _calibration(task: str, gold: Answers, given: Answers, table: pd.DataFrame) -> dict[str, Any]:
    """Reliability, risk and coverage of labels, entities (`ner`) or words (`pos`)."""
    if has_sequence_head(task):
        unit, probability = "texts", np.asarray(table["probability"], dtype=float)
        right = np.array([g == p for g, p in zip(gold.labels, given.labels, strict=True)])
    else:
        rows = [np.asarray(row, dtype=float) for row in table["probabilities"]]
        probability = np.concatenate([np.zeros(0), *rows])
        right, unit = np.zeros(0, bool), "words" if task == "pos" else "entities"
        found: list[bool] = []
        for g, p in zip(gold.tags, given.tags, strict=True):
            if task == "pos":
                found += [at == by for at, by in zip(g, p, strict=False)]
            else:
                known = set(bio_spans(g))
                found += [span in known for span in bio_spans(p)]
        right = np.array(found, dtype=bool)
    probability = np.clip(probability, 0.0, 1.0)
    coverage, risk = risk_coverage(probability, right)
    points = np.unique(np.linspace(0, len(coverage) - 1, CURVE_POINTS).round().astype(int))
    points = points if len(coverage) else np.zeros(0, int)
    return {
        "unit": unit,
        "examples": len(right),
        "bins": [vars(each) for each in reliability(probability, right)],
        "ece": expected_calibration_error(probability, right),
        "aurc": area_under_risk_coverage(probability, right),
        "coverage": coverage[points].round(4).tolist(),
        "risk": risk[points].round(4).tolist(),
    }


# --- confusions -----------------------------------------------------------------------------------


def _confusion(
    task: str, table: pd.DataFrame, gold: Answers, given: Answers
) -> dict[str, Any] | None:
    """Confusion counts (gold, given) of labels or tags, with example texts; None for `ner`."""
    if task == "ner":
        return None
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    examples: list[dict[str, Any]] = []
    shown: Counter[tuple[str, str]] = Counter()
    for row, (right, answer, word) in _pairs(task, gold, given):
        counts[right][answer] += 1
        pair = (right, answer)
        if right == answer or shown[pair] >= EXAMPLES_A_PAIR or len(examples) >= CONFUSION_EXAMPLES:
            continue
        shown[pair] += 1
        example = {"text": table["text"].iloc[row], "lang": table["lang"].iloc[row]}
        if word is not None:
            example["word"] = table["words"].iloc[row][word]
        examples.append({**example, "gold": right, "predicted": answer})
    return {
        "labels": sorted({*counts, *(name for row in counts.values() for name in row)}),
        "counts": {label: dict(row) for label, row in counts.items()},
        "examples": examples,
    }


def _pairs(
    task: str, gold: Answers, given: Answers
) -> Iterator[tuple[int, tuple[str, str, int | None]]]:
    if has_sequence_head(task):
        for row, (right, answer) in enumerate(zip(gold.labels, given.labels, strict=True)):
            yield row, (right, answer, None)
        return
    for row, (g, p) in enumerate(zip(gold.tags, given.tags, strict=True)):
        for word, (right, answer) in enumerate(zip(g, p, strict=False)):
            yield row, (right, answer, word)


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


def _span_errors(table: pd.DataFrame, gold: Answers, given: Answers) -> dict[str, Any]:
    counts = dict.fromkeys(SPAN_OUTCOMES, 0)
    examples: list[dict[str, str]] = []
    shown: Counter[str] = Counter()
    for row, (g, p) in enumerate(zip(gold.tags, _padded(gold, given), strict=True)):
        for outcome, right, answer in span_outcomes(bio_spans(g), bio_spans(p)):
            counts[outcome] += 1
            if outcome == "right" or shown[outcome] >= SPAN_EXAMPLES:
                continue
            shown[outcome] += 1
            words = list(table["words"].iloc[row])
            example = {"outcome": outcome, "text": table["text"].iloc[row]}
            if outcome != "spurious":
                example["gold"] = _told(words, right)
            if outcome != "missed":
                example["given"] = _told(words, answer)
            examples.append(example)
    return {"counts": counts, "examples": examples}


def _told(words: Sequence[str], span: Span) -> str:
    return f"{span[2]}: {' '.join(words[span[0] : span[1]])}"


def _flips(
    task: str, table: pd.DataFrame, gold: Answers, before: Answers, after: Answers
) -> dict[str, Any]:
    """Texts whose answer changed by quantization, with the effect: won, lost or neither."""
    same = right_rows(task, before, after)
    was, now = right_rows(task, gold, before), right_rows(task, gold, after)
    examples = [
        {
            "text": table["text"].iloc[row],
            "gold": told(task, table, gold, row),
            "before": told(task, table, before, row),
            "after": told(task, table, after, row),
            "effect": "won" if now[row] else "lost" if was[row] else "neither",
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


def told(task: str, table: pd.DataFrame, answers: Answers, row: int) -> str:
    """One-line form of an answer: label, and entities or tags."""
    parts = [answers.labels[row]] if has_sequence_head(task) else []
    if has_token_head(task):
        words = list(table["words"].iloc[row])
        tags = list(answers.tags[row])
        if uses_bio(task):
            parts += [_told(words, span) for span in bio_spans(tags)]
        else:
            parts += [f"{word}/{tag}" for word, tag in zip(words, tags, strict=False)]
    return ", ".join(parts) or "nothing"
