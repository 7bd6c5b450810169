"""Labels and tags of validation or test that train lacks."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from saarthi_lib import steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.detect.misspelt import likely_meant
from saarthi_lib.data.gather import Gathered, gather
from saarthi_lib.data.preprocess import prepare
from saarthi_lib.errors import DataError
from tests.conftest import write_jsonl

LABELS = ("open_door", "shut_door", "paint")


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("opne", "open"),
        ("get weather", "GetWeather"),
        ("light-on", "LIGHT_ON"),
        ("PlayMusik", "PlayMusic"),
        ("book_flights", "book_flight"),
        ("bookflights", "book_flight"),
        ("lcoation", "location"),
        ("restaurant_bokking", "restaurant_booking"),
        ("Level1", "level_1"),
        ("price_list_10", "pricelist-10"),
    ],
)
def test_misspelt_name_is_recognized(name: str, other: str) -> None:
    assert likely_meant(name, ["weather_forecast", other]) == other
    assert likely_meant(other, [name]) == name


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("LIGHT_ON", "LIGHT_OFF"),
        ("track_1", "track_2"),
        ("level_1", "level_10"),
        ("set_alarm", "get_alarm"),
        ("NOUN", "PRON"),
        ("PROPN", "PRON"),
        ("SCONJ", "CCONJ"),
        ("Book", "Boot"),
        ("PRP", "PRP$"),
        ("C", "C++"),
        (",", "."),
        ("todo_list", "todo_list_update"),
        ("item_1_12", "item_11_2"),
        ("level_11", "level_1_1"),
        ("version1.0", "version10"),
        ("1-0", "10"),
        ("-1", "1"),
        ("score_-1", "score_1"),
        ("-food", "food"),
    ],
)
def test_similar_names_are_not_misspellings(name: str, other: str) -> None:
    assert likely_meant(name, [other]) is None
    assert likely_meant(other, [name]) is None


def test_tags_one_letter_apart_are_different() -> None:
    assert likely_meant("PARTS", ["PART"], letters=False) is None
    assert likely_meant("noun", ["NOUN"], letters=False) == "NOUN"


def rows(*more: tuple[str, str], times: int = 20) -> list[dict[str, Any]]:
    given = [(f"please {label} number {n}", label) for label in LABELS for n in range(times)]
    return [{"text": text, "label": label, "lang": "english"} for text, label in [*given, *more]]


def other_rows(*more: tuple[str, str]) -> list[dict[str, Any]]:
    return [{**row, "text": f"kindly {row['text']}"} for row in rows(*more, times=5)]


def config_of(folder: Path, **changes: Any) -> TrainConfig:
    fields = {"input_path": str(folder), "teacher_name": "minilm", "vocabulary_extra_tokens": 0}
    return TrainConfig.from_mapping({**fields, **changes})


def gathered(folder: Path, **changes: Any) -> Gathered:
    return gather(folder, config_of(folder, **changes))


def refused(folder: Path, **changes: Any) -> str:
    """Message of a run that unknown labels stop."""
    with TemporaryDirectory() as scratch, pytest.raises(DataError) as caught:
        prepare(config_of(folder, **changes), Path(scratch))
    return str(caught.value)


def test_unknown_test_labels_are_out_of_scope(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    write_jsonl(tmp_path / "train.jsonl", rows())
    strange = ("what is love", "PHILOSOPHY")
    write_jsonl(tmp_path / "validation.jsonl", other_rows(strange))
    write_jsonl(tmp_path / "test.jsonl", other_rows(strange, strange, ("sing", "SING")))
    found = gathered(tmp_path)

    assert set(found.tables["validation"]["label"]) == set(LABELS)
    assert list(found.tables["test"]["label"]).count("PHILOSOPHY") == 2
    assert "test: 3 rows have labels that train lacks: PHILOSOPHY (2), SING (1)" in told.text
    assert "left out: 1 validation rows with labels that train lacks: PHILOSOPHY (1)" in told.text


@pytest.mark.parametrize("split", ["validation", "test"])
def test_misspelt_label_stops_the_run(tmp_path: Path, split: str) -> None:
    write_jsonl(tmp_path / "train.jsonl", rows())
    write_jsonl(
        tmp_path / f"{split}.jsonl",
        other_rows(("what is love", "LOVE"), ("open it", "opne_door"), ("close", "Shut Door")),
    )
    message = refused(tmp_path)
    assert f"{split}.jsonl: row 17: the label 'opne_door' does not occur in train" in message
    assert "looks like 'open_door' (2 such rows); correct the spelling" in message
    assert "also the label 'Shut Door' does not occur in train" in message
    assert "set unknown_labels: keep" in message and "LOVE" not in message

    kept = gathered(tmp_path, unknown_labels="keep")
    assert len(kept.tables[split]) == (18 if split == "test" else 15)
    message = refused(tmp_path, unknown_labels="error")
    assert "row 16: the label 'LOVE' does not occur in train (3 such rows)" in message


@pytest.mark.parametrize(("count", "rows_of_known"), [(2, 5), (3, 60)])
def test_rare_label_one_letter_apart_is_an_error(
    tmp_path: Path, count: int, rows_of_known: int
) -> None:
    write_jsonl(tmp_path / "train.jsonl", rows())
    strange = [(f"other {n}", "paintt") for n in range(count)]
    known = [(f"more {n}", "paint") for n in range(rows_of_known - 5)]
    write_jsonl(tmp_path / "test.jsonl", other_rows(*strange, *known))
    assert f"looks like 'paint' ({count} such rows)" in refused(tmp_path)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_frequent_label_one_letter_apart_is_a_warning(
    tmp_path: Path, told: pytest.LogCaptureFixture, split: str
) -> None:
    write_jsonl(tmp_path / "train.jsonl", rows())
    strange = [(f"art {n}", "paints") for n in range(3)]
    write_jsonl(tmp_path / f"{split}.jsonl", other_rows(*strange))
    found = gathered(tmp_path)
    assert len(found.tables[split]) == (18 if split == "test" else 15)
    assert f"{split}: the label 'paints' (3 rows) looks like 'paint', but is" in told.text

    same = [(f"shut {n}", "OPEN DOOR") for n in range(5)]
    write_jsonl(tmp_path / f"{split}.jsonl", other_rows(*strange, *same))
    message = refused(tmp_path)
    assert "'OPEN DOOR' does not occur in train and looks like 'open_door' (5 such rows)" in message


def test_misspelt_out_of_scope_label_stops_the_run(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", rows())
    write_jsonl(tmp_path / "test.jsonl", other_rows(("hm", "nothing"), ("love", "Nothing")))
    message = refused(tmp_path, out_of_scope_label="nothing")
    assert "'Nothing' does not occur in train and looks like 'nothing'" in message


def test_check_reports_labels_that_train_refuses(tmp_path: Path) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", rows())
    write_jsonl(folder / "validation.jsonl", other_rows(("open it", "opne_door"), ("love", "LOVE")))
    write_jsonl(folder / "test.jsonl", other_rows(("what is love", "LOVE")))
    check = steps.check_data(config_of(folder), tmp_path / "check.html")

    assert check.status == "errors"
    [error] = [finding for finding in check.findings if finding.severity == "error"]
    assert (error.check, error.split, error.count) == ("refused-labels", "validation", 1)
    assert "'opne_door' does not occur in train and looks like 'open_door'" in error.message
    assert [(row.file, row.row) for row in error.rows] == [("validation.jsonl", 16)]
    warned = {finding.check for finding in check.findings if finding.severity == "warning"}
    assert {"unknown-label", "unknown-labels"} <= warned
    keep = steps.check_data(config_of(folder, unknown_labels="keep"), tmp_path / "check.html")
    assert keep.status == "warnings"


def conll(*sentences: str) -> str:
    return "\n\n".join(sentence.replace(" ", "\n").replace("/", "\t") for sentence in sentences)


def test_entity_types_and_tags_follow_the_same_rule(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    train = [f"go/O to/O place{n}/B-location" for n in range(20)]
    (tmp_path / "train.conll").write_text(conll(*train), encoding="utf-8")
    test = [*(f"to/O town{n}/B-location" for n in range(3)), "a/O b/B-person c/I-person"]
    (tmp_path / "test.conll").write_text(conll(*test), encoding="utf-8")
    assert len(gathered(tmp_path, task="ner").tables["test"]) == 4
    assert "test: 1 rows have entity types that train lacks: person (1)" in told.text

    (tmp_path / "test.conll").write_text(conll(*test, "x/B-locaton"), encoding="utf-8")
    message = refused(tmp_path, task="ner")
    assert "the entity type 'locaton' does not occur in train and looks like 'loc" in message


def test_split_without_a_known_label_is_an_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", rows())
    write_jsonl(tmp_path / "test.jsonl", [{"text": "hello", "label": "greeting"}])
    with pytest.raises(DataError, match="all 1 rows of test have labels that train lacks: greet"):
        gathered(tmp_path)
