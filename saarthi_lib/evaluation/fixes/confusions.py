"""Group wrong labels, tags and entities by the pair of gold and given name."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from saarthi_lib.data.check.findings import listed, plural
from saarthi_lib.evaluation.breakdown import Span, span_outcomes
from saarthi_lib.evaluation.fixes.answered import ENTITY, LABEL, Answered, Counts, count_names, fix
from saarthi_lib.evaluation.fixes.types import Fix
from saarthi_lib.evaluation.metrics import aligned_tags
from saarthi_lib.tasks import bio_spans, has_sequence_head, has_token_head, uses_bio

LEAST = 2  # errors of a pattern
FEW_ROWS = 20  # training rows of a label; a label with fewer needs more
TIMES = 3  # a label with a third of the other one's rows, or fewer, needs more
TYPE, BOUNDARY, MISSED, SPURIOUS = "type", "boundary", "missed", "spurious"  # of entities
_UNLABELLED = (
    "Add unlabelled sentences like these to transfer.*: the teacher is right in most of these rows."
)


class Error(NamedTuple):
    """One wrong label, tag or entity.

    Attributes:
        row: row of the text.
        kind: `label`, or an outcome of an entity.
        gold: gold label, tag or type; that given, for a spurious entity.
        given: the answered one; empty for missed entities.
        shown: gold and given answer for people, and a note.
    """

    row: int
    kind: str
    gold: str
    given: str
    shown: tuple[str, ...]


def confusions(answered: Answered) -> Iterator[Fix]:
    """Yield patterns of errors, and the errors without a pattern."""
    totals = count_names(answered.gold, answered.task)
    groups: dict[tuple[str, ...], list[Error]] = {}
    for error in _errors(answered):
        groups.setdefault(_key(error), []).append(error)
    rest: dict[str, list[Error]] = {}
    for key, group in groups.items():
        if len(group) >= LEAST:
            yield _fix(answered, group, *_pattern(answered, key[0], group, totals))
        else:
            rest.setdefault(group[0].gold if key[0] == LABEL else "", []).extend(group)
    left = rest.pop("", [])
    for gold, group in rest.items():
        if len(group) < LEAST:
            left += group
            continue
        taken = listed(dict.fromkeys(error.given for error in group), 4)
        total = _total(gold, LABEL, totals, answered.task)
        title = f"{gold} is taken for others ({taken}): {len(group):,} of {total}"
        yield _fix(answered, group, title, _more_rows(answered, LABEL, gold))
    if left:
        title = f"{plural(len(left), 'error')} without a pattern"
        yield _fix(
            answered, left, title, "Read these rows, and add training rows like them.", "other"
        )


def _fix(
    answered: Answered, group: Sequence[Error], title: str, action: str, kind: str = "confused"
) -> Fix:
    rows = (answered.shown(error.row, *error.shown) for error in group)
    return fix(kind, title, action, rows, len(group))


def _errors(answered: Answered) -> Iterator[Error]:
    task, gold, given = answered.task, answered.gold, answered.given
    if has_sequence_head(task):
        for row, (right, answer) in enumerate(zip(gold.labels, given.labels, strict=True)):
            if right != answer:
                yield Error(row, LABEL, right, answer, (right, answer))
    if not has_token_head(task):
        return
    for row, pair in enumerate(zip(gold.tags, aligned_tags(gold, given), strict=True)):
        words = list(answered.table["words"].iloc[row])
        if uses_bio(task):
            for outcome, one, other in span_outcomes(*map(bio_spans, pair)):
                if outcome != "right":
                    yield _of_span(row, words, outcome, one, other)
            continue
        for word, g, p in zip(words, *pair, strict=True):
            if g != p:
                yield Error(row, LABEL, g, p, (g, p, f"word: {word}"))


def _of_span(row: int, words: Sequence[str], outcome: str, gold: Span, given: Span) -> Error:
    kind = TYPE if outcome == "boundary and type" else outcome
    texts = [f"{name}: {' '.join(words[start:end])}" for start, end, name in (gold, given)]
    shown = "nothing" if kind == SPURIOUS else texts[0], "nothing" if kind == MISSED else texts[1]
    return Error(row, kind, gold[2], "" if kind == MISSED else given[2], shown)


def _key(error: Error) -> tuple[str, ...]:
    """Kind and names; errors in both directions between two names have one key."""
    names = error.gold, error.given
    return error.kind, *(sorted(names) if error.kind in (LABEL, TYPE) else names)


def _total(name: str, kind: str, totals: Counts, task: str) -> str:
    """Gold labels, tags or entities of a name, as text."""
    if kind == ENTITY:
        count = totals[ENTITY][name]
        return f"{count:,} {'entity' if count == 1 else 'entities'}"
    return plural(totals[LABEL][name], "word" if task == "pos" else "text")


def _pattern(
    answered: Answered, kind: str, group: Sequence[Error], totals: Counts
) -> tuple[str, str]:
    """Title and action of errors with one key."""
    golds = Counter(error.gold for error in group)
    gold, count = golds.most_common(1)[0]
    other = next(error.given for error in group if error.gold == gold)
    head = LABEL if kind == LABEL else ENTITY
    total, rows = _total(gold, head, totals, answered.task), [error.row for error in group]
    if kind in (LABEL, TYPE):
        title = f"{gold} is taken for {other}: {count:,} of {total}"
        if back := len(group) - count:
            title = f"{gold} and {other} are confused: {count:,} of {total}, and {back:,} back"
        return title, _for_pair(answered, head, gold, other, rows)
    if kind == MISSED:
        title = f"{gold} is missed: {count:,} of {total}"
        return title, _more_rows(answered, head, gold, rows)
    if kind == BOUNDARY:
        action = f"Read the rows: {gold} must have the same words in all rows of train and test."
        return f"{gold} begins or ends at another word: {count:,} of {total}", action
    action = (
        f"Read the rows: label {gold} in test if the answer is right, else add training rows with "
        "such words outside entities."
    )
    return f"{gold} is found where test has none: {count:,} times", action


def _for_pair(answered: Answered, head: str, gold: str, other: str, rows: Sequence[int]) -> str:
    if answered.trained:
        has, others = answered.trained[head][gold], answered.trained[head][other]
        if has < FEW_ROWS or TIMES * has <= others:
            return f"Add training rows of {gold}: train has {has:,}, of {other} {others:,}."
    if answered.teacher_knows(rows):
        return _UNLABELLED
    if answered.task == "pos":
        return "Read the rows: tag such words alike in all rows, and add training rows with them."
    return (
        f"Read the rows: join {gold} and {other} if they mean the same, else add training rows "
        "that show the difference."
    )


def _more_rows(answered: Answered, head: str, gold: str, rows: Sequence[int] = ()) -> str:
    has = answered.trained[head][gold] if answered.trained else 0
    if has < FEW_ROWS:
        return f"Add training rows of {gold}{f': train has {has:,}' if answered.trained else ''}."
    return _UNLABELLED if rows and answered.teacher_knows(rows) else "Add training rows like these."
