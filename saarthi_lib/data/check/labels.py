"""Check labels: their names and frequencies, conflicts, and probably wrong labels."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from saarthi_lib.data.check.findings import ROWS_LISTED, Finding, listed, plural, share
from saarthi_lib.data.check.label_issues import LabelIssue, find_label_issues
from saarthi_lib.data.check.tables import (
    BoolArray,
    IntArray,
    Names,
    Split,
    column,
    normalized,
    numbered,
)
from saarthi_lib.data.cover import LEAST_ROWS, Uncovered
from saarthi_lib.data.detect.misspelt import is_rare, likely_meant
from saarthi_lib.tasks import has_sequence_head, has_token_head

RARE = 5
_JOINTS = re.compile(r"[,;|/+&#]")
IMBALANCE = 10
ISSUE_SHARE = 0.02
_WORDS_SHOWN = 5


def names(head: Names, splits: Mapping[str, Split]) -> Iterator[Finding]:
    """Find names that are unknown to train, rare, mistyped, untested, or far too frequent."""
    for split in splits.values():
        yield from _unknown(head, split)
    yield from _rare(head, splits["train"])
    yield from _mistyped(head, splits)
    if head.kind == "label":
        yield from _joined(head, splits["train"])
    if "test" in splits:
        yield from _untested(head)
    yield from _imbalance(head)


def _unknown(head: Names, split: Split) -> Iterator[Finding]:
    counts = head.counts(split.name)
    unknown = np.flatnonzero((counts > 0) & (head.counts("train") == 0))
    if unknown.size:
        rows = len(head.rows_with(split.name, unknown))
        message = (
            f"{plural(len(unknown), head.kind)} that train lacks, in {plural(rows, 'row')} of "
            f"{split.name}: {head.listed(unknown, counts)}; add training rows or correct the "
            "spelling, unless they are out of scope"
        )
        references = head.references(split, unknown)
        yield Finding(
            "unknown-labels", "warning", split.name, rows, len(split), message, references
        )


def _rare(head: Names, train: Split) -> Iterator[Finding]:
    counts = head.counts("train")
    rare = np.flatnonzero((counts > 0) & (counts < RARE))
    if rare.size:
        rare = rare[np.argsort(counts[rare], kind="stable")]
        message = (
            f"{plural(len(rare), head.kind)} of fewer than {RARE} training {head.unit}s, too few "
            f"to learn: {head.listed(rare, counts)}; add some, or join the {head.kind} with another"
        )
        known, references = int((counts > 0).sum()), head.references(train, rare)
        yield Finding("rare-labels", "warning", "train", len(rare), known, message, references)


def _mistyped(head: Names, splits: Mapping[str, Split]) -> Iterator[Finding]:
    counts = sum((head.counts(name) for name in splits), np.zeros(len(head.names), np.int64))
    pairs = _misspelt(head, counts)
    if pairs:
        those = listed(
            f"{head.names[wrong]} → {head.names[right]}" for wrong, right in pairs.items()
        )
        message = (
            f"{plural(len(pairs), head.kind)} written almost as a more frequent one: {those}; "
            "write them alike if they mean the same"
        )
        rows = [row for split in splits.values() for row in head.references(split, pairs)]
        total, rows = len(head.names), rows[:ROWS_LISTED]
        yield Finding("label-names", "warning", "", len(pairs), total, message, rows)


def _misspelt(head: Names, counts: IntArray) -> dict[int, int]:
    """Names that misspell a more frequent one, by number, each with the right name."""
    numbers = {name: number for number, name in enumerate(head.names)}
    right: list[str] = []
    found: dict[int, int] = {}
    for number in np.lexsort((np.array(head.names), -counts)).tolist():
        name = head.names[number]
        meant = likely_meant(name, right, letters=False)
        if not meant and head.kind != "tag":
            near = likely_meant(name, right)
            meant = near if near and is_rare(counts[number], counts[numbers[near]]) else None
        if meant:
            found[number] = numbers[meant]
        else:
            right.append(name)
    return found


def _joined(head: Names, train: Split) -> Iterator[Finding]:
    """Find labels that are several other labels of train, such as `cancel+refund`."""
    counts = head.counts("train")
    known = {head.names[number] for number in np.flatnonzero(counts)}
    joined = [
        number
        for number in np.flatnonzero(counts).tolist()
        if len(parts := [*map(str.strip, _JOINTS.split(head.names[number]))]) > 1
        and known.issuperset(parts)
    ]
    if joined:
        message = (
            f"{plural(len(joined), 'label')} made of several others, each learned as one of its "
            f"own: {head.listed(joined, counts)}; give each row one label, or split its text"
        )
        references = head.references(train, joined)
        yield Finding(
            "joined-labels", "warning", "train", len(joined), len(known), message, references
        )


def _untested(head: Names) -> Iterator[Finding]:
    known = np.flatnonzero(head.counts("train"))
    untested = known[head.counts("test")[known] == 0]
    if untested.size:
        message = (
            f"{plural(len(untested), head.kind)} of train without a test {head.unit}, so no metric "
            f"covers {head.listed(untested)}"
        )
        yield Finding("untested-labels", "note", "test", len(untested), len(known), message)


def uncovered(lacking: Iterable[Uncovered]) -> Iterator[Finding]:
    """Find labels of three or more rows that a split cut from train lacks."""
    for each in lacking:
        field, reasons = f"{each.split}_fraction", []
        if each.together:
            reasons.append(
                f"{listed(each.together)}: rows with one text or group stay together, and there "
                f"are fewer than {LEAST_ROWS} such texts or groups; add rows"
            )
        if each.others:
            reasons.append(
                f"{listed(each.others)}: {field} has no room for them, or their groups are needed "
                f"elsewhere; set a larger {field}, or add rows"
            )
        names = [*each.together, *each.others]
        message = (
            f"{plural(len(names), 'label or tag')} with {LEAST_ROWS} or more rows and none in "
            f"{each.split}, which was cut from train: {'; '.join(reasons)}, or give {each.split}.* "
            "yourself"
        ).replace("label or tags", "labels or tags")
        count = len(names)
        yield Finding("uncovered-labels", "warning", each.split, count, count, message)


def _imbalance(head: Names) -> Iterator[Finding]:
    counts = head.counts("train")
    median = np.median(counts[counts > 0]) if counts.any() else 0
    if counts.any() and counts.max() > IMBALANCE * median:
        most, total = int(counts.max()), int(counts.sum())
        message = (
            f"the {head.kind} {head.names[int(counts.argmax())]} has {most:,} of "
            f"{plural(total, head.unit)}, the median {head.kind} {median:,.0f}; look at the scores "
            "by label, and add rows for the rare ones"
        )
        yield Finding("label-imbalance", "note", "train", most, total, message)


# The same text with different labels.

# Describes the value of a row, and the other values of its text with their numbers of rows.
_Describe = Callable[[Split, int, str, list[tuple[str, int]]], str]


def conflicts(splits: Mapping[str, Split], task: str) -> Iterator[Finding]:
    """Find equal texts with different labels, and equal words with different tags."""
    tables = [split.table for split in splits.values()]
    if has_sequence_head(task):
        values, found = numbered([column(table, "label") for table in tables])
        keys = [split.keys for split in splits.values()]
        yield from _conflicts("labels", splits, keys, values, found, _other_labels)
    if has_token_head(task):
        words = [pc.utf8_lower(pc.binary_join(column(table, "words"), " ")) for table in tables]
        values, found = numbered([pc.binary_join(column(table, "tags"), " ") for table in tables])
        yield from _conflicts("tags", splits, numbered(words)[0], values, found, _other_tags)


def _conflicts(
    kind: str,
    splits: Mapping[str, Split],
    keys: list[IntArray],
    values: list[IntArray],
    found: pa.Array,
    describe: _Describe,
) -> Iterator[Finding]:
    """Yield one finding per split, and one for texts that conflict only across splits.

    Args:
        kind: "labels" or "tags".
        splits: the splits.
        keys: number of each row's text, by split; equal texts have one number.
        values: number of each row's label or tags, by split.
        found: labels or tags by number.
        describe: describes a row.
    """
    order = list(splits.values())
    reported = np.zeros(0, np.int64)
    every = [*range(len(order))]
    for name, members in [*((order[at].name, [at]) for at in every), ("", every)]:
        key = np.concatenate([keys[at] for at in members])
        value = np.concatenate([values[at] for at in members])
        mask = _conflicting(key, value)
        if name:
            reported = np.concatenate([reported, key[mask]])
        else:
            mask &= ~np.isin(key, reported)
        rows = np.flatnonzero(mask)
        if not rows.size:
            continue
        texts = len(np.unique(key[rows]))
        message = (
            f"{plural(texts, 'text')} with different {kind} in {plural(len(rows), 'row')} of "
            f"{name or 'several splits'}; settle on one for each"
        )
        starts = np.cumsum([0, *(len(keys[at]) for at in members)])
        counts: dict[int, Counter[int]] = {}
        for row in rows:
            counts.setdefault(int(key[row]), Counter())[int(value[row])] += 1
        references = []
        for at in rows[np.argsort(key[rows], kind="stable")][:ROWS_LISTED].tolist():
            part = int(np.searchsorted(starts, at, side="right")) - 1
            split, row = order[members[part]], at - int(starts[part])
            others = [
                (str(found[other]), n)
                for other, n in counts[int(key[at])].most_common()
                if other != value[at]
            ]
            detail = describe(split, row, str(found[value[at]]), others)
            references += split.references(np.array([row]), lambda *_, detail=detail: detail)
        total = len(key)
        yield Finding("conflicting-labels", "warning", name, len(rows), total, message, references)


def _conflicting(keys: IntArray, values: IntArray) -> BoolArray:
    """Whether the key of each row has several values."""
    pairs = np.unique(keys * (values.max(initial=0) + 1) + values)
    several = np.bincount(pairs // (values.max(initial=0) + 1)) > 1
    return several[keys]


def _other_labels(split: Split, row: int, own: str, others: list[tuple[str, int]]) -> str:
    return f"{own}; elsewhere {', '.join(f'{label} ({n})' for label, n in others)}"


def _other_tags(split: Split, row: int, own: str, others: list[tuple[str, int]]) -> str:
    """Words that another row of the text tags differently."""
    words = split.table["words"].iloc[row]
    return listed(
        (
            f"{word} {tag}, elsewhere {other}"
            for word, tag, other in zip(words, own.split(" "), others[0][0].split(" "), strict=True)
            if tag != other
        ),
        _WORDS_SHOWN,
    )


# Labels that are probably wrong.


def issues(splits: Mapping[str, Split], head: Names, seed: int) -> Iterator[Finding]:
    """Find labels that are probably wrong by a model that has not seen the text.

    Each distinct text is examined once. Labels that do not occur in train are not examined.
    """
    keys = np.concatenate([split.keys for split in splits.values()])
    labels = np.concatenate([head.numbers[name] for name in splits])
    known = np.flatnonzero(head.counts("train")[labels] > 0)
    distinct = np.sort(known[np.unique(keys[known], return_index=True)[1]])
    texts = pa.chunked_array([chunk for split in splits.values() for chunk in split.texts.chunks])
    chosen = normalized(texts.take(pa.array(distinct))).combine_chunks()
    result = find_label_issues(chosen, labels[distinct], head.names, seed=seed)
    if result.skipped:
        message = f"labels were not examined: {result.skipped}"
        yield Finding("label-issues", "note", "", 0, len(distinct), message)
        return
    examined = distinct[result.examined]
    start = 0
    for split in splits.values():
        end = start + len(split)
        found = {
            int(distinct[issue.position]) - start: issue
            for issue in result.issues
            if start <= distinct[issue.position] < end
        }
        of_split = int(((examined >= start) & (examined < end)).sum())
        if found:
            yield _issues_of(split, head, found, of_split, result.agreement)
        start = end


def _issues_of(
    split: Split, head: Names, found: Mapping[int, LabelIssue], examined: int, agreement: float
) -> Finding:
    def detail(row: int, _: str) -> str:
        given = head.names[head.numbers[split.name][row]]
        return f"{given} ({found[row].confidence:.0%}); rather {found[row].suggested}"

    severity = "warning" if len(found) >= ISSUE_SHARE * examined else "note"
    message = (
        f"{plural(len(found), f'{split.name} label')} of {examined:,} examined "
        f"({share(len(found), examined)}) probably wrong, by a model that had not seen the text "
        f"and agrees with {agreement:.0%} of all labels; look through them, the worst first"
    )
    rows = split.references(np.array(list(found)), detail)
    return Finding("label-issues", severity, split.name, len(found), examined, message, rows)
