"""Checks for continuous integration, and their results as JUnit XML and as Markdown.

`saarthi evaluate --at-least` checks metrics, and `saarthi compare --fail-on-loss` changed answers.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from saarthi_lib.errors import ConfigError, InputError, printable
from saarthi_lib.evaluation.limits import missed
from saarthi_lib.evaluation.scores import Scores
from saarthi_lib.reports.page import METRIC_NAMES, percent
from saarthi_lib.reports.runs import (
    ChangedAnswers,
    ComparedRuns,
    conclusion,
    delivered_mains,
    metric_text,
)
from saarthi_lib.storage import whole_file
from saarthi_lib.text.markdown import cell, text

UNLIKELY = 0.05  # p-value below which a loss in one language is more than chance
ANSWERS_SHOWN = 20
_NOT_XML = re.compile("[\ufffe\uffff]")


class Check(NamedTuple):
    """A check with its name, and the reason why it failed; empty if it passed."""

    name: str
    reason: str


def check_metrics(scores: Scores, least: Sequence[str]) -> list[Check]:
    """Compare metrics with their lowest values.

    Args:
        scores: result of `evaluate_file`.
        least: `NAME=NUMBER`, where the name is the metric's place: `main`, `language.hindi.main`.

    Raises:
        InputError: a limit is not of this form.
        ConfigError: the metric is unknown, such as one of a language that the file lacks.
    """
    found = {**scores, "language": scores["by_language"]}
    checks = []
    for given in least:
        name, number = _limit(given)
        limit = {name: {"at_least": number}}
        checks.append(Check(f"{name} at least {number:g}", "; ".join(missed(found, limit))))
    return checks


def _limit(given: str) -> tuple[str, float]:
    name, _, number = given.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise InputError(f"--at-least {given}: must be NAME=NUMBER, such as main=0.9")
    if name.rpartition(".")[2] in ("main", *METRIC_NAMES) and not 0 <= value <= 1:
        raise InputError(f"--at-least {given}: is a share from 0 to 1, such as {name}=0.9")
    return name, value


def check_losses(compared: ComparedRuns) -> list[Check]:
    """Check that no run is worse than the first one on the test texts that both have.

    A run is worse if its main metric is lower, or if it has fewer right answers where the test
    texts differ in part; or if it loses answers in one language, with a p-value below `UNLIKELY`.

    Raises:
        ConfigError: the runs cannot be compared: one is a trial, kept no answers, or has other
            test texts.
    """
    runs, flips = compared["runs"], {each["run"]: each for each in compared["flips"]}
    if compared["trials"]:
        raise ConfigError(
            f"--fail-on-loss: {compared['trials'][0]} is a trial run, whose answers mean nothing; "
            "set fast_dev_run: false and run it again"
        )
    mains, checks = delivered_mains(compared), []
    for run, main in zip(runs[1:], mains[1:], strict=True):
        changed = flips.get(run)
        if changed is None or not changed["common"]:
            why = "have no predictions.parquet" if changed is None else "have no common test texts"
            raise ConfigError(
                f"--fail-on-loss: {runs[0]} and {run} {why}, so their answers cannot be compared; "
                "train both on the same test split"
            )
        reasons = "; ".join(_losses(changed, mains[0], main))
        checks.append(Check(f"{run} is not worse than {runs[0]}", reasons))
    return checks


def _losses(changed: ChangedAnswers, before: float, after: float) -> Iterator[str]:
    counts = (
        f"{changed['won']} answers won and {changed['lost']} lost of {changed['common']}, "
        f"p = {changed['chance']:.2g}"
    )
    if changed["same"] and after < before:
        yield f"the main metric fell from {percent(before)} to {percent(after)} ({counts})"
    elif not changed["same"] and changed["won"] < changed["lost"]:
        yield f"fewer right answers to the common test texts ({counts})"
    by_language: dict[str, list[str]] = {}
    for row in changed["rows"]:
        by_language.setdefault(row["lang"], []).append(row["effect"])
    for language, effects in sorted(by_language.items()):
        won, lost = effects.count("won"), effects.count("lost")
        if won < lost and (chance := _chance(won, lost)) < UNLIKELY:
            yield f"{language}: {won} answers won and {lost} lost, p = {chance:.2g}"


def _chance(won: int, lost: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(won, won + lost).pvalue)


def write_junit(path: Path, suite: str, checks: Sequence[Check]) -> None:
    """Write checks as a JUnit report, which forges show with other tests.

    Raises:
        StorageError: the file cannot be written.
    """
    counts = {"tests": str(len(checks)), "failures": str(sum(bool(c.reason) for c in checks))}
    root = ElementTree.Element("testsuites", counts)
    about = {"name": _xml(suite), **counts, "errors": "0", "skipped": "0"}
    cases = ElementTree.SubElement(root, "testsuite", about)
    for check in checks:
        names = {"classname": _xml(suite), "name": _xml(check.name), "time": "0"}
        case = ElementTree.SubElement(cases, "testcase", names)
        if check.reason:
            reason = _xml(check.reason)
            failure = {"message": reason, "type": "missed"}
            ElementTree.SubElement(case, "failure", failure).text = reason
    ElementTree.indent(root)
    with whole_file(path) as aside:
        aside.write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _xml(value: str) -> str:
    """A text without characters that XML cannot have."""
    return _NOT_XML.sub("\ufffd", printable(value))


def scores_as_markdown(title: str, scores: Scores, checks: Sequence[Check]) -> str:
    """Metrics by language, and checks, for the summary of a job."""
    names = {name: shown for name, shown in METRIC_NAMES.items() if name in scores}
    rows = [
        [
            cell(language),
            *(percent(dict[str, Any](part)[name]) for name in names),
            str(part["examples"]),
        ]
        for language, part in {"all": scores, **scores["by_language"]}.items()
    ]
    table = _table(["language", *names.values(), "texts"], rows)
    return "\n\n".join([f"### {text(title)}", table, *_as_table(checks)]) + "\n"


def comparison_as_markdown(compared: ComparedRuns, checks: Sequence[Check]) -> str:
    """Metrics of compared runs, changed answers, and checks, for the summary of a job."""
    heads = ["metric", *map(cell, compared["runs"])]
    metrics = [
        [cell(row["title"]), *(metric_text(row, value) for value in row["values"])]
        for row in compared["figures"]
    ]
    blocks = ["### Compared runs", text(conclusion(compared)), _table(heads, metrics)]
    blocks += _as_table(checks)
    first = compared["runs"][0]
    for flips in compared["flips"]:
        blocks.append(
            f"{text(flips['run'])}: {flips['changed']} of {flips['common']} common test texts have "
            f"another answer than in {text(first)}: {flips['won']} won, {flips['lost']} lost "
            f"(p = {flips['chance']:.2g} by McNemar's exact test)"
        )
        order = {"lost": 0, "won": 1}
        rows = sorted(flips["rows"], key=lambda row: order.get(row["effect"], 2))
        names = ("effect", "text", "gold", "before", "after")
        shown = [[cell(row[name]) for name in names] for row in rows[:ANSWERS_SHOWN]]
        blocks += [_table(list(names), shown)] if shown else []
    return "\n\n".join(blocks) + "\n"


def _as_table(checks: Sequence[Check]) -> list[str]:
    rows = [
        [cell(check.name), f"**failed**: {cell(check.reason)}" if check.reason else "passed"]
        for check in checks
    ]
    return [_table(["check", "result"], rows)] if rows else []


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
