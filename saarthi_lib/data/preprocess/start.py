"""Facts about an earlier run for the later steps: which of its networks can be trained further."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypedDict

import pandas as pd

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.earlier import Earlier, Kept
from saarthi_lib.data.expansion import ParquetReader
from saarthi_lib.layout import START
from saarthi_lib.storage import write_json
from saarthi_lib.tasks import OUTSIDE, Labels, has_sequence_head, has_token_head, uses_bio

_LEAST_KNOWN = 0.5  # share of the labels that the earlier run must have


class Start(TypedDict):
    """Content of `start.json`.

    Attributes:
        run: absolute path of the earlier run.
        networks: digests of its teacher and its student, by name.
        renamed: names of labels, tags and entity types now, by their names in that run.
        rows: rows by split that have it from that run.
        new: rows that it did not have.
        cold: why no network can be trained further; empty: one can.
    """

    run: str
    networks: dict[str, str]
    renamed: dict[str, str]
    rows: dict[str, int]
    new: int
    cold: str


def write_start(
    earlier: Earlier,
    kept: Kept,
    tables: Mapping[str, pd.DataFrame],
    labels: Labels,
    config: TrainConfig,
    out: Path,
) -> None:
    """Write `start.json`, and the texts of all runs so far.

    Args:
        earlier: the run that this one starts from.
        kept: rows with the splits of that run.
        tables: tables of this run, by split.
        labels: labels of this run.
        config: its configuration, resolved.
        out: folder of its data.
    """
    earlier.write_texts(tables, out)
    before = Labels.load(earlier.data / "labels.json")
    same_task = earlier.record.get("config", {}).get("task", config.task) == config.task
    renamed = _renamed(earlier, before, tables, labels, config.task) if same_task else {}
    start: Start = {
        "run": str(earlier.layout.root.absolute()),
        "networks": earlier.networks,
        "renamed": renamed,
        "rows": kept.rows,
        "new": kept.new,
        "cold": _reason_against(earlier, kept, config)
        or _unknown(names_of(before, config.task), names_of(labels, config.task), renamed),
    }
    write_json(out / START, start)


def names_of(labels: Labels, task: str) -> set[str]:
    """Names of labels and of tags or entity types."""
    tags = {tag[2:] for tag in labels.token if tag != OUTSIDE} if uses_bio(task) else labels.token
    return {*labels.sequence, *tags}


def _reason_against(earlier: Earlier, kept: Kept, config: TrainConfig) -> str:
    before = earlier.record.get("config", {})
    for field in ("task", "teacher_name"):
        if before.get(field) != getattr(config, field):
            return f"{field} {before.get(field)} → {getattr(config, field)}"
    if kept.moved:
        return f"{kept.moved} rows of validation and test were its training rows"
    return ""


def _unknown(before: set[str], now: set[str], renamed: Mapping[str, str]) -> str:
    known = {renamed.get(name, name) for name in before} & now
    if len(known) < _LEAST_KNOWN * len(now):
        return f"{len(now) - len(known)} of {len(now)} labels are new"
    return ""


def _renamed(
    earlier: Earlier,
    before: Labels,
    tables: Mapping[str, pd.DataFrame],
    labels: Labels,
    task: str,
) -> dict[str, str]:
    """Labels with another name: most of the rows of one have the other, on both sides."""
    old, new = names_of(before, task), names_of(labels, task)
    gone, added = old - new, new - old
    if not (gone and added):
        return {}
    now: dict[str, tuple[str, ...]] = {}
    for split in ("train", "validation", "test"):
        now |= dict(_names_by_text(tables[split], task))
    pairs: Counter[tuple[str, str]] = Counter()
    for split in ("train", "validation", "test"):
        with ParquetReader(earlier.data / f"{split}.parquet") as file:
            for text, names in _names_by_text(file.table().to_pandas(), task):
                if len(names) == len(now.get(text, ())):
                    pairs.update(zip(names, now[text], strict=True))
    was, have = Counter[str](), Counter[str]()
    for (one, other), count in pairs.items():
        was[one] += count
        have[other] += count
    return {
        one: other
        for (one, other), count in sorted(pairs.items())
        if one in gone and other in added and 2 * count > max(was[one], have[other])
    }


def _names_by_text(table: pd.DataFrame, task: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Texts with the names of their label and of the tag of each word."""
    labels: Iterable[str] = table["label"] if has_sequence_head(task) else ()
    tags: Iterable[Iterable[str]] = table["tags"] if has_token_head(task) else ()
    bio = uses_bio(task)
    columns = [
        [(label,) for label in labels],
        [tuple(tag[2:] if bio and tag != OUTSIDE else tag for tag in each) for each in tags],
    ]
    names: list[tuple[str, ...]]
    for text, *names in zip(table["text"], *filter(None, columns), strict=True):
        yield text, tuple(name for part in names for name in part)
