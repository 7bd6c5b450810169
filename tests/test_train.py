"""The library's `train`, its run folder, and a second run in the same folder."""

import json
import logging
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from saarthi_lib import Predictor, steps, train
from saarthi_lib.bundle import read_manifest, verify_bundle
from saarthi_lib.bundle.publishing import publish_bundle
from saarthi_lib.cli.console import console
from saarthi_lib.cli.results import show_results
from saarthi_lib.config import TRIAL, TrainConfig
from saarthi_lib.data.preprocess import Prepared
from saarthi_lib.errors import BundleError, ConfigError, DataError, TeacherError
from saarthi_lib.models.student import Student, load_student
from saarthi_lib.runs.finished import quantize_run
from saarthi_lib.runs.train import loggers_of
from saarthi_lib.steps import student as student_step
from saarthi_lib.storage import write_json
from tests.conftest import bundle_digests, write_jsonl

STAGES = [f"stage_{number}" for number in range(1, 6)]
# One stage and one bundle, which suffice for some tests.
QUICK = {"distillation_stages": [5], "quantization": None}


def _metrics(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "metrics.json").read_text(encoding="utf-8"))
    return content


def _steps(root: Path) -> dict[str, Any]:
    steps: dict[str, Any] = json.loads((root / "run.json").read_text(encoding="utf-8"))["steps"]
    return steps


def test_run_folder_has_the_files_of_the_contract(trained: Path) -> None:
    root = trained
    for name in ("run.json", "data", "teacher", "signals", "metrics.json", "report.html"):
        assert (root / name).exists(), name
    assert [path.name for path in sorted((root / "student").iterdir())] == STAGES
    metrics = _metrics(root)
    assert metrics["task"] == "intent_classification"
    assert metrics["languages"] == ["english", "hindi"]
    # One label per text: the first stage is left out.
    assert json.loads((root / "student/stage_1/history.json").read_text("utf-8")) == []
    assert list(metrics["student"]) == [*STAGES[1:], "final"]
    models = (metrics["baseline"], metrics["teacher"], metrics["quantized"])
    for scores in (*models, *metrics["student"].values()):
        assert set(scores["by_language"]) == {"english", "hindi"}
        assert 0 <= scores["main"] <= 1
        assert scores["parameters"] > 0 and scores["size_bytes"] > 0
        assert 0 < scores["latency_ms"]["p50"] <= scores["latency_ms"]["p99"]
    for name, scores in (
        ("bundle", metrics["student"]["final"]),
        ("bundle-int8", metrics["quantized"]),
    ):
        found, manifest = scores["calibration"], read_manifest(root / name)
        assert found["threshold"] == manifest.threshold
        assert found["temperature"] == manifest.calibration.temperature != 1
        assert manifest.expected_coverage is not None
        assert found["expected_coverage"] == [round(x, 4) for x in manifest.expected_coverage]
        assert 0 <= found["risk"] <= 1 and 0 < found["coverage"] <= 1
        assert "familiarity.bin" in manifest.files
    assert "(expected for texts like those of validation: " in (root / "report.html").read_text(
        encoding="utf-8"
    )
    # The teacher's parameters are counted as loaded, with the whole vocabulary.
    assert metrics["teacher"]["parameters"] > 22_000_000
    parameters = metrics["teacher"]["parameters"] / metrics["quantized"]["parameters"]
    assert metrics["compression"] == pytest.approx(parameters, rel=1e-3)
    run = json.loads((root / "run.json").read_text(encoding="utf-8"))
    assert run["config"]["teacher_name"] == "minilm"
    assert run["versions"]["torch"] and run["source_revision"] and run["data_digest"]


def test_too_few_rows_for_the_risk_target_are_refused(
    trained: Path, fast: dict[str, Any], tmp_path: Path
) -> None:
    fields = {**fast, "abstention_target": "risk", "abstention_risk": 0.01}
    network = steps.TrainedNetwork("student", trained / "student/stage_5")
    source = (trained / "data", network, tmp_path / "exported")
    config = TrainConfig.from_mapping({**fields, "fast_dev_run": False})
    with pytest.raises(ConfigError, match=r"0\.01 cannot be guaranteed .* validation rows"):
        steps.export(config, *source)
    assert not (tmp_path / "exported").exists()

    steps.export(TrainConfig.from_mapping(fields), *source)  # a trial run
    assert read_manifest(tmp_path / "exported/bundle").threshold is not None


