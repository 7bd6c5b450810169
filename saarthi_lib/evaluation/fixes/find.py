"""List the fixes of wrong answers, the most useful first."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from saarthi_lib.data.check.findings import listed, plural
from saarthi_lib.evaluation.calibration import wilson_interval
from saarthi_lib.evaluation.fixes.answered import Answered, fix, shortened
from saarthi_lib.evaluation.fixes.confusions import LEAST, confusions
from saarthi_lib.evaluation.fixes.types import ErrorList, Fix, FixRow
from saarthi_lib.inference.answers import NO_ANSWER_FITS

WORDS_NAMED = 8
SURE = 0.95  # least probability of teacher and student for a doubt about the gold label
FEW = 10  # test texts of a language; with fewer, its errors may be chance
_NO_DATA = (
    "the run keeps no data (production: true): places of rows, words that train lacks and labels "
    "of train were not examined"
)


def find_fixes(answered: Answered) -> ErrorList:
    """List fixes by the number of errors that they may correct."""
    found = [*confusions(answered), *_labels(answered), *_words(answered), *_languages(answered)]
    found += _withheld(answered)
    found.sort(key=lambda each: (each["kind"] == "other", -each["errors"]))
    return {
        "texts": len(answered.table),
        "wrong": len(answered.wrong),
        "fixes": found,
        "skipped": "" if answered.languages else _NO_DATA,
    }


def _labels(answered: Answered) -> Iterator[Fix]:
    """Labels that may be wrong, and equal texts with different labels."""
    checked, count, errors = _of_check(answered, "label-issues")
    places = {(row["file"], row["row"]) for row in checked}
    sure = [row for row in _sure_rows(answered) if (row["file"], row["row"]) not in places]
    if rows := [*sure, *checked]:
        count += len(sure)
        title = f"{plural(count, 'label')} may be wrong: models are sure of another one"
        action = "Check these labels, and correct the wrong ones in the data."
        yield fix("labels", title, action, rows, count, errors + len(sure))
    rows, count, errors = _of_check(answered, "conflicting-labels")
    if rows:
        title = f"{plural(count, 'row')} with the text of another row and a different label"
        action = "Settle on one label for each text."
        yield fix("labels", title, action, rows, count, errors)


def _of_check(answered: Answered, check: str) -> tuple[list[FixRow], int, float]:
    """Rows of a finding, their number, and that of as many rows for each test text."""
    rows: list[FixRow] = []
    count, errors = 0, 0.0
    for finding in answered.findings:
        if finding["check"] == check and finding["rows"]:
            count += finding["count"]
            errors += finding["count"] / finding["total"] * len(answered.table)
            rows += map(_row_of_check, finding["rows"])
    return rows, count, errors


def _row_of_check(row: Mapping[str, Any]) -> FixRow:
    """A row of the check; details are `given (3%); rather other` or `given; elsewhere others`."""
    given, _, other = str(row["detail"]).rpartition("; rather ")
    if given:
        given = given.rpartition(" (")[0]
    else:
        given, _, other = str(row["detail"]).partition("; elsewhere ")
    return {
        "file": str(row["file"]),
        "row": int(row["row"]),
        "text": shortened(str(row["text"])),
        "lang": "",
        "gold": given,
        "answer": other,
        "note": "by the data check",
    }


def _sure_rows(answered: Answered) -> Iterator[FixRow]:
    """Rows to which teacher and delivered model give the same wrong label, both surely."""
    table, model = answered.table, answered.model
    columns = [f"{name}_{kind}" for name in ("teacher", model) for kind in ("label", "probability")]
    if not {*columns} <= {*table}:
        return
    found = [
        (-min(sure, also_sure), row, gold, given)
        for row, (gold, teacher, sure, given, also_sure) in enumerate(
            zip(*(table[name] for name in ("gold_label", *columns)), strict=True)
        )
        if teacher == given != gold and min(sure, also_sure) >= SURE
    ]
    for least, row, gold, given in sorted(found):
        yield answered.shown(row, gold, given, f"teacher and student: {-least:.0%}")


def _withheld(answered: Answered) -> Iterator[Fix]:
    """Right answers below the threshold, if they are more than the refused and wrong ones."""
    table, model = answered.table, answered.model
    if f"{model}_abstained" not in table:
        return
    below = table[f"{model}_abstained"].to_numpy(bool)
    if f"{model}_reason" in table:  # missing in older runs
        below &= (table[f"{model}_reason"] != NO_ANSWER_FITS).to_numpy(bool)
    right = [row for row, good in enumerate(answered.right) if good and below[row]]
    wrong = int(below.sum()) - len(right) + answered.refused
    if len(right) - wrong < LEAST:
        return
    title = f"{plural(len(right), 'right answer')} withheld at the threshold, and {wrong:,} wrong"
    action = (
        "See whether a lower threshold is better: saarthi threshold shows the effect, without "
        "training."
    )
    yield fix("withheld", title, action, map(answered.shown, right), len(right), len(right) - wrong)


def _words(answered: Answered) -> Iterator[Fix]:
    """Words that train lacks, if texts with them have more errors than the others."""
    unseen, right = answered.unseen, answered.right
    wrong = answered.wrong
    if not unseen or not wrong or len(wrong) == len(right):
        return
    having = [row for row in wrong if unseen[row]]
    usual = sum(bool(unseen[row]) for row, good in enumerate(right) if good)
    share = usual / (len(right) - len(wrong))
    excess = len(having) - share * len(wrong)
    if excess < 1:
        return
    counts = Counter(word for row in having for word in unseen[row])
    harmless = Counter(word for row, good in enumerate(right) if good for word in unseen[row])
    frequent = sorted(counts, key=lambda word: (harmless[word] - counts[word], word))
    named = listed(
        (f"{word} ({counts[word]})" if counts[word] > 1 else word for word in frequent), WORDS_NAMED
    )
    having.sort(key=lambda row: -max(counts[word] for word in unseen[row]))
    rows = (answered.shown(row, note=f"new: {', '.join(unseen[row])}") for row in having)
    title = (
        f"Words that train lacks: in {len(having):,} of {plural(len(wrong), 'wrong text')} "
        f"({len(having) / len(wrong):.0%}; of the right ones {share:.0%})"
    )
    action = f"Add training rows with these words: {named}."
    yield fix("words", title, action, rows, len(having), excess)


def _languages(answered: Answered) -> Iterator[Fix]:
    """Languages with clearly more errors than all others together."""
    spoken, right = list(answered.table["lang"]), answered.right
    texts = Counter(spoken)
    errors = Counter(spoken[row] for row in answered.wrong)
    for language, count in texts.items():
        others = len(right) - count
        if count < FEW or others < FEW:
            continue
        elsewhere = (len(answered.wrong) - errors[language]) / others
        low, _ = wilson_interval(errors[language], count)
        if low <= elsewhere:
            continue
        rows = [row for row in answered.wrong if spoken[row] == language]
        title = (
            f"{language.capitalize()} is weak: {errors[language]:,} of {plural(count, 'text')} "
            f"wrong ({errors[language] / count:.0%}; in other languages {elsewhere:.0%})"
        )
        excess = errors[language] - elsewhere * count
        action, shown = _for_language(answered, language, rows), map(answered.shown, rows)
        yield fix("language", title, action, shown, len(rows), excess)


def _for_language(answered: Answered, language: str, rows: Sequence[int]) -> str:
    name, trained = language.capitalize(), answered.languages
    if answered.teacher_knows(rows):
        return (
            f"Add unlabelled sentences in {name} to transfer.*: the teacher is right in most of "
            "these rows."
        )
    if not trained:
        return f"Add training rows in {name}."
    return f"Add training rows in {name}: train has {trained[language]:,} of {trained.total():,}."
