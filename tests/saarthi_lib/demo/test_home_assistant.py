"""The demonstration's utterances: sizes, entities, splits, and repeatability."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from saarthi_lib.demo.home_assistant import write_home_assistant
from saarthi_lib.errors import ConfigError

pytest.importorskip("hassil")
pytest.importorskip("home_assistant_intents")

SPLITS = ("train", "validation", "test")
Rows = dict[str, list[dict[str, Any]]]


def read(folder: Path) -> Rows:
    return {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").open(encoding="utf-8")]
        for name in (*SPLITS, "transfer")
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    write_home_assistant(folder)
    return folder


@pytest.fixture(scope="module")
def rows(folder: Path) -> Rows:
    return read(folder)


def test_splits_have_the_documented_sizes(rows: Rows) -> None:
    limits = {"train": (1500, 2200), "validation": (300, 400), "test": (500, 700)}
    for name, (low, high) in limits.items():
        assert low <= len(rows[name]) <= high
        languages = Counter(row["lang"] for row in rows[name])
        assert set(languages) == {"english", "hindi"}
        assert languages["hindi"] >= len(rows[name]) / 3
    assert len(rows["transfer"]) == 3000


def test_entities_are_whole_words_in_order(rows: Rows) -> None:
    spans = 0
    for row in (row for name in SPLITS for row in rows[name]):
        text, end = row["text"], 0
        for entity in row["entities"]:
            assert end <= entity["start"] < entity["end"] <= len(text)
            start, end = entity["start"], entity["end"]
            assert text[start:end] == text[start:end].strip()
            assert start == 0 or not text[start - 1].isalnum()
            assert end == len(text) or not text[end].isalnum()
            spans += 1
    assert spans > 1500


def test_entities_have_values_of_their_label(rows: Rows) -> None:
    values = defaultdict(set)
    for row in rows["train"]:
        for entity in row["entities"]:
            values[entity["label"]].add(row["text"][entity["start"] : entity["end"]])
    assert {"kitchen", "रसोई"} <= values["area"]
    assert {"ground floor"} <= values["floor"]
    assert {"orange", "नीला"} <= values["color"]
    assert all(value.isdigit() and int(value) <= 100 for value in values["position"])
    assert {"tv", "टीवी"} <= values["name"]
    assert any(value.isdigit() for value in values["minutes"])
    assert any(value.isalpha() and value.isascii() for value in values["minutes"])


def test_texts_have_no_extra_spaces(rows: Rows) -> None:
    for row in (row for part in rows.values() for row in part):
        text = row["text"]
        assert text and text == " ".join(text.split())
        assert not any(f" {mark}" in text for mark in ",.?!;:।")
        assert not set(text) & set("[]{}<>()|")
        assert "floor floor" not in text


def test_sentences_are_unique_across_splits(rows: Rows) -> None:
    seen = Counter(row["text"].casefold() for part in rows.values() for row in part)
    assert seen.most_common(1)[0][1] == 1


def test_test_wordings_are_rare_in_train(rows: Rows) -> None:
    def wording(row: dict[str, Any]) -> str:
        text = row["text"]
        for entity in reversed(row["entities"]):
            text = text[: entity["start"]] + entity["label"] + text[entity["end"] :]
        return text

    trained = {wording(row) for row in rows["train"]}
    known = sum(wording(row) in trained for row in rows["test"])
    assert known < 0.05 * len(rows["test"])


def test_few_names_of_test_are_new(rows: Rows) -> None:
    def names(split: str) -> list[str]:
        return [
            row["text"][entity["start"] : entity["end"]]
            for row in rows[split]
            for entity in row["entities"]
            if entity["label"] in ("name", "area")
        ]

    trained = set(names("train"))
    new = sum(name not in trained for name in names("test")) / len(names("test"))
    assert 0.05 < new < 0.4
    transferred = " ".join(row["text"] for row in rows["transfer"])
    assert "master bedroom" not in transferred  # kept for evaluation


def test_evaluated_intents_are_in_train_of_the_language(rows: Rows) -> None:
    trained = {(row["lang"], row["intent"]) for row in rows["train"]}
    for split in ("validation", "test"):
        assert {(row["lang"], row["intent"]) for row in rows[split]} <= trained
    assert len({row["intent"] for row in rows["test"] if row["lang"] == "hindi"}) >= 10


def test_transfer_rows_have_no_labels(rows: Rows) -> None:
    assert all(set(row) == {"text", "lang"} for row in rows["transfer"])


def test_the_source_record_counts_the_written_rows(folder: Path, rows: Rows) -> None:
    source = json.loads((folder / "source.json").read_text(encoding="utf-8"))
    for name, part in rows.items():
        assert source["rows"][name]["total"] == len(part)
    assert "english HassBroadcast" in source["train_only"]
    assert set(source["packages"]) == {"home-assistant-intents", "hassil"}


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_home_assistant(tmp_path / "again")
    write_home_assistant(tmp_path / "other", seed=1)
    for name in ("train", "validation", "test", "transfer"):
        first = (folder / f"{name}.jsonl").read_bytes()
        assert (tmp_path / "again" / f"{name}.jsonl").read_bytes() == first
        assert (tmp_path / "other" / f"{name}.jsonl").read_bytes() != first


def test_template_gives_at_most_per_template_rows(tmp_path: Path) -> None:
    write_home_assistant(tmp_path, languages=["en"], per_template=2, transfer_rows=10)
    rows = read(tmp_path)
    broadcasts = [row for row in rows["train"] if row["intent"] == "HassBroadcast"]
    assert len(broadcasts) == 2  # English has one template for it
    assert {row["lang"] for part in rows.values() for row in part} == {"english"}


def test_language_without_word_lists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="languages"):
        write_home_assistant(tmp_path, languages=["en", "fr"])
