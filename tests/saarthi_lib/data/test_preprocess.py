"""Preprocessing: from an input folder to the data that training reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saarthi_lib import steps
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.gather import Gathered, gather, labels_of
from saarthi_lib.data.preprocess import GIVEN, TRIAL_ROWS, Prepared
from saarthi_lib.errors import DataError
from saarthi_lib.recipe import Facts, resolve
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


def configured(tmp_path: Path, **changes: Any) -> TrainConfig:
    return TrainConfig.from_mapping(
        {
            "task": "intent_classification",
            "input_path": str(tmp_path / "input"),
            "teacher_name": "minilm",
            "augmentation_size": 0,
            "vocabulary_extra_tokens": 0,
            **changes,
        }
    )


def prepared(tmp_path: Path, **changes: Any) -> Prepared:
    """The whole step, with its check and its page."""
    steps.preprocess(configured(tmp_path, **changes), tmp_path / "data")
    return Prepared(tmp_path / "data")


def gathered(tmp_path: Path, **changes: Any) -> Gathered:
    """The labelled tables alone, as the step writes them."""
    return gather(tmp_path / "input", configured(tmp_path, **changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "input"
    path.mkdir()
    return path


def joint_rows() -> list[dict[str, Any]]:
    """Rows with an intent and entities; rows of `paint` have empty lists."""
    return [
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


@pytest.fixture(scope="module")
def unaugmented(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The joint rows, prepared without augmentation."""
    root = tmp_path_factory.mktemp("unaugmented")
    (root / "input").mkdir()
    write_jsonl(root / "input" / "train.jsonl", joint_rows())
    return prepared(root, task="joint")


