"""Signals → student, stage 1 … 5."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saarthi_lib.config import TrainConfig
from saarthi_lib.errors import ArtifactError
from saarthi_lib.layout import START
from saarthi_lib.logs import get_logger
from saarthi_lib.steps.data import clean_rows, prepared_data
from saarthi_lib.steps.network import predictor_of
from saarthi_lib.steps.record import reads, recorded_step
from saarthi_lib.steps.signals import EMBEDDING, FACTS, GENERATOR
from saarthi_lib.steps.start import EarlierNetwork
from saarthi_lib.steps.unfinished import checkpoint_of
from saarthi_lib.storage import copy_file, read_json, write_json
from saarthi_lib.tasks import has_token_head

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from saarthi_lib.distillation.stage import StageData
    from saarthi_lib.models.student import Student
    from saarthi_lib.training.checkpoint import Checkpoint

logger = get_logger("steps")

Train = Callable[..., list[dict[str, Any]]]  # distil_stage, without some of its arguments

_MOST_LOST_BY_SHARING = 0.002  # maximum drop of the main metric on validation


@reads("run", "student")
def distil(
    config: TrainConfig,
    stage: int,
    data: Path,
    signals: Path | None,
    previous: Path | None,
    out: Path,
    loggers: Sequence["Logger"] = (),
    hidden: Path | None = None,
) -> dict[str, Any]:
    """Run one stage of distillation; returns the validation scores of the student.

    An interrupted stage resumes after the last epoch whose state was written; see `train_teacher`.
    If the data name an earlier run, stage 1 trains its student further, and the other stages have
    nothing to do; see `steps.start`.

    After the last stage, a student that misses `student_compression` shares embedding rows between
    subword tokens, if it loses little quality.

    Args:
        config: configuration.
        stage: stage number, 1 to 5.
        data: folder written by `preprocess`.
        signals: folder written by `teacher_signals`; None for stages that learn only labels.
        previous: folder of the previous stage; None for stage 1.
        out: folder to write.
        loggers: Lightning loggers.
        hidden: folder of the hidden states, which only stage 1 reads; None: `hidden` in `signals`.
            Stage 1 also initializes the student's embedding from it.

    Raises:
        ConfigError: stage 1 learns hidden states, which were not computed.
    """
    from saarthi_lib.distillation.signals import HIDDEN
    from saarthi_lib.distillation.stage import distil_stage
    from saarthi_lib.layout import STAGES
    from saarthi_lib.models.student import save_student
    from saarthi_lib.training.device import set_up_process

    if hidden is None and signals is not None:
        hidden = signals / HIDDEN
    before = previous or hidden
    if before is None:
        raise ArtifactError("stage 1 needs the signals of the teacher")
    inputs = (data, signals, before)
    with recorded_step(f"student stage {stage}", config, out, *inputs) as folder:
        set_up_process(config)
        labels, stage_data = prepared_data(data).labels, _stage_data(config, data, signals, hidden)
        copy_file(before / FACTS, folder / FACTS)
        checkpoints = _checkpoints(config, out, stage, *inputs)
        train = partial(distil_stage, stage, data=stage_data, labels=labels, loggers=loggers)
        made = _next_student if previous else _first_student
        student, history = made(config, data, before, folder, train, checkpoints)
        if stage == STAGES[-1]:
            student = _share_rows(config, data, folder, stage_data, student)
        save_student(student, folder)
        write_json(folder / "history.json", history)
    for checkpoint in filter(None, checkpoints):
        checkpoint.remove()
    return _scores(history)


def _checkpoints(
    config: TrainConfig, out: Path, stage: int, data: Path, *others: Path | None
) -> "list[Checkpoint | None]":
    """States of the stage's training and, if there is an earlier student, of its training."""
    parts = [f"stage-{stage}"]
    if stage == 1 and (data / START).is_file():
        parts.append("stage-1-further")
    return [checkpoint_of(config, out, part, data, *others, in_store=True) for part in parts]


def _first_student(
    config: TrainConfig,
    data: Path,
    hidden: Path,
    folder: Path,
    train: Train,
    checkpoints: "Sequence[Checkpoint | None]",
) -> "tuple[Student, list[dict[str, Any]]]":
    """The student after stage 1: one of an earlier run, trained further, or a new one.

    Args:
        config: configuration.
        data: folder written by `preprocess`.
        hidden: folder of the hidden states.
        folder: folder of the stage.
        train: `distil_stage` for stage 1.
        checkpoints: states of the trainings of a new student and of an earlier one.

    Returns:
        The student and the history of its epochs.
    """
    from saarthi_lib.training.device import set_up_process

    found = _trained_further(config, data, hidden, folder, train, checkpoints[-1])
    if found is None:
        set_up_process(config)
        student = _new_student(config, data, hidden)
        found = student, train(student=student, config=config, checkpoint=checkpoints[0])
    return found


def _next_student(
    config: TrainConfig,
    data: Path,
    previous: Path,
    folder: Path,
    train: Train,
    checkpoints: "Sequence[Checkpoint | None]",
) -> "tuple[Student, list[dict[str, Any]]]":
    """The student after a later stage, from the folder of the previous one."""
    from saarthi_lib.models.student import load_student

    student = load_student(previous, config.student_lstm_dropout)
    if _is_done(previous, folder):
        return student, []
    return student, train(student=student, config=config, checkpoint=checkpoints[0])