def test_unsupported_risk_is_refused_before_training(fast: dict[str, Any]) -> None:
    fields = {"fast_dev_run": False, "abstention_target": "risk", "abstention_risk": 0.01}
    with pytest.raises(ConfigError, match=r"0\.01 cannot be guaranteed .* raise abstention_risk"):
        train({**fast, **fields, "data_check": "nothing", "augmentation_size": 0})
    assert not (Path(fast["root_output_path"]) / "teacher").exists()


def test_student_below_the_baseline_is_reported(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = _metrics(trained)
    assert metrics["baseline"]["main"] > 0 and metrics["baseline"]["advice"] == ""  # a trial
    said = "Try recipe: best."
    metrics["baseline"] |= {"advice": said, "main": 1.0}
    del metrics["trial"]
    write_json(trained / "metrics.json", metrics)
    show_results(trained)
    printed = capsys.readouterr().out
    assert f"{said}\nThe int8 model is not better than the simple baseline: accuracy" in printed

    del metrics["baseline"]  # as in older runs
    write_json(trained / "metrics.json", metrics)
    show_results(trained)
    assert "baseline" not in capsys.readouterr().out


def test_rare_tokens_share_rows_to_reach_compression(
    fast: dict[str, Any],
    trained_once: Path,
    tmp_path: Path,
    told: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = trained_once

    def last_stage(compression: float) -> Student:
        """Stage 5 of the run with another `student_compression`."""
        config = TrainConfig.from_mapping({**fast, "student_compression": compression})
        out = tmp_path / f"stage_5 for {compression}"
        signals, before = root / "signals", root / "student" / "stage_4"
        steps.distil(config, 5, root / "data", signals, before, out)
        return load_student(out)

    whole = load_student(root / "student/stage_5")
    parameters = json.loads((root / "teacher/teacher.json").read_text())["parameters_as_loaded"]
    own = sum(parameter.numel() for parameter in whole.parameters())
    assert whole.row_of is None  # small enough without sharing
    assert parameters / own > 100
    tokens, width = whole.embedding.weight.shape
    met = Counter(Prepared(root / "data").encoded("transfer").ids.tolist())
    met.update(Prepared(root / "data").encoded("train").ids.tolist())

    monkeypatch.setattr(student_step, "_MOST_LOST_BY_SHARING", 1.0)  # a trial's loss is noise
    wanted = parameters / (own - width * (tokens // 3))
    student = last_stage(wanted)
    assert load_student(root / "student/stage_4").row_of is None
    smaller = sum(parameter.numel() for parameter in student.parameters())
    assert parameters / smaller == pytest.approx(wanted, rel=1e-3)
    assert student.row_of is not None
    assert len(student.embedding.weight) == tokens - tokens // 3
    shares = Counter(student.row_of.tolist())
    alone = [token for token, row in enumerate(student.row_of.tolist()) if shares[row] == 1]
    least = sorted(met[token] for token in range(tokens))[2 * (tokens // 3)]
    kept = [token for token in range(tokens) if met[token] > least]
    assert {*kept} <= {*alone}
    rows = student.embedding.weight[student.row_of[kept]]
    torch.testing.assert_close(rows, whole.embedding.weight[kept])
    torch.testing.assert_close(student.projection.weight, whole.projection.weight)

    assert last_stage(parameters / (own - 0.6 * width * tokens)).row_of is None
    assert "(student_compression) take a smaller student_preset" in told.text

    # Sharing is undone if it costs quality on validation.
    monkeypatch.setattr(student_step, "_MOST_LOST_BY_SHARING", -1.0)
    assert last_stage(wanted + 1e-3).row_of is None
    assert "points on validation: each token keeps its own row" in told.text


def test_bundles_give_equal_answers_in_both_runtimes(trained: Path) -> None:
    root = trained
    texts = ["turn on the kitchen lights", "रसोई की लाइट जलाओ", "x"]
    for bundle in (root / "bundle", root / "bundle-int8"):
        verify_bundle(bundle)
        onnx = Predictor.load(bundle).predict(texts, top_k=3)
        script = Predictor.load(bundle, runtime="torchscript").predict(texts, top_k=3)
        for ours, theirs in zip(onnx, script, strict=True):
            assert ours.probability == pytest.approx(theirs.probability, abs=5e-3)
    half = quantize_run(root, "float16")
    assert half == root / "bundle-float16"
    assert verify_bundle(half).precision == "float16"
    sizes = [(b / "model.onnx").stat().st_size for b in (root / "bundle", half)]
    assert sizes[1] < 0.6 * sizes[0]
    manifest = read_manifest(root / "bundle-int8")
    assert manifest.precision == "int8"
    assert manifest.metrics["main"] == _metrics(root)["quantized"]["main"]


def test_trial_is_marked_and_draws_no_conclusions(
    fast: dict[str, Any], trained: Path, tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    train(fast)
    said = [record.message for record in told.records if record.levelname == "WARNING"]
    assert said[0] == said[-1] == TRIAL
    assert _metrics(trained)["trial"] is True
    assert "Trial run: its numbers mean nothing" in (trained / "report.html").read_text("utf-8")
    for name in ("bundle", "bundle-int8"):
        assert verify_bundle(trained / name).trial is True
    with pytest.raises(BundleError, match="trial run"):
        publish_bundle(trained / "bundle-int8", str(tmp_path / "published"))

    printed = _shown(trained)
    assert "trial run: intent classification" in printed
    assert " ".join(printed.split()).endswith(f" T{TRIAL[1:]}.")
    assert not any(word in printed for word in ("retention", "speedup", "saarthi serve"))
    write_json(trained / "metrics.json", {**_metrics(trained), "trial": False})
    printed = _shown(trained)
    assert "trial run" not in printed and "retention" in printed and "saarthi serve" in printed


def _shown(root: Path) -> str:
    """The last output of `saarthi train` and `saarthi pipeline run`."""
    with console.capture() as capture:
        show_results(root)
    return capture.get()


def test_second_run_reuses_finished_and_reruns_changed_steps(
    fast: dict[str, Any], trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = trained
    before = bundle_digests(root / "bundle-int8")
    logging.getLogger("saarthi").propagate = True
    with caplog.at_level(logging.INFO, logger="saarthi"):
        train(fast)
    assert all(step["reused"] for step in _steps(root).values())
    assert "teacher: reused" in caplog.text
    # The configuration in the report has all fields, and the same results.
    train(json.loads((root / "run.json").read_text(encoding="utf-8"))["config"])
    assert all(step["reused"] for step in _steps(root).values())
    config = TrainConfig.from_mapping({**fast, "student_learning_rate": 5e-3, "loggers": ["csv"]})
    with caplog.at_level(logging.INFO, logger="saarthi"):
        train(config, {"student_stage_3": loggers_of(config)["student_stage_3"]})
    [logged] = (root / "logs").rglob("metrics.csv")
    assert "train/loss" in pd.read_csv(logged)
    reused = {name: step["reused"] for name, step in _steps(root).items()}
    assert reused["data"] and reused["teacher"] and reused["signals"]
    assert not any(reused[f"student/{stage}"] for stage in STAGES)
    why = "rerun, because student_learning_rate 0.003 → 0.005"
    assert f"student/stage_1: {why}" in caplog.text and f"work/exported: {why}" in caplog.text
    assert bundle_digests(root / "bundle-int8") != before


@pytest.mark.slow
def test_other_schedule_ensemble_and_losses_train(fast: dict[str, Any]) -> None:
    other = {
        "distillation_schedule": "joint",
        "teacher_ensemble": 2,
        "teacher_layer_to_distil": [2, 4],
        "teacher_accumulate_batches": 2,
        "representation_loss": "cosine",
        "logit_loss": "decoupled_kl",
        "student_ema_decay": 0.5,
    }
    root = train({**fast, **other})

    one, two = root / "teacher", root / "teacher" / "member_1"
    weights = [(folder / "teacher.safetensors").read_bytes() for folder in (one, two)]
    assert weights[0] != weights[1]
    assert _metrics(root)["teacher"]["parameters"] > 2 * 22_000_000
    history = json.loads((root / "student" / "stage_1" / "history.json").read_text("utf-8"))
    assert {row["phase"].partition(" (")[0] for row in history} == {
        "representation + logits + labels"
    }
    students = [(root / "student" / stage / "student.safetensors").read_bytes() for stage in STAGES]
    assert len(set(students)) == 1  # the other stages have nothing to do
    with pytest.raises(ConfigError, match="teacher_ensemble: several teachers can be distilled"):
        train({**fast, "teacher_ensemble": 2, "distillation": False})


def test_joint_run_delivers_intent_and_entities(finished_run: Path) -> None:
    answer = Predictor.load(finished_run / "bundle").predict(["turn on the kitchen lights"])[0]
    assert {"label", "entities"} <= answer.to_dict().keys()
    student = _metrics(finished_run)["student"]
    assert list(student) == [*STAGES, "final"]
    assert "span_f1" in student["final"]


def test_conllu_without_test_split_trains_a_tagger(fast: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "pos"
    folder.mkdir()
    sentences = [
        f"1\t{noun}\t_\tNOUN\n2\t{verb}\t_\tVERB\n3\t.\t_\tPUNCT\n"
        for noun in ("lights", "fans", "doors", "birds", "घर", "लोग", "बच्चे", "cars")
        for verb in ("shine", "turn", "open", "fly", "चलते", "खुलते")
    ]
    (folder / "train.conllu").write_text("\n".join(sentences), encoding="utf-8")
    root = train({**fast, **QUICK, "task": "pos", "input_path": str(folder)})
    answer = Predictor.load(root / "bundle").predict(["birds fly ."])[0].to_dict()
    assert [token["text"] for token in answer["tokens"]] == ["birds", "fly", "."]
    assert "token_accuracy" in _metrics(root)["student"]["final"]


@pytest.mark.slow
def test_without_distillation_the_teacher_is_delivered(fast: dict[str, Any], trained: Path) -> None:
    root = train({**fast, "distillation": False})
    assert root == trained and _steps(root)["teacher"]["reused"]
    manifest = verify_bundle(root / "bundle-int8")
    assert manifest.runtime == "onnxruntime" and "model.onnx" in manifest.files
    texts = ["turn on the lights", "a", "b c d e f g h"]
    onnx = Predictor.load(root / "bundle").predict(texts)
    script = Predictor.load(root / "bundle", runtime="torchscript").predict(texts)
    for ours, theirs in zip(onnx, script, strict=True):
        assert ours.probability == pytest.approx(theirs.probability, abs=1e-4)
    metrics = _metrics(root)
    assert list(metrics["student"]) == ["final"]
    assert metrics["student"]["final"]["main"] == metrics["teacher"]["main"]


@pytest.mark.slow
def test_existing_teacher_is_used_if_it_fits_the_data(
    fast: dict[str, Any], trained: Path, home_assistant: Path, tmp_path: Path
) -> None:
    root = trained
    weights = (root / "teacher" / "teacher.safetensors").read_bytes()
    train({**fast, **QUICK, "teacher_exists": True, "teacher_epochs": 9})
    assert (root / "teacher" / "teacher.safetensors").read_bytes() == weights
    with pytest.raises(TeacherError, match="a vocabulary that differs"):
        train({**fast, "teacher_exists": True, "vocabulary_extra_tokens": 100})
    assert not _steps(root)["data"]["reused"]
    with pytest.raises(TeacherError, match="holds no fine-tuned teacher"):
        train({**fast, "teacher_exists": True, "root_output_path": str(tmp_path / "none")})


@pytest.mark.slow
def test_production_keeps_only_deliverables(fast: dict[str, Any], trained: Path) -> None:
    root = train({**fast, "production": True, "torchscript": True})
    teacher = read_manifest(root / "teacher-bundle").metrics
    assert teacher["main"] == _metrics(root)["teacher"]["main"]
    assert teacher["parameters"] == _metrics(root)["teacher"]["parameters"]
    kept = {path.name for path in root.iterdir()}
    assert root == trained and kept == {
        *("bundle", "bundle-int8", "teacher-bundle"),
        *("metrics.json", "report.html", "run.json"),
    }


def test_teacher_is_removed_without_checkpointing(fast: dict[str, Any], trained: Path) -> None:
    train({**fast, "enable_teacher_checkpointing": False})
    assert not (trained / "teacher").exists()
    assert (trained / "signals").exists()


@pytest.mark.slow
def test_teacher_and_stages_log_to_their_own_loggers(fast: dict[str, Any], tmp_path: Path) -> None:
    change = {"loggers": ["csv"], "quantization": None, "distillation_stages": [3, 5]}
    config = TrainConfig.from_mapping({**fast, **change})
    every = loggers_of(config)
    chosen = {name: every[name] for name in ("teacher", "student_stage_3", "student_stage_5")}
    train(config, chosen)
    logs = tmp_path / "run" / "logs" / "csv"
    for name in chosen:
        rows = pd.read_csv(next((logs / name).rglob("metrics.csv")))
        assert {"train/loss", "validation/main", "validation/validation_loss"} <= set(rows)
        assert (rows["learning_rate"] > 0).all()
        # One epoch per phase here, counted across the phases of a stage.
        assert list(rows["step"]) == list(range(1, len(rows) + 1))
    assert not (logs / "student_stage_2").exists()
    # The last stage learns labels top-down: each phase releases one more part.
    released = (rows.filter(like="trainable/") > 0).sum(axis=1)
    assert list(released) == sorted(set(released)) and len(released) > 1
    settings = next((logs / "student_stage_5").rglob("hparams.yaml")).read_text(encoding="utf-8")
    assert "student_batch_size: 32" in settings and "/frozen: embedding" in settings


def test_missing_package_of_a_logger_is_named(fast: dict[str, Any]) -> None:
    missing = [name for name in ("mlflow", "wandb") if find_spec(name) is None]
    if not missing:
        pytest.skip("every logger's package is installed")
    with pytest.raises(ConfigError, match=rf"loggers: {missing[0]} needs .*pip install"):
        loggers_of(TrainConfig.from_mapping({**fast, "loggers": missing}))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"teacher_name": "minlm"}, TeacherError, "did you mean 'minilm'"),
        ({"input_path": "/nowhere"}, DataError, "/nowhere"),
        ({"input_path": ""}, ConfigError, "input_path is missing"),
        ({"techer_epochs": 3}, ConfigError, "did you mean 'teacher_epochs'"),
    ],
)
def test_user_errors_name_the_remedy(
    fast: dict[str, Any], change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        train({**fast, **change})
    root = Path(fast["root_output_path"])
    assert not any(path.name.endswith(".partial") for path in root.glob("**/.*"))


def test_missing_teacher_layer_is_named(
    fast: dict[str, Any], trained_once: Path, tmp_path: Path
) -> None:
    config = TrainConfig.from_mapping({**fast, "teacher_layer_to_distil": 7})
    with pytest.raises(ConfigError, match="beyond the teacher's 6 layers"):
        steps.teacher_signals(
            config, trained_once / "data", trained_once / "teacher", tmp_path / "out"
        )


def _with_a_typing_error(tmp_path: Path) -> Path:
    folder = tmp_path / "typo"
    folder.mkdir()
    rows = [{"text": f"{verb} {n}", "label": verb} for n in range(20) for verb in ("open", "shut")]
    write_jsonl(folder / "train.jsonl", rows)
    test = [{"text": f"please {row['text']}", "label": row["label"]} for row in rows[:2]]
    write_jsonl(folder / "test.jsonl", [*test, {"text": "open it", "label": "opne"}])
    return folder


def test_unknown_label_error_names_file_row_and_label(fast: dict[str, Any], tmp_path: Path) -> None:
    folder = _with_a_typing_error(tmp_path)
    with pytest.raises(DataError, match=r"test\.jsonl: row 3: .*'opne' does not occur in train"):
        train({**fast, "input_path": str(folder)})


@pytest.mark.slow
def test_kept_unknown_label_is_out_of_scope(fast: dict[str, Any], tmp_path: Path) -> None:
    folder = _with_a_typing_error(tmp_path)
    root = train({**fast, **QUICK, "input_path": str(folder), "unknown_labels": "keep"})
    final = _metrics(root)["student"]["final"]
    assert final["examples"] == 2
    assert {"mcc", "oos_recall"} <= set(final["calibration"]["out_of_scope"])