@pytest.fixture(scope="module")
def augmented(unaugmented: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The same rows, augmented by every method."""
    return again(unaugmented, tmp_path_factory.mktemp("augmented"), augmentation_size=100)


def again(before: Prepared, root: Path, **changes: Any) -> Prepared:
    """Prepare the joint rows of the fixtures once more."""
    return prepared(root, task="joint", input_path=before.summary["input_path"], **changes)


def test_tables_and_ids_line_up(tmp_path: Path, folder: Path) -> None:
    write_jsonl(folder / "train.jsonl", rows(0, 8))
    write_jsonl(folder / "test.jsonl", rows(8, 9))
    write_jsonl(folder / "clean.jsonl", rows(9, 10))
    write_jsonl(
        folder / "transfer.jsonl", [{"text": "what is this"}, {"text": rows(8, 9)[0]["text"]}]
    )
    data = prepared(tmp_path, augmentation_size=100)

    summary = data.summary
    for split in ("train", "validation", "test", "clean", "transfer"):
        encoded = data.encoded(split)
        assert len(encoded) == len(data.table(split)) == summary["rows"][split] > 0
        for row, text in enumerate(data.table(split)["text"][:5]):
            ids = encoded.ids[encoded.offsets[row] : encoded.offsets[row + 1]]
            assert ids.tolist() == data.tokenizer.encode_text(text, 26).ids
    transfer = data.table("transfer")
    assert list(transfer[transfer["method"] == GIVEN]["text"]) == ["what is this"]
    assert summary["left_out"]["transfer rows that stand in validation or test"] >= 1
    assert summary["transfer"][GIVEN] == 1 and sum(summary["transfer"].values()) > 50
    held_out = {*data.table("test")["text"], *data.table("validation")["text"]}
    assert not held_out & set(transfer["text"])
    assert (data.folder / "check.html").is_file() and summary["check"] in ("ok", "warnings")


def test_augmented_text_does_not_extend_the_vocabulary(
    unaugmented: Prepared, augmented: Prepared
) -> None:
    assert augmented.vocabulary == unaugmented.vocabulary
    assert sum(augmented.summary["transfer"].values()) > 50


def test_extra_tokens_and_transfer_extend_the_vocabulary(
    unaugmented: Prepared, tmp_path: Path, folder: Path
) -> None:
    plain = set(unaugmented.vocabulary["kept_ids"])
    extra = again(unaugmented, tmp_path, vocabulary_extra_tokens=50)
    assert len(set(extra.vocabulary["kept_ids"]) - plain) == 50
    write_jsonl(folder / "train.jsonl", joint_rows())
    write_jsonl(folder / "transfer.jsonl", [{"text": "photosynthesis bewilders archaeologists"}])
    assert set(prepared(tmp_path, task="joint").vocabulary["kept_ids"]) > plain


def test_few_shot_groups_and_columns_are_applied(tmp_path: Path, folder: Path) -> None:
    table = [
        {"was": row["text"], "means": row["label"], "in": row["lang"], "talk": f"t{number // 3}"}
        for number, row in enumerate(rows())
    ]
    write_jsonl(folder / "train.jsonl", table)
    tables = gathered(
        tmp_path,
        text_column="was",
        label_column="means",
        language_column="in",
        group_column="talk",
        few_shot=4,
    ).tables

    train = tables["train"]
    assert {tuple(key): len(part) for key, part in train.groupby(["lang", "label"])} == {
        (lang, label): 4 for lang in VERBS for label in LABELS
    }
    groups = [set(tables[split]["group"]) for split in ("train", "validation", "test")]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]


def test_labels_record_their_entities_rows_and_tag_order(augmented: Prepared) -> None:
    labels, train = augmented.labels, augmented.table("train")
    assert labels.sequence == ("open", "paint", "shut")
    assert labels.slots == (("open",), (), ("shut",))
    assert labels.rows == tuple((train["label"] == label).sum() for label in labels.sequence)
    follows = labels.following["O"]
    assert follows["B-open"] == sum("B-open" in tags for tags in train["tags"])
    assert set(follows) == {"O", "B-open", "B-shut"}


def test_vocabulary_replaces_tagged_words(augmented: Prepared) -> None:
    assert augmented.summary["transfer"]["vocabulary"] > 0


def test_reading_normalizes_text(tmp_path: Path, folder: Path) -> None:
    write_jsonl(
        folder / "train.jsonl",
        [{**row, "text": f"\ufeff{row['text']}  १२!!!"} for row in rows()],
    )
    texts = gathered(tmp_path).tables["train"]["text"]
    assert texts.str.endswith(" 12!").all() and not texts.str.startswith("\ufeff").any()
    plain = gathered(tmp_path, normalization="none").tables["train"]["text"]
    assert plain.str.endswith("  १२!!!").all()


def test_train_with_one_label_or_tag_is_refused(tmp_path: Path, folder: Path) -> None:
    write_jsonl(folder / "train.jsonl", [{**row, "label": "open"} for row in rows()])
    with pytest.raises(DataError, match=r"train has only the labels \['open'\]; add rows"):
        gathered(tmp_path)
    write_jsonl(folder / "train.jsonl", [{**row, "entities": []} for row in rows()])
    with pytest.raises(DataError, match=r"train has only the tags \['O'\]; add rows"):
        gathered(tmp_path, task="ner")


def test_test_split_copied_from_train_stops_the_run(tmp_path: Path, folder: Path) -> None:
    write_jsonl(folder / "train.jsonl", rows())
    write_jsonl(folder / "test.jsonl", rows()[:60])
    with pytest.raises(DataError, match=r"data check stops the run.*test"):
        prepared(tmp_path)
    assert not (tmp_path / "data").exists()
    assert prepared(tmp_path, data_check="nothing").summary["check"] == "errors"


def test_augmentation_methods_can_be_switched_off(unaugmented: Prepared, tmp_path: Path) -> None:
    assert unaugmented.summary["rows"]["transfer"] == 0
    only = again(unaugmented, tmp_path, augmentation_size=100, augmentation_methods=["typos"])
    assert list(only.summary["transfer"]) == ["typos"]


def test_the_same_seed_gives_the_same_data(augmented: Prepared, tmp_path: Path) -> None:
    second = again(augmented, tmp_path, augmentation_size=100)
    for name in ("train.npz", "transfer.npz", "tokenizer.json", "check.json"):
        assert (second.folder / name).read_bytes() == (augmented.folder / name).read_bytes(), name


def test_cut_test_split_leaves_every_tag_in_train(tmp_path: Path, folder: Path) -> None:
    sentences = [f"1\tthing{row}\t_\tNOUN\n2\tis\t_\tAUX\n" for row in range(60)]
    sentences += [f"1\tlone{row}\t_\t{tag}\n2\tis\t_\tAUX\n" for row, tag in enumerate("ABCDEF")]
    (folder / "train.conllu").write_text("\n".join(sentences), encoding="utf-8")
    tables = gathered(tmp_path, task="pos", test_fraction=0.3, validation_fraction=0.3).tables

    assert {"A", "B", "C", "D", "E", "F"} < set(labels_of(tables["train"], "pos").token)
    assert len(tables["test"]) >= 15


def test_sentence_with_malformed_tags_is_one_left_out_row(tmp_path: Path, folder: Path) -> None:
    good = [f"delhi\tB-LOC\nis\tO\nplace{row}\tO\n" for row in range(100)]
    (folder / "train.conll").write_text(
        "\n".join([*good, "agra\t-\nfort\t-LOC\n", "pune\tLOC\n"]), encoding="utf-8"
    )
    data = prepared(tmp_path, task="ner")

    assert data.summary["left_out"]["malformed rows"] == 2
    check = read_json(data.folder / "check.json")
    [tags] = [finding for finding in check["findings"] if finding["check"] == "malformed-tag"]
    assert [row["row"] for row in tags["rows"]] == [401, 402, 404]


def out_of_scope_rows(first: int, last: int) -> list[dict[str, Any]]:
    return [
        {"text": f"who won the match number {number}", "label": "NOTHING", "lang": "english"}
        for number in range(first, last)
    ]


def test_out_of_scope_rows_of_train_become_a_class(tmp_path: Path, folder: Path) -> None:
    write_jsonl(folder / "train.jsonl", rows(0, 8) + out_of_scope_rows(0, 20))
    write_jsonl(folder / "validation.jsonl", rows(8, 9) + out_of_scope_rows(20, 25))
    write_jsonl(folder / "test.jsonl", rows(9, 10) + out_of_scope_rows(25, 30))
    data = prepared(tmp_path, out_of_scope_label="NOTHING")

    assert data.labels.answers == ("open", "paint", "shut")
    assert data.labels.sequence == (*data.labels.answers, OUT_OF_SCOPE)
    assert (data.encoded("train").sequence_labels == 3).sum() == 20
    assert (data.encoded("validation").sequence_labels == 3).sum() == 5
    assert list(data.out_of_scope["text"]) == [row["text"] for row in out_of_scope_rows(20, 25)]
    # The test split keeps the user's label, which no model can answer.
    assert (data.table("test")["label"] == "NOTHING").sum() == 5
    found = {finding["check"] for finding in read_json(data.folder / "check.json")["findings"]}
    assert not found & {"unknown-labels", "untested-labels"}


def test_out_of_scope_rows_of_validation_are_separate(tmp_path: Path, folder: Path) -> None:
    write_jsonl(folder / "train.jsonl", rows(0, 8))
    write_jsonl(folder / "validation.jsonl", rows(8, 9) + out_of_scope_rows(20, 25))
    write_jsonl(folder / "test.jsonl", rows(9, 10) + out_of_scope_rows(25, 30))
    data = gathered(tmp_path, out_of_scope_label="NOTHING")

    labels = labels_of(data.tables["train"], "intent_classification")
    assert labels.sequence == ("open", "paint", "shut")
    assert len(data.out_of_scope) == 5
    assert set(data.tables["validation"]["label"]) == {"open", "paint", "shut"}
    with pytest.raises(DataError, match="the label 'NOTHING' does not occur in train"):
        prepared(tmp_path, unknown_labels="error")
    adaptive = prepared(tmp_path, out_of_scope_label="NOTHING", self_adaptive_training=True)
    assert adaptive.labels.sequence[-1] == OUT_OF_SCOPE
    assert len(adaptive.out_of_scope) == 5


def test_trial_takes_few_rows_with_every_label(tmp_path: Path, folder: Path) -> None:
    write_jsonl(folder / "train.jsonl", sorted(rows(0, 8), key=lambda row: row["label"]))
    write_jsonl(folder / "test.jsonl", sorted(rows(8, 9), key=lambda row: row["label"]))
    data = prepared(tmp_path, fast_dev_run=True, augmentation_size=1_000)

    for split in ("train", "validation", "test"):
        assert set(data.table(split)["label"]) == set(LABELS)
        assert set(data.table(split)["lang"]) == set(VERBS)
    assert data.summary["rows"]["train"] == TRIAL_ROWS
    assert 0 < data.summary["rows"]["transfer"] <= TRIAL_ROWS


CASE = Path(__file__).parents[3].parent / "shared" / "cases" / "10-fast-dev-run-sorted"


@pytest.mark.skipif(not CASE.is_dir(), reason="the reported data are not here")
@pytest.mark.parametrize(
    ("task", "source"), [("intent_classification", CASE), ("ner", CASE / "ner")]
)
def test_trial_accepts_sorted_data(task: str, source: Path, tmp_path: Path) -> None:
    data = prepared(tmp_path, task=task, input_path=str(source), fast_dev_run=True)

    labels, train = data.labels, data.table("train")
    if task == "ner":
        assert {tag for tags in train["tags"] for tag in tags if tag[0] != "I"} == {
            tag for tag in labels.token if tag[0] != "I"
        }
    else:
        assert set(train["label"]) == set(labels.sequence)
    assert len(train) == TRIAL_ROWS


# --- facts for the recipe -------------------------------------------------------------------------


def test_maximum_length_covers_texts_and_entities(tmp_path: Path) -> None:
    long = " ".join(["word"] * 90)
    entity = {"start": len(long) + 1, "end": len(long) + 6, "label": "place"}
    few = [
        {"text": f"go to Delhi {i}", "entities": [{"start": 6, "end": 11, "label": "place"}]}
        for i in range(400)
    ]
    (tmp_path / "input").mkdir()
    write_jsonl(
        tmp_path / "input/train.jsonl", [*few, {"text": f"{long} Delhi", "entities": [entity]}]
    )
    write_jsonl(tmp_path / "input/validation.jsonl", few[:20])
    write_jsonl(tmp_path / "input/test.jsonl", few[20:40])

    made = prepared(tmp_path, task="ner", data_check="nothing")

    # One text in 400 is long: 99.5% need few tokens, but its entity must not be cut.
    assert made.summary["facts"]["needed_length"] >= 91
    assert made.summary["max_seq_len"] >= 91
    assert made.summary["truncated"]["train"] == 0
    last = made.encoded("train").take(np.array([400]))
    assert (last.token_labels > 0).sum() == 1


def test_service_language_without_text_is_reported(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    english = [row for row in rows() if row["lang"] == "english"]
    (tmp_path / "input").mkdir()
    write_jsonl(tmp_path / "input/train.jsonl", english)

    made = prepared(tmp_path, languages=["english", "hi"], data_check="nothing")
    assert "hindi: no training rows and no unlabelled text" in told.text
    assert "hindi: no test rows" in told.text
    assert made.summary["facts"]["languages"] == ["english", "hindi"]

    told.clear()
    (tmp_path / "input/transfer-hindi.txt").write_text(
        "दरवाज़ा खोलो\nखिड़की बंद करो\n", encoding="utf-8"
    )
    prepared(tmp_path, languages=["english", "hi"], data_check="nothing")
    assert "hindi: no training rows; 2 unlabelled texts" in told.text


def test_languages_of_unlabelled_text_choose_the_teacher(tmp_path: Path) -> None:
    english = [row for row in rows() if row["text"].isascii()]
    (tmp_path / "input").mkdir()
    write_jsonl(tmp_path / "input/train.jsonl", english)
    hindi = [f"कमरा {n} की खिड़की बंद करो" for n in range(8)]
    (tmp_path / "input/transfer.txt").write_text("\n".join(hindi), encoding="utf-8")

    made = prepared(tmp_path, data_check="nothing")
    assert made.summary["facts"]["languages"] == ["english", "hindi"]
    config = resolve(TrainConfig.from_mapping({}), Facts.of(dict(made.summary["facts"])))
    assert config.teacher_name == "multilingual-e5-small"
    assert config.reasons["teacher_name"] == "languages: english, hindi"


def test_rows_of_an_unknown_language_are_facts(tmp_path: Path) -> None:
    english = [row for row in rows() if row["lang"] == "english"]
    thai = [{"text": f"เปิดประตู {n}", "label": LABELS[n % 3]} for n in range(12)]
    (tmp_path / "input").mkdir()
    write_jsonl(tmp_path / "input/train.jsonl", [*english, *thai])
    made = prepared(tmp_path, data_check="nothing")
    assert made.summary["facts"]["languages"] == ["english", "unknown"]
