"""`saarthi pipeline run` with KFP's local runner."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from saarthi_lib.bundle import read_manifest, verify_bundle
from saarthi_lib.storage import digest_folder
from tests.conftest import bundle_digests

ROOT = Path(__file__).parent.parent.parent


def _command(config: Path, *settings: str) -> list[str]:
    code = "from saarthi_lib.cli import main; main()"
    return [sys.executable, "-c", code, "pipeline", "run", "--config", str(config), *settings]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}


def _run(config: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    command = _command(config, *settings)
    return subprocess.run(command, capture_output=True, text=True, env=_environment(), timeout=1800)


def _write(config: dict[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def _metrics(root: Path) -> dict[str, Any]:
    """The metrics without times and sizes."""
    text = (root / "metrics.json").read_text(encoding="utf-8")
    metrics: dict[str, Any] = json.loads(text)
    del metrics["speedup"], metrics["baseline"]["seconds"]
    models = (metrics["baseline"], metrics["teacher"], metrics["quantized"])
    for scores in (*models, *metrics["student"].values()):
        del scores["latency_ms"], scores["size_bytes"]
    return metrics


def _kill_when(process: subprocess.Popen[str], log: Path, words: str) -> None:
    """Kill the run once its log has the words; the current task ends by itself."""
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        if log.is_file() and words in log.read_text(encoding="utf-8"):
            process.kill()
            process.wait()
            return
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"{words!r} did not appear in {log}")


def _wait_until_no_task_runs(root: Path) -> None:
    """Tasks have the run's folder in their command lines."""
    for _ in range(600):
        if not any(str(root).encode() in line and b"kfp" in line for line in _command_lines()):
            return
        time.sleep(0.1)
    raise AssertionError("a task kept running after its run was killed")


def _command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            yield path.read_bytes()


@pytest.mark.slow
def test_killed_pipeline_resumes_and_gives_the_same_bundle(
    fast: dict[str, Any], home_assistant: Path, trained_once: Path, tmp_path: Path
) -> None:
    root = Path(fast["root_output_path"])
    config = _write(fast, tmp_path / "config.yaml")
    process = subprocess.Popen(
        _command(config),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        env=_environment(),
    )
    _kill_when(process, root / "pipeline.log", "stage 3, logits (head, projection)")
    assert not (root / "metrics.json").exists()
    _wait_until_no_task_runs(root)

    done = _run(config)
    assert done.returncode == 0, done.stdout + done.stderr
    for task in ("preprocess-data", "train-teacher", "run-teacher", "distil-stage-2"):
        assert f"{task}: reused" in done.stdout
    assert "distil-stage-3: reused" not in done.stdout
    assert "report:" in done.stdout and "trial run: intent classification" in done.stdout
    assert "retention" not in done.stdout and "saarthi serve" not in done.stdout

    # `train` has run the same steps in one process, without interruption.
    other = trained_once
    assert _metrics(root) == _metrics(other)
    assert bundle_digests(root / "bundle-int8") == bundle_digests(other / "bundle-int8")

    for name in ("run.json", "data", "teacher", "signals", "report.html", "bundle"):
        assert (root / name).exists(), name
    assert (root / "student" / "stage_5" / "student.safetensors").is_file()
    assert not (root / "bundle-int8").is_symlink()
    verify_bundle(root / "bundle-int8")

    again = _run(config)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(": reused") == 15
    # A bundle names its run, code and data.
    made_by = read_manifest(root / "bundle-int8").made_by
    record = json.loads((root / "run.json").read_text(encoding="utf-8"))
    assert made_by["run_id"].startswith("local-")
    assert made_by["source_revision"] == record["source_revision"]
    assert made_by["input_digest"] == record["data_digest"] == digest_folder(home_assistant)


def test_bad_data_in_a_task_exits_with_2_and_names_the_row(
    fast: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.csv").write_text("text,label\nhello,a\n,b\n", encoding="utf-8")
    config = _write({**fast, "input_path": str(folder)}, tmp_path / "config.yaml")
    done = _run(config)
    assert done.returncode == 2, done.stderr
    assert "train.csv: row 3: the text is empty" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("saarthi/train:latest", "pin it by a version"),
        ("saarthi/train:0", "is a Docker engine running"),
    ],
)
def test_unusable_image_is_refused_at_once(
    fast: dict[str, Any], tmp_path: Path, image: str, said: str
) -> None:
    command = _command(_write(fast, tmp_path / "config.yaml"), "--image", image)
    environment = {**_environment(), "DOCKER_HOST": f"unix://{tmp_path}/none"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "change",
    ["distillation=false", "quantization=null", "teacher_exists=true", "torchscript=true"],
)
def test_unsupported_settings_are_refused_at_once(
    fast: dict[str, Any], tmp_path: Path, change: str
) -> None:
    done = _run(_write(fast, tmp_path / "config.yaml"), "--set", change)
    assert done.returncode == 2
    assert "saarthi train" in done.stderr
