"""Training that starts from the teacher and the student of an earlier run."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saarthi_lib import Predictor, steps, train
from saarthi_lib.bundle import verify_bundle
from saarthi_lib.config import TrainConfig
from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.distillation.schedule import further
from saarthi_lib.errors import ArtifactError, ConfigError
from saarthi_lib.layout import RunLayout
from saarthi_lib.models.further import with_new_tokens
from saarthi_lib.models.student import load_student, save_student
from saarthi_lib.runs.reuse import Run
from saarthi_lib.steps.start import EarlierNetwork, saved_seconds
from saarthi_lib.steps.student import _earlier_student
from saarthi_lib.storage import read_json, write_json
from tests.conftest import bundle_digests, fast_config, write_jsonl

NEW_LABEL, RENAMED = "make_coffee", ("HassTurnOn", "SwitchOn")


def more_rows(source: Path, folder: Path, *, rename: bool = True) -> Path:
    """The data with four rows of a new label, and with another name of one label."""
    folder.mkdir()
    for file in source.glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        if file.stem == "train":
            rows += [
                {"text": f"make me {number} cups of coffee", "lang": "english", "intent": NEW_LABEL,
                 "entities": []}
                for number in ("two", "three", "four", "five")
            ]  # fmt: skip
        for row in rows:
            if rename and row.get("intent") == RENAMED[0]:
                row["intent"] = RENAMED[1]
        write_jsonl(folder / file.name, rows)
    return folder


@pytest.fixture(scope="module")
def earlier_run(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a finished run, whose files may be replaced."""
    root = tmp_path_factory.mktemp("earlier") / "run"
    return Path(shutil.copytree(trained_once, root, copy_function=os.link))


@pytest.fixture(scope="module")
def second(
    home_assistant: Path, earlier_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrainConfig]:
    """Configuration of a run with more rows, whose data are prepared in its folder."""
    folder = tmp_path_factory.mktemp("second")
    source = more_rows(home_assistant, folder / "rows")
    fields = {**fast_config(source, folder / "run"), "start_from": str(earlier_run)}
    config = TrainConfig.from_mapping(fields)
    Run(config).prepare()
    yield config


def data_of(config: TrainConfig) -> Path:
    return Path(config.root_output_path) / "data"


def network(config: TrainConfig, part: str = "student") -> EarlierNetwork | None:
    return EarlierNetwork.of(steps.resolved(config, data_of(config)), data_of(config), part)


def hidden_for(config: TrainConfig, earlier_run: Path, folder: Path) -> Path:
    """Outputs of a teacher that stage 1 reads, with random embeddings."""
    source = earlier_run / "signals" / "hidden"
    shutil.copytree(source, folder, dirs_exist_ok=True)
    width = np.load(source / "embedding.npy").shape[1]
    tokens = Prepared(data_of(config)).summary["vocabulary"]
    drawn = np.random.default_rng(0).normal(size=(tokens, width)).astype(np.float32)
    np.save(folder / "embedding.npy", drawn)
    return folder


def test_start_names_the_run_and_renamed_labels(second: TrainConfig, earlier_run: Path) -> None:
    start = read_json(data_of(second) / "start.json")
    assert start["run"] == str(earlier_run) and start["cold"] == ""
    assert start["renamed"] == dict([RENAMED])
    assert set(start["networks"]) == {"teacher", "student"}
    labels = Prepared(data_of(second)).labels.sequence
    before = Prepared(earlier_run / "data").labels.sequence
    found = network(second)
    assert found
    for label, row in zip(labels, found.rows_of_labels("sequence"), strict=True):
        if label == NEW_LABEL:
            assert row == -1
        else:
            assert before[row] == (RENAMED[0] if label == RENAMED[1] else label)
    places = (data_of(second), earlier_run / "data")
    tokens, old = (Prepared(place).tokenizer.vocabulary() for place in places)
    names = {row: token for token, row in old.items()}
    rows = found.rows_of_tokens()
    assert all(names.get(rows[row], token) == token for token, row in tokens.items())
    assert -1 in rows  # the new rows have new tokens


