"""`saarthi sweep`: planned runs, shared and reused steps, and reports."""

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from saarthi_lib import Predictor
from saarthi_lib.errors import ConfigError
from saarthi_lib.settings import overridden, read_over
from saarthi_lib.sweep.execute import execute
from saarthi_lib.sweep.plan import SweepRun, plan_sweep
from saarthi_lib.sweep.results import write_results
from tests.html_page import Page
from tests.test_cli import saarthi

BASE = {"task": "intent_classification", "input_path": "demo:home-assistant"}


def test_all_combinations_are_planned_and_share_teachers() -> None:
    over = read_over(["student_family=lstm,gru", "student_lstm_dim=64,128"])
    runs = plan_sweep(BASE, over, seeds=2, output=Path("out"))
    assert len(runs) == len({run.name for run in runs}) == 8
    assert {(run.config.student_family, run.config.student_lstm_dim) for run in runs} == {
        (family, size) for family in ("lstm", "gru") for size in (64, 128)
    }
    assert {run.config.seed for run in runs} == {42, 43}
    assert len({run.teaching for run in runs}) == 2  # one for each seed
    assert all(run.config.root_output_path == f"out/runs/{run.name}" for run in runs)
    layers = plan_sweep(BASE, read_over(["teacher_layer_to_distil=3,[3, 6]"]), 1, Path("out"))
    assert [run.config.layers_to_distil for run in layers] == [[3], [3, 6]]
    assert len({run.teaching for run in layers}) == 2


def test_varied_preset_resets_its_fields() -> None:
    runs = plan_sweep(BASE, read_over(["student_preset=tiny,small"]), 1, Path("out"))
    assert [run.config.student_preset for run in runs] == ["tiny", "small"]
    assert all("student_lstm_dim" not in run.config.model_fields_set for run in runs)


def test_overriding_preset_resets_its_fields_in_all_runs() -> None:
    fields = overridden({**BASE, "student_lstm_dim": 50}, {"student_preset": "tiny"})
    for run in plan_sweep(fields, {}, 2, Path("out")):
        assert "student_lstm_dim" not in run.config.model_fields_set


def test_katib_option_names_the_alternatives(tmp_path: Path) -> None:
    done = saarthi("sweep", "my.yaml", "--seeds", "2", "--katib", str(tmp_path / "experiment.yaml"))
    message = " ".join(done.stderr.split())
    assert done.returncode == 2 and "--pipeline sweep" in message and "--jobs" in message


def test_wrong_sweep_arguments_name_the_remedy(tmp_path: Path) -> None:
    done = saarthi("sweep", str(tmp_path), "--seeds", "2")
    assert done.returncode == 2 and f"with: saarthi init {tmp_path}" in done.stderr
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(BASE), encoding="utf-8")
    for setting, words in (("seed", "form field=value"), ("seed=[", "the value is not YAML")):
        done = saarthi("sweep", str(tmp_path / "my.yaml"), "--seeds", "2", "--set", setting)
        assert done.returncode == 2 and words in " ".join(done.stderr.split()), done.stderr


