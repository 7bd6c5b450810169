"""Tables on a terminal of 80 columns: they fit, and no name is cut."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_bundle import SENTENCES, write_tiny_bundle

ROOT = Path(__file__).parent.parent
OLD_RUN = ROOT / "tests" / "old_run"
LANGUAGES = (
    *("assamese", "bengali", "english", "gujarati", "hindi", "kannada", "malayalam", "marathi"),
    *("punjabi-in-gurmukhi-script", "tamil"),
)
LABEL = "book-a-table-for-the-whole-family-in-a-restaurant-by-the-sea"
COPIED = ("report: ", "serve: ", "page: ", "written: ", "train: ")  # lines with a path
CONSOLE_SCRIPT = "from saarthi_lib.cli import main; main()"
RESULTS = """
import sys
from pathlib import Path
from saarthi_lib.cli.results import show_results
show_results(Path(sys.argv[1]))
"""

SWEEP = """
import sys
from saarthi_lib.cli.sweep import _show_results
row = dict(validation_main=0.9, test_main=0.9, retention=1.0, size_bytes=10**9, latency_ms=1234.5)
fields = dict(student_preset=sys.argv[1], student_word_initialization="svd", student_lstm_dim=128)
_show_results([row | dict(varied=fields, pareto=True)], "accuracy by word")
"""


def shown(code: str, *arguments: str | Path, columns: int = 80) -> str:
    """What a process prints on a terminal of some columns; every line fits but those to copy."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(columns)},
    )
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    lines = [line for line in done.stdout.splitlines() if not line.startswith(COPIED)]
    assert [line for line in lines if len(line) > columns] == []
    return done.stdout


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with ten languages, one with a long name, under a long name."""
    root = tmp_path / "assistant-with-ten-languages-and-a-large-teacher"
    shutil.copytree(OLD_RUN, root)
    metrics = json.loads((root / "metrics.json").read_text(encoding="utf-8"))
    metrics["languages"] = [*LANGUAGES]
    models = [metrics["baseline"], metrics["teacher"], metrics["quantized"]]
    for scores in (*models, *metrics["student"].values()):
        scores["by_language"] = dict.fromkeys(LANGUAGES, scores["by_language"]["hindi"])
        scores["size_bytes"], scores["parameters"] = 1_234_567_890, 1_234_567_890
        scores["latency_ms"] = {"p50": 1234.5678, "p99": 1234.5678}
    metrics["retention_by_language"] = dict.fromkeys(LANGUAGES, 1.0)
    (root / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return root


@pytest.mark.parametrize("columns", [80, 120])
def test_results_of_ten_languages_fit(run: Path, columns: int) -> None:
    printed = shown(RESULTS, run, columns=columns)
    for name in ("baseline", "teacher", "stage 1", "stage 5", "float32", "int8", *LANGUAGES):
        assert f"{name} " in printed
    assert "right frames" in printed and "main" not in printed and "final" not in printed
    assert "The int8 model is not better than" in printed.partition("serve: ")[2]


@pytest.mark.parametrize("columns", [80, 120])
def test_compared_runs_with_long_names_fit(run: Path, tmp_path: Path, columns: int) -> None:
    others = [tmp_path / f"{run.name}-{number}" for number in range(5)]
    for number, other in enumerate(others):
        shutil.copytree(run, other)
        record = json.loads((other / "run.json").read_text(encoding="utf-8"))
        record["config"] |= {"seed": number, "teacher_name": f"organization/{LABEL}-{number}"}
        (other / "run.json").write_text(json.dumps(record), encoding="utf-8")
    printed = shown(CONSOLE_SCRIPT, "compare", run, *others, columns=columns)
    assert f"run 6: {others[-1].name}" in printed
    for name in ("int8 right frames", "float32 right frames", "teacher_name"):
        assert name in printed
    assert "quantized" not in printed and "main" not in printed


def test_configurations_of_a_sweep_fit() -> None:
    printed = shown(SWEEP, LABEL)
    for name in ("accuracy by word", "student_lstm_dim 128", "validation", "p50 ms", "front"):
        assert name in printed


def test_checked_data_with_long_labels_fit(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for language in LANGUAGES:
        rows = [f"{verb} {language} {row},{verb}-{LABEL}" for row in range(9) for verb in "ab"]
        text = "text,label\n" + "\n".join(rows)
        (data / f"{language}-train.csv").write_text(text, encoding="utf-8")
    arguments = ("--set", "teacher_name=minilm", "--report", tmp_path / "check.html")
    printed = shown(CONSOLE_SCRIPT, "check", data, *arguments)
    assert printed.splitlines()[-1].startswith("The data are ready for training")
    printed = shown(CONSOLE_SCRIPT, "init", data, "--output", tmp_path / "my.yaml")
    assert "train" in printed and "gujarati" in printed


def test_evaluated_languages_and_metrics_fit(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", "joint", runtime="onnxruntime")
    labels = json.loads((bundle / "labels.json").read_text(encoding="utf-8"))["sequence"]
    rows = [
        {"text": text, "label": labels[0], "words": text.split(), "tags": ["O"] * len(text.split())}
        | {"lang": language}
        for text, language in zip(SENTENCES, LANGUAGES, strict=False)
    ]
    gold = tmp_path / "gold.jsonl"
    gold.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    printed = shown(CONSOLE_SCRIPT, "evaluate", bundle, gold)
    for name in ("accuracy", "precision", "english", "all"):
        assert name in printed
    assert "main" not in printed and "_" not in printed