def test_carried_student_answers_as_the_earlier_one(
    second: TrainConfig, earlier_run: Path, tmp_path: Path
) -> None:
    hidden = hidden_for(second, earlier_run, tmp_path / "hidden")
    found = network(second)
    assert found
    config = steps.resolved(second, data_of(second))
    student = _earlier_student(config, data_of(second), hidden, found)
    assert student
    before = load_student(earlier_run / "student" / "stage_5").eval()
    labels, old = (
        Prepared(path).labels.sequence for path in (data_of(second), earlier_run / "data")
    )
    # New tokens may change the tokens of a text, so both get those of the earlier run.
    of_now = {row: token for token, row in enumerate(found.rows_of_tokens())}
    texts = list(Prepared(earlier_run / "data").table("train")["text"])
    encoded = Prepared(earlier_run / "data").tokenizer.encode_texts(texts, 32)
    before_ids = [each.ids for each in encoded if {*each.ids} <= of_now.keys()]
    now_ids = [[of_now[token] for token in ids] for ids in before_ids]
    assert before_ids
    logits = []
    for each, every in ((student.eval(), now_ids), (before, before_ids)):
        with torch.no_grad():
            logits.append([each(torch.tensor([i]), torch.tensor([len(i)]))[0][0] for i in every])
    for now, then in zip(*logits, strict=True):
        for label, row in zip(labels, found.rows_of_labels("sequence"), strict=True):
            if row >= 0:
                torch.testing.assert_close(now[labels.index(label)], then[row])
    assert len(old) < len(labels)


def test_new_tokens_get_mapped_embeddings() -> None:
    generator = torch.Generator().manual_seed(0)
    of_teacher = torch.randn(50, 6, generator=generator)
    true = of_teacher @ torch.randn(6, 3, generator=generator) + 2.0
    rows = [*range(40), *[-1] * 10]
    found = with_new_tokens(true[:40], rows, of_teacher, torch.zeros(50, 3))
    torch.testing.assert_close(found, true, rtol=1e-4, atol=1e-4)
    few = with_new_tokens(true[:4], [*range(4), *[-1] * 46], of_teacher, torch.ones(50, 3))
    torch.testing.assert_close(few, torch.cat([true[:4], torch.ones(46, 3)]))


@pytest.mark.parametrize(("low", "used"), [(0.0, True), (1.01, False)])
def test_worse_student_is_not_used_and_interval_is_handed_on(
    second: TrainConfig, earlier_run: Path, tmp_path: Path, low: float, used: bool
) -> None:
    beginning = {"main": 1.0, "low": low, "rows": 1, "seconds": 100.0}
    handed_on = earlier_run / "student" / "stage_1" / "start.json"
    write_json(handed_on, {"run": "", "further": True, "reason": "", "beginning": beginning})
    try:
        hidden = hidden_for(second, earlier_run, tmp_path / "hidden")
        found = network(second)
        assert found
        config = steps.resolved(second, data_of(second))
        student = _earlier_student(config, data_of(second), hidden, found)
        assert student
        save_student(student, tmp_path)
        assert found.accept(tmp_path) == used == found.outcome["further"]
        assert found.outcome["beginning"] == beginning
        assert ("it is worse" in found.outcome["reason"]) != used
    finally:
        handed_on.unlink()


def test_without_earlier_start_its_network_is_measured(
    second: TrainConfig, earlier_run: Path, tmp_path: Path
) -> None:
    hidden = hidden_for(second, earlier_run, tmp_path / "hidden")
    found = network(second)
    assert found
    config = steps.resolved(second, data_of(second))
    student = _earlier_student(config, data_of(second), hidden, found)
    assert student
    save_student(student, tmp_path)
    assert found.accept(tmp_path)  # the same answers as before
    beginning = found.outcome["beginning"]
    assert beginning["low"] <= beginning["main"] == found.outcome["main"]
    assert beginning["rows"] == len(Prepared(earlier_run / "data").table("validation"))
    assert beginning["seconds"] > 0


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("teacher", {"teacher_learning_rate": 1e-5}, "teacher_learning_rate None → 1e-05"),
        ("student", {"student_lstm_dim": 24}, "student_lstm_dim 16 → 24"),
        ("student", {"seed": 7}, "seed 42 → 7"),
        ("teacher", {"student_lstm_dim": 24}, ""),
        ("student", {"augmentation_size": 5, "device": "cpu", "bundle_version": "2"}, ""),
    ],
)
def test_changed_fields_of_a_network_start_from_the_beginning(
    second: TrainConfig, part: str, change: dict[str, Any], reason: str
) -> None:
    given = second.given("run", "data", "teacher", "student", "delivery")
    found = network(TrainConfig.from_mapping({**given, **change}), part)
    assert found and found.outcome["reason"] == reason and found.is_usable != bool(reason)


