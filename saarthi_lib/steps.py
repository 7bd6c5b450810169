"""The steps, each one function: paths and a configuration in, one folder out.

labelled text → preprocess → train_teacher → test_teacher → teacher_signals → distil (stage 1 … 5)
→ export → quantise → evaluate → publish

The library (`train`), the Kubeflow components and the pipeline call these and nothing else. Heavy
libraries are imported inside a step: one that only reads tables should not wait for Lightning.
"""

import copy
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import TrainingError
from saarthi_lib.lineage import STATES_VARIABLE, made_by, origin, source_digest
from saarthi_lib.logs import get_logger
from saarthi_lib.storage import (
    digest_json,
    folder_size,
    read_json,
    verify_record,
    whole_file,
    whole_folder,
    write_json,
    write_record,
)

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger
    from torch import nn

    from saarthi_lib.data.check import DataCheck
    from saarthi_lib.data.encode import Encoded
    from saarthi_lib.data.preprocess import Prepared
    from saarthi_lib.distillation.stage import StageData
    from saarthi_lib.evaluation.attribution import Explainer, Method
    from saarthi_lib.evaluation.explanation import Row
    from saarthi_lib.inference.predictor import Predictor
    from saarthi_lib.models.student import Student
    from saarthi_lib.training.checkpoint import Checkpoint

logger = get_logger("steps")

STEPS_FOR_A_TEXT = 50  # of integrated gradients: a single text can have them
ALL_ERRORS = 10**9
DEV_EXPLAINED = 3  # errors, in a trial run
_MOST_LOST_BY_SHARING = 0.002  # of the main metric on validation, for the sake of parameters
ANSWERS = "answers.parquet"  # of one model to the test split
PREDICTIONS = "predictions.parquet"  # of all of them


@contextmanager
def _step(name: str, config: TrainConfig, out: Path, *inputs: Path | None) -> Iterator[Path]:
    """Yield the folder to write to; it becomes `out`, with `step.json`, when the step succeeds.

    Raises:
        ArtifactError: one of the inputs, the folders of earlier steps, is not as it was written.
        StorageError: the disk is full, or cannot be written to.
    """
    logger.info("--- %s", name)
    start = time.perf_counter()
    for folder in filter(None, inputs):
        verify_record(folder)
    with whole_folder(out) as folder:
        yield folder
        seconds = round(time.perf_counter() - start, 2)
        record = {"step": name, "seconds": seconds, "config": config.model_dump(), **made_by()}
        write_record(folder, record)
    logger.info("--- %s: %.1f s", name, seconds)


def preprocess(config: TrainConfig, out: Path) -> dict[str, Any]:
    """Read, check, split, augment and encode the data; returns the summary.

    Raises:
        DataError: the data cannot be read, or their check found what stops a run.
    """
    from saarthi_lib.data.preprocess import prepare, require_sound

    with _step("preprocess", config, out) as folder:
        summary, check = prepare(config, folder)
        require_sound(check, config)
        return summary


def check_data(config: TrainConfig, page: Path) -> "DataCheck":
    """Check the data as `preprocess` would, and write the page; nothing else is kept."""
    from tempfile import TemporaryDirectory

    from saarthi_lib.data.preprocess import CHECK_PAGE, prepare

    # Labels that train lacks are among what is told, and augmented text is not.
    looking = config.model_copy(
        update={"unknown_labels": "keep", "augmentation_size": 0, "fast_dev_run": False}
    )
    with TemporaryDirectory(prefix="saarthi-check-") as scratch, whole_file(page) as aside:
        _, check = prepare(looking, Path(scratch))
        shutil.copyfile(Path(scratch) / CHECK_PAGE, aside)
        return check