def _is_done(previous: Path, folder: Path) -> bool:
    """Whether stage 1 has trained an earlier student further; hands this on to the next stage."""
    if not (previous / START).is_file():
        return False
    copy_file(previous / START, folder / START)
    return bool(read_json(folder / START)["further"])


def _trained_further(
    config: TrainConfig,
    data: Path,
    hidden: Path,
    folder: Path,
    train: Train,
    checkpoint: "Checkpoint | None",
) -> "tuple[Student, list[dict[str, Any]]] | None":
    """Train the student of an earlier run further, and write the outcome; None: train a new one."""
    from saarthi_lib.distillation.schedule import further
    from saarthi_lib.models.student import save_student

    earlier = EarlierNetwork.of(config, data, "student")
    if earlier is None:
        return None
    tags = has_token_head(config.task)
    phases = further(config.distillation_schedule, config.distillation_stages, tags=tags)
    if earlier.is_usable and not phases:
        earlier.refuse("the schedule has no phase that trains all parts")
    student = _earlier_student(config, data, hidden, earlier) if earlier.is_usable else None
    history: list[dict[str, Any]] = []
    if student:
        history = train(student=student, config=config, checkpoint=checkpoint, further=phases)
        save_student(student, folder)
        if not earlier.accept(folder):
            student = None
    earlier.write(folder)
    return (student, history) if student else None


def _earlier_student(
    config: TrainConfig, data: Path, hidden: Path, earlier: EarlierNetwork
) -> "Student | None":
    """The student of an earlier run, with the tokens and labels of this one; None: other sizes."""
    import numpy as np
    import torch

    from saarthi_lib.models.further import (
        carry_over,
        embedding_of,
        rows_of_heads,
        with_new_tokens,
    )
    from saarthi_lib.models.student import load_student

    student, before = _new_student(config, data, hidden), load_student(earlier.folder)
    rows = rows_of_heads(earlier.rows_of_labels("sequence"), earlier.rows_of_labels("token"))
    tokens = earlier.rows_of_tokens()
    known, start = embedding_of(before), student.embedding.weight.detach().clone()
    state = {**before.state_dict(), "embedding.weight": known}
    wrong = carry_over(student, state, {**rows, "embedding.weight": tokens})
    if wrong:
        earlier.refuse(f"its {wrong} has another size")
        return None
    of_teacher = torch.from_numpy(np.load(hidden / EMBEDDING))
    with torch.no_grad():
        student.embedding.weight.copy_(with_new_tokens(known, tokens, of_teacher, start))
    return student


def _scores(history: list[dict[str, Any]]) -> dict[str, Any]:
    """Scores of the best epoch of the last phase; empty for a stage without epochs."""
    if not history:
        logger.info("stage skipped by the schedule: the student is unchanged")
        return {}
    best = max(history, key=lambda row: (row["phase"] == history[-1]["phase"], row["score"]))
    return {"validation_main": best["main"], "validation_loss": best["validation_loss"]}


def _new_student(config: TrainConfig, data: Path, hidden: Path) -> "Student":
    """Create a student; its embedding is the SVD of the fine-tuned teacher's embedding table."""
    import numpy as np
    import torch

    from saarthi_lib.models.student import Student, StudentShape, initial_embedding

    labels = prepared_data(data).labels
    of_teacher = torch.from_numpy(np.load(hidden / EMBEDDING))
    # Random weights are those that follow a loaded teacher, as before signals held its embedding.
    torch.set_rng_state(torch.from_numpy(np.load(hidden / GENERATOR)))
    table = initial_embedding(of_teacher, config.student_word_emb_dim)
    shape = StudentShape(
        vocabulary=len(table),
        embedding=config.student_word_emb_dim,
        hidden=config.student_lstm_dim,
        layers=config.student_lstm_layers,
        projection=read_json(hidden / FACTS)["width"],
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
    config: TrainConfig, data: Path, folder: Path, stage_data: "StageData", student: "Student"
) -> "Student":
    """Share embedding rows if the student is too large; returns it unchanged if quality drops."""
    import numpy as np
    import torch

    from saarthi_lib.evaluation.evaluate import evaluate_table
    from saarthi_lib.models.student import ServedStudent, cluster_rows

    if not config.student_compression:
        return student
    table = student.embedding.weight.detach()
    whole = read_json(folder / FACTS)["parameters_as_loaded"]
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


def _stage_data(
    config: TrainConfig, data: Path, signals: Path | None, hidden: Path | None
) -> "StageData":
    from saarthi_lib.data.encode import concatenate
    from saarthi_lib.distillation.signals import Signals
    from saarthi_lib.distillation.stage import StageData

    prepared = prepared_data(data)
    train = prepared.encoded("train")
    transfer, validation = (
        Signals.load(signals, split, hidden) if signals else None
        for split in ("transfer", "validation")
    )
    return StageData(
        transfer=concatenate([train, prepared.encoded("transfer")]),
        transfer_signals=transfer,
        labelled=train,
        validation=prepared.encoded("validation"),
        validation_signals=validation,
        clean=clean_rows(config, prepared),
    )
