"""One stage of distillation: its phases in order, each ending with its best epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.encode import Encoded
from saarthi_lib.distillation.losses import logit_loss, representation_loss
from saarthi_lib.distillation.schedule import SCHEDULES, Phase, most_epochs, phases_of
from saarthi_lib.distillation.signals import Signals
from saarthi_lib.errors import ConfigError
from saarthi_lib.logs import get_logger
from saarthi_lib.models.student import Student
from saarthi_lib.tasks import Labels, has_token_head
from saarthi_lib.training.batches import Batch, BatchStream, Outputs
from saarthi_lib.training.judge import judge
from saarthi_lib.training.losses import head_losses
from saarthi_lib.training.objective import Objective, noisy_label_loss

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from saarthi_lib.training.checkpoint import Checkpoint

logger = get_logger("distillation")

VALIDATION_BATCH = 256
LAST_LEARNING_RATE = 1e-8


@dataclass(frozen=True)
class StageData:
    """Data of a stage.

    Attributes:
        transfer: the training rows, then all unlabelled ones.
        transfer_signals: the teacher's outputs for them; None where only labels are learned.
        labelled: the training rows.
        validation: labelled rows for choosing epochs.
        validation_signals: the teacher's outputs for them, or None.
        clean: rows that decide the weights of the labelled ones; None weighs all equally.
    """

    transfer: Encoded
    transfer_signals: Signals | None
    labelled: Encoded
    validation: Encoded
    validation_signals: Signals | None
    clean: Encoded | None = None


def distil_stage(
    stage: int,
    student: Student,
    data: StageData,
    labels: Labels,
    config: TrainConfig,
    loggers: Sequence["Logger"] = (),
    checkpoint: "Checkpoint | None" = None,
    further: Sequence[Phase] | None = None,
) -> list[dict[str, Any]]:
    """Run the phases of a stage on the student, in place.

    Each phase starts from the best epoch of the previous one. The parts in its row of the schedule
    are trainable, and the others are frozen. With a checkpoint, an interrupted stage resumes in the
    phase and after the epoch whose state was written last.

    A student that was trained before is trained `further`, in phases of `schedule.further` in place
    of those of the stage; at least one epoch of the first one always counts.

    Returns:
        One row for each epoch of each phase.

    Raises:
        ConfigError: a phase learns outputs of the teacher that were not computed.
    """

    phases = _phases_of(stage, config) if further is None else list(further)
    if not phases:
        return []  # avoids loading Lightning, which takes seconds
    for phase in phases:
        _require_signals(phase, data.transfer_signals)
    from saarthi_lib.training.fit import fit

    history: list[dict[str, Any]] = []
    begun = 0
    if checkpoint:
        checkpoint.resume()
        begun, history = checkpoint.fit, list(checkpoint.history)
    for number, phase in enumerate(phases):
        if number < begun:
            continue
        for part in student.parts():
            for parameter in student.parameters_of(part):
                parameter.requires_grad_(part in phase.trainable)
        objective = _objective(phase, student, data, labels, config)
        new = further is None and not _phases_of(1, config)
        objective.epochs = most_epochs(phase, config.student_epochs, random_encoder=new)
        objective.keeps_initial = further is None or number > 0
        # The loss on few validation rows would choose an early epoch, at a high learning rate.
        objective.keeps_last = further is not None and "labels" not in phase.losses
        objective.epochs_before = sum(row["epoch"] > 0 for row in history)
        if checkpoint:
            checkpoint.fit, checkpoint.history = number, list(history)
        stream = _training_stream(phase, data, config)
        result = fit(objective, stream, config, loggers, checkpoint)
        logger.info("%s  best epoch %d", objective.name, result.best_epoch)
        history += [{"stage": f"stage_{stage}", **row} for row in result.history]
    return history


def _phases_of(stage: int, config: TrainConfig) -> list[Phase]:
    schedule, tags = config.distillation_schedule, has_token_head(config.task)
    return phases_of(stage, schedule, config.distillation_stages, tags=tags)


def _require_signals(phase: Phase, signals: Signals | None) -> None:
    if phase.reads_transfer and signals is None:
        raise ConfigError(
            f"distillation_schedule: stage {phase.stage} of the pipeline has no logits of the "
            "teacher; use 'saarthi train'"
        )
    if phase.reads_states and signals is not None and signals.hidden is None:
        raise ConfigError(
            f"stage {phase.stage} learns the teacher's hidden states, which were not computed; set "
            "teacher_layer_to_distil: 6, or leave the stage out of distillation_stages"
        )


def _training_stream(phase: Phase, data: StageData, config: TrainConfig) -> BatchStream:
    # Each phase of the schedule has its own order of rows, the same in every process.
    seed = config.seed + 1 + SCHEDULES[config.distillation_schedule].index(phase)
    if not phase.reads_transfer:
        return BatchStream(data.labelled, config.student_batch_size, seed)
    assert data.transfer_signals  # checked by _require_signals
    extras = partial(data.transfer_signals.of, data.transfer, phase.reads_states)
    return BatchStream(data.transfer, config.student_batch_size, seed, extras)


def _objective(
    phase: Phase, student: Student, data: StageData, labels: Labels, config: TrainConfig
) -> Objective:
    extras = None
    if phase.reads_transfer and data.validation_signals:
        extras = partial(data.validation_signals.of, data.validation, phase.reads_states)
    stream = BatchStream(data.validation, VALIDATION_BATCH, extras=extras)
    size, noisy = config.student_batch_size, None
    if not phase.reads_transfer:
        # By the heads alone: packed sequences lack the derivatives of the full reweighting.
        noisy = noisy_label_loss(config, student.heads(), data.labelled, data.clean, size)

    def loss(found: Outputs, batch: Batch) -> Tensor:
        return phase_loss(phase, *found, batch, config)

    def score(network: nn.Module) -> dict[str, float]:
        scores = judge(network, stream, config.task, labels, loss)
        if "labels" not in phase.losses:
            # The phase's own loss is the score; few rows have labels.
            scores["score"] = -scores["validation_loss"]
        return scores

    def optimizer(steps: int) -> tuple[Optimizer, CosineAnnealingLR]:
        trainable = [p for p in student.parameters() if p.requires_grad]
        adam = Adam(trainable, lr=config.student_learning_rate, fused=True)
        return adam, CosineAnnealingLR(adam, T_max=max(1, steps), eta_min=LAST_LEARNING_RATE)

    return Objective(
        part=f"stage {phase.stage}",
        phase=phase.name,
        network=student,
        loss=loss,
        optimizer=optimizer,
        score=score,
        epochs=config.student_epochs,
        patience=config.student_early_stopping_patience,
        ema_decay=config.student_ema_decay,
        noisy=noisy,
    )


def phase_loss(
    phase: Phase,
    sequence_logits: Tensor,
    token_logits: Tensor,
    projected: Tensor,
    batch: Batch,
    config: TrainConfig,
) -> Tensor:
    """The loss of a phase on a batch.

    Args:
        phase: row of the schedule.
        sequence_logits: [batch, sequence labels].
        token_logits: [batch, time, tags].
        projected: the student's projected states, [batch, time, width].
        batch: ids, labels and, except for the label loss alone, the teacher's signals.
        config: configuration, which names the kinds of losses.
    """
    loss = sequence_logits.new_zeros(())
    if "labels" in phase.losses:
        loss = loss + head_losses(sequence_logits, token_logits, batch)
    if "representation" in phase.losses:
        positions = batch["ids"].new_ones(projected.size(1)).cumsum(0).unsqueeze(0)
        inside = positions <= batch["lengths"].unsqueeze(1)
        hidden = batch["teacher_hidden"]
        loss = loss + representation_loss(projected, hidden, inside, config.representation_loss)
    if "logits" in phase.losses:
        kind = config.logit_loss, config.distillation_temperature
        if sequence_logits.size(-1):
            every, wanted = batch["lengths"] > 0, batch["teacher_sequence_logits"]
            loss = loss + logit_loss(sequence_logits, wanted, every, *kind)
        if token_logits.size(-1):
            # The teacher's head was trained only on the first subword token of a word.
            first, wanted = batch["first"], batch["teacher_token_logits"]
            loss = loss + logit_loss(token_logits, wanted, first, *kind)
    return loss
