"""The benchmarks of training and of cold start run and print their tables."""

from pathlib import Path

import pytest

from tests.benchmark_scripts import printed
from tests.conftest import write_jsonl

ITEM = {"start": 5, "end": 9, "label": "thing"}


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        (
            "training.py",
            ("### Fine-tuning the teacher", "### The five stages", "teacher fine-tuning: ", "sum"),
        ),
        (
            "cold_start.py",
            ("### Cold start", "### Memory", "library, ONNX Runtime", "first POST /predict"),
        ),
    ],
)
@pytest.mark.slow
def test_it_prints_its_tables(script: str, lines: tuple[str, ...]) -> None:
    output = printed(script, "--quick")

    assert [line for line in lines if line not in output] == []
    assert "goal at least" in output or "at most" in output


@pytest.mark.slow
def test_quality_benchmark_reuses_finished_runs(tmp_path: Path) -> None:
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
    assert again.splitlines()[-1] == output.splitlines()[-2]


@pytest.mark.slow
def test_peers_of_labels_tags_and_both(tmp_path: Path) -> None:
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
    assert "| main | accuracy | span_f1 | training s |" in frames
    assert "| linear tagger | " in tags
    assert ("| CRF | " in tags) != ("CRF: skipped" in output)