def train_teacher(
    config: TrainConfig, data: Path, out: Path, loggers: Sequence["Logger"] = ()
) -> dict[str, float]:
    """Fine-tune the teacher; returns its score on validation.

    With `teacher_devices` above 1 the processes are started by torchrun, and log by no logger.
    In one process, what is interrupted goes on from its last finished epoch, whose state is kept
    beside `out`, or where `SAARTHI_STATES` says, until the teacher is done.
    """
    from saarthi_lib.models.teacher import member_folder
    from saarthi_lib.training.checkpoint import Checkpoint

    if config.teacher_devices > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return _train_on_devices(config, data, out)
    with _step("train teacher", config, out, data) as folder:
        prepared = _prepared(data)
        clean = _clean_rows(config, prepared)
        given = config.model_dump(exclude={"root_output_path", "loggers"})
        key = digest_json([source_digest(), given, prepared.summary["digest"]])
        place = os.environ.get(STATES_VARIABLE)
        states = Path(place) / key[:16] if place else out.with_name(f".{out.name}.epochs")
        scores = []
        for member in range(config.teacher_ensemble):
            # The seeds of the phases lie close together: an ensemble's keep clear of them.
            seeded = config.model_copy(update={"seed": config.seed + 1000 * member})
            made = member_folder(folder, member)
            made.mkdir(exist_ok=True)
            checkpoint = None
            if "TORCHELASTIC_RUN_ID" not in os.environ:
                checkpoint = Checkpoint(states / str(member), key)
            scores.append(_fine_tuned(seeded, prepared, clean, made, loggers, checkpoint))
    shutil.rmtree(states, ignore_errors=True)
    return {"validation_main": sum(scores) / len(scores)}


def _train_on_devices(config: TrainConfig, data: Path, out: Path) -> dict[str, float]:
    """Fine-tune the teacher in several processes, by `saarthi_lib.worker`."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="saarthi-") as scratch:
        settings = Path(scratch) / "config.json"
        write_json(settings, config.model_dump())
        arguments = ["--config", str(settings), "--data", str(data), "--out", str(out)]
        launch = ["-m", "torch.distributed.run", "--standalone"]
        launch += ["--nproc-per-node", str(config.teacher_devices), "-m", "saarthi_lib.worker"]
        ended = subprocess.run([sys.executable, *launch, *arguments])
    if ended.returncode:
        raise TrainingError(
            f"a process of the teacher's training on {config.teacher_devices} devices has failed "
            "(why stands above); mend it, and run the same command again"
        )
    scores: dict[str, float] = read_json(out / "scores.json")
    return scores


def _fine_tuned(
    config: TrainConfig,
    prepared: "Prepared",
    clean: "Encoded | None",
    folder: Path,
    loggers: Sequence["Logger"],
    checkpoint: "Checkpoint | None",
) -> float:
    """Fine-tune one teacher and write it; its main metric on validation."""
    from saarthi_lib.models.teacher import pretrained_teacher, save_teacher
    from saarthi_lib.training.fit import set_up_process
    from saarthi_lib.training.teacher import fine_tune

    set_up_process(config)
    labels, vocabulary = prepared.labels, prepared.vocabulary
    teacher, whole = pretrained_teacher(
        config.teacher_name,
        vocabulary["kept_ids"],
        vocabulary["special"],
        len(labels.sequence),
        len(labels.token),
        config.teacher_dropout,
    )
    logger.info(
        "%s: %.1f M parameters, %.1f M on the trimmed vocabulary",
        config.teacher_name,
        whole / 1e6,
        sum(p.numel() for p in teacher.parameters()) / 1e6,
    )
    train, validation = prepared.encoded("train"), prepared.encoded("validation")
    result = fine_tune(teacher, train, validation, labels, config, loggers, clean, checkpoint)
    heads = sum(
        p.numel() for head in (teacher.sequence_head, teacher.token_head) for p in head.parameters()
    )
    facts = {
        "teacher_name": config.teacher_name,
        "parameters_as_loaded": config.teacher_ensemble * (whole + heads),
        "tokenizer": _tokenizer_digest(prepared.folder),
        "members": config.teacher_ensemble,
    }
    save_teacher(teacher, folder, facts)
    write_json(folder / "history.json", result.history)
    return float(result.history[result.best_epoch]["main"])


def test_teacher(config: TrainConfig, data: Path, teacher: Path, out: Path) -> dict[str, Any]:
    """Evaluate the teacher on the test split, before anything is distilled from it."""
    from saarthi_lib.evaluation.breakdown import answer_table
    from saarthi_lib.evaluation.evaluate import evaluate_table

    with _step("test teacher", config, out, data, teacher) as folder:
        prepared = _prepared(data)
        predictor = network_predictor(config, data, teacher, "teacher")
        metrics, given, predictions = evaluate_table(predictor, prepared.table("test"))
        answers = answer_table(config.task, given, predictions)
        answers.to_parquet(folder / ANSWERS, index=False)
        metrics["parameters"] = read_json(teacher / "teacher.json")["parameters_as_loaded"]
        # What a user of the whole model would store: its parameters in float32.
        metrics["size_bytes"] = 4 * metrics["parameters"]
        metrics["trimmed_size_bytes"] = (teacher / "teacher.safetensors").stat().st_size
        write_json(folder / "metrics.json", metrics)
        logger.info("teacher on test: %.4f", metrics["main"])
        return metrics


def teacher_signals(config: TrainConfig, data: Path, teacher: Path, out: Path) -> None:
    """Compute the teacher's outputs on the transfer set and on validation, once."""
    from saarthi_lib.data.encode import concatenate
    from saarthi_lib.distillation.signals import compute_signals
    from saarthi_lib.errors import ConfigError
    from saarthi_lib.models.teacher import load_teacher
    from saarthi_lib.training.fit import accelerator_device, half_for, set_up_process

    with _step("teacher signals", config, out, data, teacher) as folder:
        set_up_process(config)
        prepared = _prepared(data)
        network = load_teacher(teacher)
        layers = config.layers_to_distil
        if max(layers) > network.layers:
            raise ConfigError(
                f"teacher_layer_to_distil: {max(layers)} is beyond the teacher's "
                f"{network.layers} layers"
            )
        splits = {
            "transfer": concatenate([prepared.encoded("train"), prepared.encoded("transfer")]),
            "validation": prepared.encoded("validation"),
        }
        device, half = accelerator_device(config), half_for(config)
        for split, encoded in splits.items():
            compute_signals(network, encoded, layers, folder, split, device=device, half=half)


