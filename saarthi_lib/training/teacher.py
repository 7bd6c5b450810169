"""Fine-tuning the teacher on the labelled rows."""

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from saarthi_lib.config import TrainConfig
from saarthi_lib.data.encode import Encoded
from saarthi_lib.models.teacher import Teacher
from saarthi_lib.tasks import Labels
from saarthi_lib.training.batches import Batch, BatchStream, Outputs, balanced_weights
from saarthi_lib.training.checkpoint import Checkpoint
from saarthi_lib.training.device import accelerator_device
from saarthi_lib.training.fit import fit
from saarthi_lib.training.judge import judge
from saarthi_lib.training.losses import head_losses
from saarthi_lib.training.objective import FitResult, Objective, noisy_label_loss
from saarthi_lib.training.optimizers import fine_tuning_optimizer, fine_tuning_settings

VALIDATION_BATCH = 64
MEASURED = 512  # sentences


def fine_tune(
    teacher: Teacher,
    train: Encoded,
    validation: Encoded,
    labels: Labels,
    config: TrainConfig,
    loggers: Sequence[Logger] = (),
    clean: Encoded | None = None,
    checkpoint: Checkpoint | None = None,
    languages: Sequence[str] = (),
    *,
    further: bool = False,
) -> FitResult:
    """Fine-tune in place, and leave the weights of the best epoch on validation.

    The optimizer follows the encoder's architecture family and width, and given fields
    (`fine_tuning_settings`). Clean rows, if given, weigh the training rows. With a checkpoint, an
    interrupted fine-tuning resumes at its last finished epoch. Balanced sampling needs the
    `languages` of the training rows. A teacher that was fine-tuned before is trained `further`: its
    heads keep the states that they read, and one epoch or more always counts.
    """
    if not further:
        standardize_states(teacher, train, config)
    settings = fine_tuning_settings(teacher.encoder.config, config)
    size, full = config.teacher_batch_size, config.reweighting == "full"
    noisy = noisy_label_loss(config, teacher.heads(), train, clean, size, full=full)
    held_out = BatchStream(validation, VALIDATION_BATCH)

    def loss(found: Outputs, batch: Batch) -> Tensor:
        return head_losses(*found[:2], batch)

    objective = Objective(
        part="teacher",
        phase="fine-tuning",
        network=teacher,
        loss=loss,
        optimizer=lambda steps: fine_tuning_optimizer(teacher, settings, steps),
        score=lambda network: judge(network, held_out, config.task, labels, loss),
        epochs=config.teacher_epochs,
        patience=config.teacher_early_stopping_patience,
        clip_grad_norm=settings.clip_grad_norm,
        accumulate_batches=config.teacher_accumulate_batches,
        noisy=noisy,
        keeps_initial=not further,
    )
    balanced = config.teacher_sampling == "balanced"
    weights = balanced_weights(train.sequence_labels, languages) if balanced else None
    stream = BatchStream(train, size, seed=config.seed, weights=weights)
    return fit(objective, stream, config, loggers, checkpoint)


@torch.no_grad()
def standardize_states(teacher: Teacher, train: Encoded, config: TrainConfig) -> None:
    """Measure the inputs of the heads on training text, with the encoder before fine-tuning."""
    device = accelerator_device(config)
    rows = np.random.default_rng(config.seed).permutation(len(train))[:MEASURED]
    scales = {"sequence": teacher.sequence_scale, "token": teacher.token_scale}
    states: dict[nn.Module, list[Tensor]] = {
        scales[name]: [] for name, head in teacher.heads().items() if head.out_features
    }

    def keep(scale: nn.Module, inputs: tuple[Tensor]) -> None:
        states[scale].append(inputs[0])

    with ExitStack() as stack:
        for scale in states:
            stack.callback(scale.register_forward_pre_hook(keep).remove)
        teacher.to(device).eval()
        for batch in BatchStream(train.take(rows), VALIDATION_BATCH):
            teacher(batch["ids"].to(device), batch["lengths"].to(device))
            if words := states.get(teacher.token_scale):
                words[-1] = words[-1][batch["first"].to(device)]
    for scale in scales.values():
        if scale in states:
            scale.measure(torch.cat(states[scale]))
    teacher.to("cpu")
