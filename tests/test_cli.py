"""The command line: answers, error messages and exit codes.

Most tests call the console script's `main` in this process. Starting a process imports torch, which
takes seconds. One good answer, one error and all help pages come from real processes.
"""

import json
import logging
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch
from xml.etree import ElementTree

import pandas as pd
import pytest

from predictors.settings import Settings
from saarthi_lib import __version__
from saarthi_lib.cli import main
from saarthi_lib.config import TrainConfig
from saarthi_lib.inference.predictor import Predictor
from tests.tiny_bundle import SEQUENCE_LABELS, write_tiny_bundle

COMMANDS = (
    *(
        "init",
        "train",
        "predict",
        "evaluate",
        "threshold",
        "serve",
        "quantize",
        "check",
        "convert",
        "errors",
        "explain",
        "compare",
        "sweep",
        "crossval",
        "fields",
    ),
    *("pipeline", "pipeline run", "pipeline compile", "pipeline submit"),
    *("bundle", "bundle verify", "bundle card", "bundle sign", "bundle publish"),
    *("bundle list", "bundle rollback"),
    "rollout",
)
TEXTS = ["turn on the lights", "रसोई की लाइट जलाओ", "stop the music"]
Done = subprocess.CompletedProcess[str]


def saarthi(*arguments: str, cwd: Path | None = None) -> Done:
    """Run a command in this process and restore the logging that it sets up."""
    out, err = StringIO(), StringIO()
    logger = logging.getLogger("saarthi")
    before = logger.handlers[:], logger.level, logger.propagate
    try:
        with (
            patch.object(sys, "argv", ["saarthi", *arguments]),
            patch.dict(os.environ, COLUMNS="120"),
            chdir(cwd or Path.cwd()),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main()
    finally:
        logger.handlers[:], logger.level, logger.propagate = before
    return Done(arguments, int(ended.value.code or 0), out.getvalue(), err.getvalue())


def process(code: str, *arguments: str) -> Done:
    """Run Python code in a process of its own."""
    root = Path(__file__).parent.parent
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "120"},
    )


CONSOLE_SCRIPT = "from saarthi_lib.cli import main; main()"


@pytest.fixture(scope="module")
def intents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "intents"
    return write_tiny_bundle(folder, "intent_classification", runtime="onnxruntime")


@pytest.fixture(scope="module")
def entities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "entities", "ner")


def test_help_of_every_command_imports_no_heavy_library() -> None:
    code = """
import sys
from typer.main import get_command
from saarthi_lib.cli import app

HEAVY = {
    "torch", "lightning", "transformers", "pandas", "kfp", "kserve", "kubernetes", "onnxruntime"
}

def show(command, path):
    try:
        app([*path, "--help"], prog_name="saarthi")
    except SystemExit as end:
        assert not end.code, (path, end.code)
    assert not HEAVY & set(sys.modules), (path, HEAVY & set(sys.modules))
    for name, below in getattr(command, "commands", {}).items():
        show(below, [*path, name])

show(get_command(app), [])
"""
    done = process(code)
    assert done.returncode == 0, done.stderr
    assert "Usage: saarthi [OPTIONS] COMMAND" in done.stdout
    shown = done.stdout.lower()
    assert [name for name in COMMANDS if f"usage: saarthi {name} " not in shown] == []


def test_help_of_serve_shows_every_setting_and_examples() -> None:
    done = saarthi("serve", "--help")
    assert done.returncode == 0, done.stderr
    options = ["--" + name.replace("_", "-") for name in Settings.model_fields]
    options.remove("--bundles")
    assert [option for option in options if f"  {option}" not in done.stdout] == []
    assert "saarthi serve new=runs/2/bundle-int8 old=runs/1/bundle-int8" in done.stdout
    assert done.stdout == saarthi("serve", "-h").stdout


def test_cli_module_runs_as_a_program() -> None:
    code = "import runpy; runpy.run_module('saarthi_lib.cli', run_name='__main__')"
    done = process(code, "--version")
    assert done.returncode == 0 and done.stdout.strip() == __version__, done.stderr


