"""Every label with three or more rows occurs in each split that is cut from train."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.check import check_data
from saarthi_lib.data.gather import Gathered, gather
from saarthi_lib.errors import DataError
from tests.conftest import write_jsonl

Row = dict[str, Any]

# Rows of each label; of each row, the number of its text, its group and its language.
labels = st.lists(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 7), st.sampled_from(["english", "hindi"])),
        min_size=1,
        max_size=14,
    ),
    min_size=2,
    max_size=9,
)


def gathered(files: Mapping[str, list[Row]], **fields: Any) -> Gathered:
    with TemporaryDirectory() as folder:
        for name, rows in files.items():
            write_jsonl(Path(folder, f"{name}.jsonl"), rows)
        config = {"task": "intent_classification", "input_path": folder, **fields}
        return gather(Path(folder), TrainConfig.from_mapping(config))


def rows_of(drawn: list[list[tuple[int, int, str]]]) -> list[Row]:
    return [
        {
            "text": f"words {text} of {label}",
            "label": f"l{label}",
            "group": f"g{group}",
            "lang": lang,
        }
        for label, rows in enumerate(drawn)
        for text, group, lang in rows
    ]


def reported(found: Gathered, split: str) -> set[str]:
    """Names in the check's finding of a split."""
    check = check_data(
        found.tables, "intent_classification", [], max_seq_len=20, uncovered=found.uncovered
    )
    for finding in check.findings:
        if finding.check == "uncovered-labels" and finding.split == split:
            assert f"none in {split}, which was cut from train" in finding.message
            return {
                each
                for one in found.uncovered
                if one.split == split
                for each in one.together + one.others
            }
    return set()


def texts_by_label(rows: list[Row]) -> dict[str, set[str]]:
    texts: dict[str, set[str]] = {}
    for row in rows:
        texts.setdefault(row["label"], set()).add(row["text"])
    return texts


@given(labels, st.integers(1, 3), st.sampled_from(["none", "test", "validation"]))
@settings(max_examples=25)
def test_frequent_labels_occur_in_each_split(
    drawn: list[list[tuple[int, int, str]]], parts: int, given_split: str
) -> None:
    rows = rows_of(drawn)
    files = {f"train-{part}": rows[part::parts] for part in range(parts) if rows[part::parts]}
    if given_split != "none":
        files[given_split] = [{**row, "text": f"{row['text']} now"} for row in rows]
    try:
        found = gathered(files)
    except DataError as error:
        assert "too few to cut" in str(error)
        assert max(map(len, texts_by_label(rows).values())) < 3
        return
    counts = {label: [row["label"] for row in rows].count(label) for label in texts_by_label(rows)}
    for split in {"test", "validation"} - {given_split}:
        here = set(found.tables[split]["label"])
        for label, texts in texts_by_label(rows).items():
            if len(texts) >= 3:
                assert label in here
            elif counts[label] >= 3 and label not in here:
                assert f"label {label}" in reported(found, split)
            elif counts[label] < 3 and label not in here:
                assert f"label {label}" not in reported(found, split)
    assert set(found.tables["train"]["label"]) == {row["label"] for row in rows}
    split_texts = [set(table["text"]) for table in found.tables.values()]
    assert sum(map(len, split_texts)) == len(set.union(*split_texts))  # no text in two splits


@given(labels, st.sampled_from([0.05, 0.2, 0.4]))
@settings(max_examples=60)
def test_given_fraction_is_a_limit(
    drawn: list[list[tuple[int, int, str]]], fraction: float
) -> None:
    rows = list({row["text"]: row for row in rows_of(drawn)}.values())
    try:
        found = gathered({"train": rows}, test_fraction=fraction, validation_fraction=fraction)
    except DataError as error:
        assert "too few to cut" in str(error)
        return
    frequent = {label for label, texts in texts_by_label(rows).items() if len(texts) >= 3}
    test = found.tables["test"]
    assert len(test) <= fraction * len(rows) + 1e-9
    lacking = frequent - set(test["label"])
    assert {f"label {label}" for label in lacking} == reported(found, "test")
    if lacking:
        assert int(fraction * len(rows) + 1e-9) < len(frequent)


@given(labels)
@settings(max_examples=25)
def test_groups_stay_together_and_gaps_are_reported(
    drawn: list[list[tuple[int, int, str]]],
) -> None:
    rows = rows_of(drawn)
    try:
        found = gathered({"train": rows}, group_column="group")
    except DataError as error:
        assert "too few to cut" in str(error)
        return
    counts = {label: [row["label"] for row in rows].count(label) for label in texts_by_label(rows)}
    for split in ("test", "validation"):
        lacking = {
            f"label {label}"
            for label, count in counts.items()
            if count >= 3 and label not in set(found.tables[split]["label"])
        }
        assert reported(found, split) == lacking
    groups = [set(found.tables[split]["group"]) for split in ("train", "validation", "test")]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert set(found.tables["train"]["label"]) == {row["label"] for row in rows}


def test_label_of_separate_groups_occurs_in_each_split() -> None:
    rows = [
        {"text": f"words {row} of {label}", "label": f"l{label}", "group": f"{label}-{row % 3}"}
        for label in range(20)
        for row in range(6)
    ]
    found = gathered({"train": rows}, group_column="group")
    assert all(table["label"].nunique() == 20 for table in found.tables.values())


@pytest.mark.parametrize("task", ["ner", "pos", "joint"])
def test_entity_types_and_tags_occur_in_each_split(task: str) -> None:
    kinds = [f"kind{kind}" for kind in range(12)]
    prefix = "" if task == "pos" else "B-"
    outside = "X" if task == "pos" else "O"
    rows = [
        {
            "words": ["go", f"word{row}"],
            "tags": [outside, f"{prefix}{kinds[row % 40 % 12]}" if row % 40 < 12 else outside],
            "label": f"l{row % 2}",
        }
        for row in range(160)
    ]
    found = gathered({"train": rows}, task=task)
    for table in found.tables.values():
        tags = {tag.removeprefix("B-") for row in table["tags"] for tag in row}
        assert tags == {*kinds, outside}


def test_six_rows_are_enough_for_two_labels() -> None:
    rows = [{"text": f"words {row}", "label": "on" if row % 2 else "off"} for row in range(6)]
    found = gathered({"train": rows})
    assert {split: len(table) for split, table in found.tables.items()} == {
        "train": 2,
        "validation": 2,
        "test": 2,
    }
