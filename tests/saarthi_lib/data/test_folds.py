"""Folds of a cross-validation: balanced, whole texts and groups, and readable again."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.folds import ALWAYS_TRAINED, folds_of, write_fold
from saarthi_lib.data.gather import gather
from saarthi_lib.errors import DataError
from tests.conftest import reading, write_jsonl

ROWS = st.lists(
    st.tuples(
        st.integers(0, 30), st.sampled_from("abc"), st.sampled_from(["english", "hindi"]),
        st.none() | st.integers(0, 8),
    ),
    min_size=12,
    max_size=60,
)  # fmt: skip


@given(ROWS, st.integers(2, 5), st.integers(0, 3))
def test_texts_and_groups_are_whole_and_every_label_is_trained(
    rows: list[tuple[int, str, str, int | None]], folds: int, seed: int
) -> None:
    table = pd.DataFrame(rows, columns=["text", "label", "lang", "group"])
    table["text"] = table["text"].map("text {}".format)
    try:
        place = folds_of(table, folds, "intent_classification", seed)
    except DataError:
        return
    assert set(place.tolist()) <= {ALWAYS_TRAINED, *range(folds)}
    assert (place == folds_of(table, folds, "intent_classification", seed)).all()
    for column in ("text", "group"):
        assert (pd.Series(place).groupby(table[column]).nunique() <= 1).all()
    for fold in range(folds):
        assert set(table["label"][place == fold]) <= set(table["label"][place != fold])


def test_labels_and_languages_are_balanced() -> None:
    rows = [(f"{label} {n}", label, "hindi" if n % 3 else "english") for label in "abcd"
            for n in range(15)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["text", "label", "lang"])
    place = folds_of(table, 5, "intent_classification", 0)
    counts = pd.crosstab([table["label"], table["lang"]], place)
    assert counts.shape == (8, 5) and set(counts.to_numpy().ravel().tolist()) == {1, 2}
    assert (pd.Series(place).value_counts() == 12).all()
    assert (place != folds_of(table, 5, "intent_classification", 1)).any()


def test_labels_with_two_texts_are_tested_and_with_one_never() -> None:
    labels = ["pair", "pair", "lone", *["often"] * 17]
    texts = [f"text {n}" for n in range(20)]
    table = pd.DataFrame({"text": texts, "label": labels, "lang": "english"})
    for seed in range(10):
        place = folds_of(table, 5, "intent_classification", seed)
        assert place[0] != place[1] and (np.delete(place, 2) != ALWAYS_TRAINED).all()
        assert place[2] == ALWAYS_TRAINED


def test_entity_types_of_tested_rows_are_trained() -> None:
    tags = [["B-city", "O"], ["O", "O"], ["O", "B-name"], ["B-city", "O"], ["O", "O"], ["O", "O"]]
    table = pd.DataFrame({"text": list("abcdef"), "tags": tags, "lang": "english"})
    place = folds_of(table.convert_dtypes(), 3, "ner", 0)
    assert place[2] == ALWAYS_TRAINED  # the only name
    assert place[0] != place[3] or place[0] == ALWAYS_TRAINED


@pytest.mark.parametrize(("rows", "words"), [(3, "too few for 5 folds"), (6, "no row can be")])
def test_too_few_rows_are_refused(rows: int, words: str) -> None:
    labels = [f"label {n}" for n in range(rows)]
    table = pd.DataFrame({"text": labels, "label": labels, "lang": "english"})
    with pytest.raises(DataError, match=words):
        folds_of(table, 5, "intent_classification", 0)


def labelled(task: str) -> list[dict[str, Any]]:
    """Rows with columns of unusual names, odd spaces, and an entity inside a word."""
    rows = []
    for n in range(10):
        row: dict[str, Any] = {"phrase": f"Flight {n}  to New York-City", "speech": "hi"}
        if task != "ner":
            row["goal"] = "book" if n % 2 else "0"
        if task != "intent_classification":
            row["marks"] = [{"start": 13 - (n % 2), "end": 21, "label": "city"}]
        rows.append(row | {"talk": f"g{n // 2}"})
    return rows


COLUMNS = {
    "intent_classification": {"label_column": "goal"},
    "joint": {"label_column": "goal", "tags_column": "marks"},
    "ner": {"label_column": "marks"},
}


@pytest.mark.parametrize("task", COLUMNS)
def test_written_folds_are_read_as_the_same_rows(task: str, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_jsonl(source / "train.jsonl", labelled(task))
    for split in ("validation", "test", "clean"):
        write_jsonl(source / f"{split}.jsonl", labelled(task)[:3])
    (source / "transfer.txt").write_text("ek do teen\n", encoding="utf-8")
    names = {"text_column": "phrase", "language_column": "speech", "group_column": "talk"}
    config = reading(task, **names, **COLUMNS[task])
    whole = gather(source, config)
    table = whole.tables["train"]
    answered = np.arange(len(table)) % 3 == 0
    write_fold(tmp_path / "out", table, answered, whole, config)

    tags = {"tags_column": COLUMNS[task].get("tags_column", "marks")} if task != "joint" else {}
    changed = TrainConfig.from_mapping({**config.given("run", "data"), **tags})
    found = gather(tmp_path / "out", changed)
    for split, rows in (("test", answered), ("train", ~answered)):
        columns = [name for name in table if name not in ("file", "row")]
        again = found.tables[split] if split == "test" else None
        if again is None:  # without its validation part
            parts = [found.tables["train"], found.tables["validation"]]
            again = pd.concat(parts).sort_values("row", ignore_index=True)
        expected = table[rows].reset_index(drop=True)
        for name in columns:
            assert list(map(str, again[name])) == list(map(str, expected[name])), name
    assert [file.path.name for file in found.transfer] == ["transfer-0.txt"]
    assert not found.tables["clean"]["text"].isin(found.tables["test"]["text"]).any()
