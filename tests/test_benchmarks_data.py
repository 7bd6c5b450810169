"""The benchmarks of data and of learning from data print their tables."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.benchmark_scripts import printed


@pytest.mark.slow
def test_million_rows_prints_time_and_memory() -> None:
    output = printed("million_rows.py", "--quick", "--teacher", "minilm")

    seconds, speed, peak = output.splitlines()[-1].strip("| ").split(" | ")
    assert float(seconds) > 0 and float(speed.replace(",", "")) > 0 and 0 < float(peak) < 2


@pytest.fixture
def intents(tmp_path: Path) -> Path:
    folder = tmp_path / "snips_en"
    folder.mkdir()
    for split, first, last in (("train", 0, 60), ("validation", 60, 75), ("test", 75, 90)):
        rows: list[dict[str, Any]] = [
            {"text": f"{verb} item {number} now", "intent": verb, "lang": "en", "entities": []}
            for number in range(first, last)
            for verb in ("play", "stop")
        ]
        text = "\n".join(map(json.dumps, rows)) + "\n"
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_transfer_prints_all_models(intents: Path) -> None:
    arguments = ("--data", str(intents.parent), "--sets", "snips_en, 10 per class", "--quick")
    output = printed("transfer.py", *arguments)

    for model in ("teacher", "labels alone", "distilled, training text", "distilled, augmented"):
        assert f"| {model} |" in output


@pytest.mark.slow
def test_abstention_prints_all_rules(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "hint3_sofmattress"
    folder.mkdir(parents=True)
    rows = [f"{verb} item {number} now,{verb}" for number in range(60) for verb in ("play", "stop")]
    strange = [f"who won match {number},NO_NODES_DETECTED" for number in range(20)]
    for split, lines in (("train", rows[:90]), ("test", rows[90:] + strange)):
        text = "\n".join(["sentence,label", *lines]) + "\n"
        (folder / f"{split}.csv").write_text(text, encoding="utf-8")
    options = ("--data", str(folder.parent), "--work", str(tmp_path / "work"), "--quick")
    output = printed("abstention.py", *options)

    assert "snips_en: skipped" in output
    for model in ("teacher", "student, int8"):
        for rule in ("margin", "energy", "abstention: probability", "abstention: familiarity"):
            assert f"| {model} | {rule} |" in output


@pytest.mark.slow
def test_abstention_leaves_intents_out_of_training(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "hinglish_top"
    folder.mkdir(parents=True)
    for split, rows_an_intent in (("train", 70), ("validation", 10)):
        rows = [
            {"text": f"{verb} item {number} now", "intent": verb, "lang": "hinglish"}
            for verb in ("play", "set", "stop", "wake")
            for number in range(rows_an_intent)
        ]
        rows += [{"text": f"{split} who won", "intent": "rare", "lang": "hinglish"}]
        text = "\n".join(map(json.dumps, rows)) + "\n"
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    work = tmp_path / "work"
    options = ("--sets", "hinglish_top", "--teacher", "minilm", "--work", str(work), "--quick")
    output = printed("abstention.py", "--data", str(folder.parent), *options)

    intents = {
        split: Counter(
            json.loads(line)["intent"]
            for line in (work / f"hinglish_top-minilm-0/input/{split}.jsonl").open(encoding="utf-8")
        )
        for split in ("train", "validation", "test")
    }
    assert intents["train"] == {"stop": 40, "wake": 40}
    assert intents["validation"] == {"stop": 30, "wake": 30}
    assert intents["test"] == {"play": 10, "set": 10, "stop": 10, "wake": 10, "rare": 1}
    assert "| student, int8 | abstention: familiarity |" in output


@pytest.mark.slow
def test_noisy_labels_prints_the_arms(intents: Path) -> None:
    arguments = ("--rows", "60", "--clean-rows", "10", "--epochs", "1", "--arms", "noise")
    output = printed("noisy_labels.py", "--data", str(intents), *arguments, "last_layer")

    assert "| noise |" in output and "| last_layer |" in output


@pytest.mark.slow
def test_new_language_prints_each_number_of_sentences() -> None:
    output = printed("new_language.py", "--quick", "--sentences", "0", "20")

    rows = [line.strip("| ").split(" | ") for line in output.splitlines()[-2:]]
    assert [row[0] for row in rows] == ["0", "20"]
    assert all(0 <= float(value) <= 100 for row in rows for value in row[1:])
