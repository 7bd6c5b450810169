"""The distillation schedule and its losses."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saarthi_lib.config import TrainConfig
from saarthi_lib.distillation.losses import (
    LOGIT_LOSSES,
    NON_TARGET_WEIGHT,
    decoupled_kl,
    kl_divergence,
    logit_loss,
    masked_mean,
    representation_loss,
)
from saarthi_lib.distillation.schedule import FIVE_STAGES, SCHEDULES, Phase, phases_of
from saarthi_lib.distillation.stage import phase_loss
from saarthi_lib.layout import STAGES
from saarthi_lib.models.student import Student, StudentShape
from saarthi_lib.training.losses import head_losses, label_loss

RELEASED = [["head"], ["head", "projection"], ["head", "projection", "encoder"]]
RELEASED.append([*RELEASED[-1], "embedding"])
# XtremeDistil's nine phases: representation, then logits and labels, each released top-down.
PAPER = [
    (1, ("representation",), ["embedding", "encoder", "projection"]),
    (2, ("logits",), RELEASED[0]),
    *((3, ("logits",), parts) for parts in RELEASED[1:]),
    (4, ("labels",), RELEASED[0]),
    *((5, ("labels",), parts) for parts in RELEASED[1:]),
]


def test_schedule_equals_the_papers() -> None:
    assert [(p.stage, p.losses, list(p.trainable)) for p in FIVE_STAGES] == PAPER
    assert len(FIVE_STAGES) == 9
    assert STAGES == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(("stage", "count"), [(1, 1), (2, 1), (3, 3), (4, 1), (5, 3)])
def test_stage_has_its_phases_in_order(stage: int, count: int) -> None:
    phases = phases_of(stage)

    assert len(phases) == count
    assert phases == [phase for phase in FIVE_STAGES if phase.stage == stage]


def test_phase_names_are_unique() -> None:
    assert len({phase.name for phase in FIVE_STAGES}) == 9


def test_schedule_names_exactly_the_students_parts() -> None:
    student = Student(StudentShape(9, 2, 2, 1, 2, 2, 2))

    assert {part for phase in FIVE_STAGES for part in phase.trainable} == set(student.parts())


def numbers(*shape: int) -> Tensor:
    """A fixed tensor of irregular values."""
    count = int(torch.tensor(shape).prod())
    return torch.sin(torch.arange(1, count + 1, dtype=torch.float64) ** 2).float().reshape(shape)


MASK = torch.tensor([[True, True, False], [True, False, False]])


def test_logit_loss_is_half_the_summed_squares() -> None:
    student = torch.tensor([[[1.0, 2.0], [0.0, 0.0], [9.0, 9.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [3.0, 1.0], [0.0, 0.0]]])
    mask = torch.tensor([[True, True, False]])

    # ½ (0 + 4) and ½ (9 + 1), over two
    assert float(logit_loss(student, teacher, mask)) == pytest.approx((2 + 5) / 2)


def test_representation_loss_uses_normalized_states() -> None:
    teacher = torch.tensor([[[10.0, 30.0]]])  # normalized: -1, 1
    mask = torch.tensor([[True]])

    assert float(representation_loss(torch.tensor([[[-1.0, 1.0]]]), teacher, mask)) < 1e-6
    loss = representation_loss(torch.tensor([[[1.0, 1.0]]]), teacher, mask)
    assert float(loss) == pytest.approx((4 + 0) / 2, abs=1e-4)


def test_scale_of_the_teachers_states_does_not_matter() -> None:
    student, teacher = numbers(2, 3, 8), numbers(2, 3, 8) * 3

    torch.testing.assert_close(
        representation_loss(student, teacher, MASK),
        representation_loss(student, 50 * teacher + 7, MASK),
        rtol=1e-3,
        atol=1e-4,
    )


def test_label_loss_is_cross_entropy_of_labelled_rows() -> None:
    logits = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [5.0, 1.0]]])
    labels = torch.tensor([[1, 0, -100]])

    # ln 2 and ln (1 + e⁻²), over two
    assert float(label_loss(logits, labels)) == pytest.approx((0.693147 + 0.126928) / 2, abs=1e-5)


# Computed independently, with numpy in double precision.
GOLDEN = {"representation": 2.578130, "logit": 3.258462, "label": 1.187290}


def test_losses_equal_independent_values() -> None:
    student, teacher = numbers(2, 3, 4), numbers(2, 3, 4).flip(0)
    labels = torch.tensor([[0, 3, -100], [2, -100, -100]])

    assert float(representation_loss(student, teacher, MASK)) == pytest.approx(
        GOLDEN["representation"], abs=1e-5
    )
    assert float(logit_loss(student, teacher, MASK)) == pytest.approx(GOLDEN["logit"], abs=1e-5)
    assert float(label_loss(student, labels)) == pytest.approx(GOLDEN["label"], abs=1e-5)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "representation": representation_loss,
    "logit": logit_loss,
    "label": lambda student, _, mask: label_loss(student, torch.where(mask, 1, torch.tensor(-100))),
}


@pytest.mark.parametrize("name", LOSSES)
def test_fully_masked_loss_and_its_gradient_are_zero(name: str) -> None:
    student = numbers(2, 3, 4).requires_grad_()
    loss = LOSSES[name](student, numbers(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()

    assert float(loss.detach()) == 0
    assert student.grad is not None
    assert (student.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
@given(filling=st.sampled_from([0.0, 1e6, float("nan")]), extra=st.integers(0, 3))
@settings(max_examples=12)
def test_masked_values_do_not_matter(name: str, filling: float, extra: int) -> None:
    student, teacher = numbers(2, 3, 4), numbers(2, 3, 4).flip(0)
    before = LOSSES[name](student, teacher, MASK)
    wide = torch.zeros(2, 3 + extra, dtype=torch.bool)
    wide[:, :3] = MASK

    def filled(values: Tensor) -> Tensor:
        out = torch.full((2, 3 + extra, 4), filling)
        out[:, :3] = torch.where(MASK.unsqueeze(2), values, filling)
        return out

    torch.testing.assert_close(LOSSES[name](filled(student), filled(teacher), wide), before)


@pytest.mark.parametrize("name", LOSSES)
def test_only_unmasked_values_have_a_gradient(name: str) -> None:
    student = numbers(2, 3, 4).requires_grad_()
    LOSSES[name](student, numbers(2, 3, 4).flip(0), MASK).backward()

    assert student.grad is not None
    assert torch.equal(student.grad.abs().sum(dim=2) > 0, MASK)


def test_masked_mean_ignores_masked_values() -> None:
    values = torch.tensor([1.0, 2.0, 6.0])

    assert float(masked_mean(values, torch.tensor([True, False, True]))) == 3.5


@pytest.mark.parametrize(("sequence", "token"), [(4, 0), (0, 5), (4, 5), (0, 0)])
def test_head_losses_is_the_sum_of_both_heads(sequence: int, token: int) -> None:
    batch = {
        "sequence_labels": torch.tensor([1, 2]),
        "token_labels": torch.tensor([[0, -100, 4], [2, -100, -100]]),
    }
    heads = numbers(2, 4), numbers(2, 3, 5)
    expected = torch.zeros(())
    if sequence:
        expected = expected + label_loss(heads[0], batch["sequence_labels"])
    if token:
        expected = expected + label_loss(heads[1], batch["token_labels"])

    loss = head_losses(heads[0][:, :sequence], heads[1][:, :, :token], batch)
    torch.testing.assert_close(loss, expected)


def batch_of(width: int) -> dict[str, Tensor]:
    """Two sentences of three and two tokens; the first word of each has two."""
    first = torch.zeros(2, width, dtype=torch.bool)
    first[0, [0, 2]] = True
    first[1, 0] = True
    return {
        "ids": torch.zeros(2, width, dtype=torch.int64),
        "lengths": torch.tensor([3, 2]),
        "first": first,
        "sequence_labels": torch.tensor([0, 3]),
        "token_labels": torch.where(first, 2, torch.tensor(-100)),
        "teacher_hidden": numbers(2, 8, 6).flip(0)[:, :width],
        "teacher_sequence_logits": numbers(2, 4).flip(0),
        "teacher_token_logits": numbers(2, 8, 5).flip(0)[:, :width],
    }


def loss_of(phase: Phase, width: int, sequence: int = 4, token: int = 5, **kinds: str) -> Tensor:
    batch = batch_of(width)
    batch["teacher_sequence_logits"] = batch["teacher_sequence_logits"][:, :sequence]
    batch["teacher_token_logits"] = batch["teacher_token_logits"][:, :, :token]
    return phase_loss(
        phase,
        numbers(2, 4)[:, :sequence],
        numbers(2, 8, 5)[:, :width, :token],
        numbers(2, 8, 6)[:, :width],
        batch,
        TrainConfig(**kinds),
    )


EVERY_PHASE = list({phase.name: phase for row in SCHEDULES.values() for phase in row}.values())


@pytest.mark.parametrize("phase", EVERY_PHASE, ids=lambda phase: phase.name)
@pytest.mark.parametrize(("sequence", "token"), [(4, 5), (4, 0), (0, 5)])
@pytest.mark.parametrize(
    "kinds",
    [
        {},
        {"representation_loss": "mse", "logit_loss": "kl"},
        {"representation_loss": "cosine", "logit_loss": "decoupled_kl"},
    ],
    ids=str,
)
def test_padding_does_not_change_the_loss_of_a_phase(
    phase: Phase, sequence: int, token: int, kinds: dict[str, str]
) -> None:
    loss = loss_of(phase, 3, sequence, token, **kinds)

    assert float(loss) > 0
    torch.testing.assert_close(loss_of(phase, 8, sequence, token, **kinds), loss)


def test_joint_loss_is_the_sum_of_its_parts() -> None:
    [joint] = SCHEDULES["joint"]
    parts = [Phase(1, (loss,), joint.trainable) for loss in joint.losses]

    torch.testing.assert_close(loss_of(joint, 3), sum(loss_of(part, 3) for part in parts))


def test_schedule_can_skip_stages() -> None:
    kept = [phases_of(stage, "five_stages", [2, 3, 5]) for stage in STAGES]

    assert [len(phases) for phases in kept] == [0, 1, 3, 0, 3]
    assert [len(phases_of(stage, "joint")) for stage in STAGES] == [1, 0, 0, 0, 0]


def test_stage_1_needs_tags_or_an_explicit_choice() -> None:
    assert [len(phases_of(stage, tags=False)) for stage in STAGES] == [0, 1, 3, 1, 3]
    assert phases_of(1, "joint", tags=False) == phases_of(1, "joint") != []
    assert phases_of(1, stages=[1], tags=False) == phases_of(1) != []


@pytest.mark.parametrize("kind", LOGIT_LOSSES)
def test_equal_logits_give_no_loss_and_no_gradient(kind: str) -> None:
    teacher = numbers(2, 3, 4)
    student = teacher.clone().requires_grad_()
    loss = logit_loss(student, teacher, MASK, kind, 2.0)
    loss.backward()

    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e-5


def test_divergence_ignores_a_common_shift_of_the_logits() -> None:
    student, teacher = numbers(2, 3, 4), numbers(2, 3, 4).flip(0)

    for kind in ("kl", "decoupled_kl"):
        torch.testing.assert_close(
            logit_loss(student + 5, teacher - 3, MASK, kind, 2.0),
            logit_loss(student, teacher, MASK, kind, 2.0),
        )


def test_decoupled_parts_sum_to_the_divergence() -> None:
    """DKD, equation 6: KL = TCKD + (1 - p_target) NCKD."""
    student, teacher = numbers(2, 3, 4), numbers(2, 3, 4).flip(0)
    p = teacher.softmax(dim=-1).amax(dim=-1)
    at_one = kl_divergence(student, teacher, 1.0)
    decoupled = decoupled_kl(student, teacher, 1.0)
    target = teacher.argmax(dim=-1, keepdim=True)
    b = student.softmax(dim=-1).gather(-1, target).squeeze(-1)
    of_target = p * (p / b).log() + (1 - p) * ((1 - p) / (1 - b)).log()
    of_others = (decoupled - of_target) / NON_TARGET_WEIGHT

    torch.testing.assert_close(at_one, of_target + (1 - p) * of_others, atol=1e-5, rtol=1e-4)


def test_token_logits_are_learnt_at_first_tokens_only() -> None:
    batch, token = batch_of(3), numbers(2, 8, 5)[:, :3]
    [phase] = phases_of(2)
    loss = phase_loss(phase, token.new_zeros(2, 0), token, token, batch, TrainConfig())

    torch.testing.assert_close(
        loss, logit_loss(token, batch["teacher_token_logits"], batch["first"])
    )