def test_predict_answers_like_the_library(intents: Path) -> None:
    expected = Predictor.load(intents).predict([TEXTS[1]], ["hindi"])[0].to_dict()
    arguments = ("predict", str(intents), TEXTS[1], "--lang", "hindi", "--json")
    done = process(CONSOLE_SCRIPT, *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected
    shown = saarthi("predict", str(intents), TEXTS[1])
    assert shown.returncode == 0
    assert str(expected["label"]) in shown.stdout


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_predict_adds_answers_to_a_table(intents: Path, tmp_path: Path, suffix: str) -> None:
    source, target = tmp_path / f"rows.{suffix}", tmp_path / f"out.{suffix}"
    table = pd.DataFrame({"id": ["1", "2", "3"], "sentence": TEXTS})
    if suffix == "parquet":
        table.to_parquet(source)
    else:
        table.to_csv(source, index=False, sep="\t" if suffix == "tsv" else ",")
    done = saarthi("predict", str(intents), "--file", str(source), "--output", str(target))
    assert done.returncode == 0, done.stderr
    read = pd.read_parquet if suffix == "parquet" else pd.read_csv
    given = read(target) if suffix != "tsv" else pd.read_csv(target, sep="\t")
    added = ["prediction", "probability", "confidence", "threshold", "abstained", "reason"]
    assert list(given.columns) == ["id", "sentence", *added]
    expected = Predictor.load(intents).predict(TEXTS)
    assert list(given["prediction"]) == [answer.label for answer in expected]
    assert list(given["sentence"]) == TEXTS


def test_predict_writes_entities_as_json(entities: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "rows.csv", tmp_path / "out.csv"
    pd.DataFrame({"text": TEXTS}).to_csv(source, index=False)
    done = saarthi("predict", str(entities), "--file", str(source), "--output", str(target))
    assert done.returncode == 0, done.stderr
    for text, cell in zip(TEXTS, pd.read_csv(target)["entities"], strict=True):
        for entity in json.loads(cell):
            assert text[entity["start"] : entity["end"]] == entity["text"]


def test_evaluate_counts_and_scores_by_language(intents: Path, tmp_path: Path) -> None:
    labels = [answer.label for answer in Predictor.load(intents).predict(TEXTS)]
    source = tmp_path / "gold.csv"
    gold = pd.DataFrame({"text": TEXTS, "label": labels, "lang": ["en", "hi", "en"]})
    gold.to_csv(source, index=False)
    done = saarthi("evaluate", str(intents), str(source), "--json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert metrics["accuracy"] == 1.0 and metrics["examples"] == 3
    assert metrics["by_language"]["english"]["examples"] == 2
    table = saarthi("evaluate", str(intents), str(source))
    assert "english" in table.stdout and "hindi" in table.stdout
    assert metrics["calibration"]["ece"] >= 0 and metrics["calibration"]["threshold"] is None
    assert "calibration error" in table.stdout


def test_evaluate_fails_below_the_lowest_values(intents: Path, tmp_path: Path) -> None:
    labels = [answer.label for answer in Predictor.load(intents).predict(TEXTS)]
    wrong = [labels[0], next(each for each in SEQUENCE_LABELS if each != labels[1]), labels[2]]
    source, report = tmp_path / "gold.csv", tmp_path / "report.xml"
    langs = ["en", "hi", "en"]
    pd.DataFrame({"text": TEXTS, "label": wrong, "lang": langs}).to_csv(source, index=False)

    def evaluate(*options: str) -> Done:
        return saarthi("evaluate", str(intents), str(source), *options)

    met = evaluate("--at-least", "main=0.66", "--at-least", "language.english.main=1")
    assert met.returncode == 0 and met.stderr == ""
    limits = ("--at-least", "main=0.7", "--at-least", "language.hindi.main=0.5")
    missed = evaluate(*limits, "--at-least", "examples=3", "--junit", str(report), "--markdown")
    assert missed.returncode == 1
    assert missed.stderr.splitlines() == [
        "failed: main at least 0.7: main is 0.6667, and must be at least 0.7",
        "failed: language.hindi.main at least 0.5: language.hindi.main is 0, and must be at least "
        "0.5",
    ]
    assert "| language | accuracy | macro F1 | texts |" in missed.stdout
    assert (
        "| hindi | 0.0% | " in missed.stdout and "| examples at least 3 | passed |" in missed.stdout
    )
    root = ElementTree.parse(report).getroot()
    assert (root.get("tests"), root.get("failures")) == ("3", "2")
    assert json.loads(evaluate(*limits, "--json").stdout)["examples"] == 3
    for limit, words in (
        ("main=90", "a share from 0 to 1"),
        ("main", "must be NAME=NUMBER"),
        ("main=nan", "must be NAME=NUMBER"),
        ("language.tamil.main=0.5", "there is no metric tamil; known: english, hindi"),
        ("by_language=0.5", "not a number"),
    ):
        refused = evaluate("--at-least", limit)
        assert refused.returncode == 2 and words in refused.stderr


def test_changed_byte_in_a_bundle_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_tiny_bundle(folder, "intent_classification")
    assert saarthi("bundle", "verify", str(folder)).returncode == 0
    model = bytearray((folder / "model.pt").read_bytes())
    model[len(model) // 2] ^= 1
    (folder / "model.pt").write_bytes(bytes(model))
    verified = saarthi("bundle", "verify", str(folder))
    for done in (verified, process(CONSOLE_SCRIPT, "predict", str(folder), "hello")):
        assert done.returncode == 2
        assert "model.pt: was changed" in done.stderr.replace("\n", " ")
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_compile_writes_every_pipeline_and_environment(tmp_path: Path) -> None:
    # A new process: KFP's compiler searches all loaded modules, which is slow once torch is loaded.
    done = process(CONSOLE_SCRIPT, "pipeline", "compile", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    pipelines = ("nlu", "ner", "joint", "sweep", "nightly")
    files = {f"{name}-{env}.yaml" for name in pipelines for env in ("local", "dev", "prod")}
    assert {path.name for path in tmp_path.glob("*.yaml")} == files
    assert (tmp_path / "components" / "train_teacher.yaml").is_file()
    assert str(tmp_path / "nlu-prod.yaml") in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
        (["train", "bad.yaml"], "did you mean 'student_epochs'"),
        (["train", "good.yaml", "--set", "max_seq_len=many"], "max_seq_len"),
        (["train", "good.yaml", "--set", "seed"], "form field=value"),
        (["train", "good.yaml"], "missing: there is no such folder"),
        (["pipeline", "run", "--config", "good.yaml"], "missing: there is no such folder"),
        (["pipeline", "compile", "--env", "moon"], "environment 'moon' is unknown"),
        (["predict", "nowhere", "hello"], "nowhere is not a bundle"),
        (["predict", "BUNDLE"], "either a text or --file"),
        (["predict", "BUNDLE", " "], "is empty"),
        (["predict", "BUNDLE", "hello", "--output", "o.csv"], "--output needs --file"),
        (["predict", "BUNDLE", "--file", "rows.csv", "--lang", "hindi"], "--lang is for a text"),
        (["predict", "BUNDLE", "--file", "rows.csv", "--output", "o.csv"], "row 2: the text is"),
        (["predict", "BUNDLE", "--file", "latin.csv", "--output", "o.csv"], "not UTF-8"),
        (["predict", "BUNDLE", "--file", "none.csv", "--output", "o.csv"], "no column of text"),
        (["predict", "BUNDLE", "--file", "wide.csv", "--output", "o.csv"], "row 3: has 3 cells"),
        (["evaluate", "BUNDLE", "rows.csv"], "row 2"),
        (["serve", "nowhere"], "is not a bundle"),
        (["serve", "a=nowhere", "--grpc-port", "0", "b=nowhere"], "nowhere is not a bundle"),
        (["serve", "nowhere", "--max-batch", "0"], "--max-batch (SAARTHI_MAX_BATCH)"),
        (["serve", "nowhere", "--max-batches", "0"], "unrecognized arguments: --max-batches"),
        (["quantize", "nowhere"], "nowhere: is not a finished run"),
    ],
)
def test_errors_name_the_problem_and_exit_with_2(
    intents: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "bad.yaml").write_text("student_epoch: 3\n", encoding="utf-8")
    good = "input_path: missing\nroot_output_path: out\nteacher_name: minilm\n"
    (tmp_path / "good.yaml").write_text(good, encoding="utf-8")
    (tmp_path / "rows.csv").write_text('text,label\n"",a\n', encoding="utf-8")
    (tmp_path / "latin.csv").write_bytes("text\ncafé\n".encode("latin-1"))
    (tmp_path / "none.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (tmp_path / "wide.csv").write_text("text,id\nhello,1\nstop, please,2\n", encoding="utf-8")
    done = saarthi(
        *(str(intents) if part == "BUNDLE" else part for part in arguments), cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert words in " ".join((done.stderr + done.stdout).split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o.csv").exists()


def test_fields_are_listed_with_type_default_and_meaning() -> None:
    every = json.loads(saarthi("fields", "--json").stdout)
    assert {field["name"] for field in every} == {*TrainConfig.model_fields}
    assert all(field["type"] and field["meaning"] for field in every)
    shown = saarthi("fields", "quantization").stdout
    assert "quantization: one of int8, float16 or null; default: int8" in shown
    assert "Column of labels" in saarthi("fields", "label-column").stdout
    assert "abstention_risk" in saarthi("fields", "may be wrong").stdout
    wrong = saarthi("fields", "label_colum_name")
    assert wrong.returncode == 2 and "did you mean label_column?" in wrong.stderr


def test_check_fails_when_a_run_would_stop(tmp_path: Path) -> None:
    rows = [f"{verb} lamp {row},{verb}" for row in range(60) for verb in ("light", "dim")]
    (tmp_path / "train.csv").write_text("text,label\n" + "\n".join(rows), encoding="utf-8")
    options = ("--task", "intent_classification", "--set", "teacher_name=minilm")
    page = ("--report", str(tmp_path / "check.html"))
    warned = saarthi("check", str(tmp_path), *options, *page)
    assert warned.returncode == 0, warned.stderr
    assert "small-test" in warned.stdout
    assert "The data are ready for training, with 3 warnings" in warned.stdout
    assert saarthi("check", str(tmp_path), *options, *page, "--strict").returncode == 1
    (tmp_path / "test.csv").write_text("text,label\n" + "\n".join(rows[:20]), encoding="utf-8")
    failed = saarthi("check", str(tmp_path), *options, *page)
    assert failed.returncode == 1 and "leakage" in failed.stdout
    # A run goes on where data_check says so, and stops without data that a field needs.
    command = ("check", str(tmp_path), *options, *page, "--set")
    assert saarthi(*command, "data_check=nothing").returncode == 0
    (tmp_path / "test.csv").unlink()
    assert saarthi(*command, "data_check=warnings").returncode == 1
    refused = saarthi(*command, "reweighting=last_layer")
    assert refused.returncode == 2 and "add clean.* beside train.*" in refused.stderr
    refused = saarthi(*command, "abstention_target=risk", "--set", "abstention_risk=0.01")
    assert refused.returncode == 2 and "abstention_risk: 0.01 cannot be" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "s3://b/nlu/1", "hi"], "bundle: s3://b/nlu/1: the scheme s3:// cannot be"),
        (["predict", "BUNDLE", "--file", "gs://b/x.csv"], "file: gs://b/x.csv"),
        (["predict", "BUNDLE", "--file", "x.csv", "--output", "s3://b/o.csv"], "output: s3://b"),
        (["evaluate", "BUNDLE", "foo://x.csv"], "file: foo://x.csv: the scheme foo:// is unknown"),
        (["train", "data", "--output", "s3://b/runs"], "output: s3://b/runs"),
        (["train", "data", "--set", "root_output_path=gs://b/r"], "root_output_path"),
        (["check", "foo://b/x"], "foo:// is unknown; known here: a path, s3://, gs://, https://"),
        (["check", "data", "--report", "s3://b/check.html"], "report: s3://b/check.html"),
        (["compare", "runs/a", "s3://b/run"], "runs: s3://b/run"),
        (["bundle", "verify", "azure://b/x"], "bundle: azure://b/x: the scheme azure:// is"),
        (["bundle", "publish", "BUNDLE", "s3a://b/x"], "publish_to: s3a://b/x: the scheme s3a://"),
        (["bundle", "list", "s3a://b/x"], "s3a://b/x: the scheme s3a:// is unknown"),
        (["bundle", "rollback", "gcs://b/x"], "gcs://b/x: the scheme gcs:// is unknown"),
        (["serve", "foo://b/x"], "bundle: foo://b/x: the scheme foo:// is unknown"),
        (["rollout", "nlu", "--bundle", "gs://b/n/1", "--write", "s3://b/p"], "write: s3://b/p"),
        (["pipeline", "compile", "--output", "gs://b/p"], "output: gs://b/p"),
    ],
)
def test_address_never_becomes_a_local_folder(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    here = tmp_path / "here"
    (here / "data").mkdir(parents=True)
    given = [str(bundle) if each == "BUNDLE" else each for each in arguments]
    done = saarthi(*given, cwd=here)
    assert done.returncode == 2 and words in done.stderr
    assert "known here: a path" in done.stderr
    assert [path.name for path in here.iterdir()] == ["data"]


def test_file_addresses_are_paths(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "my bundle")
    done = saarthi("bundle", "verify", bundle.as_uri())
    assert done.returncode == 0 and "unchanged" in done.stdout


def test_published_versions_are_listed_and_rolled_back(tmp_path: Path) -> None:
    counted = {"bundle_version": ""}
    for number, accuracy in ((1, 0.81), (2, 0.82)):
        folder, metrics = tmp_path / f"run-{number}", {"main": accuracy}
        bundle = write_tiny_bundle(folder, trained_with=counted, name="bot", metrics=metrics)
        done = saarthi("bundle", "publish", str(bundle), "bundles", cwd=tmp_path)
        assert done.stdout == f"bundles/bot/{number}\n"
    write_tiny_bundle(tmp_path / "runs" / "trial", trial=True, metrics={})
    listed = saarthi("bundle", "list", "bundles/bot", cwd=tmp_path).stdout
    words = [line.split() for line in listed.splitlines()[2:] if line]
    assert [(row[0], row[1], row[4], row[5]) for row in words] == [
        ("bundles/bot/1", "1", "81.0%", "previous"),
        ("bundles/bot/2", "2", "82.0%", "served"),
    ]
    done = saarthi("bundle", "rollback", "bundles/bot", cwd=tmp_path)
    assert done.stdout == "bundles/bot: version 1 is served, before: 2\n"
    rows = json.loads(saarthi("bundle", "list", "bundles", "--json", cwd=tmp_path).stdout)
    assert [(row["version"], row["main"], row["state"]) for row in rows] == [
        ("1", 0.81, "served"),
        ("2", 0.82, ""),
    ]
    trial = saarthi("bundle", "list", "runs", cwd=tmp_path).stdout
    assert "trial run" in trial and " – " in trial
    (tmp_path / "bundles" / "bot" / "2" / "bundle.json").write_text("{}")
    damaged = saarthi("bundle", "list", "bundles", cwd=tmp_path)
    assert damaged.returncode == 0 and "bundles/bot/1" in damaged.stdout
    assert "bundles/bot/2/bundle.json: the field 'format' is missing" in damaged.stderr
