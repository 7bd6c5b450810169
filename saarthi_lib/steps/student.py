"""Signals → student, stage 1 … 5."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saarthi_lib.config import TrainConfig
from saarthi_lib.logs import get_logger
from saarthi_lib.steps.data import clean_rows, prepared_data
from saarthi_lib.steps.network import predictor_of
from saarthi_lib.steps.record import reads, recorded_step
from saarthi_lib.steps.unfinished import checkpoint_of
from saarthi_lib.storage import read_json, write_json

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from saarthi_lib.distillation.stage import StageData
    from saarthi_lib.models.student import Student

logger = get_logger("steps")

_MOST_LOST_BY_SHARING = 0.002  # maximum drop of the main metric on validation


@reads("run", "student")
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
    """Run one stage of distillation; returns the validation scores of the student.

    An interrupted stage resumes after the last epoch whose state was written; see `train_teacher`.

    After the last stage, a student that misses `student_compression` shares embedding rows between
    subword tokens, if it loses little quality.

    Args:
        config: configuration.
        stage: stage number, 1 to 5.
        data: folder written by `preprocess`.
        teacher: folder written by `train_teacher`. Stage 1 initializes the student's embedding from
            it; the last stage reads its number of parameters for the compression ratio.
        signals: folder written by `teacher_signals`.
        previous: folder of the previous stage; None for stage 1.
        out: folder to write.
        loggers: Lightning loggers.
    """
    from saarthi_lib.distillation.stage import distil_stage
    from saarthi_lib.layout import STAGES
    from saarthi_lib.models.student import load_student, save_student
    from saarthi_lib.training.device import set_up_process

    inputs = (data, signals, previous or teacher)
    with recorded_step(f"student stage {stage}", config, out, *inputs) as folder:
        set_up_process(config)
        labels, stage_data = prepared_data(data).labels, _stage_data(config, data, signals)
        if previous is None:
            student = _new_student(config, data, teacher)
        else:
            student = load_student(previous, config.student_lstm_dropout)
        checkpoint = checkpoint_of(config, out, f"stage-{stage}", *inputs, in_store=True)
        history = distil_stage(stage, student, stage_data, labels, config, loggers, checkpoint)
        if stage == STAGES[-1]:
            student = _share_rows(config, data, teacher, stage_data, student)
        save_student(student, folder)
        write_json(folder / "history.json", history)
    if not history:
        logger.info("stage skipped by the schedule: the student is unchanged")
        return {}
    if checkpoint:
        checkpoint.remove()
    best = max(history, key=lambda row: (row["phase"] == history[-1]["phase"], row["score"]))
    return {"validation_main": best["main"], "validation_loss": best["validation_loss"]}


def _new_student(config: TrainConfig, data: Path, teacher: Path) -> "Student":
    """Create a student; its embedding is the SVD of the fine-tuned teacher's embedding table."""
    import torch

    from saarthi_lib.models.student import Student, StudentShape, initial_embedding
    from saarthi_lib.models.teacher import load_teacher

    labels = prepared_data(data).labels
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
    """Share embedding rows if the student is too large; returns it unchanged if quality drops."""
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
            "%s; for %g times (student_compression) take a smaller student_preset or fewer tokens",
            times,
            config.student_compression,
        )
        return student
    counts = np.bincount(stage_data.transfer.ids, minlength=len(table))
    rows, row_of = cluster_rows(table, torch.from_numpy(counts), spare, config.seed)
    smaller = copy.deepcopy(student)
    smaller.share_rows(rows, row_of)
    validation = prepared_data(data).table("validation")
    before, after = (
        evaluate_table(predictor_of(data, ServedStudent(each)), validation)[0]["main"]
        for each in (student, smaller)
    )
    if before - after > _MOST_LOST_BY_SHARING:
        logger.info(
            "%s; for %g times (student_compression), tokens would have to share rows, which costs "
            "%.2f points on validation: each token keeps its own row",
            times,
            config.student_compression,
            100 * (before - after),
        )
        return student
    logger.info("%d tokens share %d rows of the embedding", len(row_of), len(rows))
    return smaller


def _stage_data(config: TrainConfig, data: Path, signals: Path) -> "StageData":
    from saarthi_lib.data.encode import concatenate
    from saarthi_lib.distillation.signals import Signals
    from saarthi_lib.distillation.stage import StageData

    prepared = prepared_data(data)
    train = prepared.encoded("train")
    return StageData(
        transfer=concatenate([train, prepared.encoded("transfer")]),
        transfer_signals=Signals.load(signals, "transfer"),
        labelled=train,
        validation=prepared.encoded("validation"),
        validation_signals=Signals.load(signals, "validation"),
        clean=clean_rows(config, prepared),
    )