def distil(
    config: TrainConfig,
    stage: int,
    data: Path,
    teacher: Path,
    signals: Path,
    previous: Path | None,
    out: Path,
    loggers: Sequence["Logger"] = (),
) -> dict[str, Any]:
    """Run one stage of distillation; returns the student's last scores on validation.

    After the last one, pieces share rows where it is not small enough without, and hardly loses.

    Args:
        config: the configuration.
        stage: 1 to 5.
        data: of `preprocess`.
        teacher: of `train_teacher`; stage 1 takes the student's embedding from its table, the last
            one its parameters, to be so many times smaller.
        signals: of `teacher_signals`.
        previous: the stage before; None for stage 1.
        out: where the student is written.
        loggers: of Lightning.
    """
    from saarthi_lib.distillation.schedule import STAGES
    from saarthi_lib.distillation.stage import distil_stage
    from saarthi_lib.models.student import load_student, save_student
    from saarthi_lib.training.fit import set_up_process

    inputs = (data, signals, previous or teacher)
    with _step(f"student stage {stage}", config, out, *inputs) as folder:
        set_up_process(config)
        labels, stage_data = _prepared(data).labels, _stage_data(config, data, signals)
        if previous is None:
            student = _new_student(config, data, teacher)
        else:
            student = load_student(previous, config.student_lstm_dropout)
        history = distil_stage(stage, student, stage_data, labels, config, loggers)
        if stage == STAGES[-1]:
            student = _share_rows(config, data, teacher, stage_data, student)
        save_student(student, folder)
        write_json(folder / "history.json", history)
        if not history:
            logger.info("left out by the schedule: the student is handed on as it came")
            return {}
        best = max(history, key=lambda row: (row["phase"] == history[-1]["phase"], row["score"]))
        return {"validation_main": best["main"], "validation_loss": best["validation_loss"]}


def export(config: TrainConfig, data: Path, source: Path, kind: str, out: Path) -> None:
    """Export a student or a teacher in float32 as a bundle without metrics, and check parity."""
    with _step(f"export {kind}", config, out, data, source) as folder:
        _write_models(config, data, source, kind, "float32", folder)


