"""From an input folder to what training reads."""

from pathlib import Path
from typing import Any

import pytest

from saarthi_lib import steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.preprocess import GIVEN, Prepared
from saarthi_lib.errors import DataError
from saarthi_lib.storage import read_json
from saarthi_lib.tasks import OUT_OF_SCOPE
from tests.conftest import write_jsonl

VERBS = {"english": ("open", "shut", "paint"), "hindi": ("खोलो", "बंद करो", "रंगो")}
THINGS = (
    "door",
    "window",
    "gate",
    "दरवाज़ा",
    "खिड़की",
    "cupboard",
    "drawer",
    "shutter",
    "box",
    "lid",
)
LABELS = ("open", "shut", "paint")


def rows(first: int = 0, last: int = 10) -> list[dict[str, Any]]:
    return [
        {"text": f"{verb} the {thing} {kind}", "label": label, "lang": lang}
        for lang, verbs in VERBS.items()
        for label, verb in zip(LABELS, verbs, strict=True)
        for thing in THINGS[first:last]
        for kind in ("now", "please", "again")
    ]


def prepared(tmp_path: Path, **changes: Any) -> Prepared:
    config = TrainConfig.from_mapping(
        {
            "task": "intent_classification",
            "input_path": str(tmp_path / "input"),
            "teacher_name": "minilm",
            "fast_dev_run": False,
            "augmentation_size": 100,
            "vocabulary_extra_pieces": 0,
            **changes,
        }
    )
    steps.preprocess(config, tmp_path / "data")
    return Prepared(tmp_path / "data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "input"
    path.mkdir()
    return path


def test_tables_and_ids_line_up(tmp_path: Path, folder: Path) -> None:
    write_jsonl(folder / "train.jsonl", rows(0, 8))
    write_jsonl(folder / "test.jsonl", rows(8, 9))
    write_jsonl(folder / "clean.jsonl", rows(9, 10))
    write_jsonl(
        folder / "transfer.jsonl", [{"text": "what is this"}, {"text": rows(8, 9)[0]["text"]}]
    )
    data = prepared(tmp_path)

    summary = data.summary
    for split in ("train", "validation", "test", "clean", "transfer"):
        encoded = data.encoded(split)
        assert len(encoded) == len(data.table(split)) == summary["rows"][split] > 0
        for row, text in enumerate(data.table(split)["text"][:5]):
            ids = encoded.ids[encoded.offsets[row] : encoded.offsets[row + 1]]
            assert ids.tolist() == data.tokeniser.encode_text(text, 26).ids
    transfer = data.table("transfer")
    assert list(transfer[transfer["method"] == GIVEN]["text"]) == ["what is this"]
    assert summary["left_out"]["transfer rows that stand in validation or test"] >= 1
    assert summary["transfer"][GIVEN] == 1 and sum(summary["transfer"].values()) > 50
    held_out = {*data.table("test")["text"], *data.table("validation")["text"]}
    assert not held_out & set(transfer["text"])
    assert (data.folder / "check.html").is_file() and summary["check"] in ("ok", "warnings")


def test_the_vocabulary_is_of_what_people_wrote_and_not_of_what_was_made_of_it(
    tmp_path: Path, folder: Path
) -> None:
    write_jsonl(folder / "train.jsonl", rows())
    unaugmented, augmented, extra = (
        prepared(tmp_path / name, input_path=str(folder), **fields)
        for name, fields in {
            "none": {"augmentation_size": 0},
            "some": {},
            "extra": {"vocabulary_extra_pieces": 50},
        }.items()
    )
    assert augmented.vocabulary == unaugmented.vocabulary
    assert sum(augmented.summary["transfer"].values()) > 50
    new = set(extra.vocabulary["kept_ids"]) - set(augmented.vocabulary["kept_ids"])
    assert len(new) == 50
    write_jsonl(folder / "transfer.jsonl", [{"text": "photosynthesis bewilders archaeologists"}])
    given = prepared(tmp_path / "given", input_path=str(folder))
    assert len(given.vocabulary["kept_ids"]) > len(augmented.vocabulary["kept_ids"])


def test_few_shots_groups_and_columns_by_name(tmp_path: Path, folder: Path) -> None:
    table = [
        {"was": row["text"], "means": row["label"], "in": row["lang"], "talk": f"t{number // 3}"}
        for number, row in enumerate(rows())
    ]
    write_jsonl(folder / "train.jsonl", table)
    data = prepared(
        tmp_path,
        text_column="was",
        label_column="means",
        language_column="in",
        group_column="talk",
        few_shot=4,
    )

    train = data.table("train")
    assert {tuple(key): len(part) for key, part in train.groupby(["lang", "label"])} == {
        (lang, label): 4 for lang in VERBS for label in LABELS
    }
    groups = [set(data.table(split)["group"]) for split in ("train", "validation", "test")]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]


def test_labels_know_which_entities_they_were_seen_with(tmp_path: Path, folder: Path) -> None:
    table = [
        {
            "text": row["text"],
            "intent": row["label"],
            "entities": []
            if row["label"] == "paint"
            else [{"start": len(row["text"]) - 3, "end": len(row["text"]), "label": row["label"]}],
            "lang": row["lang"],
        }
        for row in rows()
        if row["text"].endswith("now")
    ]
    write_jsonl(folder / "train.jsonl", table)
    data = prepared(tmp_path, task="joint")

    labels, train = data.labels, data.table("train")
    assert labels.sequence == ("open", "paint", "shut")
    assert labels.slots == (("open",), (), ("shut",))
    assert labels.rows == tuple((train["label"] == label).sum() for label in labels.sequence)
    follows = labels.following["O"]
    assert follows["B-open"] == sum("B-open" in tags for tags in train["tags"])
    assert set(follows) == {"O", "B-open", "B-shut"}
    assert data.summary["transfer"]["vocabulary"] > 0  # where words are tagged


