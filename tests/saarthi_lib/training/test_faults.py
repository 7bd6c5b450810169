"""Training that is killed, runs out of memory, loses its device, or gets a loss of NaN or Inf."""

import gc
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saarthi_lib.data.encode import Encoded
from saarthi_lib.distillation.signals import Signals, compute_signals
from saarthi_lib.errors import ConfigError, TrainingError
from saarthi_lib.models.teacher import Teacher
from saarthi_lib.training.batches import BatchStream
from saarthi_lib.training.checkpoint import Checkpoint
from saarthi_lib.training.objective import FitResult
from saarthi_lib.training.teacher import fine_tune
from tests.faults.processes import in_child
from tests.faults.test_storage_faults import flip
from tests.saarthi_lib.training.test_reweighting import (
    LABELS,
    configured,
    sentences,
    teacher,
    toy,
)

TRAIN, VALIDATION, CLEAN = toy(400, seed=5), toy(100, seed=6), toy(40, seed=7)
BATCHES = 25  # of an epoch
SHORT, SHORT_BATCHES = TRAIN.take(np.arange(160)), 10
EPOCHS = 3
ROOT = Path(__file__).parents[3]
Trained = tuple[Teacher, FitResult]


@pytest.fixture(scope="module", autouse=True)
def _imported_objects_are_not_collected() -> Iterator[None]:
    """Out-of-memory handling collects garbage: slow while it visits all objects of the imports."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def trained(
    checkpoint: Checkpoint | None = None, train: Encoded = TRAIN, **settings: Any
) -> Trained:
    """Train a tiny teacher; its dropout makes the random generators matter."""
    network = teacher("bert", (3, 0), dropout=0.1)
    given = {"teacher_epochs": EPOCHS, "teacher_batch_size": 16, "device": "cpu", **settings}
    clean = CLEAN if "reweighting" in settings else None
    config = configured(**given)
    return network, fine_tune(network, train, VALIDATION, LABELS, config, (), clean, checkpoint)


def same(one: tuple[nn.Module, Any], other: tuple[nn.Module, Any]) -> bool:
    """Compare weights and history bit for bit."""
    weights, others = one[0].state_dict(), other[0].state_dict()
    assert list(weights) == list(others)
    equal = all(torch.equal(weights[name], others[name]) for name in weights)
    return equal and repr(one[1]) == repr(other[1])


def killed_after(batches: int, work: Callable[[], Any]) -> bool:
    """Train in a child process; whether SIGKILL ended it after this number of batches."""
    made = 0
    make = BatchStream.batch

    def counting(self: BatchStream, rows: np.ndarray) -> dict[str, Tensor]:
        nonlocal made
        if self.seed is not None:  # a training batch
            made += 1
            if made > batches:
                os.kill(os.getpid(), signal.SIGKILL)
        return make(self, rows)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(BatchStream, "batch", counting)
        return os.WIFSIGNALED(in_child(work))


@pytest.fixture(scope="module")
def uninterrupted() -> Trained:
    """A training that nothing disturbed."""
    return trained(train=SHORT)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a checkpoint whose training was killed in the second epoch."""
    kept = Checkpoint(tmp_path_factory.mktemp("killed") / "epochs", "key")
    assert killed_after(SHORT_BATCHES + 3, lambda: trained(kept, SHORT))
    return kept.folder


@pytest.mark.parametrize(
    ("settings", "kills"),
    [
        # In the first epoch, in the second, at the start of the third, and within it.
        ({}, (4, SHORT_BATCHES + 3, SHORT_BATCHES, 5)),
        ({"self_adaptive_training": True}, (SHORT_BATCHES + 3, 5)),
        ({"reweighting": "last_layer"}, (SHORT_BATCHES + 3, 5)),
    ],
    ids=["plain", "self-adaptive", "reweighted"],
)
def test_killed_training_resumes_to_the_same_weights(
    tmp_path: Path,
    uninterrupted: Trained,
    told: pytest.LogCaptureFixture,
    settings: dict[str, Any],
    kills: tuple[int, ...],
) -> None:
    expected = trained(train=SHORT, **settings) if settings else uninterrupted
    assert expected[1].best_epoch > 0 and len(expected[1].history) == 1 + EPOCHS
    kept = Checkpoint(tmp_path / "epochs", "key")
    for batches in kills:
        assert killed_after(batches, lambda: trained(kept, SHORT, **settings))
    assert same(trained(kept, SHORT, **settings), expected)
    assert f"resuming after epoch {1 if settings else 2}" in told.text


def test_training_ignores_a_damaged_or_foreign_checkpoint(
    tmp_path: Path, state: Path, uninterrupted: Trained, told: pytest.LogCaptureFixture
) -> None:
    kept = Checkpoint(Path(shutil.copytree(state, tmp_path / "epochs")), "key")
    assert same(trained(replace(kept, key="another"), SHORT), uninterrupted)
    assert "resuming after" not in told.text
    shutil.rmtree(kept.folder)
    shutil.copytree(state, kept.folder)
    flip(next(kept.folder.glob("*.ckpt")))
    assert same(trained(kept, SHORT), uninterrupted)
    assert ".ckpt: is not as it was written" in told.text
    assert "the training starts again" in told.text


def test_a_checkpoint_loads_without_unpickling_objects(state: Path) -> None:
    content = torch.load(next(state.glob("*.ckpt")), weights_only=True)
    assert {"state_dict", "optimizer_states", "lr_schedulers", "callbacks"} <= set(content)