def quantise(config: TrainConfig, data: Path, source: Path, kind: str, out: Path) -> None:
    """Export in the configured quantisation as a bundle without metrics.

    What quantisation costs on validation, for each engine and language, is written to
    `quantisation.json`, and where it is too much, to `<out>.refused.json` instead.

    Raises:
        ParityError: the quantised model lost more on validation than allowed.
    """
    from saarthi_lib.errors import ParityError
    from saarthi_lib.evaluation.evaluate import evaluate_table
    from saarthi_lib.export.parity import check_quality, quality_changes
    from saarthi_lib.inference.predictor import Predictor

    precision = config.quantization or "float32"
    refused = out.with_name(f"{out.name}.refused.json")
    with _step(f"quantise {kind} ({precision})", config, out, data, source) as folder:
        manifest = _write_models(config, data, source, kind, precision, folder).manifest
        validation = _prepared(data).table("validation")
        before, _, _ = evaluate_table(network_predictor(config, data, source, kind), validation)
        changes = {}
        for runtime, model in (("torchscript", "model.pt"), ("onnxruntime", "model.onnx")):
            if model in manifest.files:
                predictor = Predictor.load(folder / "bundle", runtime=runtime)
                after, _, _ = evaluate_table(predictor, validation)
                changes[runtime] = quality_changes(before, after)
                logger.info(
                    "validation: %.4f before, %.4f after (%s)",
                    before["main"],
                    after["main"],
                    runtime,
                )
        write_json(folder / "quantisation.json", changes)
        refused.unlink(missing_ok=True)
        for runtime, change in changes.items():
            try:
                if not config.fast_dev_run:
                    check_quality(change, config.max_quantisation_loss, precision)
            except ParityError as error:
                write_json(refused, changes)
                raise ParityError(f"on {runtime}, {error}. The figures: {refused}") from None


def evaluate(
    config: TrainConfig,
    data: Path,
    teacher: Path,
    teacher_test: Path,
    stages: Sequence[Path],
    exported: Path,
    quantised: Path | None,
    out: Path,
) -> dict[str, Any]:
    """Evaluate every model on the test split.

    Writes `metrics.json`, `report.html`, and `predictions.parquet`: the test rows with the answers
    of teacher, student and quantised student.
    """
    import pandas as pd

    from saarthi_lib.evaluation.comparison import compare
    from saarthi_lib.evaluation.report import write_report

    inputs = (data, teacher, teacher_test, *stages, exported, quantised)
    with _step("evaluate", config, out, *inputs) as folder:
        prepared = _prepared(data)
        history = {path: read_json(path / "history.json") for path in (teacher, *stages)}
        networks = {
            f"stage_{number}": (
                network_predictor(config, data, path, "student"),
                (path / "student.safetensors").stat().st_size,
            )
            for number, path in enumerate(stages, 1)
            if history[path]  # else it was left out: the student is that of the stage before
        }
        metrics, details, predictions = compare(
            config.task,
            prepared,
            read_json(teacher_test / "metrics.json"),
            pd.read_parquet(teacher_test / ANSWERS),
            network_predictor(config, data, teacher, "teacher"),
            networks,
            exported / "bundle",
            quantised / "bundle" if quantised else None,
        )
        histories = [
            {"stage": "teacher", **row}  # a stage's rows say which stage they are of
            for rows in history.values()
            for row in rows
        ]
        write_json(folder / "metrics.json", metrics)
        write_json(folder / "details.json", details)
        predictions.to_parquet(folder / PREDICTIONS, index=False)
        write_report(
            folder / "report.html",
            metrics,
            config=config.model_dump(),
            histories=histories,
            check=read_json(data / "check.json"),
            provenance={
                **{name.replace("_", " "): value for name, value in origin().items()},
                "data digest": prepared.summary["digest"],
                **made_by()["versions"],
            },
            **details,
        )
        return metrics


