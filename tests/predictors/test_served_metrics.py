"""Metrics of a run equal the metrics of the served answers."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from saarthi_lib import train
from saarthi_lib.tasks import bio_spans
from tests.conftest import fast_config, made_once, write_jsonl
from tests.predictors.serving import serving
from tests.test_cli import saarthi

# Words of the file that the service splits: dates, amounts, addresses; and one that it joins.
DATES = ("18.03.2021", "19/9/2018", "7-8-2020", "05.03.2019")
WORDS = {
    "ner": ("O", "B-money", "O", "B-date", "O", "O"),
    "pos": ("VERB", "NUM", "ADP", "NUM", "AUX", "PART"),
}


@dataclass(frozen=True)
class Case:
    """A finished run, and the rows of its test file."""

    root: Path
    file: Path
    rows: list[dict[str, Any]]


def sentences(task: str, rows: range) -> list[dict[str, Any]]:
    """Rows with words and tags."""
    found = []
    for row in rows:
        verb, preposition = ("pay", "send")[row % 2], ("by", "on", "before")[row % 3]
        words = [verb, f"₹{70 + row},{500 + row}", preposition, DATES[row // 4 % 4], "do", "n't"]
        text = f"{' '.join(words[:5])}n't"
        found.append({"text": text, "words": words, "tags": list(WORDS[task])})
    return found


def tagged_run(task: str, folder: Path) -> None:
    """Train on rows whose words hold punctuation."""
    data = folder / "input"
    data.mkdir(parents=True)
    for split, rows in (("train", range(48)), ("validation", range(8)), ("test", range(48, 72))):
        write_jsonl(data / f"{split}.jsonl", sentences(task, rows))
    changes = {
        "task": task,
        "fast_dev_run": False,
        "teacher_epochs": 6,
        "teacher_batch_size": 8,
        "distillation_stages": [5],
        "student_epochs": 20,
        "student_batch_size": 16,
        "student_learning_rate": 0.003,
        "augmentation_size": 100,
        "quantization": None,  # an int8 answer near a tie depends on its batch
        "data_check": "nothing",
        "loggers": [],
    }
    train({**fast_config(data, folder / "run"), **changes})


@pytest.fixture
def case(
    task: str, trained_once: Path, finished_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    if task in WORDS:
        folder = made_once(tmp_path_factory, f"tagged-{task}", partial(tagged_run, task))
        return Case(folder / "run", folder / "input" / "test.jsonl", sentences(task, range(48, 72)))
    root = finished_run if task == "joint" else trained_once
    # A trial run takes some rows of the test file.
    kept = ("text", "lang", "label", *(("words", "tags") if task == "joint" else ()))
    rows = pq.read_table(root / "data" / "test.parquet", columns=list(kept)).to_pylist()
    return Case(root, write_jsonl(tmp_path_factory.mktemp(task) / "test.jsonl", rows), rows)


def main_metric(task: str, rows: list[dict[str, Any]], answers: list[dict[str, Any]]) -> float:
    """The main metric of answers with character offsets, counted here anew."""
    right = gold = given = 0
    for row, answer in zip(rows, answers, strict=True):
        label_is_right = row.get("label") == answer.get("label")
        if task == "intent_classification":
            right, gold, given = right + label_is_right, gold + 1, given + 1
            continue
        words = places(row)
        if task == "pos":
            tokens = answer["tokens"]
            for (start, end), tag in zip(words, row["tags"], strict=True):
                parts = [each["label"] for each in tokens if start <= each["start"] < end]
                right += set(parts) == {tag}
            gold, given = gold + len(words), given + len(words)
            continue
        wanted = {(words[a][0], words[b - 1][1], kind) for a, b, kind in bio_spans(row["tags"])}
        found = {(each["start"], each["end"], each["label"]) for each in answer["entities"]}
        if task == "joint":
            right += label_is_right and wanted == found
            gold, given = gold + 1, given + 1
        else:
            right, gold, given = right + len(wanted & found), gold + len(wanted), given + len(found)
    return 2 * right / max(1, gold + given)


def places(row: dict[str, Any]) -> list[tuple[int, int]]:
    """Spans of a row's words in its text."""
    found, position = [], 0
    for word in row["words"]:
        start = row["text"].index(word, position)
        position = start + len(word)
        found.append((start, position))
    return found


@pytest.mark.parametrize(
    "task", ["intent_classification", "joint", "ner", pytest.param("pos", marks=pytest.mark.slow)]
)
def test_report_evaluation_predictions_and_server_agree(
    task: str, case: Case, tmp_path: Path
) -> None:
    reported = json.loads((case.root / "metrics.json").read_text(encoding="utf-8"))
    scores, bundle = reported["quantized"], case.root / "bundle-int8"
    if not scores:
        scores, bundle = reported["student"]["final"], case.root / "bundle"
    expected = scores["main"]

    done = saarthi("evaluate", str(bundle), str(case.file), "--json")
    assert json.loads(done.stdout)["main"] == pytest.approx(expected)

    texts = pd.DataFrame({"text": [row["text"] for row in case.rows]})
    texts.to_csv(tmp_path / "in.csv", index=False)
    done = saarthi("predict", str(bundle), "--file", "in.csv", "--output", "out.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    from_file = []
    lists = [name for name in ("entities", "tokens") if name in table]
    for row in table.to_dict("records"):
        found = {"label": row.get("prediction")}
        from_file.append(found | {name: json.loads(row[name]) for name in lists})
    assert main_metric(task, case.rows, from_file) == pytest.approx(expected)

    with serving(bundle) as server:
        served = [server.post("/predict", {"text": row["text"]}).json() for row in case.rows]
    assert main_metric(task, case.rows, served) == pytest.approx(expected)
    if task in ("ner", "pos"):
        assert expected > 0.3
