"""Check labelled data before training.

An error stops the run; the rows of a warning should be inspected; a note is information. The check
does not change or remove rows.

| check | severity | finding |
|---|---|---|
| `empty-split` | error | a split without rows; train is missing |
| `refused-labels` | error | labels that `unknown_labels` refuses, such as misspelt ones |
| a `Problem`'s kind | warning, note | rows left out or doubtful; note: repaired rows |
| `leakage` | error, warning | test or validation texts that are in train; error: > 50% of test |
| `near-leakage` | warning | test or validation texts with a near duplicate in train |
| `conflicting-labels` | warning | equal texts with different labels, or words with different tags |
| `duplicates` | warning, note | repeated texts within a split; warning: over 20% |
| `unknown-labels` | warning | labels of another split that train lacks |
| `joined-labels` | warning | labels made of several others of train, such as `cancel+refund` |
| `rare-labels` | warning | labels, entity types or tags that occur fewer than 5 times in train |
| `label-names` | warning | names that differ from a more frequent one as typing errors do |
| `untested-labels` | note | labels of train that test lacks |
| `uncovered-labels` | warning | labels of three or more rows that a cut split lacks |
| `label-imbalance` | note | a label has over 10 times the rows of the median label |
| `label-issues` | warning, note | labels probably wrong, by confident learning; warning: from 2% |
| `hidden-characters` | warning | invisible, control, private-use or unassigned characters |
| `damaged-text` | warning | replacement characters, or UTF-8 decoded with another encoding |
| `mixed-scripts` | warning | letters of two scripts in one word |
| `wrong-script` | warning | a text in another script than its language's |
| `romanized` | note | such a text in Latin letters |
| `unknown-language` | note | rows without a language |
| `untested-language` | warning | a language of train that test or validation lacks |
| `untrained-language` | warning | a language of test or validation that train lacks |
| `tag-scheme` | warning, note | the form of entity tags; warning: files differ |
| `small-test` | warning, note | too few test rows to measure well: 1,000; warning: 200 |
| `unread-columns` | note | columns of tables that are not read |
| `long-texts` | warning, note | texts longer than `max_seq_len`, which are cut; warning: over 1% |

Texts are equal if they match in lower case after Unicode NFKC, without punctuation, format
characters and repeated spaces.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from saarthi_lib.data.check import labels as label_checks
from saarthi_lib.data.check import texts as text_checks
from saarthi_lib.data.check.findings import (
    ROWS_LISTED,
    SEVERITIES,
    DataCheck,
    Finding,
    RowReference,
    listed,
    plural,
)
from saarthi_lib.data.check.tables import Split, as_names, as_splits
from saarthi_lib.data.cover import Uncovered
from saarthi_lib.data.detect.unknown_labels import REFUSED
from saarthi_lib.data.read import Problem
from saarthi_lib.data.read.problems import LEFT_OUT
from saarthi_lib.recipe import LONGEST
from saarthi_lib.tasks import has_sequence_head
from saarthi_lib.text.language_names import UNKNOWN_LANGUAGE

REFUSED_LABELS = "refused-labels"  # the check that finds them
SMALL_TEST, LARGE_TEST = 200, 1_000
LONG_SHARE = 0.01
HISTOGRAM_BINS = 40

# Forms that are read alike: BIO, and IOB1 or IO with letters.
_ALIKE = re.compile(r"^(?:BIO|IOB1|IO) \((?:[BI]([\W_].*)|(label.)[BI])$")

Lengths = Mapping[str, npt.NDArray[np.integer]]

_DOUBTFUL = ("missing-name",)  # kinds of rows that are kept, and probably wrong
_REMEDIES = {kind: remedy for kind, (_, remedy) in LEFT_OUT.items()} | {
    "widened-entity": "make entities begin and end at words",
    "class-names": "look whether the names are right",
    "joined-lines": "look whether each is one row",
    "missing-name": "fill the labels and languages in, or leave them empty",
    "missing-group": "fill the groups in, if these rows belong together",
    "header-row": "look whether the row names columns",
    "multiword-token": "look whether users write the parts or the whole word",
    "lone-quote": "look whether each is part of the text",
    "whole-number": "write all labels alike",
    "unknown-label": "add training rows, or correct the spelling",
}


def check_data(
    tables: Mapping[str, pd.DataFrame],
    task: str,
    problems: Sequence[Problem],
    *,
    max_seq_len: int,
    lengths: Lengths | None = None,
    schemes: Mapping[str, str] | None = None,
    uncovered: Sequence[Uncovered] = (),
    seed: int = 42,
) -> DataCheck:
    """Check labelled data; the module's docstring lists the checks.

    Args:
        tables: labelled splits (`train`, `validation`, `test`, `clean`), with the columns `file`,
            `row`, `text`, `lang` and those of the task's labels.
        task: the task, which sets the kinds of labels.
        problems: problems found while reading the files.
        max_seq_len: longest text that models read, in tokens.
        lengths: tokens of each row, by split; None: lengths are not checked.
        schemes: description of the entity tags, by file.
        uncovered: labels that splits cut from train lack.
        seed: seed of samples, hashes and folds.
    """
    splits = as_splits(tables)
    heads = as_names(splits, task)
    measured = {name: tokens for name, tokens in (lengths or {}).items() if name in splits}
    findings = [*check_problems(problems, tables), *_empty_splits(tables)]
    if "train" in splits:
        for head in heads:
            findings += label_checks.names(head, splits)
        findings += text_checks.leakage(splits, seed)
        findings += label_checks.conflicts(splits, task)
        if has_sequence_head(task):
            findings += label_checks.issues(splits, heads[0], seed)
    findings += label_checks.uncovered(uncovered)
    for split in splits.values():
        findings += text_checks.duplicates(split)
        findings += text_checks.characters(split)
    findings += [*_schemes(schemes or {}), *_languages(splits), *_small_test(splits)]
    findings += _long_texts(splits, measured, max_seq_len)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    summary = {
        "task": task,
        "max_seq_len": max_seq_len,
        "rows": {name: len(table) for name, table in tables.items()},
        "languages": {name: split.counts_by_language() for name, split in splits.items()},
        "names": {head.kind: head.summary(splits) for head in heads},
        "lengths": _length_summary(measured),
    }
    return DataCheck(findings, summary)


def check_problems(
    problems: Sequence[Problem], tables: Mapping[str, pd.DataFrame]
) -> Iterator[Finding]:
    """Yield one finding per file and kind of problem."""
    split_of: dict[str, str] = {}
    rows_of: Counter[str] = Counter()
    for split, table in tables.items():
        for file, rows in table["file"].value_counts().items():
            split_of.setdefault(str(file), split)
            rows_of[str(file)] += int(rows)
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.file, problem.kind), []).append(problem)
    for (file, kind), found in groups.items():
        if kind == REFUSED:
            yield _refused(file, found, split_of.get(file, ""), rows_of[file])
            continue
        left_out = sum(problem.left_out for problem in found)
        fate = "kept as written" if kind in _DOUBTFUL else "repaired and kept"
        if left_out:
            fate = "left out" if left_out == len(found) else "left out, or repaired and kept"
        message = (
            f"{file}: {len(found):,} × {kind.replace('-', ' ')}, the rows {fate}; "
            f"{_REMEDIES.get(kind, 'correct them')}"
        )
        severity = "warning" if left_out or kind in _DOUBTFUL else "note"
        of_split = split_of.get(file, "")
        total, references = rows_of[file] + left_out, _references(found)
        yield Finding(kind, severity, of_split, len(found), total, message, references)


def _references(found: Sequence[Problem]) -> list[RowReference]:
    return [RowReference(each.file, each.row, "", each.message) for each in found[:ROWS_LISTED]]


def _refused(file: str, found: Sequence[Problem], split: str, rows: int) -> Finding:
    """Finding for rows whose labels stop a run."""
    first, *others = dict.fromkeys(problem.message for problem in found)
    also = f"; also {listed(others)}" if others else ""
    message = (
        f"{file}: row {found[0].row}: {first} ({plural(len(found), 'such row')}); correct the "
        f"spelling, add training rows, or set unknown_labels: keep{also}"
    )
    total, references = rows + sum(problem.left_out for problem in found), _references(found)
    return Finding(REFUSED_LABELS, "error", split, len(found), total, message, references)


def _empty_splits(tables: Mapping[str, pd.DataFrame]) -> Iterator[Finding]:
    for name in dict.fromkeys(["train", *tables]):
        if name not in tables or not len(tables[name]):
            message = f"{name} has no rows; give it labelled rows"
            yield Finding("empty-split", "error", name, 0, 0, message)


def _schemes(schemes: Mapping[str, str]) -> Iterator[Finding]:
    """Find the forms of entity tags; several are a warning, unless they are read alike."""
    files: dict[str, list[str]] = {}
    for file, scheme in schemes.items():
        files.setdefault(scheme, []).append(file)
    forms = {_ALIKE.sub(r"\1\2", scheme.partition(")")[0]) for scheme in files}
    severity = "warning" if len(forms) > 1 else "note"
    for scheme, named in files.items():
        message = f"{listed(named)}: tags are read as {scheme}"
        yield Finding("tag-scheme", severity, "", len(named), len(schemes), message)


def _languages(splits: Mapping[str, Split]) -> Iterator[Finding]:
    counts = {name: split.counts_by_language() for name, split in splits.items()}
    unknown = sum(of_split.get(UNKNOWN_LANGUAGE, 0) for of_split in counts.values())
    if unknown:
        message = (
            f"{plural(unknown, 'row')} without a language, so no metric by language covers them; "
            "give a column lang, or set language"
        )
        rows = sum(len(split) for split in splits.values())
        yield Finding("unknown-language", "note", "", unknown, rows, message)
    for name in ("validation", "test"):
        if {"train", name} <= splits.keys():
            yield from _lacking("untested-language", counts, "train", name, "is not measured")
            yield from _lacking("untrained-language", counts, name, "train", "was never learnt")


def _lacking(
    check: str, counts: Mapping[str, dict[str, int]], here: str, there: str, effect: str
) -> Iterator[Finding]:
    """Find languages that one split has and another lacks."""
    lacking = sorted(counts[here].keys() - counts[there].keys() - {UNKNOWN_LANGUAGE})
    if lacking:
        rows = sum(counts[here][language] for language in lacking)
        message = (
            f"{plural(len(lacking), 'language')} with {plural(rows, 'row')} in {here} and none in "
            f"{there} ({listed(lacking)}), which {effect}; add rows to {there}"
        )
        split = there if here == "train" else here
        yield Finding(check, "warning", split, len(lacking), len(counts[here]), message)


def _small_test(splits: Mapping[str, Split]) -> Iterator[Finding]:
    if "test" not in splits:
        return
    rows = len(splits["test"])
    languages = splits["test"].counts_by_language()
    small = {name: n for name, n in languages.items() if n < SMALL_TEST}
    by_language = ""
    if len(languages) > 1 and small:
        those = listed(f"{name} ±{_half_width(n):.1f} ({n} rows)" for name, n in small.items())
        by_language = f"; by language {those}"
    if rows < LARGE_TEST or by_language:
        message = (
            f"{plural(rows, 'test row')}: an accuracy near 90% is known to "
            f"±{_half_width(rows):.1f} points (95% confidence){by_language}; smaller differences "
            "mean nothing, so add rows where they would matter"
        )
        severity = "warning" if rows < SMALL_TEST else "note"
        yield Finding("small-test", severity, "test", rows, LARGE_TEST, message)


def _half_width(rows: int, accuracy: float = 0.9) -> float:
    """Half the width of the 95% confidence interval of an accuracy, in points."""
    return float(100 * 1.96 * np.sqrt(accuracy * (1 - accuracy) / rows))


def _long_texts(splits: Mapping[str, Split], lengths: Lengths, limit: int) -> Iterator[Finding]:
    cover = _covering(lengths) if lengths else 0
    if cover > LONGEST:
        remedy = f"99% need {cover}, but models read at most {LONGEST}: split long texts"
    elif cover > limit:
        remedy = f"max_seq_len: {cover} covers 99%"
    else:
        remedy = f"99% fit in {cover} already"
    message = f"longer than max_seq_len ({limit} tokens), which are cut; of all texts, {remedy}"
    for name, tokens in lengths.items():
        yield from _cut(splits[name], tokens, limit, message)


def _cut(
    split: Split, tokens: npt.NDArray[np.integer], limit: int, message: str
) -> Iterator[Finding]:
    rows = np.flatnonzero(tokens > limit)
    rows = rows[np.argsort(-tokens[rows], kind="stable")]
    severity = "warning" if len(rows) > LONG_SHARE * len(split) else "note"
    yield from split.found(
        "long-texts", severity, rows, message, lambda row, _: f"{int(tokens[row])} tokens"
    )


def _covering(lengths: Lengths) -> int:
    """99th percentile of the lengths of all texts."""
    return int(np.ceil(np.percentile(np.concatenate(list(lengths.values())), 99)))


def _length_summary(lengths: Lengths) -> dict[str, Any]:
    """Percentiles by split, and a histogram whose last bin includes the longest 0.1%."""
    if not lengths:
        return {}
    joined = np.concatenate(list(lengths.values()))
    top = int(np.ceil(np.percentile(joined, 99.9)))
    width = max(-(-top // HISTOGRAM_BINS), 1)
    edges = np.arange(0, top + width + 1, width)
    return {
        "cover_99": _covering(lengths),
        "percentiles": {
            name: {f"p{p}": float(np.percentile(tokens, p)) for p in (50, 95, 99, 100)}
            for name, tokens in lengths.items()
        },
        "histogram": {
            "edges": edges.tolist(),
            "counts": {
                name: np.histogram(np.minimum(tokens, edges[-1]), edges)[0].tolist()
                for name, tokens in lengths.items()
            },
        },
    }