def test_changed_weights_of_earlier_run_are_named(second: TrainConfig, earlier_run: Path) -> None:
    record = earlier_run / "student" / "stage_5" / "step.json"
    before = record.read_bytes()
    record.unlink()
    write_json(record, {**json.loads(before), "files": {"student.json": "0"}})
    try:
        with pytest.raises(ArtifactError, match=r"stage_5: was changed since the data"):
            network(second)
    finally:
        record.write_bytes(before)


def test_run_cannot_start_from_itself(second: TrainConfig, earlier_run: Path) -> None:
    itself = second.model_copy(update={"root_output_path": str(earlier_run)})
    with pytest.raises(ConfigError, match=r"start_from: .* is the folder of this run"):
        train(itself)


def test_same_data_reuse_the_steps_of_the_earlier_run(
    home_assistant: Path, earlier_run: Path, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    fields = fast_config(home_assistant, tmp_path / "run")
    changes = {"start_from": str(earlier_run), "student_lstm_dim": 24}
    run = Run(TrainConfig.from_mapping({**fields, **changes}))
    data, layout = run.prepare(), run.layout
    teacher = run.make(steps.train_teacher, data, out=layout.teacher, loggers=())
    signals = run.make(steps.teacher_signals, data, teacher, out=layout.signals)
    for folder in (data, teacher, signals):
        assert f"{folder.name}: reused from {earlier_run}" in told.messages
    assert not (data / "start.json").exists()  # the same data as those of the earlier run
    again = Run(TrainConfig.from_mapping({**fields, **changes}))
    again.prepare()
    assert told.messages.count("data: reused") == 1


@pytest.mark.parametrize(
    ("schedule", "stages", "expected"),
    [
        ("five_stages", None, [(3, ("logits",)), (5, ("labels",))]),
        ("no_unfreezing", None, [(3, ("logits",)), (5, ("labels",))]),
        ("labels_only", None, [(5, ("labels",))]),
        ("five_stages", [2, 4], []),
    ],
)
def test_further_training_skips_phases_with_frozen_parts(
    schedule: str, stages: list[int] | None, expected: list[Any]
) -> None:
    found = further(schedule, stages, tags=True)
    assert [(phase.stage, phase.losses) for phase in found] == expected


@pytest.mark.slow
def test_run_with_new_rows_starts_from_the_earlier_networks(
    home_assistant: Path, trained_once: Path, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    source = more_rows(home_assistant, tmp_path / "rows", rename=False)
    roots = [tmp_path / name for name in ("one", "two")]
    for root in roots:
        train({**fast_config(source, root), "start_from": str(trained_once)})
    layout = RunLayout(roots[0])
    reason = f"no step is reused from {trained_once}, because the input data have changed"
    assert told.text.count(reason) == len(roots)
    record = read_json(layout.record)
    assert record["saved_seconds"] == saved_seconds(layout)
    assert set(record["saved_seconds"]) == {"teacher", "student"}
    assert "not reused" not in told.text
    assert "from the beginning it took" in told.text
    phases = {row["phase"] for row in read_json(layout.stage(1) / "history.json")}
    assert {phase.partition(" (")[0] for phase in phases} == {"logits", "labels"}
    assert all(read_json(layout.stage(number) / "history.json") == [] for number in (2, 3, 4, 5))
    assert list(read_json(layout.metrics)["student"]) == ["stage_1", "final"]
    bundles = [bundle_digests(root / "bundle-int8") for root in roots]
    assert bundles[0] == bundles[1]
    verify_bundle(layout.bundle)
    assert NEW_LABEL in Predictor.load(layout.bundle).labels.sequence

    # The run keeps its results when the earlier one is gone.
    lost = {**fast_config(source, roots[1]), "start_from": str(tmp_path / "gone")}
    content = read_json(roots[1] / "run.json")
    content["config"]["start_from"] = lost["start_from"]
    write_json(roots[1] / "run.json", content)
    train({**lost, "bundle_version": "2"})
    assert read_json(roots[1] / "run.json")["steps"]["teacher"]["reused"]
