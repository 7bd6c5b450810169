"""The order in which a student learns, as a table: another schedule is another table.

XtremeDistil's best order ("D4.2": representation, logits, labels, each released top-down) has
2L + 3 phases for L = 3 parts below the head; grouped by loss and by head or not, five stages.
"""

from dataclasses import dataclass
from typing import Literal

Loss = Literal["representation", "logits", "labels"]
Part = Literal["embedding", "encoder", "projection", "head"]


@dataclass(frozen=True)
class Phase:
    """One fit of the schedule.

    Attributes:
        stage: 1 to 5; the student is saved at the end of each.
        loss: what is minimised. Representation and logit losses read the transfer set (the training
            text and all unlabelled text), the labels' loss the labelled rows.
        trainable: the parts that are fitted; the others are frozen.
    """

    stage: int
    loss: Loss
    trainable: tuple[Part, ...]

    @property
    def name(self) -> str:
        """For people: the loss and the parts that are released."""
        return f"{self.loss} ({', '.join(self.trainable)})"


FIVE_STAGES = (
    Phase(1, "representation", ("embedding", "encoder", "projection")),
    Phase(2, "logits", ("head",)),
    Phase(3, "logits", ("head", "projection")),
    Phase(3, "logits", ("head", "projection", "encoder")),
    Phase(3, "logits", ("head", "projection", "encoder", "embedding")),
    Phase(4, "labels", ("head",)),
    Phase(5, "labels", ("head", "projection")),
    Phase(5, "labels", ("head", "projection", "encoder")),
    Phase(5, "labels", ("head", "projection", "encoder", "embedding")),
)
STAGES = tuple(sorted({phase.stage for phase in FIVE_STAGES}))


def phases_of(stage: int) -> list[Phase]:
    """The phases of one stage, in order."""
    return [phase for phase in FIVE_STAGES if phase.stage == stage]
