"""Training on a real GPU: quality, reproducibility, resuming and missing memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saarthi_lib.distillation.signals import Signals, compute_signals
from saarthi_lib.distillation.stage import StageData, distil_stage
from saarthi_lib.layout import STAGES
from saarthi_lib.models.encoders import FAMILIES
from saarthi_lib.models.student import ServedStudent, Student, StudentShape
from saarthi_lib.models.teacher import ServedTeacher
from saarthi_lib.training.batches import BatchStream
from saarthi_lib.training.checkpoint import Checkpoint
from saarthi_lib.training.device import accelerator_device, half_for
from saarthi_lib.training.teacher import fine_tune
from tests.saarthi_lib.training.test_faults import BATCHES, TRAIN, VALIDATION, same, trained
from tests.saarthi_lib.training.test_reweighting import (
    LABELS,
    PIECES,
    accuracy,
    configured,
    teacher,
    toy,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

TEST = toy(300, seed=3)
PRECISIONS = ("16-mixed", "bf16-mixed", 32)


@pytest.mark.parametrize(
    "settings",
    [
        *({"precision": precision} for precision in PRECISIONS),
        {"self_adaptive_training": True},
        {"reweighting": "last_layer"},
        {"reweighting": "full"},
        {"teacher_accumulate_batches": 2, "precision": "16-mixed"},
    ],
    ids=str,
)
def test_gpu_teacher_learns_and_a_seed_repeats_it(settings: dict[str, Any]) -> None:
    result = trained(device="cuda", **settings)
    network, _ = result
    for parameter in network.parameters():
        assert parameter.device.type == "cpu" and parameter.dtype == torch.float32
    assert accuracy(ServedTeacher(network), TEST) > 0.95  # on the CPU
    assert same(result, trained(device="cuda", **settings))


def test_gpu_in_single_precision_equals_the_cpu() -> None:
    def history(device: str) -> list[dict[str, Any]]:
        network = teacher("bert", (3, 0))  # without dropout, whose draws differ
        config = configured(device=device, teacher_epochs=1)
        return fine_tune(network, TRAIN, VALIDATION, LABELS, config).history

    for given, expected in zip(history("cuda"), history("cpu"), strict=True):
        assert given["validation_loss"] == pytest.approx(expected["validation_loss"], rel=1e-3)


def test_interrupted_gpu_training_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"device": "cuda", "precision": "16-mixed"}
    made, make = 0, BatchStream.batch

    def counting(self: BatchStream, rows: np.ndarray) -> dict[str, Tensor]:
        nonlocal made
        made += self.seed is not None  # a training batch
        if made > 2 * BATCHES + 10:  # in the third epoch
            raise KeyboardInterrupt
        return make(self, rows)

    kept = Checkpoint(tmp_path / "epochs", "key")
    with monkeypatch.context() as patched:
        patched.setattr(BatchStream, "batch", counting)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            trained(kept, **settings)
    assert kept.found()
    assert same(trained(kept, **settings), trained(**settings))


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Limit the GPU memory of this process."""
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 300e6) / whole)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.usefixtures("little_memory")
def test_gpu_training_splits_a_batch_beyond_memory(
    told: pytest.LogCaptureFixture,
) -> None:
    many = toy(40_000, seed=5)
    trained(train=many, device="cuda", teacher_batch_size=len(many))
    assert "out of memory with 40000 rows at a time" in told.text


@pytest.mark.parametrize(
    ("family", "precision"),
    [*((family, "16-mixed") for family in FAMILIES), ("lstm", "bf16-mixed"), ("lstm", 32)],
)
def test_gpu_student_learns_and_a_seed_repeats_it(
    tmp_path: Path, family: str, precision: Any
) -> None:
    config = configured(
        device="cuda",
        precision=precision,
        student_epochs=4,
        student_ema_decay=0.9,
        student_learning_rate=2e-2,
    )
    of_teacher, _ = trained(device="cuda")
    for split, encoded in (("transfer", TRAIN), ("validation", VALIDATION)):
        device, half = accelerator_device(config), half_for(config)
        compute_signals(of_teacher, encoded, [1], tmp_path, split, device=device, half=half)
    transfer, validation = (Signals.load(tmp_path, split) for split in ("transfer", "validation"))

    def distilled() -> tuple[Student, list[Any]]:
        torch.manual_seed(0)
        network = Student(StudentShape(PIECES, 12, 10, 1, 16, 3, 0, family), dropout=0.1)
        data = StageData(TRAIN, transfer, TRAIN, VALIDATION, validation)
        histories = [distil_stage(stage, network, data, LABELS, config) for stage in STAGES]
        return network, histories

    result = distilled()
    assert accuracy(ServedStudent(result[0]), TEST) > 0.9  # on the CPU
    assert same(result, distilled())
