"""The order in which a student learns, as tables: another schedule is another table.

XtremeDistil's best order ("D4.2": representation, logits, labels, each released top-down) has
2L + 3 phases for L = 3 parts below the head; grouped by loss and by head or not, five stages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Loss = Literal["representation", "logits", "labels"]
Part = Literal["embedding", "encoder", "projection", "head"]

STAGES = (1, 2, 3, 4, 5)
_ALL: tuple[Part, ...] = ("head", "projection", "encoder", "embedding")


@dataclass(frozen=True)
class Phase:
    """One fit of the schedule.

    Attributes:
        stage: 1 to 5; the student is saved at the end of each.
        losses: what is minimised, summed. Representation and logit losses read the transfer set
            (the training text and all unlabelled text); the labels' loss the labelled rows, or,
            beside the others, those of the transfer set that have labels.
        trainable: the parts that are fitted; the others are frozen.
    """

    stage: int
    losses: tuple[Loss, ...]
    trainable: tuple[Part, ...]

    @property
    def name(self) -> str:
        """For people: the losses and the parts that are released."""
        return f"{' + '.join(self.losses)} ({', '.join(self.trainable)})"

    @property
    def reads_transfer(self) -> bool:
        """Whether it is fitted on the transfer set, by the teacher's outputs."""
        return self.losses != ("labels",)


FIVE_STAGES = (
    Phase(1, ("representation",), ("embedding", "encoder", "projection")),
    *(Phase(2 if parts == 1 else 3, ("logits",), _ALL[:parts]) for parts in (1, 2, 3, 4)),
    *(Phase(4 if parts == 1 else 5, ("labels",), _ALL[:parts]) for parts in (1, 2, 3, 4)),
)
# The first is what is delivered; the others are what it is held against.
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
    """The phases of one stage, in order; none where it is left out.

    Args:
        stage: 1 to 5.
        schedule: of `SCHEDULES`.
        stages: those that are not left out; None: all that the task gains by.
        tags: whether the task has them. One label for a text gains nothing by a phase that learns
            the states of its pieces alone (docs/method.md).
    """
    phases = [phase for phase in SCHEDULES[schedule] if phase.stage == stage]
    if stages is None:
        return [phase for phase in phases if tags or phase.losses != ("representation",)]
    return phases if stage in stages else []


def most_epochs(phase: Phase, epochs: int, *, random_encoder: bool) -> int:
    """The epochs of a phase at most.

    Args:
        phase: of the schedule.
        epochs: `student_epochs` of the configuration.
        random_encoder: whether no phase has trained the encoder before. A head learns little on
            it, and the next phase soon replaces that.
    """
    head_only = phase.trainable == ("head",) and phase.reads_transfer
    return -(-epochs // 3) if head_only and random_encoder else epochs
