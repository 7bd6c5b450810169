"""The task and the columns that a configuration leaves open."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.detect import detect_task, with_task
from saarthi_lib.data.gather import gather
from saarthi_lib.errors import ConfigError, DataError
from tests.conftest import write_jsonl

REAL = Path(__file__).parents[4] / "shared" / "data"

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
        ("train.jsonl", "", None),
    ],
)
def test_first_rows_show_the_task(
    tmp_path: Path, file: str, content: str, task: str | None
) -> None:
    (tmp_path / file).write_text(content, encoding="utf-8")
    if task:
        assert detect_task(tmp_path) == task
    else:
        with pytest.raises(DataError, match=rf"{file}: .*no label and no tags.*; give the task"):
            detect_task(tmp_path)


def test_a_given_column_decides_the_task(tmp_path: Path) -> None:
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
    assert detect_task(REAL / name) == task


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
    assert "columns: text 'phrase', label 'kind' (detected; set text_column and" in told.text
    assert f"task: intent_classification (detected from train.{extension})" in told.text
    train = gather(tmp_path, config).tables["train"]
    assert set(train["label"]) == {"order status", "refund", "address"}


def test_one_column_without_a_usual_name_is_detected(tmp_path: Path) -> None:
    rows = [
        {"text": row["phrase"], "kind": row["kind"], "id": n} for n, row in enumerate(phrases())
    ]
    write_jsonl(tmp_path / "train.jsonl", rows)
    config = with_task(config_of(tmp_path, task="text_classification"))
    assert (config.text_column, config.label_column) == ("", "kind")
    assert config.task == "text_classification"


@pytest.mark.parametrize(
    "content",
    [
        "phrase,kind,team\n" + "".join(f"case number {n},k{n % 2},t{n % 3}\n" for n in range(12)),
        "phrase,reply,kind\n" + "".join(f"case {n},say it {n},k{n % 2}\n" for n in range(12)),
        "".join(f"case number {n},kind{n % 2}\n" for n in range(12)),  # no header
    ],
)
def test_columns_that_are_not_clear_are_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "train.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"no column of text among .* set text_column"):
        with_task(config_of(tmp_path))
    given = config_of(tmp_path, task="intent_classification")
    assert with_task(given) is given


def test_given_fields_stay(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [INTENT, {**INTENT, "intent": "stop"}])
    given = config_of(tmp_path, task="text_classification", student_preset="tiny")
    assert with_task(given) is given
    detected = with_task(config_of(tmp_path, student_preset="tiny"))
    assert detected.task == "intent_classification" and detected.student_preset == "tiny"


@pytest.mark.parametrize(
    ("demo", "task"), [("demo:home-assistant", "intent_classification"), ("demo:porttinari", "pos")]
)
def test_demonstration_data_have_a_task(demo: str, task: str) -> None:
    assert with_task(TrainConfig.from_mapping({"input_path": demo})).task == task


def test_remote_data_need_the_task() -> None:
    with pytest.raises(ConfigError, match=r"task is missing: .*gs://bucket/data"):
        with_task(TrainConfig.from_mapping({"input_path": "gs://bucket/data"}))
    given = TrainConfig.from_mapping({"input_path": "gs://bucket/data", "task": "ner"})
    assert with_task(given) is given


def test_a_detected_task_must_suit_the_other_fields(tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text("play\tO\nit\tB-song\n\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="self_adaptive_training: ner gives texts no label"):
        with_task(config_of(tmp_path, self_adaptive_training=True))