def test_configuration_can_name_the_varied_fields(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    written = {**BASE, "over": {"logit_loss": ["mse", "kl"]}, "seeds": 2}
    path.write_text(yaml.safe_dump(written), encoding="utf-8")
    done = saarthi("sweep", str(path), "--output", str(tmp_path / "sweep"), "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "4 runs, 2 teachers"
    assert sum("logit_loss=kl" in line for line in lines) == 2
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("over", "seeds", "message"),
    [
        (["student_famly=lstm"], 1, "did you mean 'student_family'"),
        (["student_lstm_dim=8,none"], 1, "student_lstm_dim=none: student_lstm_dim"),
        (["root_output_path=a,b"], 1, "root_output_path: cannot be varied"),
        (["seed=1,2"], 1, "use --seeds"),
        (["student_lstm_dim"], 1, "of the form field=value,value"),
        (["student_lstm_dim="], 1, "of the form field=value,value"),
        (["student_lstm_dim=8,8"], 1, "values must differ"),
        ([], 1, "nothing is varied"),
    ],
)
def test_invalid_sweep_is_refused_before_it_runs(over: list[str], seeds: int, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        plan_sweep(BASE, read_over(over), seeds, Path("out"))


def test_address_with_a_secret_is_refused_before_it_runs(tmp_path: Path) -> None:
    address = "https://127.0.0.1:9/bot.csv?X-Amz-Signature=abc123"
    (tmp_path / "my.yaml").write_text(f"input_path: {address}\n", encoding="utf-8")
    done = saarthi("sweep", "my.yaml", "--seeds", "2", cwd=tmp_path)
    message = " ".join(done.stderr.split())
    assert done.returncode == 2 and "download the data and give their path" in message
    assert "abc123" not in message and [path.name for path in tmp_path.iterdir()] == ["my.yaml"]


@pytest.mark.slow
def test_finished_runs_and_common_steps_are_reused(fast: dict[str, Any], tmp_path: Path) -> None:
    output, path = tmp_path / "sweep", tmp_path / "my.yaml"
    fields = {**fast, "distillation_schedule": "labels_only"}
    del fields["root_output_path"]
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    command = ["sweep", str(path), "--output", str(output), "--over"]
    first = saarthi(*command, "student_lstm_dim=8")
    assert first.returncode == 0, first.stdout + first.stderr
    done = saarthi(*command, "student_lstm_dim=8,16")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[:4]] == ["started", "finished"] * 2

    results = json.loads((output / "sweep.json").read_text(encoding="utf-8"))
    assert results["failed"] == [] and len(results["runs"]) == 2
    assert results["best"] in [{"student_lstm_dim": 8}, {"student_lstm_dim": 16}]
    for row in results["runs"]:
        root = output / "runs" / row["name"]
        steps = json.loads((root / "run.json").read_text(encoding="utf-8"))["steps"]
        taken = [name for name, step in steps.items() if step["reused"]]
        shared = ["data", "teacher", "work/teacher-test", "signals"]
        assert taken == (shared if row["varied"]["student_lstm_dim"] == 16 else list(steps))
        assert Predictor.load(root / "bundle-int8").predict(["turn on the lights"])[0].label
        assert row["size_bytes"] > 0 and row["latency_ms"] > 0
        assert 0 <= row["validation_main"] <= 1
    scores = [row["validation_main"] for row in results["configurations"]]
    assert scores == sorted(scores, reverse=True)
    with (output / "sweep.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["student_lstm_dim"] for row in rows} == {"8", "16"}
    page = (output / "sweep.html").read_text(encoding="utf-8")
    assert "student_lstm_dim" in page and page.count("<svg") == 2


def test_one_run_of_each_teacher_starts_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = tmp_path / "python"
    trial.write_text(
        """#!/bin/sh\necho '{"validation_main": 0.5}' > "$(dirname "$3")/result.json\"\n"""
    )
    trial.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(trial))
    over = read_over(["student_family=lstm,gru"])
    runs = plan_sweep(BASE, over, seeds=2, output=tmp_path)
    events: list[tuple[str, int]] = []

    def note(event: str, run: SweepRun, _: str) -> None:
        events.append((event, run.config.seed))

    for _ in range(2):  # a finished run is called again: its steps are reused
        assert execute(runs, tmp_path, 1, note) == []
        assert [seed for event, seed in events if event == "started"] == [42, 43, 42, 43]
        assert events.pop() == ("finished", 43)
        events.clear()


def test_failed_run_is_reported_with_its_reason(fast: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    fields = {key: value for key, value in fast.items() if key != "root_output_path"}
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    missing = tmp_path / "no-such-teacher"
    output = tmp_path / "sweep"
    done = saarthi("sweep", str(path), "--over", f"teacher_name={missing}", "--output", str(output))
    assert done.returncode == 1
    assert "failed" in done.stdout and "no-such-teacher" in done.stdout
    assert "trial run: its numbers mean nothing" in done.stdout
    results = json.loads((output / "sweep.json").read_text(encoding="utf-8"))
    assert len(results["failed"]) == 1 and results["best"] is None


def results_of(*figures: tuple[float, float, int]) -> Any:
    rows = [
        {
            "varied": {"student_lstm_dim": number, "student_family": "<b>"},
            "seeds": 1,
            "validation_main": quality,
            "test_main": quality,
            "retention": 0.9,
            "compression": 50.0,
            "parameters": 1000,
            "size_bytes": size,
            "latency_ms": latency,
            "validation_range": [quality, quality],
            "pareto": True,
        }
        for number, (quality, latency, size) in enumerate(figures)
    ]
    return {"runs": [], "configurations": rows, "best": rows[0]["varied"], "failed": []}


def test_page_is_self_contained_and_escapes_values(tmp_path: Path) -> None:
    write_results(tmp_path, results_of((0.9, 0.1, 10), (0.8, 0.05, 20)), "<i>mine</i>", "accuracy")
    page = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    assert "<i>mine" not in page and "<b>" not in page
    read = Page(page)
    assert read.loads == [] and read.scripts == 0 and read.open == []
    assert len(read.figures) == 2