def explain(
    config: TrainConfig, data: Path, teacher: Path, student: Path | None, out: Path
) -> dict[str, float]:
    """Explain errors of the test split and some right answers, word by word.

    Writes `explanations.json` and `explanations.html`, one self-contained page.

    Args:
        config: the configuration.
        data: of `preprocess`.
        teacher: of `train_teacher`.
        student: of the last `distil`; None explains the teacher alone.
        out: where it is written.

    Returns:
        The figures of `evaluation.explanation.figures`, each its mean.
    """
    from saarthi_lib.evaluation.explanation import explain_rows, figures, write_explanations

    with _step("explain", config, out, data, teacher, student) as folder:
        models = {"student": student, "teacher": teacher}
        sources = {kind: path for kind, path in models.items() if path is not None}
        rows, told = _rows_to_explain(config, data, sources)
        explainers = {kind: explainer(config, data, path, kind) for kind, path in sources.items()}
        described = explain_rows(explainers, rows, seed=config.seed)
        measured = figures(described)
        write_json(folder / "explanations.json", {"figures": measured, "rows": described})
        write_explanations(
            folder / "explanations.html",
            described,
            measured,
            title=f"Why {config.name} answers as it does",
            about=told,
        )
        return {name: value["mean"] for name, value in measured.items()}


def explain_network(
    config: TrainConfig,
    data: Path,
    source: Path,
    kind: str,
    methods: Sequence["Method"],
    text: str | None,
    most: int | None,
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]], str]:
    """Explain what one network answers to a text, or to what it gets wrong of the test split.

    Returns:
        What `explain_rows` gives, `figures` of it (none for a text), and a sentence on what it is.

    Raises:
        ArtifactError: the data or the network are not as they were written.
        InputError: the text is empty.
    """
    from saarthi_lib.errors import InputError
    from saarthi_lib.evaluation.explanation import Row, explain_rows, figures
    from saarthi_lib.text.normalise import Normaliser

    for folder in (data, source):
        verify_record(folder)
    models = {kind: explainer(config, data, source, kind)}
    if text is not None:
        normalised = Normaliser(config.normalisation)(text)
        if not normalised.strip():
            raise InputError("the text is empty: give it at least one word")
        described = explain_rows(
            models,
            [Row(normalised)],
            methods,
            faithfulness=False,
            steps=STEPS_FOR_A_TEXT,
            seed=config.seed,
        )
        return described, {}, f"What the {kind} answers."
    rows, about = _rows_to_explain(config, data, {kind: source}, most or ALL_ERRORS)
    described = explain_rows(models, rows, methods, seed=config.seed)
    return described, figures(described, methods), about


def explainer(config: TrainConfig, data: Path, source: Path, kind: str) -> "Explainer":
    """A trained network, `student` or `teacher`, whose answers can be explained."""
    from saarthi_lib.evaluation.attribution import Explainer

    prepared, network = _prepared(data), _served_network(source, kind)
    if kind == "student":
        embeddings = [network.student.embedding]
    else:
        members = getattr(network.teacher, "members", [network.teacher])
        embeddings = [member.encoder.get_input_embeddings() for member in members]
    return Explainer(
        network, embeddings, prepared.tokeniser, prepared.labels, config.task, config.max_seq_len
    )


