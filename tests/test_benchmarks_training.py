"""The benchmarks of training, quality and cold start print their tables."""

from pathlib import Path

import pytest

from tests.benchmark_scripts import printed
from tests.conftest import write_jsonl

ITEM = {"start": 5, "end": 9, "label": "thing"}


@pytest.mark.slow
def test_training_prints_both_speed_ups() -> None:
    output = printed("training.py", "--quick")

    assert "### Fine-tuning the teacher" in output and "### The five stages" in output
    assert "| times faster | " in output and "| sum | " in output


@pytest.mark.slow
def test_cold_start_prints_seconds_and_memory() -> None:
    output = printed("cold_start.py", "--quick")

    rows = [line.split(" | ") for line in output.splitlines()]
    for case in ("library, ONNX Runtime", "library, TorchScript", "KServe predictor"):
        [row] = [row for row in rows if row[0].startswith(f"| {case}")]
        assert float(row[1]) > 0 and float(row[2].rstrip(" |")) > 10


@pytest.mark.slow
def test_quality_reuses_finished_runs(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "orders"
    folder.mkdir(parents=True)
    for split, numbers in (("train", range(40)), ("valid", range(40, 48))):
        rows = [
            {
                "text": f"{verb} item {number} now",
                "intent": verb,
                "entities": [ITEM],
                "lang": "english",
            }
            for number in numbers
            for verb in ("play", "stop")
        ]
        write_jsonl(folder / f"{split}.jsonl", rows)
    # A set that cannot be trained is reported; the other sets still get their table.
    (broken := folder.parent / "broken").mkdir()
    row = {"text": "play it", "intent": "play", "entities": [], "lang": "english"}
    write_jsonl(broken / "train.jsonl", [row])  # no rows for validation
    work = ("--work", str(tmp_path / "work"), "--peers", str(tmp_path / "peers"))
    given = ("--data", str(folder.parent), *work, "--recipes", "auto", "--seeds", "1", "--quick")
    output = printed("quality.py", *given, code=1)

    assert "### broken" not in output
    # Without a test file, the validation rows are the test rows.
    assert "### orders: 16 test examples" in output
    for model in ("baseline", "teacher, auto", "student, auto"):
        assert f"| {model} |" in output
    assert "| orders | auto | 1 |" in output
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("step.json")}
    again = printed("quality.py", *given, "--sets", "orders")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("step.json")} == made
    [summary] = [line for line in output.splitlines() if line.startswith("| orders | auto |")]
    assert summary in again.splitlines()


@pytest.mark.slow
def test_peers_print_models_of_labels_and_tags(tmp_path: Path) -> None:
    for name, task in (("hint3_small", "label"), ("slots", "tags"), ("orders", "both")):
        (folder := tmp_path / "data" / name).mkdir(parents=True)
        for split, numbers in (("train", range(40)), ("valid", range(40, 48))):
            rows = [
                {
                    "text": f"{verb} item {number} now",
                    "lang": "english",
                    **({"intent": verb} if task != "tags" else {}),
                    **({"entities": [ITEM]} if task != "label" else {}),
                }
                for number in numbers
                for verb in ("play", "stop")
            ]
            if split == "valid" and task == "label":
                rows += [{**row, "text": f"who won {row['text']}", "intent": "no"} for row in rows]
            write_jsonl(folder / f"{split}.jsonl", rows)
    given = ("--data", str(tmp_path / "data"), "--work", str(tmp_path / "work"), "--quick")
    output = printed("peers.py", *given, "--encoder", "minilm")

    labels, frames, tags = output.split("\n### ")[1:]
    assert labels.startswith("hint3_small: 16 test examples")  # those in scope
    for peer in ("TF-IDF", "frozen encoder"):
        assert f"| {peer} + logistic regression | " in labels
    assert "mcc, its own threshold" in labels and "mcc, the test's best threshold" in labels
    assert "SetFit: skipped" in output
    assert "| TF-IDF + logistic regression, linear tagger | " in frames
    assert "| main | accuracy | span_f1 |" in frames
    assert "| linear tagger | " in tags
    assert ("| CRF | " in tags) != ("CRF: skipped" in output)
