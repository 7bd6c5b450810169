"""`saarthi check` accepts the inputs that `saarthi train` accepts, and refuses the others alike."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import saarthi

WORDS = [("turn on lamp {}", "on"), ("switch off the fan {}", "off")]
ROWS = [(text.format(row), label) for row in range(30) for text, label in WORDS]
CSV = "text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS)
JSONL = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS)
NER = "".join(f"go O\nto O\nPune{row} B-city\n\n" for row in range(30))
RASA = 'version: "3.1"\nnlu:\n' + "".join(
    f"- intent: {label}\n  examples: |\n" + "".join(f"    - {word} {row}\n" for row in range(9))
    for word, label in (("hello", "greet"), ("see you", "bye"))
)
CONFIG = "input_path: bot\nroot_output_path: run\nteacher_name: minilm\n"
MARKER = "the data were accepted"

# Argument, files, and whether the input is accepted.
Case = tuple[str, dict[str, str | bytes], bool]
CASES: list[Case] = [
    ("bot", {"bot/train.csv": CSV}, True),
    ("bot.yaml", {"bot.yaml/train.csv": CSV}, True),  # a folder
    ("bot.csv", {"bot.csv": CSV}, True),
    ("bot.jsonl", {"bot.jsonl": JSONL}, True),
    ("file:HERE/bot.txt", {"bot.txt": CSV}, True),
    ("tags.conll", {"tags.conll": NER}, True),
    ("nlu.yml", {"nlu.yml": RASA}, True),
    ("rasa", {"rasa/data/nlu.yml": RASA, "rasa/config.yml": "language: en\n"}, True),
    ("own.csv", {"own.csv": CSV.replace("text,label", "phrase,kind")}, True),
    ("my.yaml", {"my.yaml": CONFIG, "bot/train.csv": CSV}, True),
    ("few.csv", {"few.csv": "text,label\na b,on\nc d,off\n"}, False),
    ("one.csv", {"one.csv": "text,label\n" + "".join(f"go {n},on\n" for n in range(30))}, False),
    ("none", {"none/.keep": ""}, False),
    ("", {"train.csv": CSV}, False),
    ("nowhere.csv", {}, False),
    ("nowhere.yaml", {}, False),
    ("s4://bucket/bot", {}, False),
    ("demo:nothing", {}, False),
    ("bot", {"bot/test.csv": CSV}, False),
    ("bot", {"bot/train.csv": CSV, "bot/train.jsonl": JSONL}, False),
    ("bot", {"bot/train.csv": CSV, "bot/test.csv": "text,label\n"}, False),
    ("bot", {"bot/train.csv": CSV, "bot/test.csv": CSV}, False),  # leakage
    ("bot", {"bot/train.csv": CSV, "bot/test.csv": "text,label\nhi,ofn\nyou,on\n"}, True),
    ("bot", {"bot/train.csv": CSV, "bot/test.csv": "text,label\nhi,On\nyou,on\n"}, False),
    ("run", {"run/run.json": '{"steps": {}}', "run/train.csv": CSV}, False),
    ("bot.dat", {"bot.dat": CSV}, False),
    ("bot.csv.gz", {"bot.csv.gz": gzip.compress(CSV.encode())}, False),
    ("bot.csv", {"bot.csv": CSV.encode("utf-16")}, False),
    ("bot.csv", {"bot.csv": "text,label\n"}, False),
    ("bot.csv", {"bot.csv": CSV + "lamp\n" * 20}, False),
    ("my.yaml", {"my.yaml": CONFIG}, False),
    ("my.yaml", {"my.yaml": CONFIG + "languages: hindee\n", "bot/train.csv": CSV}, False),
    ("my.yaml", {"my.yaml": CONFIG + "student_epoch: 3\n", "bot/train.csv": CSV}, False),
    ("my.yaml", {"my.yaml": CONFIG.replace("run", "bot/dev"), "bot/train.csv": CSV}, False),
    ("my.yaml", {"my.yaml": CONFIG.replace("run", "bot/train.csv"), "bot/train.csv": CSV}, False),
    ("my.yaml", {"my.yaml": "root_output_path: run\n"}, False),
    ("my.yaml", {"my.yaml": "- bot\n"}, False),
]


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[bool, str]]:
    """Whether a command accepts its input, and its error; `train` stops after the data."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt(MARKER)

    monkeypatch.setattr("saarthi_lib.runs.train._teacher", stop)

    def call(*arguments: str, cwd: Path) -> tuple[bool, str]:
        try:
            done = saarthi(*arguments, cwd=cwd)
        except KeyboardInterrupt:
            return True, ""
        error = done.stderr.partition("error: ")[2].replace(f"{cwd}/", "")
        return done.returncode in (0, 130), " ".join(error.split())

    return call


def _marked(case: Case) -> Any:
    """Accepted inputs are prepared twice; two of them are enough for the fast tests."""
    slow = case[2] and case[0] not in ("bot.yaml", "my.yaml")
    return pytest.param(*case, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(("argument", "files", "accepted"), [*map(_marked, CASES)])
def test_check_and_train_agree(
    tmp_path: Path,
    outcome: Callable[..., tuple[bool, str]],
    argument: str,
    files: dict[str, str | bytes],
    accepted: bool,
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name, content in files.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(content.encode() if isinstance(content, str) else content)
    source = argument.replace("HERE", f"//{here}")
    teacher = ("--set", "teacher_name=minilm")
    page = str(tmp_path / "check.html")
    checked = outcome("check", source, "--report", page, *teacher, cwd=here)
    where = () if source.endswith("my.yaml") else ("--output", str(tmp_path / "out"))
    trained = outcome("train", source, *where, *teacher, cwd=here)
    assert checked[0] == trained[0] == accepted, (checked, trained)
    assert bool(trained[1]) != accepted
    if checked[1] or accepted:  # otherwise the check lists findings that stop a run
        assert checked[1] == trained[1]