def test_text_is_normalised_on_the_way_in(tmp_path: Path, folder: Path) -> None:
    write_jsonl(
        folder / "train.jsonl",
        [{**row, "text": f"\ufeff{row['text']}  १२!!!"} for row in rows()],
    )
    texts = prepared(tmp_path).table("train")["text"]
    assert texts.str.endswith(" 12!").all() and not texts.str.startswith("\ufeff").any()
    plain = prepared(tmp_path, normalisation="none").table("train")["text"]
    assert plain.str.endswith("  १२!!!").all()


def test_a_test_that_was_trained_on_stops_the_run(tmp_path: Path, folder: Path) -> None:
    write_jsonl(folder / "train.jsonl", rows())
    write_jsonl(folder / "test.jsonl", rows()[:60])
    with pytest.raises(DataError, match=r"data's check stops the run.*test"):
        prepared(tmp_path)
    assert not (tmp_path / "data").exists()
    assert prepared(tmp_path, data_check="nothing").summary["check"] == "errors"


def test_an_augmentation_can_be_switched_off(tmp_path: Path, folder: Path) -> None:
    write_jsonl(folder / "train.jsonl", rows())
    assert prepared(tmp_path, augmentation_size=0).summary["rows"]["transfer"] == 0
    only = prepared(tmp_path, augmentation_methods=["typos"]).summary["transfer"]
    assert list(only) == ["typos"]


def test_the_same_seed_gives_the_same_data(tmp_path: Path, folder: Path) -> None:
    write_jsonl(folder / "train.jsonl", rows())
    names = ("train.npz", "transfer.npz", "tokenizer.json", "check.json")
    first = [(prepared(tmp_path).folder / name).read_bytes() for name in names]
    second = [(prepared(tmp_path).folder / name).read_bytes() for name in names]
    assert first == second


def test_a_cut_leaves_no_tag_without_training_rows(tmp_path: Path, folder: Path) -> None:
    sentences = [f"1\tthing{row}\t_\tNOUN\n2\tis\t_\tAUX\n" for row in range(60)]
    sentences += [f"1\tlone{row}\t_\t{tag}\n2\tis\t_\tAUX\n" for row, tag in enumerate("ABCDEF")]
    (folder / "train.conllu").write_text("\n".join(sentences), encoding="utf-8")
    data = prepared(tmp_path, task="pos", test_fraction=0.3, validation_fraction=0.3)

    assert {"A", "B", "C", "D", "E", "F"} < set(data.labels.token)
    assert len(data.table("test")) >= 15


def test_a_sentence_with_several_malformed_tags_is_one_row_left_out(
    tmp_path: Path, folder: Path
) -> None:
    good = [f"delhi\tB-LOC\nis\tO\nplace{row}\tO\n" for row in range(100)]
    (folder / "train.conll").write_text(
        "\n".join([*good, "agra\t-\nfort\t-LOC\n", "pune\tLOC\n"]), encoding="utf-8"
    )
    data = prepared(tmp_path, task="ner")

    assert data.summary["left_out"]["malformed rows"] == 2
    check = read_json(data.folder / "check.json")
    [tags] = [finding for finding in check["findings"] if finding["check"] == "malformed-tag"]
    assert [row["row"] for row in tags["rows"]] == [401, 402, 404]


def silent_rows(first: int, last: int) -> list[dict[str, Any]]:
    return [
        {"text": f"who won the match number {number}", "label": "NOTHING", "lang": "english"}
        for number in range(first, last)
    ]


def test_rows_that_no_answer_fits_become_a_class_that_is_no_answer(
    tmp_path: Path, folder: Path
) -> None:
    write_jsonl(folder / "train.jsonl", rows(0, 8) + silent_rows(0, 20))
    write_jsonl(folder / "validation.jsonl", rows(8, 9) + silent_rows(20, 25))
    write_jsonl(folder / "test.jsonl", rows(9, 10) + silent_rows(25, 30))
    data = prepared(tmp_path, out_of_scope_label="NOTHING", augmentation_size=0)

    assert data.labels.answers == ("open", "paint", "shut")
    assert data.labels.sequence == (*data.labels.answers, OUT_OF_SCOPE)
    assert (data.encoded("train").sequence_labels == 3).sum() == 20
    assert (data.encoded("validation").sequence_labels == 3).sum() == 5
    assert list(data.out_of_scope["text"]) == [row["text"] for row in silent_rows(20, 25)]
    # The test keeps the user's name for them, which no model can give.
    assert (data.table("test")["label"] == "NOTHING").sum() == 5


def test_without_such_rows_in_train_those_of_validation_are_set_apart(
    tmp_path: Path, folder: Path
) -> None:
    write_jsonl(folder / "train.jsonl", rows(0, 8))
    write_jsonl(folder / "validation.jsonl", rows(8, 9) + silent_rows(20, 25))
    write_jsonl(folder / "test.jsonl", rows(9, 10) + silent_rows(25, 30))
    data = prepared(tmp_path, out_of_scope_label="NOTHING", augmentation_size=0)

    assert data.labels.sequence == ("open", "paint", "shut")
    assert len(data.out_of_scope) == 5
    assert set(data.table("validation")["label"]) == {"open", "paint", "shut"}
    with pytest.raises(DataError, match="the label 'NOTHING' does not occur in train"):
        prepared(tmp_path, augmentation_size=0)
    adaptive = prepared(
        tmp_path, out_of_scope_label="NOTHING", augmentation_size=0, self_adaptive_training=True
    )
    assert adaptive.labels.sequence[-1] == OUT_OF_SCOPE
