"""Rows keep the split of an earlier run: no training row moves into validation or test."""

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.earlier import KNOWN_TEXTS, Earlier
from saarthi_lib.data.gather import Gathered, gather
from saarthi_lib.errors import ConfigError, DataError
from saarthi_lib.storage import write_json, write_record

HELD_OUT = ("validation", "test")
Row = tuple[str, str, str]  # text, label, group
BASE: list[Row] = [(f"{kind} number {row}", kind, "") for kind in "abcd" for row in range(15)]


def reading(folder: Path, **fields: Any) -> TrainConfig:
    return TrainConfig.from_mapping(
        {"task": "intent_classification", "input_path": str(folder), "language": "english"} | fields
    )


def gathered_from(
    folder: Path, rows: list[Row], earlier: Path | None = None, **fields: Any
) -> Gathered:
    """Read rows from a new folder, as a run that starts from an earlier one does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label", "group"), *rows])
    return gather(folder, reading(folder, start_from=str(earlier or ""), **fields))


def as_run(root: Path, found: Gathered, **summary: Any) -> Path:
    """Write the folder of a run with these tables, as far as a later run reads it."""
    data = root / "data"
    data.mkdir(parents=True)
    tables = {**found.tables, "out_of_scope": found.out_of_scope}
    for split, table in tables.items():
        table.to_parquet(data / f"{split}.parquet", index=False)
    found.tables["train"][["text"]].head(0).to_parquet(data / "transfer.parquet", index=False)
    write_json(data / "data.json", {"normalization": "standard", "trial": False, **summary})
    if found.earlier:
        found.earlier.write_texts(tables, data)
    write_record(data, {"step": "preprocess"})
    write_json(root / "run.json", {"steps": {}, "made": []})
    return root


def split_of(found: Gathered) -> dict[str, str]:
    return {
        text: split
        for split in ("train", *HELD_OUT)
        for text in found.tables[split]["text"].tolist()
    }


EDITS = st.tuples(
    st.sets(st.integers(0, 200)),  # rows to delete
    st.sets(st.integers(0, 200)),  # rows whose text is edited
    st.sets(st.integers(0, 200)),  # rows to write in capitals, in addition
    st.integers(0, 9),  # new rows of known labels
    st.sampled_from(["", "", "e", "f"]),  # a new label
    st.booleans(),  # rename a label
    st.booleans(),  # bring deleted rows back
)


@settings(max_examples=15)
@given(st.lists(EDITS, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_no_training_row_becomes_held_out(
    tmp_path_factory: pytest.TempPathFactory, chain: list[Any], random: Any
) -> None:
    folder = tmp_path_factory.mktemp("chain")
    rows, found = list(BASE), gathered_from(folder / "0", BASE)
    run, trained, before = as_run(folder / "run-0", found), set[str](), split_of(found)
    kept = {next(t for t, split in before.items() if split == held) for held in HELD_OUT}
    for turn, (gone, edited, capitals, added, label, renamed, back) in enumerate(chain, 1):
        trained |= {text for text, split in before.items() if split == "train"}
        changed = []
        for at, (text, kind, group) in enumerate(rows):
            if text in kept or at not in gone:
                written = text if text in kept or at not in edited else f"{text} please {turn}"
                changed.append((written, "z" if renamed and kind == "a" else kind, group))
        changed += [(text.upper(), kind, group) for text, kind, group in rows[:60:7] if capitals]
        changed += [(f"{kind} new {turn} {row}", kind, "") for row in range(added) for kind in "bc"]
        changed += [(f"{label} {turn} {row}", label, "") for row in range(3) if label]
        changed += [row for row in BASE[::9] if back]
        random.shuffle(changed)
        rows = list({text: (text, kind, group) for text, kind, group in changed}.values())
        found = gathered_from(folder / str(turn), rows, run)
        now = split_of(found)
        assert sorted(now) == sorted(text for text, _, _ in rows)  # each row once
        for text, split in now.items():
            if split != "train":
                assert text not in trained and text.casefold() not in trained
            if before.get(text) in HELD_OUT:
                assert split == before[text]
        if label and turn == 1:  # three new rows of a new label: one in each split
            assert {now[f"{label} 1 {row}"] for row in range(3)} == {"train", *HELD_OUT}
        run, before = as_run(folder / f"run-{turn}", found), now


def test_new_rows_are_learned_and_held_out_rows_stay(tmp_path: Path) -> None:
    first = gathered_from(tmp_path / "0", BASE)
    run = as_run(tmp_path / "run", first)
    added = [(f"a thing {row}", "a", "") for row in range(20)]
    second = gathered_from(tmp_path / "1", [*added, *BASE[::-1]], run)
    for split in HELD_OUT:
        before, now = (set(found.tables[split]["text"]) for found in (first, second))
        assert now == before
    assert {text for text, _, _ in added} <= set(second.tables["train"]["text"])
    assert second.kept and (second.kept.new, second.kept.moved) == (20, 0)
    assert sum(second.kept.rows.values()) == len(BASE)


def test_groups_stay_together_on_the_side_of_training(tmp_path: Path) -> None:
    first = gathered_from(tmp_path / "0", BASE)
    learned = first.tables["train"]["text"].iloc[0]
    held = first.tables["test"]["text"].iloc[0]
    named = [(text, label, "chat" if text in (learned, held) else text) for text, label, _ in BASE]
    run = as_run(tmp_path / "run", first)
    rows = [*named, ("a last", "a", "chat")]
    second = split_of(gathered_from(tmp_path / "1", rows, run, group_column="group"))
    assert {second[text] for text in (learned, held, "a last")} == {"train"}


def test_unlabelled_text_of_earlier_run_is_not_held_out(tmp_path: Path) -> None:
    run = as_run(tmp_path / "run", gathered_from(tmp_path / "0", BASE))
    added = [(f"e {row}", "e", "") for row in range(5)]
    table = gathered_from(tmp_path / "2", added * 2 + BASE).tables["train"][["text"]].head(0)
    table.loc[0], table.loc[1] = ["e 0"], ["e 2"]
    table.to_parquet(run / "data" / "transfer.parquet", index=False)
    (run / "data" / "step.json").unlink()
    write_record(run / "data", {"step": "preprocess"})
    now = split_of(gathered_from(tmp_path / "1", [*BASE, *added], run))
    assert (now["e 0"], now["e 2"]) == ("train", "train")
    assert sorted(now[f"e {row}"] for row in (1, 3, 4)) == ["test", "train", "validation"]


def test_rows_of_given_files_that_were_trained_on_are_counted(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    first = gathered_from(tmp_path / "0", BASE)
    run = as_run(tmp_path / "run", first)
    learned = first.tables["train"].iloc[:2]
    held = first.tables["test"].iloc[:3]
    (tmp_path / "1").mkdir()
    rows = [*learned.itertuples(), *held.itertuples()]
    lines = "".join(f"{row.text},{row.label}\n" for row in rows)
    (tmp_path / "1" / "test.csv").write_text(f"text,label\n{lines}", encoding="utf-8")
    given_texts = {row.text for row in rows}
    second = gathered_from(tmp_path / "1", [row for row in BASE if row[0] not in given_texts], run)
    assert second.kept and second.kept.moved == 2
    assert "2 rows of the files for validation and test were training rows" in told.text
    assert set(second.tables["validation"]["text"]) == set(first.tables["validation"]["text"])


def test_deleted_texts_are_remembered_only_as_numbers(tmp_path: Path) -> None:
    run = as_run(tmp_path / "run", gathered_from(tmp_path / "0", BASE))
    second = as_run(tmp_path / "run-2", gathered_from(tmp_path / "1", BASE[5:], run))
    assert b"a number" not in (second / "data" / KNOWN_TEXTS).read_bytes()


@pytest.mark.parametrize(
    ("summary", "missing", "said"),
    [
        ({"trial": True}, "", "is a trial run"),
        (
            {"normalization": "romanized"},
            "",
            "has normalization: romanized.* set normalization: romanized",
        ),
        ({}, "data/data.json", r"keeps no data.*production"),
        ({}, "run.json", "is not the folder of a run"),
    ],
)
def test_unusable_earlier_run_is_refused(
    tmp_path: Path, summary: dict[str, Any], missing: str, said: str
) -> None:
    run = as_run(tmp_path / "run", gathered_from(tmp_path / "0", BASE), **summary)
    if missing:
        (run / missing).unlink()
    with pytest.raises(ConfigError, match=f"start_from: .*run: {said}"):
        Earlier.of(reading(tmp_path / "0", start_from=str(run)))


def test_data_without_earlier_rows_are_refused(tmp_path: Path) -> None:
    run = as_run(tmp_path / "run", gathered_from(tmp_path / "0", BASE))
    others = [("one", "a", ""), ("two", "b", "")]
    with pytest.raises(DataError, match="none of the rows of its test split is left"):
        gathered_from(tmp_path / "1", others, run)
