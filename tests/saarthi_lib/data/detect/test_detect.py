"""The task and the columns that a configuration leaves open."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.detect import with_task
from saarthi_lib.data.gather import gather
from saarthi_lib.errors import ConfigError, DataError
from tests.conftest import write_jsonl

REAL = Path(__file__).parents[5] / "shared" / "data"

INTENT = {"text": "play it", "intent": "play"}
SONG = [{"start": 5, "end": 7, "label": "song"}]
UPOS = "1\tplay\tplay\tVERB\t_\t_\t0\troot\t_\t_\n2\tit\tit\tPRON\t_\t_\t1\tobj\t_\tB-song\n\n"


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("file", "content", "task"),
    [
        ("train.csv", "sentence,label\nplay it,play\n", "intent_classification"),
        ("train.csv", "text;labels\nplay it;play\nstop it;stop\n", None),
        ("train.jsonl", lines(INTENT), "intent_classification"),
        ("train.jsonl", lines({**INTENT, "entities": []}), "intent_classification"),
        ("train.jsonl", lines({**INTENT, "entities": []}, {**INTENT, "entities": SONG}), "joint"),
        ("train.jsonl", lines({"text": "play it", "entities": []}), "ner"),
        ("train.jsonl", lines({"text": "play it", "entities": SONG}), "ner"),
        ("train.json", '[{"tokens": ["play", "it"], "ner_tags": ["O", "B-song"]}]', "ner"),
        ("train.json", '[{"tokens": ["play", "it"], "pos_tags": ["VERB", "PRON"]}]', "pos"),
        ("train.json", '[{"tokens": ["play", "it"], "label": ["VERB", "PRON"]}]', "pos"),
        ("train.csv", "words,label\nplay it,O B-song\n", "ner"),
        ("train.conll", "play\tO\nit\tB-song\n\n", "ner"),
        ("train.conll", "play\tO\nit\tSONG\n\n", "ner"),
        ("train.conll", "play\tVERB\nit\tPRON\n\n", "pos"),
        ("train.conll", "# intent = play\nplay\tO\nit\tB-song\n\n", "joint"),
        ("train.conll", "play\tVERB\tO\nit\tPRON\tB-song\n\n", "ner"),
        ("train.conllu", UPOS, "pos"),
        ("train.csv", "sentence\nplay it\n", None),
    ],
)
def test_first_rows_show_the_task(
    tmp_path: Path, file: str, content: str, task: str | None
) -> None:
    (tmp_path / file).write_text(content, encoding="utf-8")
    if task:
        assert with_task(config_of(tmp_path)).task == task
    else:
        with pytest.raises(DataError, match=rf"{file}: .*no label and no tags.*; set task"):
            with_task(config_of(tmp_path))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("train.csv", "text,label\n"),
        ("train.csv", "body,purpose\n"),
        ("train.csv", ""),
        ("train.jsonl", ""),
        ("train.json", "[]"),
        ("train.conll", "\n"),
    ],
)
def test_file_without_rows_is_an_error(tmp_path: Path, file: str, content: str) -> None:
    (tmp_path / file).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=rf"{file}: has no rows; fill it in or remove it"):
        with_task(config_of(tmp_path))


def test_given_column_determines_the_task(tmp_path: Path) -> None:
    (tmp_path / "train.conllu").write_text(UPOS, encoding="utf-8")
    given = {"input_path": str(tmp_path), "label_column": "misc"}
    assert with_task(TrainConfig.from_mapping(given)).task == "ner"
    (tmp_path / "train.conllu").unlink()
    (tmp_path / "train.csv").write_text("text,marks\nplay it now,O B-song O\n", encoding="utf-8")
    given["label_column"] = "marks"
    assert with_task(TrainConfig.from_mapping(given)).task == "ner"


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("hint3_sofmattress", "intent_classification"),
        ("snips_en", "joint"),
        ("hinglish_top", "joint"),
        ("il_ner_hindi", "ner"),
        ("ud_marathi_ufal", "pos"),
        ("ud_pud", "pos"),
    ],
)
def test_tasks_of_real_data(name: str, task: str) -> None:
    if not (REAL / name).is_dir():
        pytest.skip(f"no {REAL / name}")
    assert with_task(config_of(REAL / name)).task == task


def phrases(count: int = 12) -> list[dict[str, Any]]:
    kinds = ("order status", "refund", "address")
    return [
        {"phrase": f"please help me with case {n}", "kind": kinds[n % 3], "lg": ("hi", "en")[n % 2]}
        for n in range(count)
    ]


def config_of(folder: Path, **fields: Any) -> TrainConfig:
    return TrainConfig.from_mapping({"input_path": str(folder), **fields})


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "parquet"])
def test_columns_without_usual_names_are_detected(
    tmp_path: Path, extension: str, told: pytest.LogCaptureFixture
) -> None:
    path, table = tmp_path / f"train.{extension}", pd.DataFrame(phrases(40))
    if extension == "jsonl":
        write_jsonl(path, phrases(40))
    elif extension == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep=";" if extension == "csv" else "\t")
    config = with_task(config_of(tmp_path))

    assert (config.text_column, config.label_column) == ("phrase", "kind")
    assert config.task == "intent_classification"
    assert config.model_fields_set == {"input_path", "task", "text_column", "label_column"}
    assert (
        "columns: text 'phrase' (such as 'please help me with case 0'), label 'kind' (3 labels, "
        "such as 'order status'); detected, set text_column and label_column to correct"
    ) in told.text
    assert f"task: intent_classification (detected from train.{extension})" in told.text
    train = gather(tmp_path, config).tables["train"]
    assert set(train["label"]) == {"order status", "refund", "address"}


def test_single_unusual_column_is_detected(tmp_path: Path) -> None:
    rows = [
        {"text": row["phrase"], "kind": row["kind"], "id": n} for n, row in enumerate(phrases())
    ]
    write_jsonl(tmp_path / "train.jsonl", rows)
    config = with_task(config_of(tmp_path, task="text_classification"))
    assert (config.text_column, config.label_column) == ("", "kind")
    assert config.task == "text_classification"


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("phrase,kind,team", "case number {n},k{two},t{three}", "labels: kind or team; set label_"),
        ("phrase,reply,kind", "case {n},say it {n},k{two}", "texts: phrase or reply; set text_"),
        (
            "phrase,reply,kind,team",
            "case {n},say it {n},k{two},t{three}",
            "texts: phrase or reply, labels: kind or team; set text_column and label_column",
        ),
    ],
)
def test_error_names_all_candidate_columns(
    tmp_path: Path, header: str, row: str, message: str
) -> None:
    lines = [row.format(n=n, two=n % 2, three=n % 3) for n in range(12)]
    (tmp_path / "train.csv").write_text("\n".join([header, *lines]), encoding="utf-8")
    for config in (config_of(tmp_path), config_of(tmp_path, task="intent_classification")):
        with pytest.raises(DataError, match=f"train.csv: the columns are not clear; {message}"):
            with_task(config)


def test_table_without_a_header_is_an_error(tmp_path: Path) -> None:
    content = "".join(f"case number {n},kind{n % 2}\n" for n in range(12))
    (tmp_path / "train.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"no column of text among .* set text_column"):
        with_task(config_of(tmp_path))
    given = config_of(tmp_path, task="intent_classification")
    assert with_task(given) is given


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "json", "parquet"])
@pytest.mark.parametrize("count", [1_500, 150_000])
def test_labels_of_sorted_files_are_candidates(tmp_path: Path, extension: str, count: int) -> None:
    table = pd.DataFrame({"n": range(count)})
    texts = "where is the parcel of my case number " + table["n"].astype(str)
    queues = "queue " + (6 * table["n"] // count).astype(str)
    platforms = table["n"].map(lambda n: ("web", "phone")[n % 2])
    table = pd.DataFrame({"text": texts, "queue": queues, "platform": platforms})
    path = tmp_path / f"train.{extension}"
    if extension == "parquet":
        table.to_parquet(path)
    elif extension in ("jsonl", "json"):
        table.to_json(path, orient="records", lines=extension == "jsonl")
    else:
        table.to_csv(path, index=False, sep="\t" if extension == "tsv" else ",")
    with pytest.raises(DataError, match="labels: queue or platform; set label_column"):
        with_task(config_of(tmp_path, task="intent_classification"))


def test_labels_of_all_train_files_are_candidates(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "train").mkdir()
    for part in range(3):
        rows = [{"text": f"this is case {part} {n}", "queue": f"q{part}"} for n in range(20)]
        write_jsonl(tmp_path / f"train/part-{part}.jsonl", rows)
    assert with_task(config_of(tmp_path)).label_column == "queue"
    assert "label 'queue' (3 labels, such as 'q0')" in told.text


def test_constant_column_of_a_sample_is_a_candidate(tmp_path: Path) -> None:
    rows = [{"text": f"this is case {n}", "kind": f"k{n % 3}", "team": "a"} for n in range(9)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    assert with_task(config_of(tmp_path)).label_column == "kind"  # all rows are examined
    rows = [{**row, "text": f"{row['text']} {n}"} for n in range(1_000) for row in rows]
    write_jsonl(tmp_path / "train.jsonl", rows)
    with pytest.raises(DataError, match="labels: kind or team; set label_column"):
        with_task(config_of(tmp_path))


@pytest.mark.parametrize("task", [{}, {"task": "intent_classification"}])
def test_file_without_a_detected_column_is_named(tmp_path: Path, task: dict[str, Any]) -> None:
    rows = [{"body": f"this is case {n}", "purpose": f"k{n % 3}"} for n in range(12)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    (tmp_path / "test.csv").write_text("text,label\nplay it,k1\n", encoding="utf-8")
    config = with_task(config_of(tmp_path, **task))
    message = r"test.csv: row 1: no column 'body' among \['text', 'label'\]; name it alike in all f"
    with pytest.raises(DataError, match=rf"{message}iles, or correct text_column"):
        gather(tmp_path, config)

    (tmp_path / "test.csv").write_text("Body,purpose\nplay it,k1\n", encoding="utf-8")
    assert len(gather(tmp_path, config).tables["test"]) == 1


def test_given_fields_are_kept(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [INTENT, {**INTENT, "intent": "stop"}])
    given = config_of(tmp_path, task="text_classification", student_preset="tiny")
    assert with_task(given) is given
    detected = with_task(config_of(tmp_path, student_preset="tiny"))
    assert detected.task == "intent_classification" and detected.student_preset == "tiny"


@pytest.mark.parametrize(
    ("demo", "task"), [("demo:home-assistant", "intent_classification"), ("demo:porttinari", "pos")]
)
def test_demonstration_data_has_a_task(demo: str, task: str) -> None:
    assert with_task(TrainConfig.from_mapping({"input_path": demo})).task == task


def test_remote_data_with_a_task_are_not_fetched() -> None:
    given = TrainConfig.from_mapping({"input_path": "gs://bucket/data", "task": "ner"})
    assert with_task(given) is given


def test_detected_task_must_fit_the_other_fields(tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text("play\tO\nit\tB-song\n\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="self_adaptive_training: ner has no labels of texts"):
        with_task(config_of(tmp_path, self_adaptive_training=True))
