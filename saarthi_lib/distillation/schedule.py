"""Training schedules of a student, as tables: a new schedule is a new table.

XtremeDistil's best order ("D4.2": representation, logits, labels, each released top-down) has
2L + 3 phases for L = 3 parts below the head. Five stages group them by loss, with the phases of the
head alone separate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from saarthi_lib.config import DEFAULT_LAYER, TrainConfig
from saarthi_lib.layout import STAGES
from saarthi_lib.tasks import has_token_head

Loss = Literal["representation", "logits", "labels"]
Part = Literal["embedding", "encoder", "projection", "head"]

_ALL: tuple[Part, ...] = ("head", "projection", "encoder", "embedding")


@dataclass(frozen=True)
class Phase:
    """One fit of the schedule.

    Attributes:
        stage: 1 to 5; the student is saved at the end of each.
        losses: losses that are summed and minimized. Representation and logit losses read the
            transfer set (the training text and all unlabelled text). The label loss reads the
            labelled rows; combined with others, it reads the labelled rows of the transfer set.
        trainable: parts that are fitted; the others are frozen.
    """

    stage: int
    losses: tuple[Loss, ...]
    trainable: tuple[Part, ...]

    @property
    def name(self) -> str:
        """Readable name: the losses and the trainable parts."""
        return f"{' + '.join(self.losses)} ({', '.join(self.trainable)})"

    @property
    def reads_transfer(self) -> bool:
        """Whether the phase is fitted to the teacher's outputs on the transfer set."""
        return self.losses != ("labels",)

    @property
    def reads_states(self) -> bool:
        """Whether the phase is fitted to the teacher's hidden states, which are large."""
        return "representation" in self.losses


FIVE_STAGES = (
    Phase(1, ("representation",), ("embedding", "encoder", "projection")),
    *(Phase(2 if parts == 1 else 3, ("logits",), _ALL[:parts]) for parts in (1, 2, 3, 4)),
    *(Phase(4 if parts == 1 else 5, ("labels",), _ALL[:parts]) for parts in (1, 2, 3, 4)),
)
# The first schedule is the default; the others are compared with it.
SCHEDULES: dict[str, tuple[Phase, ...]] = {
    "five_stages": FIVE_STAGES,
    # Section 3.4, "stagewise without unfreezing": the same losses, all parts from the first.
    "no_unfreezing": (
        FIVE_STAGES[0],
        Phase(3, ("logits",), _ALL),
        Phase(5, ("labels",), _ALL),
    ),
    # Section 3.3, "joint": one loss of all three.
    "joint": (Phase(1, ("representation", "logits", "labels"), _ALL),),
    "labels_only": (Phase(5, ("labels",), _ALL),),
}


def phases_of(
    stage: int,
    schedule: str = "five_stages",
    stages: Sequence[int] | None = None,
    *,
    tags: bool = True,
) -> list[Phase]:
    """Phases of one stage, in order; empty if the stage is left out.

    Args:
        stage: 1 to 5.
        schedule: name in `SCHEDULES`.
        stages: stages to run; None: all that help the task.
        tags: whether the task has tags. With one label per text, a phase that learns only the
            states of the subword tokens does not help (docs/method.md).
    """
    phases = [phase for phase in SCHEDULES[schedule] if phase.stage == stage]
    if stages is None:
        return [phase for phase in phases if tags or phase.losses != ("representation",)]
    return phases if stage in stages else []


def further(
    schedule: str = "five_stages", stages: Sequence[int] | None = None, *, tags: bool = True
) -> list[Phase]:
    """Phases for a student that was trained before: those of the schedule that train all parts.

    The other phases release the parts of a new student one after the other.
    """
    every = [phase for stage in STAGES for phase in phases_of(stage, schedule, stages, tags=tags)]
    return [phase for phase in every if {*phase.trainable} == {*_ALL}]


def most_epochs(phase: Phase, epochs: int, *, random_encoder: bool) -> int:
    """Maximum number of epochs of a phase.

    Args:
        phase: phase of the schedule.
        epochs: `student_epochs` of the configuration.
        random_encoder: whether no earlier phase has trained the encoder. The parts above such an
            encoder learn little, and the phase that releases the encoder soon replaces it.
    """
    frozen_encoder = "encoder" not in phase.trainable and phase.reads_transfer
    return -(-epochs // 3) if frozen_encoder and random_encoder else epochs


def with_layers(config: TrainConfig) -> TrainConfig:
    """Set the layers whose hidden states are computed by the student's schedule, at the default.

    The teacher's outputs are computed before the student's section is read, so an unusual schedule
    has to be known in the teacher's section.
    """
    if config.teacher_layer_to_distil != DEFAULT_LAYER or not config.distillation:
        return config
    schedule, tags = config.distillation_schedule, has_token_head(config.task)
    learned = any(
        phase.reads_states
        for stage in STAGES
        for phase in phases_of(stage, schedule, config.distillation_stages, tags=tags)
    )
    if learned == bool(config.layers_to_distil):
        return config
    layers = [DEFAULT_LAYER] if learned else []
    reason = f"{'a' if learned else 'no'} stage learns hidden states"
    reasons = {**config.reasons, "teacher_layer_to_distil": reason}
    return config.model_copy(update={"teacher_layer_to_distil": layers}).with_reasons(reasons)