def test_infinite_loss_stops_training_with_its_position() -> None:
    network = teacher("bert", (3, 0))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    config = configured(teacher_epochs=3, teacher_batch_size=16, teacher_learning_rate=1e30)
    with pytest.raises(TrainingError) as raised:
        fine_tune(network, TRAIN, VALIDATION, LABELS, config)
    assert re.match(
        r"teacher, fine-tuning: epoch 1, batch \d+ of 25, learning rate \d.*e\+\d+: the loss is "
        r"(nan|inf), and this batch changed nothing; set a smaller",
        str(raised.value),
    )
    kept = network.state_dict()
    assert all(torch.isfinite(value).all() for value in kept.values())
    encoder = [name for name in before if name.startswith("encoder.")]
    assert all(torch.equal(kept[name], before[name]) for name in encoder)


def train_in_little_memory() -> None:
    """Train within 500 MB more than any training needs: half of the batch's measured use."""
    trained(train=sentences(16, seed=2), teacher_epochs=1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 500 * 2**20, resource.RLIM_INFINITY))
    rows = sentences(16384, seed=1, longest=30)
    _, result = trained(train=rows, teacher_batch_size=16384, teacher_epochs=1)
    assert len(result.history) == 2


@pytest.mark.slow
def test_a_batch_beyond_real_memory_is_split() -> None:
    # A new process: memory that a long-running one has freed and kept would hold the batch.
    work = f"from {__name__} import train_in_little_memory; train_in_little_memory()"
    done = subprocess.run([sys.executable, "-c", work], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "batch 1 of 1, learning rate" in done.stderr
    assert re.search(
        r"out of memory with 16384 rows at a time \(.*(allocate memory|primitive)", done.stderr
    )


class _Full(torch.nn.Module):
    """A layer that runs out of memory above a number of rows, as a GPU does."""

    def __init__(self, within: torch.nn.Module, rows: int) -> None:
        super().__init__()
        self.within, self.rows = within, rows

    def forward(self, states: Tensor) -> Tensor:
        if self.training and len(states) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore")
        return self.within(states)


def limited(rows: int, batch_size: int = 16) -> Trained:
    network = teacher("bert", (3, 0))
    network.sequence_head.register_forward_pre_hook(
        lambda module, given: _Full(torch.nn.Identity(), rows).train(module.training)(given[0])
    )
    config = configured(teacher_epochs=2, teacher_batch_size=batch_size, device="cpu")
    return network, fine_tune(network, TRAIN.take(np.arange(100)), VALIDATION, LABELS, config)


def test_a_split_batch_makes_the_same_optimizer_steps(told: pytest.LogCaptureFixture) -> None:
    whole, parts = limited(16), limited(4)
    assert "out of memory with 16 rows at a time (CUDA out of memory" in told.text
    assert "out of memory with 8 rows at a time" in told.text
    for name, value in parts[0].state_dict().items():
        torch.testing.assert_close(value, whole[0].state_dict()[name], atol=2e-4, rtol=1e-3)
    losses = [[row["validation_loss"] for row in result.history] for _, result in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert same(limited(4), parts)


def test_one_row_beyond_memory_is_an_error() -> None:
    with pytest.raises(TrainingError, match=r"batch 1 of .*out of memory .* with 1 rows at a time"):
        limited(0, batch_size=2)


def test_signals_use_smaller_batches_when_memory_is_short(
    told: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    network, device = teacher("bert", (3, 0)).eval(), torch.device("cpu")
    compute_signals(network, VALIDATION, [2], tmp_path, "whole", device=device)
    network.sequence_head.register_forward_pre_hook(
        lambda module, given: _Full(torch.nn.Identity(), 20)(given[0])
    )
    compute_signals(network, VALIDATION, [2], tmp_path, "parts", device=device)
    assert "out of memory with 64 sentences" in told.text
    whole, parts = (Signals.load(tmp_path, split) for split in ("whole", "parts"))
    assert parts.hidden is not None and whole.hidden is not None
    np.testing.assert_allclose(parts.hidden, whole.hidden, atol=2e-3)
    np.testing.assert_allclose(parts.sequence_logits, whole.sequence_logits, atol=2e-3)


def test_parts_contain_each_row_once_with_summing_shares() -> None:
    whole, parts = (BatchStream(TRAIN, 48, seed=3) for _ in range(2))
    parts.parts = 32  # more than the 16 rows of the last batch
    expected, found = list(whole), list(parts)
    assert len(found) == len(parts) == 32 * len(expected)
    for at, batch in enumerate(expected):
        split = found[32 * at : 32 * (at + 1)]
        assert sum(float(part["share"]) for part in split) == pytest.approx(32)
        counted = [part["rows"] for part in split if part["share"] > 0]
        assert torch.equal(torch.cat(counted), batch["rows"])


def test_a_device_that_stops_answering_is_reported() -> None:
    """The network raises torch's error for a GPU that fell off the bus."""

    def lost(*_: Any) -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCompile with …")

    network = teacher("bert", (3, 0))
    network.sequence_head.register_forward_pre_hook(
        lambda module, given: lost() if module.training else None
    )
    with pytest.raises(TrainingError) as raised:
        fine_tune(network, TRAIN, VALIDATION, LABELS, configured(device="cpu"))
    assert "epoch 1, batch 1 of" in str(raised.value)
    assert "stopped answering (CUDA error: unspecified launch failure)" in str(raised.value)
    assert "run the same command again" in str(raised.value)


def test_a_missing_device_is_reported() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="device: cuda, but no such device is found"):
        trained(device="cuda")
