"""A pipeline is killed in each of its steps in turn, and rerun each time."""

import re
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from saarthi_lib import train
from saarthi_lib.bundle import verify_bundle
from tests.conftest import bundle_digests
from tests.pipelines.test_local_pipeline import (
    _command,
    _environment,
    _metrics,
    _run,
    _wait_until_no_task_runs,
    _write,
)

STEPS = (
    "preprocess-data", "train-teacher", "run-teacher", "check-limits",
    "distil-stage", "distil-stage-2", "distil-stage-3", "distil-stage-4", "distil-stage-5",
    "export-model", "quantize-model", "evaluate-models", "check-limits-2", "publish-bundle",
    "publish-bundle-2",
)  # fmt: skip
_STARTED = re.compile(r"Executing task (?:\x1b\[\d+m)?'([\w-]+)'")
_FINISHED = re.compile(
    r"Task (?:\x1b\[\d+m)?'([\w-]+)'(?:\x1b\[\d+m)? finished with status \S*SUCCESS"
)


def _kill_in_a_new_step(config: Path, log: Path, killed: set[str]) -> str | None:
    """Run until a new step begins, and kill the run there; returns the step, or None at the end."""
    before = len(log.read_text(encoding="utf-8")) if log.is_file() else 0
    process = subprocess.Popen(
        _command(config),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(),
    )
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        said = log.read_text(encoding="utf-8")[before:] if log.is_file() else ""
        for step in _STARTED.findall(said):
            if step in STEPS and step not in killed:
                process.kill()
                process.wait()
                return str(step)
        if process.poll() is not None:
            assert process.returncode == 0, said[-3000:]
            return None
        time.sleep(0.02)
    process.kill()
    raise AssertionError("the run neither ended nor came to a new step")


@pytest.mark.slow
def test_kill_in_each_step_repeats_none_and_keeps_the_bundle(
    fast: dict[str, Any], tmp_path: Path
) -> None:
    root = Path(fast["root_output_path"])
    config, log = _write(fast, tmp_path / "config.yaml"), root / "pipeline.log"
    killed: list[str] = []
    while step := _kill_in_a_new_step(config, log, set(killed)):
        killed.append(step)
        _wait_until_no_task_runs(root)
        assert not (root / "metrics.json").exists()
    assert set(killed) == set(STEPS) and len(killed) == len(STEPS)

    finished = Counter(_FINISHED.findall(log.read_text(encoding="utf-8")))
    assert {step: finished[step] for step in STEPS} == dict.fromkeys(STEPS, 1)
    verify_bundle(root / "bundle-int8")
    other = train({**fast, "root_output_path": str(tmp_path / "uninterrupted")})
    assert _metrics(root) == _metrics(other)
    for bundle in ("bundle", "bundle-int8"):
        assert bundle_digests(root / bundle) == bundle_digests(other / bundle)

    other_student = _run(config, "--set", "student_learning_rate=0.01")
    assert other_student.returncode == 0, other_student.stderr
    assert "run-teacher: reused" in other_student.stdout
    assert "distil-stage-1: reused" not in other_student.stdout
    assert bundle_digests(root / "bundle") != bundle_digests(other / "bundle")
    # The library takes over a folder of the pipeline, and reruns its outdated steps.
    assert train(fast).resolve() == root.resolve()
    assert bundle_digests(root / "bundle") == bundle_digests(other / "bundle")