def _rows_to_explain(
    config: TrainConfig, data: Path, sources: dict[str, Path], most: int | None = None
) -> tuple[list["Row"], str]:
    """Errors of the first model on the test split and some right answers, and what they are."""
    from saarthi_lib.evaluation.evaluate import gold_answers, predict_table, word_spans
    from saarthi_lib.evaluation.explanation import Row, choose
    from saarthi_lib.evaluation.metrics import right_rows

    kind, source = next(iter(sources.items()))
    table = _prepared(data).table("test")
    given, _ = predict_table(network_predictor(config, data, source, kind), table)
    right = right_rows(config.task, gold_answers(table, config.task), given)
    errors = config.explained_errors
    if config.fast_dev_run:
        errors = min(errors, DEV_EXPLAINED)
    others = -(-errors // 3)
    if most is not None:
        errors, others = most, 0
    chosen = choose(right, errors, others, config.seed)
    part = table.iloc[chosen]
    rows = [
        Row(
            text=row["text"],
            lang=row["lang"],
            spans=word_spans(row["text"], row["words"]) if "tags" in row else None,
            label=row.get("label"),
            tags=list(row["tags"]) if "tags" in row else None,
        )
        for row in part.to_dict("records")
    ]
    wrong = int((~right).sum())
    shown = int((~right[chosen]).sum())
    told = (
        f"Of {len(table):,} test texts the {kind} got {wrong:,} wrong: here are {shown:,} of those"
        + (f" and {len(rows) - shown:,} that it got right." if len(rows) > shown else ".")
    )
    return rows, told


def evaluate_bundle(
    config: TrainConfig, data: Path, quantised: Path, metrics_of_run: Path, out: Path
) -> dict[str, Any]:
    """Evaluate one more quantised bundle of a finished run, against the run's teacher."""
    from saarthi_lib.evaluation.comparison import measure_bundle, ratios

    with _step("evaluate bundle", config, out, data, quantised) as folder:
        metrics = read_json(metrics_of_run)
        scores, *_ = measure_bundle(quantised / "bundle", _prepared(data).table("test"))
        scores["parameters"] = metrics["student"]["final"]["parameters"]
        metrics |= {"quantized": scores, **ratios(scores, metrics["teacher"])}
        write_json(folder / "metrics.json", metrics)
        return metrics


def confusion_matrix(evaluation: Path) -> tuple[list[str], list[list[int]]] | None:
    """Labels and counts [gold, predicted] of an evaluation; None for entities."""
    confusion = read_json(evaluation / "details.json")["breakdown"]["confusion"]
    if confusion is None:
        return None
    labels, counts = confusion["labels"], confusion["counts"]
    return labels, [[counts.get(gold, {}).get(given, 0) for given in labels] for gold in labels]


def publish(
    config: TrainConfig,
    exported: Path,
    evaluation: Path,
    model: str,
    out: Path,
    input_digest: str = "",
) -> None:
    """Write the final bundle: the exported files, and the figures measured on the test split.

    Args:
        config: the configuration.
        exported: of `export` or `quantise`.
        evaluation: of `evaluate`.
        model: whose figures they are: `final`, `quantized` or `teacher`.
        out: the bundle.
        input_digest: of the data as they were found, which the bundle then leads back to.

    Raises:
        ArtifactError: one of the inputs is not as it was written.
    """
    from saarthi_lib.bundle import read_manifest, write_bundle

    for folder in (exported, evaluation):
        verify_record(folder)
    source = exported / "bundle"
    manifest = read_manifest(source)
    metrics = read_json(evaluation / "metrics.json")
    figures = metrics["student"]["final"] if model == "final" else metrics[model]
    content = {**manifest.to_dict(), "version": config.bundle_version, "metrics": figures}
    found = {"input_digest": input_digest} if input_digest else {}
    content["made_by"] = {**manifest.made_by, **origin(), **found}
    del content["files"]
    write_bundle(out, files={name: source / name for name in manifest.files}, manifest=content)
    logger.info("bundle %s version %s: %s", config.name, config.bundle_version, out)


def network_predictor(config: TrainConfig, data: Path, source: Path, kind: str) -> "Predictor":
    """A predictor over a trained network, for evaluation."""
    return predictor_of(config, data, _served_network(source, kind))


def predictor_of(config: TrainConfig, data: Path, network: "nn.Module") -> "Predictor":
    """A predictor over a network in memory, for evaluation."""
    from saarthi_lib.bundle import BundleManifest
    from saarthi_lib.evaluation.evaluate import NetworkEngine
    from saarthi_lib.inference.predictor import Predictor

    prepared = _prepared(data)
    manifest = BundleManifest(format=1, files={}, **_manifest(config, data, "float32"))
    return Predictor(manifest, prepared.labels, prepared.tokeniser, NetworkEngine(network))


def _prepared(data: Path) -> "Prepared":
    from saarthi_lib.data.preprocess import Prepared

    return Prepared(data)


def _tokenizer_digest(data: Path) -> str:
    from saarthi_lib.storage import digest_file

    return digest_file(data / "tokenizer.json")


def _new_student(config: TrainConfig, data: Path, teacher: Path) -> "Student":
    """A student whose embedding is the SVD of the fine-tuned teacher's table."""
    import torch

    from saarthi_lib.models.student import Student, StudentShape, initial_embedding
    from saarthi_lib.models.teacher import load_teacher

    labels = _prepared(data).labels
    network = load_teacher(teacher)
    table = initial_embedding(network.embedding_table, config.student_word_emb_dim)
    shape = StudentShape(
        vocabulary=len(table),
        embedding=config.student_word_emb_dim,
        hidden=config.student_lstm_dim,
        layers=config.student_lstm_layers,
        projection=network.width,
        sequence_labels=len(labels.sequence),
        token_labels=len(labels.token),
        family=config.student_family,
    )
    student = Student(shape, config.student_lstm_dropout)
    with torch.no_grad():
        student.embedding.weight.copy_(table)
    logger.info(
        "student (%s): %.2f M parameters, E %d, H %d",
        shape.family,
        sum(p.numel() for p in student.parameters()) / 1e6,
        shape.embedding,
        shape.hidden,
    )
    return student


def _share_rows(
    config: TrainConfig, data: Path, teacher: Path, stage_data: "StageData", student: "Student"
) -> "Student":
    """The student, or one whose pieces share rows so that it is small enough, and hardly loses."""
    import numpy as np
    import torch

    from saarthi_lib.evaluation.evaluate import evaluate_table
    from saarthi_lib.models.student import ServedStudent, cluster_rows

    if not config.student_compression:
        return student
    table = student.embedding.weight.detach()
    whole = read_json(teacher / "teacher.json")["parameters_as_loaded"]
    parameters = sum(parameter.numel() for parameter in student.parameters())
    spare = math.ceil((parameters - whole / config.student_compression) / table.shape[1])
    if spare <= 0:
        return student
    times = f"{whole / parameters:.0f} times fewer parameters than the teacher"
    if 2 * spare > len(table):
        logger.info(
            "%s; for %g times (student_compression) take a smaller student_preset or fewer pieces",
            times,
            config.student_compression,
        )
        return student
    counts = np.bincount(stage_data.transfer.ids, minlength=len(table))
    rows, row_of = cluster_rows(table, torch.from_numpy(counts), spare, config.seed)
    smaller = copy.deepcopy(student)
    smaller.share_rows(rows, row_of)
    validation = _prepared(data).table("validation")
    before, after = (
        evaluate_table(predictor_of(config, data, ServedStudent(each)), validation)[0]["main"]
        for each in (student, smaller)
    )
    if before - after > _MOST_LOST_BY_SHARING:
        logger.info(
            "%s; for %g times (student_compression) pieces would share rows, which costs %.2f "
            "points on validation: each keeps its own",
            times,
            config.student_compression,
            100 * (before - after),
        )
        return student
    logger.info("%d pieces share %d rows of the embedding", len(row_of), len(rows))
    return smaller


def _stage_data(config: TrainConfig, data: Path, signals: Path) -> "StageData":
    from saarthi_lib.data.encode import concatenate
    from saarthi_lib.distillation.signals import Signals
    from saarthi_lib.distillation.stage import StageData

    prepared = _prepared(data)
    train = prepared.encoded("train")
    return StageData(
        transfer=concatenate([train, prepared.encoded("transfer")]),
        transfer_signals=Signals.load(signals, "transfer"),
        labelled=train,
        validation=prepared.encoded("validation"),
        validation_signals=Signals.load(signals, "validation"),
        clean=_clean_rows(config, prepared),
    )


def _clean_rows(config: TrainConfig, prepared: "Prepared") -> "Encoded | None":
    """The rows by which training rows are weighed; None where they are not."""
    from saarthi_lib.errors import ConfigError

    if config.reweighting == "none":
        return None
    if not prepared.has("clean"):
        raise ConfigError(
            f"reweighting: {config.reweighting} needs rows whose labels can be trusted: add "
            f"clean.* beside train.* in {config.input_path}, or set reweighting: none"
        )
    return prepared.encoded("clean")


def _served_network(source: Path, kind: str) -> Any:
    from saarthi_lib.models.student import ServedStudent, load_student
    from saarthi_lib.models.teacher import ServedTeacher, load_teacher

    if kind == "student":
        return ServedStudent(load_student(source)).eval()
    return ServedTeacher(load_teacher(source)).eval()


def _manifest(config: TrainConfig, data: Path, precision: str) -> dict[str, Any]:
    from datetime import UTC, datetime

    summary = _prepared(data).summary
    return {
        "name": config.name,
        "version": config.bundle_version,
        "task": config.task,
        "languages": tuple(summary["languages"]["train"]),
        "runtime": config.runtime,
        "precision": precision,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "max_seq_len": config.max_seq_len,
        "threshold": None,
        "metrics": {},
        "made_by": {**made_by(), "data_digest": summary["digest"]},
        "normalisation": config.normalisation,
    }


def _write_models(
    config: TrainConfig, data: Path, source: Path, kind: str, precision: str, folder: Path
) -> "Predictor":
    """Write model files and a bundle around them to `folder / "bundle"`; returns its predictor."""
    from dataclasses import asdict

    from saarthi_lib.bundle import FAMILIARITY, BundleManifest, write_bundle
    from saarthi_lib.evaluation.abstention import calibrate, familiarity_of
    from saarthi_lib.export import exported_program, onnx, onnx_teacher, torchscript
    from saarthi_lib.export.parity import check_parity
    from saarthi_lib.inference.engine import OnnxEngine, TorchScriptEngine
    from saarthi_lib.inference.predictor import Predictor
    from saarthi_lib.models.student import load_student
    from saarthi_lib.models.teacher import load_teacher

    content, prepared = _manifest(config, data, precision), _prepared(data)
    models = folder / "models"
    models.mkdir()
    files = {name: data / name for name in ("labels.json", "tokenizer.json", "distil_vocab.json")}
    files["training_config.json"] = models / "training_config.json"
    write_json(files["training_config.json"], config.model_dump())
    files["model.pt"] = models / "model.pt"
    exporters: dict[str, tuple[Any, Any, Any]] = {
        "student": (load_student, torchscript.export_student, onnx.export_student),
        "teacher": (load_teacher, torchscript.export_teacher, onnx_teacher.export_teacher),
    }
    load, write_torchscript, write_onnx = exporters[kind]
    network = load(source)
    engines: dict[str, Any] = {"model.pt": TorchScriptEngine}
    write_torchscript(network, files["model.pt"], precision)
    if config.runtime == "onnxruntime":
        files["model.onnx"] = models / "model.onnx"
        engines["model.onnx"] = OnnxEngine
        write_onnx(network, files["model.onnx"], precision)
    if config.exported_program and kind == "student" and precision == "float32":
        if network.shape.family in exported_program.FAMILIES:
            files["model.pt2"] = models / "model.pt2"
            engines["model.pt2"] = exported_program.ProgramEngine
            exported_program.export_student(network, files["model.pt2"])
        else:
            logger.warning(
                "exported_program: torch.export cannot hold a %s; there is no model.pt2",
                network.shape.family,
            )
    if precision != "int8":
        served, validation = _served_network(source, kind), prepared.encoded("validation")
        for name, engine in engines.items():
            difference = check_parity(
                served, engine(files[name]), validation, precision, files[name]
            )
            logger.info("%s: differs from its source by at most %.2g", name, difference)
    name, make_engine = list(engines.items())[-1]  # that of the runtime the bundle is made for
    manifest = BundleManifest(format=1, files={}, **content)
    served_as = calibrate(
        Predictor(manifest, prepared.labels, prepared.tokeniser, make_engine(files[name])),
        familiarity := familiarity_of(prepared.encoded("train"), prepared.labels),
        prepared.table("validation"),
        prepared.encoded("validation"),
        config,
        prepared.out_of_scope,
    ).manifest
    content |= {
        "threshold": served_as.threshold,
        "calibration": asdict(served_as.calibration),
    }
    if served_as.calibration.familiarity_weight:
        files[FAMILIARITY] = models / FAMILIARITY
        files[FAMILIARITY].write_bytes(familiarity.table)
    write_bundle(folder / "bundle", files=files, manifest=content)
    for file in models.iterdir():
        file.unlink()
    models.rmdir()
    logger.info("%s bundle: %.2f MB", precision, folder_size(folder / "bundle") / 1e6)
    return Predictor.load(folder / "bundle")
