"""`saarthi crossval`: planned folds, joined answers, and resumed runs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ConfigError
from saarthi_lib.evaluation.calibration import wilson_interval
from saarthi_lib.storage import read_json, write_json
from saarthi_lib.sweep.crossval import CrossValidation, collect_crossval, plan_crossval
from tests.conftest import write_jsonl
from tests.html_page import Page
from tests.test_cli import saarthi
from tests.test_earlier_versions import OLD_RUN

TEXTS = {
    "refund": ("money back {}", "english"),
    "hello": ("नमस्ते {}", "hindi"),
    "cancel": ("stop it {}", "english"),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "bot")


def write_data(folder: Path) -> Path:
    folder.mkdir()
    rows = [
        {"text": text.format(n), "label": label, "lang": lang}
        for n in range(10)
        for label, (text, lang) in TEXTS.items()
    ]
    write_jsonl(folder / "train.jsonl", [*rows, {"text": "lone", "label": "rare", "lang": "hindi"}])
    return folder


def planned_for(data: Path, output: Path, **fields: Any) -> CrossValidation:
    given = {"task": "intent_classification", "input_path": str(data), **fields}
    return plan_crossval(TrainConfig.from_mapping(given), 5, output)


def answer_folds(planned: CrossValidation, output: Path) -> None:
    """Write finished runs whose models take refund for cancel, and only know the first hello."""
    for fold, run in planned.runs.items():
        root = Path(run.config.root_output_path)
        root.mkdir(parents=True)
        shutil.copyfile(OLD_RUN / "run.json", root / "run.json")
        metrics = read_json(OLD_RUN / "metrics.json")
        write_json(root / "metrics.json", {**metrics, "task": "intent_classification"})
        (root / "data").mkdir()
        splits = {
            split: pd.read_parquet(output / "data" / f"fold_{fold + 1}" / f"{split}.parquet")
            for split in ("train", "test")
        }
        for split, rows in splits.items():
            rows.assign(row=range(1, len(rows) + 1)).to_parquet(root / "data" / f"{split}.parquet")
        test = splits["test"]
        answers = test["label"].replace({"refund": "cancel"})
        pd.DataFrame(
            {
                **{"text": test["text"], "lang": test["lang"], "gold_label": test["label"]},
                **{f"{model}_label": answers for model in ("teacher", "quantized")},
                **{
                    f"{model}_right": answers == test["label"] for model in ("teacher", "quantized")
                },
            }
        ).to_parquet(root / "predictions.parquet")


def test_every_row_is_answered_once_by_another_fold(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    planned = planned_for(data, output)
    assert planned.notes == [
        "1 row not tested: a label or tag of a single text or group is always in train"
    ]
    answer_folds(planned, output)
    found = collect_crossval(planned, output)
    rows = pd.read_parquet(output / "predictions.parquet")
    source = (data / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(source[row - 1])["text"] for row in rows["row"]] == list(rows["text"])
    assert sorted(rows["row"]) == list(range(1, 31)) and set(rows["fold"]) == set(range(1, 6))
    low, high = wilson_interval(20, 30)
    assert found["main"] == pytest.approx({"share": 2 / 3, "low": low, "high": high})
    assert (found["examples"], found["untested"]) == (30, 1)
    languages = {row["name"]: row["main"]["share"] for row in found["languages"]}
    assert languages == {"english": 0.5, "hindi": 1.0}
    assert sum(fold["examples"] for fold in found["folds"]) == 30
    first = found["errors"]["fixes"][0]
    assert first["title"] == "refund is taken for cancel: 10 of 10 texts"
    assert (first["rows"][0]["file"], first["rows"][0]["row"]) == ("train.jsonl", 1)
    assert read_json(output / "crossval.json") == found
    page = Page((output / "crossval.html").read_text(encoding="utf-8"))
    assert page.loads == [] and not page.open and "Accuracy 66.7%" in page.text
    shown = saarthi("errors", str(output))
    assert shown.returncode == 0 and first["title"] in shown.stdout


def test_intervals_are_wider_for_rows_of_groups(data: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (data / "train.jsonl").open(encoding="utf-8")][:30]
    grouped = [row | {"talk": f"{row['label']} {at // 6}"} for at, row in enumerate(rows)]
    write_jsonl(data / "train.jsonl", grouped)
    planned = planned_for(data, tmp_path / "out", group_column="talk")
    answer_folds(planned, tmp_path / "out")
    main = collect_crossval(planned, tmp_path / "out")["main"]
    low, high = wilson_interval(20, 30)
    assert main["low"] is not None and main["high"] is not None
    assert main["low"] < low - 0.04 and main["high"] > high + 0.04


def test_test_file_is_not_used(data: Path, tmp_path: Path) -> None:
    write_jsonl(data / "test.jsonl", [{"text": "hi", "label": "hello", "lang": "english"}] * 2)
    planned = planned_for(data, tmp_path / "out")
    assert "2 rows of test not used" in planned.notes
    assert "hi" not in set(planned.table["text"]) and len(planned.table) == 31


def test_other_files_and_other_data_are_not_replaced(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    planned_for(data, output)
    planned_for(data, output)  # again: the same data
    other = Path(shutil.copytree(data, tmp_path / "other"))
    with pytest.raises(ConfigError, match="cross-validation of other data"):
        planned_for(other, output)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(ConfigError, match="holds other files"):
        planned_for(data, tmp_path / "mine")


def test_too_many_folds_for_the_rows_are_refused(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": f"{n % 2}"} for n in range(8)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    done = saarthi("crossval", "train.jsonl", "--folds", "9", cwd=tmp_path)
    message = " ".join(done.stderr.split())
    assert done.returncode == 2 and "8 distinct texts or groups are too few" in message


@pytest.mark.slow
def test_folds_are_trained_and_reused(fast: dict[str, Any], tmp_path: Path) -> None:
    output = tmp_path / "out"
    fields = {**fast, "distillation_schedule": "labels_only"}
    source, _ = fields.pop("input_path"), fields.pop("root_output_path")
    command = ["crossval", source, "--folds", "2", "--output", str(output)]
    command += [part for name, value in fields.items() for part in ("--set", f"{name}={value}")]
    done = saarthi(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "finished 2/2 fold_2" in " ".join(done.stdout.split())
    found = read_json(output / "crossval.json")
    assert found["trial"] and found["examples"] > 0 and "a trial tests few rows" in done.stdout
    again = saarthi(*command)
    assert again.returncode == 0, again.stdout + again.stderr
    for fold in ("fold_1", "fold_2"):
        steps = read_json(output / "runs" / fold / "run.json")["steps"]
        assert all(step["reused"] for step in steps.values())
    assert read_json(output / "crossval.json") == found
